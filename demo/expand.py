"""A question asked again in other languages of the index, by machine translation, when the index has no good answer to it as it was asked.

Only in directions in which the model was found good enough (directions.json beside it, which `index_builder train-seq2seq` writes): translation
helps some languages and harms others (METHODS section 6). A model that nobody measured, or that passes in no direction, translates nothing.
"""

import json
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from demo import hub
from demo.retrieve import SHOWN, Retrieval
from demo.settings import Settings
from index_builder.vocabulary import LANGUAGES, Evidence, MajlisError

if TYPE_CHECKING:
    from index_builder.querygen.model import Seq2Seq

DIRECTIONS = "directions.json"
Direction = tuple[str, str]  # from, to


@dataclass(frozen=True, slots=True)
class Rendering:
    """A question in another language."""

    lang: str
    text: str


class Expander:
    """Translates questions with the model in `folder`, which is opened when the first question needs it. May be used from several threads."""

    def __init__(self, folder: Path, directions: Collection[Direction]):
        self.folder, self.directions = folder, frozenset(directions)
        self._model: Seq2Seq | None = None
        self._lock = threading.Lock()

    def renderings(self, question: str, lang: str, langs: Collection[str]) -> list[Rendering]:
        """`question`, which is in `lang`, in those of `langs` that can be had; none that is empty or says the same.

        Raises MajlisError for a model that cannot be opened.
        """
        wanted = [other for other in LANGUAGES if other in langs and (lang, other) in self.directions]
        if not wanted:
            return []
        from index_builder.querygen.model import Decoding, Request, open_seq2seq

        with self._lock:
            self._model = self._model or open_seq2seq(self.folder)
            # greedy, as the directions were measured
            written = self._model.write([Request("translate", lang, other, question) for other in wanted], Decoding())
        texts = [found[0].text if found else "" for found in written]
        return [Rendering(other, text) for other, text in zip(wanted, texts, strict=True) if text and text != question]


def fused(found: Sequence[Retrieval]) -> tuple[Retrieval, int]:
    """One retrieval of several, and which of them leads it.

    The one whose first evidence is judged most relevant leads, the earlier of equals: that judgement is a probability, and holds across questions
    and languages. What follows its first evidence is ordered by score, each entry as it was found best.
    """
    leading = max(range(len(found)), key=lambda i: (found[i].relevance, -i))
    first = found[leading].evidence[:1]
    best: dict[str, Evidence] = {}
    for item in sorted((item for one in found for item in one.evidence), key=lambda item: -item.hit.fused):
        best.setdefault(item.hit.entry.entry_id, item)
    rest = [item for entry_id, item in best.items() if entry_id not in {one.hit.entry.entry_id for one in first}]
    ranked = [replace(item, n=n, hit=replace(item.hit, rank=n)) for n, item in enumerate([*first, *rest][:SHOWN], 1)]
    return replace(found[leading], evidence=tuple(ranked)), leading


def read_directions(folder: Path) -> frozenset[Direction]:
    """The directions in which the model in `folder` was found good enough; none when nobody measured it.

    Raises MajlisError for a file that cannot be read.
    """
    path = folder / DIRECTIONS
    if not path.is_file():
        return frozenset()
    try:
        pairs = [tuple(pair.split("-")) for pair in json.loads(path.read_text(encoding="utf-8"))["usable"]]
        if strange := [pair for pair in pairs if len(pair) != 2 or not set(pair) <= set(LANGUAGES)]:
            raise ValueError(f"no direction: {'-'.join(strange[0])}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MajlisError(
            f'{path} cannot be read ({error!r}). Expected {{"usable": ["en-hi", …]}}; restore it, or measure the model again with train-seq2seq.'
        ) from error
    return frozenset((source, target) for source, target in pairs)


def open_expander(settings: Settings) -> Expander | None:
    """The expander with the seq2seq model of models.toml; None where there is none, or none of its directions is good enough."""
    if not settings.seq2seq:
        return None
    folder = hub.require(settings.model(settings.seq2seq, "seq2seq"), settings)
    directions = read_directions(folder)
    return Expander(folder, directions) if directions else None

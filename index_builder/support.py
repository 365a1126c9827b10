"""Does a source carry a sentence that cites it? Shared words and similarity of meaning, both, and every number; thresholds per language."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import regex

from index_builder.encode import Encoder
from index_builder.text import fold, same_word, sentences, words
from index_builder.vocabulary import LANGUAGES, Entry, MajlisError

FILE = "support.json"  # beside the encoder's weights: similarities are those of that encoder alone
_NUMBER = regex.compile(r"\p{Nd}+(?:[.,]\p{Nd}+)*")


@dataclass(frozen=True, slots=True)
class Likeness:
    """How like a source a sentence is."""

    overlap: float  # share, in [0, 1], of its words that stand in the source, in some form
    similarity: float  # cosine of the sentence and the nearest sentence, or pair of sentences, of the source
    numbers: bool  # every number of the sentence stands in the source


@dataclass(frozen=True, slots=True)
class Support:
    """The least likeness that counts, by language of the sentence. Where the source is in another language words cannot be shared, and only
    `across`, a similarity, is asked for."""

    overlap: Mapping[str, float] = field(default_factory=dict)
    similarity: Mapping[str, float] = field(default_factory=dict)
    across: Mapping[str, float] = field(default_factory=dict)

    def holds(self, sentence: str, lang: str, entry: Entry, encoder: Encoder) -> bool:
        found = likeness(sentence, entry, encoder)
        if not found.numbers:
            return False
        if entry.lang != lang:
            return found.similarity >= self.across.get(lang, 0.0)
        return found.overlap >= self.overlap.get(lang, _USUAL_OVERLAP) and found.similarity >= self.similarity.get(lang, -1.0)


_USUAL_OVERLAP = 0.6  # where nobody has fitted anything
UNFITTED = Support()


def likeness(sentence: str, entry: Entry, encoder: Encoder) -> Likeness:
    source = words(f"{entry.title} {entry.question} {entry.text}")
    held = set(source)
    asked = words(sentence)
    found = sum(word in held or any(same_word(word, other) for other in held) for word in asked)
    parts = sentences(entry.text)
    pairs = [f"{one} {two}" for one, two in zip(parts, parts[1:], strict=False)]
    vectors = encoder.encode([sentence, *parts, *pairs, f"{entry.question} {entry.text}"], "passage")
    numbers = set(_NUMBER.findall(fold(sentence))) <= set(_NUMBER.findall(fold(f"{entry.title} {entry.question} {entry.text}")))
    return Likeness(found / len(asked) if asked else 0.0, float((vectors[1:] @ vectors[0]).max()), numbers)


def load_support(folder: Path) -> Support:
    path = folder / FILE
    if not path.is_file():
        return UNFITTED
    try:
        data = json.loads(path.read_text(encoding="utf-8"))["least"]
        support = Support(dict(data["overlap"]), dict(data["similarity"]), dict(data["across"]))
        for least in (support.overlap, support.similarity, support.across):
            for lang, value in least.items():
                if lang not in LANGUAGES or not isinstance(value, int | float):
                    raise ValueError(f"{lang} is {value!r}")
    except (ValueError, TypeError, KeyError) as error:
        raise MajlisError(
            f"{path} cannot be read ({error!r}). Restore it, or write it anew with `python -m index_builder calibrate`."
        ) from error
    return support


def save_support(support: Support, folder: Path, how: str) -> None:
    """Written whole or not at all."""
    partial = (folder / FILE).with_suffix(".partial")
    partial.write_text(json.dumps({"least": asdict(support), "how": how}, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / FILE)

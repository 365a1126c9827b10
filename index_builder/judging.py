"""Judging questions (assets/judging): what some entries answer, and near misses that they do not. What judges learn from."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from index_builder.evaluate.files import json_lines
from index_builder.vocabulary import LANGUAGES, MajlisError

_KINDS = {"answered": True, "unanswered": False, "partly": None}
_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Judging:
    lang: str
    entry_id: str
    question: str
    answered: bool | None  # by that entry; None: in part


def read_judging(folder: Path) -> Iterator[Judging]:
    """Raises MajlisError for a folder or a line that is not as its card says."""
    for lang in LANGUAGES:
        for where, line in json_lines(folder / f"{lang}.jsonl.xz"):
            try:
                found = [Judging(lang, line["entry"], text, answered) for kind, answered in _KINDS.items() for text in line.get(kind, ())]
            except (KeyError, TypeError) as error:
                raise MajlisError(f"{where}: {error!r}, expected entry, and lists of {', '.join(_KINDS)}. Restore the file.") from error
            yield from found


def held_out(entry_id: str) -> bool:
    """Whether the cross-encoder learns nothing of this entry, so that calibration can see how far its scores are to be trusted: one in five."""
    return zlib.crc32(entry_id.encode()) % _FOLDS == 0

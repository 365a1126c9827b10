"""A romanised question in its native script, for the search. What the user typed is what the page shows."""

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from index_builder.transliteration import WordList, transliterate
from index_builder.vocabulary import MajlisError

log = logging.getLogger(__name__)
_MOST = 400  # characters: a question, not a document


@dataclass(frozen=True, slots=True)
class Transliterator:
    folder: Path

    def native(self, text: str, lang: str) -> str:
        """`text` in the native script of `lang`; empty when there is no word list for it. The list is read at the first romanised question."""
        words = _words(self.folder, lang)
        return transliterate(text[:_MOST], words) if words else ""


@lru_cache(maxsize=16)
def _words(folder: Path, lang: str) -> WordList | None:
    try:
        return WordList.read(folder / f"{lang}.words.txt.xz", lang)
    except MajlisError as error:
        # The search then goes by the Latin letters, which the encoder also knows: worse, so the operator is told, once.
        log.warning("%s", error)
        return None

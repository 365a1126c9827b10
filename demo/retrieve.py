"""Question -> the evidence for an answer: search, prefer the reader's language and place, say how far the best of it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from demo.events import Detection
from demo.languages import REGION
from index_builder.relevance import Relevance
from index_builder.search import Index, Reader
from index_builder.vocabulary import Evidence

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Retrieval:
    evidence: tuple[Evidence, ...]
    relevance: float
    weak: bool


class Detects(Protocol):
    def detect(self, text: str, prior: str = "") -> Detection: ...

    def native(self, text: str, lang: str) -> str: ...


def native_script(detector: Detects) -> Callable[[str], str]:
    """A function that turns a romanised question into its own script and leaves any other as it is."""

    def native(text: str) -> str:
        found = detector.detect(text)
        return found.native if found.romanised and found.native else text

    return native


def retrieve(
    index: Index,
    question: str,
    lang: str,
    relevance: Relevance,
    locale: str = "",
    native: str = "",
    insists: bool = False,
    region: str = "",
) -> Retrieval:
    """The evidence for `question`, best first, numbered from 1.

    `lang` is the reader's language and `locale` the reader's place, if known; both prefer and never exclude. `native` is a
    romanised question in its own script: it is searched for in place of the text as typed. `insists`: the reader named the language.
    `region` (a key of the strings' "regions") is that of `locale` unless given.
    """
    asked = native or question
    vector = index.encoder.encode([asked], "query")[0]
    hits = index.search_vector(asked, vector, SHOWN, reader=Reader(lang, locale, region or REGION.get(locale, ""), insists))
    evidence = [Evidence(hit.rank, hit, *index.span(hit, asked, vector)) for hit in hits]
    judged = relevance.judge(asked, lang, hits, index)
    return Retrieval(tuple(evidence), judged.relevance, judged.weak)

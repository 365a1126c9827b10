"""The words everything else is written in. Imports nothing of ours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

LANGUAGES = ("ar", "as", "bn", "en", "hi", "ne", "tr")

TOPICS = (
    "animal", "business", "cloth", "education", "events", "food_drinks", "general", "geography", "immigration",
    "language", "literature", "names", "plants", "religion", "sports_games", "tradition", "travel", "weather",
)  # fmt: skip

Kind = Literal["qa", "passage"]
MatchedBy = Literal["text", "question", "query"]


class MajlisError(Exception):
    """What a user can put right. The page and the commands show its text, without a traceback."""


@dataclass(frozen=True, slots=True)
class GeneratedQuery:
    """A question that a model asked about a passage, perhaps in another language (xQG, METHODS section 1)."""

    lang: str
    text: str
    score: float = 0.0
    model: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is indexed and what an answer cites: a native QA pair (`text` is its answer) or a passage."""

    entry_id: str
    kind: Kind
    lang: str  # BCP 47, of this text
    text: str
    question: str = ""  # a QA pair's own native question; empty for a passage
    title: str = ""
    locale: str = ""  # the language in its place, as in MultiNativQA: "bn-BD"
    region: str = ""  # the place that the text is about: "west_bengal"
    topic: str = ""
    source: str = ""
    reliability: str = ""
    queries: tuple[GeneratedQuery, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)  # keys we do not know, kept as they came


@dataclass(frozen=True, slots=True)
class Hit:
    """One entry that a search found, with why."""

    entry: Entry
    rank: int  # from 1
    fused: float  # what the ranking goes by (search.py), higher is better
    dense: float  # cosine similarity of question and entry, in [-1, 1]
    lexical: float  # BM25, 0 when no word is shared
    coverage: float  # share of the question's informative words that the entry holds, in [0, 1]
    matched_by: MatchedBy
    matched_query: str = ""  # the native or generated question that matched best, when one did
    matched_query_lang: str = ""
    answers: float | None = None  # how probably the entry answers, by the cross-encoder; None where it did not look


@dataclass(frozen=True, slots=True)
class Evidence:
    """A hit chosen for an answer, under the number by which the answer cites it."""

    n: int  # from 1
    hit: Hit
    start: int  # the part of entry.text that matches the question: text[start:end]
    end: int

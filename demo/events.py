"""What the engine tells while it answers: the words that the page, the `ask` command and the tests share."""

from dataclasses import dataclass, field

from index_builder.vocabulary import Evidence


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a language was named, for a page in any language: `kind` completes the key "why_…" of the strings."""

    kind: str  # "letter", "word", "roman", "prior", "unsure" or "closest"
    lang: str
    other: str = ""  # the language that it was told from
    shown: str = ""  # the letter or word that tells


@dataclass(frozen=True, slots=True)
class Detection:
    """Which language a question is in, and how sure that is."""

    lang: str  # of vocabulary.LANGUAGES, or "und" when none can be told, or another BCP 47 code when the text is in a language we do not speak
    script: str  # ISO 15924: "Arab", "Beng", "Deva", "Latn", "Zyyy" when there are no letters
    romanised: bool  # the language is one that is not usually written in this script
    confidence: float  # in [0, 1], of `lang`
    ranking: tuple[tuple[str, float], ...]  # (language, probability), best first
    why: str = ""  # one short line in English: "ৰ occurs only in Assamese"
    reason: Reason | None = None  # the same for other languages than English
    native: str = ""  # a romanised question in its native script, for the search; empty otherwise


@dataclass(frozen=True, slots=True)
class Detected:
    detection: Detection
    answer_lang: str  # the language of the answer: the detected one, the user's correction, or the page's when neither is known
    corrected: bool  # the user named the language


@dataclass(frozen=True, slots=True)
class Searched:
    """A follow-up ("and in Dhaka?") was read as this question, which stands alone."""

    text: str


@dataclass(frozen=True, slots=True)
class Retrieved:
    evidence: tuple[Evidence, ...]
    relevance: float  # of the best evidence, in [0, 1]
    weak: bool  # too weak to answer from


@dataclass(frozen=True, slots=True)
class Queued:
    """The model is busy with other questions."""

    ahead: int  # how many
    seconds: float  # about how long they take together; 0 when nothing is known yet


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer, whole grapheme clusters."""

    text: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """What was streamed so far is withdrawn; `text` stands instead (a citation without evidence removed, another language mended)."""

    text: str
    notice: str  # key of the strings: "wrong_language", "citations_removed", "rewritten"; empty when nothing needs to be said


@dataclass(frozen=True, slots=True)
class Citation:
    n: int
    entry_id: str
    quote: str  # the sentence of the answer that carries the citation
    supported: bool  # the cited source bears it out: shared words, numbers and meaning


@dataclass(frozen=True, slots=True)
class Done:
    answer: str  # with citation marks "[1]"
    answer_lang: str  # of the text itself: that of the source when it is quoted
    mode: str  # "verbatim" or "generate"
    abstained: bool
    stopped: bool
    citations: tuple[Citation, ...]
    timings_ms: dict[str, float]  # detect, retrieve, first_token, generate, total
    model: dict[str, str] = field(default_factory=dict)
    notices: tuple[tuple[str, str], ...] = ()  # (key of the strings, value): what the reader should know about this answer
    unsupported: tuple[str, ...] = ()  # the sentences of a written answer that no source bears out, as they stand in it


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer. `key` names the message in the strings of every language, `values` fill it."""

    key: str
    values: dict[str, str] = field(default_factory=dict)


Event = Detected | Searched | Retrieved | Queued | Token | Replaced | Done | Failed

"""A question in, typed events out: the whole conversation without a page."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import regex

from demo import hub
from demo.compose import Composed, Composing, choose, quoted, write
from demo.events import Detected, Detection, Done, Event, Failed, Retrieved, Searched, Token
from demo.expand import Expander, fused, open_expander
from demo.followup import is_elsewhere, region_in, standalone
from demo.generate import Generator, GeneratorDied, open_generator
from demo.languages import LANGUAGE, all_endonyms, region_of, strings
from demo.retrieve import Detects, Retrieval, native_script, retrieve
from demo.settings import Settings
from demo.verify import citations_of, unsupported
from index_builder.encode import open_encoder
from index_builder.relevance import Relevance, load_relevance
from index_builder.search import Index, open_index
from index_builder.support import UNFITTED, Support, load_support
from index_builder.vocabulary import LANGUAGES, Entry, MajlisError

log = logging.getLogger(__name__)
LONGEST_QUESTION = 2_000  # characters
_HAS_WORDS = regex.compile(r"[\p{L}\p{N}]")
_INVISIBLE = regex.compile(
    r"[\p{Cc}\p{Cf}\p{Co}\p{Cs}--[\n\t\u200c\u200d]]", regex.V1
)  # controls and bidi overrides; joiners are part of Indic words
MOST_HISTORY = 6  # questions of a conversation that a follow-up can go back through
UNSURE_BELOW = 0.7  # chosen on freely asked dev questions; how often answers above it are right: docs/results.md, "asked freely"


@dataclass(frozen=True, slots=True)
class Question:
    """One turn of a conversation. `lang` is the user's correction of the detected language; `page_lang` that of the interface."""

    text: str
    lang: str = ""
    locale: str = ""
    region: str = (
        ""  # the place that the user chose, a key of the strings' "regions"; wins over the locale's; one that is asked for wins over both
    )
    mode: str = ""  # "verbatim", "generate", or empty for what the engine can do best
    page_lang: str = "en"
    prior: str = ""  # the language of the turn before
    history: tuple[str, ...] = ()  # the questions of the conversation so far, oldest first


class Engine:
    """Everything that answering needs, opened once. `ask` may run in several threads."""

    def __init__(
        self,
        detector: Detects,
        index: Index,
        relevance: Relevance,
        generator: Generator | None = None,
        support: Support = UNFITTED,
        expander: Expander | None = None,
    ):
        self.detector, self.index, self.relevance, self.generator, self.support = detector, index, relevance, generator, support
        self.expander = expander

    def close(self) -> None:
        if self.generator:
            self.generator.close()
        self.index.close()

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that can be had; the last one is what is meant when none is asked for."""
        return modes_of(self.generator.mode if self.generator else "")

    def ask(self, question: Question, cancel: threading.Event | None = None) -> Iterator[Event]:
        """Detected, Retrieved, Token…, Done; or Failed, which is always last. Nothing that goes wrong is raised: the page must go on."""
        cancel = cancel or threading.Event()
        began = time.perf_counter()
        text = clean(question.text)
        refusal = refuse(text)
        if refusal:
            yield refusal
            return
        try:
            yield from self._answer(text, question, cancel, began)
        except GeneratorDied as error:
            yield Failed("model_failed", {"detail": str(error)})
        except MajlisError as error:
            yield Failed("failed", {"detail": str(error)})
        except Exception as error:  # a defect of ours: told to the operator with its traceback, and to the reader in a sentence
            log.exception("a question could not be answered")
            yield Failed("failed", {"detail": f"{type(error).__name__}: {error}"})

    def _why_not(self, mode: str) -> str:
        if mode not in ("verbatim", "generate"):
            return "it is verbatim or generate"
        return f"{self.generator.name} only chooses what to quote; pick another model" if self.generator else "no language model is loaded"

    def _answer(self, text: str, question: Question, cancel: threading.Event, began: float) -> Iterator[Event]:
        mode = question.mode or self.modes[-1]
        if mode not in self.modes:
            raise MajlisError(f"Mode {mode!r} is not to be had: {self._why_not(mode)}.")
        detection = self.detector.detect(text, question.prior)
        detected_at = time.perf_counter()
        lang = question.lang or (detection.lang if detection.lang in LANGUAGES else "")
        yield Detected(detection, lang or question.page_lang, bool(question.lang))
        if not lang and detection.lang != "und":
            yield Failed("unsupported_language", {"languages": all_endonyms()})
            return
        lang = lang or question.page_lang  # names and numbers alone: any language may be meant

        asked = self._in_own_script(text, lang, detection)
        # an earlier question may have been in another language; only a reader who names one means all of them
        native = (lambda one: self._in_own_script(one, lang)) if question.lang else native_script(self.detector)
        history = tuple(native(one) for one in map(clean, question.history[-MOST_HISTORY:]) if one)
        if alone := standalone(asked, history):
            asked = alone
            yield Searched(asked)
        region = region_in(asked) or question.region
        retrieval = retrieve(self.index, asked, lang, self.relevance, question.locale, insists=bool(question.lang), region=region)
        translated = ""
        if retrieval.weak and self.expander:
            retrieval, translated = self._expanded(self.expander, retrieval, asked, lang, question.locale, region)
        if retrieval.evidence and is_elsewhere(asked, _region(retrieval.evidence[0].hit.entry)):
            retrieval = replace(retrieval, weak=True)
        retrieved_at = time.perf_counter()
        yield Retrieved(retrieval.evidence, retrieval.relevance, retrieval.weak)
        timings = {"detect": (detected_at - began) * 1e3, "retrieve": (retrieved_at - detected_at) * 1e3}
        composed = yield from self._compose(asked, lang, mode, retrieval, cancel)
        if translated and not composed.abstained:
            composed = replace(composed, notices=(*composed.notices, ("translated_question", translated)))
        yield self._done(composed, lang, retrieval, timings, began)

    def _expanded(self, expander: Expander, retrieval: Retrieval, asked: str, lang: str, locale: str, region: str) -> tuple[Retrieval, str]:
        """What translations of the question find too, and the language of the one that leads; "" when the question itself does."""
        again = expander.renderings(asked, lang, self.index.manifest["entries_by_language"])
        others = [retrieve(self.index, one.text, one.lang, self.relevance, locale, region=region) for one in again]
        best, leading = fused([retrieval, *others])
        return best, again[leading - 1].lang if leading else ""

    def _in_own_script(self, text: str, lang: str, detection: Detection | None = None) -> str:
        """A question in Latin letters in the script of its language; any other question as it is."""
        if LANGUAGE[lang].script == "Latn":
            return text
        found = detection or self.detector.detect(text)
        if found.script != "Latn":
            return text
        # also when the user says which language it is and the detector did not
        return (found.native if found.romanised and lang == found.lang else self.detector.native(text, lang)) or text

    def _compose(self, question: str, lang: str, mode: str, retrieval: Retrieval, cancel: threading.Event) -> Composing:
        evidence, generator = retrieval.evidence, self.generator
        if retrieval.weak or not evidence:
            refusal = strings(lang)["unknown"]
            yield Token(refusal)
            entry = evidence[0].hit.entry if evidence else None
            nearest = (("nearest", entry.question or entry.title),) if entry and (entry.question or entry.title) else ()
            return Composed(refusal, lang, mode, abstained=True, notices=nearest)
        if generator is None or (mode == "verbatim" and not generator.confines):
            composed = quoted(evidence)
            yield Token(composed.answer)
            return composed
        if not generator.start(cancel):  # stopped while a large model was still loading
            return Composed("", lang, mode, stopped=True)
        if mode == "verbatim":
            composed = yield from choose(generator, question, lang, evidence, cancel)
        else:
            composed = yield from write(generator, question, lang, evidence, cancel, self.detector.detect)
        if generator.short_of_memory:
            composed = replace(composed, notices=(*composed.notices, ("small_context", str(generator.context))))
        return composed

    def _holds(self, lang: str) -> Callable[[str, Entry], bool]:
        return lambda sentence, entry: self.support.holds(sentence, lang, entry, self.index.encoder)

    def _done(self, composed: Composed, lang: str, retrieval: Retrieval, timings: dict[str, float], began: float) -> Done:
        now = time.perf_counter()
        holds = self._holds(composed.lang)
        citations = () if composed.abstained else citations_of(composed.answer, retrieval.evidence, holds)
        notices = list(composed.notices)
        doubtful: tuple[str, ...] = ()
        if composed.answer and not composed.abstained and not composed.stopped:
            if composed.mode == "verbatim":
                if retrieval.relevance < UNSURE_BELOW:
                    notices.append(("unsure", ""))
                if composed.lang != lang:
                    notices.append(("other_language", composed.lang))
            else:
                # a sentence without a mark can be looked for in its own language alone: across languages nearly everything resembles something
                own = [item for item in retrieval.evidence if item.hit.entry.lang == composed.lang]
                doubtful = unsupported(composed.answer, citations, own, holds)
                if not citations:
                    notices.append(("uncited", ""))
                if doubtful:
                    notices.append(("unsupported", str(len(doubtful))))
        if composed.first_at:
            timings["first_token"] = (composed.first_at - began) * 1e3
        timings |= {"generate": (now - began) * 1e3 - timings["detect"] - timings["retrieve"], "total": (now - began) * 1e3}
        model = {"encoder": self.index.encoder.name}
        if composed.model:
            model["generator"] = composed.model
        return Done(
            composed.answer, composed.lang, composed.mode, composed.abstained, composed.stopped, citations,
            {name: round(value, 2) for name, value in timings.items()}, model, tuple(notices), doubtful,
        )  # fmt: skip


def _region(entry: Entry) -> str:
    return region_of(entry.locale, entry.region)


def modes_of(preferred: str) -> tuple[str, ...]:
    """The modes of an engine whose model is meant for the `preferred` mode; empty: there is no model. A model that only chooses is not let write."""
    return ("verbatim", "generate") if preferred == "generate" else ("verbatim",)


def clean(text: str) -> str:
    """`text` without control characters and bidi overrides, which can make a question read as another."""
    return _INVISIBLE.sub("", text).strip()


def refuse(text: str) -> Failed | None:
    """Why a question cannot even be looked at, or None."""
    if not text:
        return Failed("empty_question")
    if len(text) > LONGEST_QUESTION:
        return Failed("too_long", {"count": f"{len(text)}", "limit": f"{LONGEST_QUESTION}"})
    if not _HAS_WORDS.search(text):
        return Failed("no_words")
    return None


def open_engine(settings: Settings, gpu: str = "auto") -> Engine:
    """The engine that models.toml describes. Raises MajlisError with the command that mends what is missing. Loads no torch for the bundled encoder."""
    from demo.detect import Detector

    model = settings.model(settings.encoder, "encoder")
    folder = hub.require(model, settings)
    encoder = open_encoder(folder, model.name, model.query_prefix, model.passage_prefix)
    index = open_index(settings.index, encoder)
    return Engine(
        Detector.open(settings), index, load_relevance(folder), open_generator(settings, gpu), load_support(folder), open_expander(settings)
    )

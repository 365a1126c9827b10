"""A question in, typed events out: the whole conversation without a page."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import regex

from demo import hub
from demo.events import Detected, Done, Event, Failed, Replaced, Retrieved, Token
from demo.generate import Ended, Generator, GeneratorDied, open_generator
from demo.languages import LANGUAGE, all_endonyms, strings
from demo.prompt import ANSWER_TOKENS, build_messages
from demo.quote import quote
from demo.retrieve import Detects, retrieve
from demo.settings import Settings
from demo.verify import citations_of, remove_unknown, without_marks
from index_builder.encode import open_encoder
from index_builder.relevance import Relevance, load_relevance
from index_builder.search import Index
from index_builder.vocabulary import LANGUAGES, Evidence, MajlisError

log = logging.getLogger(__name__)
LONGEST_QUESTION = 2_000  # characters
_HAS_WORDS = regex.compile(r"[\p{L}\p{N}]")
_INVISIBLE = regex.compile(
    r"[\p{Cc}\p{Cf}\p{Co}\p{Cs}--[\n\t\u200c\u200d]]", regex.V1
)  # controls and bidi overrides; joiners are part of Indic words
UNSURE_BELOW = 0.5  # where a first hit is as likely to miss the question as to answer it, the answer says so
_GUARD_AFTER = 40  # letters of an answer after which its language can be told


@dataclass(frozen=True, slots=True)
class Question:
    """One turn of a conversation. `lang` is the user's correction of the detected language; `page_lang` that of the interface."""

    text: str
    lang: str = ""
    locale: str = ""
    region: str = ""  # the place that the user chose, a key of the strings' "regions"; wins over the locale's
    mode: str = ""  # "verbatim", "generate", or empty for what the engine can do best
    page_lang: str = "en"
    prior: str = ""  # the language of the turn before


class Engine:
    """Everything that answering needs, opened once. `ask` may run in several threads."""

    def __init__(self, detector: Detects, index: Index, relevance: Relevance, generator: Generator | None = None):
        self.detector, self.index, self.relevance, self.generator = detector, index, relevance, generator

    def close(self) -> None:
        if self.generator:
            self.generator.close()
        self.index.close()

    @property
    def modes(self) -> tuple[str, ...]:
        return ("verbatim", "generate") if self.generator else ("verbatim",)

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

    def _answer(self, text: str, question: Question, cancel: threading.Event, began: float) -> Iterator[Event]:
        mode = question.mode or self.modes[-1]
        if mode not in self.modes:
            raise MajlisError(
                f"Mode {mode!r} is not to be had: {'it is verbatim or generate' if mode not in ('verbatim', 'generate') else 'no language model is loaded'}."
            )
        detection = self.detector.detect(text, question.prior)
        detected_at = time.perf_counter()
        lang = question.lang or (detection.lang if detection.lang in LANGUAGES else "")
        yield Detected(detection, lang or question.page_lang, bool(question.lang))
        if not lang and detection.lang != "und":
            yield Failed("unsupported_language", {"languages": all_endonyms()})
            return
        lang = lang or question.page_lang  # names and numbers alone: any language may be meant

        native = ""
        if detection.script == "Latn" and LANGUAGE[lang].script != "Latn":  # also when the user says so and the detector did not
            native = detection.native if detection.romanised and lang == detection.lang else self.detector.native(text, lang)
        insists = bool(question.lang)
        retrieval = retrieve(self.index, text, lang, self.relevance, question.locale, native, insists=insists, region=question.region)
        retrieved_at = time.perf_counter()
        yield Retrieved(retrieval.evidence, retrieval.relevance, retrieval.weak)

        timings = {"detect": (detected_at - began) * 1e3, "retrieve": (retrieved_at - detected_at) * 1e3}
        if retrieval.weak or not retrieval.evidence:
            answer = strings(lang)["unknown"]
            yield Token(answer)
            yield self._done(answer, lang, mode, (), timings, began, abstained=True)
            return
        if mode == "verbatim":
            answer = quote(retrieval.evidence)
            yield Token(answer)
            source_lang = retrieval.evidence[0].hit.entry.lang
            notices = (("unsure", ""),) if retrieval.relevance < UNSURE_BELOW else ()
            notices += (("other_language", source_lang),) if source_lang != lang else ()
            yield self._done(answer, source_lang, mode, retrieval.evidence, timings, began, notices=notices)
            return
        yield from self._generate(text, lang, retrieval.evidence, cancel, timings, began)

    def _generate(
        self, text: str, lang: str, evidence: tuple[Evidence, ...], cancel: threading.Event, timings: dict[str, float], began: float
    ) -> Iterator[Event]:
        generator = self.generator
        assert generator is not None
        if not generator.start(cancel):  # stopped while a large model was still loading
            yield self._done("", lang, "generate", (), timings, began, stopped=True)
            return
        messages, given = build_messages(text, evidence, lang, generator.count_tokens, generator.context)
        if not given:  # a model that sees no evidence would answer from nothing
            answer = quote(evidence)
            yield Token(answer)
            yield self._done(answer, evidence[0].hit.entry.lang, "verbatim", evidence, timings, began, notices=(("no_room", ""),))
            return
        answer, ended, first_at = "", Ended("stop", 0, 0), 0.0
        wrong_language = False
        for item in (stream := generator.stream(messages, ANSWER_TOKENS, cancel)):
            if isinstance(item, Ended):
                ended = item
                break
            first_at = first_at or time.perf_counter()
            answer += item
            yield Token(item)
            if self._is_other_language(answer, lang):
                wrong_language = True
                stream.close()
                break
        first_at = first_at or time.perf_counter()
        if not wrong_language and ended.reason != "stopped":  # a short answer, or one that came in large pieces
            wrong_language = self._is_other_language(answer, lang, whole=True)
        notices: list[tuple[str, str]] = []
        mode = "generate"
        if wrong_language or (not answer.strip() and ended.reason != "stopped"):
            # The evidence itself is an honest answer; a model that drifts once drifts again.
            answer, mode = quote(evidence), "verbatim"
            key = "wrong_language" if wrong_language else "no_answer"
            notices.append((key, ""))
            yield Replaced(answer, key)
        else:
            kept, removed = remove_unknown(answer, [item for item in evidence if item.n in given])
            if removed:
                answer = kept
                notices.append(("citations_removed", str(removed)))
                yield Replaced(answer, "citations_removed")
            if ended.reason == "length":
                notices.append(("cut_short", ""))
        abstained = without_marks(answer).strip() == strings(lang)["unknown"]
        if mode == "generate" and not abstained and ended.reason != "stopped":
            cited = citations_of(answer, evidence)
            unsupported = sum(not citation.supported for citation in cited)
            if not cited:
                notices.append(("uncited", ""))
            elif unsupported:
                notices.append(("unsupported", str(unsupported)))
        timings |= {"first_token": (first_at - began) * 1e3}
        source_lang = evidence[0].hit.entry.lang if mode == "verbatim" else lang
        yield self._done(
            answer.strip(), source_lang, mode, () if abstained else evidence, timings, began,
            abstained=abstained, stopped=ended.reason == "stopped", notices=tuple(notices),
        )  # fmt: skip

    def _is_other_language(self, answer: str, lang: str, whole: bool = False) -> bool:
        """Whether the answer is surely not in `lang`: looked at while it is written, as soon as there is enough to tell, and as a whole."""
        letters = sum(map(str.isalpha, answer))
        if letters < _GUARD_AFTER // 2 if whole else not _GUARD_AFTER <= letters <= _GUARD_AFTER * 2:
            return False
        found = self.detector.detect(without_marks(answer))
        return found.lang not in (lang, "und") and found.confidence >= 0.9

    def _done(self, answer: str, answer_lang: str, mode: str, evidence: tuple[Evidence, ...], timings: dict[str, float], began: float,
              abstained: bool = False, stopped: bool = False, notices: tuple[tuple[str, str], ...] = ()) -> Done:  # fmt: skip
        now = time.perf_counter()
        timings = timings | {"generate": (now - began) * 1e3 - timings["detect"] - timings["retrieve"], "total": (now - began) * 1e3}
        model = {"encoder": self.index.encoder.name}
        if mode == "generate" and self.generator:
            model["generator"] = self.generator.name
        return Done(
            answer,
            answer_lang,
            mode,
            abstained,
            stopped,
            citations_of(answer, evidence),
            {name: round(value, 2) for name, value in timings.items()},
            model,
            notices,
        )


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
    index = Index(settings.index, encoder)
    return Engine(Detector.open(settings), index, load_relevance(folder), open_generator(settings, gpu))

"""Evidence -> the text of an answer: quoted by rule, chosen by a model, or written by one. Generators of events that return what came of it."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

from demo.events import Detection, Event, Queued, Replaced, Token
from demo.generate import Choices, Ended, Letters, Waiting
from demo.generate import Generator as Model
from demo.generate.confine import words_of
from demo.generate.types import Message, Within
from demo.languages import LANGUAGE, strings
from demo.prompt import ANSWER_TOKENS, build_messages
from demo.quote import candidates, quote
from demo.verify import LanguageGuard, remove_unknown, repeats_at, without_marks
from index_builder.vocabulary import Evidence

_NEIGHBOURS = {"as": "র", "bn": "ৰৱ"}  # the letters by which Assamese and Bangla, in one script, tell each other apart

Notice = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Composed:
    """An answer, and how it came about."""

    answer: str
    lang: str  # of the text itself
    mode: str  # "verbatim" or "generate"
    model: str = ""  # the name of the model that chose or wrote it; empty when none did
    abstained: bool = False
    stopped: bool = False
    notices: tuple[Notice, ...] = ()
    first_at: float = 0.0  # time.perf_counter() of the first piece; 0 when a model had no part in it


Composing = Generator[Event, None, Composed]


def quoted(evidence: tuple[Evidence, ...], *notices: Notice) -> Composed:
    return Composed(quote(evidence), evidence[0].hit.entry.lang, "verbatim", notices=notices)


def choose(model: Model, question: str, lang: str, evidence: tuple[Evidence, ...], cancel: threading.Event) -> Composing:
    """The model picks sentences of the evidence, or the refusal; the text is the source's own, whatever the model is worth.

    Where the best evidence is in the reader's language, only evidence in that language is chosen from.
    """
    own = tuple(item for item in evidence if item.hit.entry.lang == lang)
    chosen_from = own if evidence[0] in own else evidence
    messages, given = build_messages(question, chosen_from, lang, model.count_tokens, model.context)
    if not given:
        return (yield from _without_room(evidence))
    refusal = strings(lang)["unknown"]
    texts = candidates(given, refusal)
    said = _Said()
    yield from said.by(model, messages, cancel, Choices(texts))
    if said.ended.reason == "stopped":
        return Composed(said.text.strip(), lang, "verbatim", model.name, stopped=True, first_at=said.first_at)
    answer = texts[said.ended.choice]
    cited = next((item for item in evidence if answer.endswith(f"[{item.n}]")), None)
    return Composed(answer, cited.hit.entry.lang if cited else lang, "verbatim", model.name, answer == refusal, first_at=said.first_at)


def write(
    model: Model,
    question: str,
    lang: str,
    evidence: tuple[Evidence, ...],
    cancel: threading.Event,
    detect: Callable[[str], Detection],
) -> Composing:
    """The model writes in its own words. An answer that turns out to be in another language is begun once more, then quoted instead."""
    own = tuple(item for item in evidence if item.hit.entry.lang == lang)
    # Names may stay in the letters of their source; an answer that drifted gets no such leave, and no foreign evidence to drift to.
    tries = [(evidence, [question, *(item.hit.entry.text for item in evidence)]), (own or evidence, [question])]
    if not model.confines and (not own or own == evidence):
        tries = tries[:1]  # nothing would be different
    said, notices = _Said(), []
    given: dict[int, tuple[str, ...]] = {}
    for number, (items, sources) in enumerate(tries):
        messages, found = build_messages(question, items, lang, model.count_tokens, model.context)
        given = dict(found)
        if not given:  # a model that sees no evidence would answer from nothing
            return (yield from _without_room(evidence))
        if number:
            notices = [("rewritten", "")]
            yield Replaced("", "rewritten")
        letters = Letters(LANGUAGE[lang].script, tuple(sorted(words_of(sources))), _NEIGHBOURS.get(lang, ""))
        said = _Said(said.first_at)
        yield from said.by(model, messages, cancel, letters if model.confines else None, LanguageGuard(detect, lang))
        if not said.in_another_language:
            break
    first_at = said.first_at
    if said.ended.reason == "stopped":
        return Composed(said.text.strip(), lang, "generate", model.name, stopped=True, notices=tuple(notices), first_at=first_at)
    if said.in_another_language or not said.text.strip():
        # The evidence itself is an honest answer; a model that drifted twice drifts again.
        key = "wrong_language" if said.in_another_language else "no_answer"
        composed = quoted(evidence, (key, ""))
        yield Replaced(composed.answer, key)
        return replace(composed, first_at=first_at)
    answer, removed = remove_unknown(said.text, [item for item in evidence if item.n in given])
    if removed:
        notices.append(("citations_removed", str(removed)))
        yield Replaced(answer, "citations_removed")
    if said.ended.reason == "length":
        notices.append(("cut_short", ""))
    abstained = without_marks(answer).strip() == strings(lang)["unknown"]
    return Composed(answer.strip(), lang, "generate", model.name, abstained, notices=tuple(notices), first_at=first_at)


def _without_room(evidence: tuple[Evidence, ...]) -> Composing:
    composed = quoted(evidence, ("no_room", ""))
    yield Token(composed.answer)
    return composed


class _Said:
    """What a model has said."""

    def __init__(self, first_at: float = 0.0) -> None:
        self.text = ""
        self.ended = Ended("stop", 0, 0)
        self.in_another_language = False
        self.first_at = first_at

    def by(
        self, model: Model, messages: list[Message], cancel: threading.Event, within: Within | None, guard: LanguageGuard | None = None
    ) -> Iterator[Event]:
        """Listen until the model ends; of an answer that is written freely, until `guard` hears another language or it begins to repeat itself."""
        stream = model.stream(messages, ANSWER_TOKENS, cancel, within)
        for item in stream:
            if isinstance(item, Waiting):
                yield Queued(item.ahead, item.seconds)
            elif isinstance(item, Ended):
                self.ended = item
            else:
                self.first_at = self.first_at or time.perf_counter()
                self.text += item
                yield Token(item)
                if guard and guard.hears(item):
                    stream.close()  # type: ignore[attr-defined]
                    break
                if guard and (end := repeats_at(self.text)) >= 0:
                    stream.close()  # type: ignore[attr-defined]
                    self.text = self.text[:end]
                    yield Replaced(self.text, "")
                    break
        self.first_at = self.first_at or time.perf_counter()
        self.in_another_language = bool(guard) and self.ended.reason != "stopped" and guard.heard_at_the_end()

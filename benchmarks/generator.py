"""A language model in the app against a bare llama_cpp loop with the same file and prompts, in one run; its first words; how soon it stops."""

import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import COLUMNS, Options, bundled_index, line, seconds
from demo.generate import Ended, open_generator
from demo.generate.local import LocalGenerator, _threads
from demo.generate.types import Message
from demo.hub import gguf_of
from demo.prompt import ANSWER_TOKENS, build_messages
from demo.retrieve import retrieve
from demo.settings import Settings, load_settings
from index_builder.encode import BUNDLED
from index_builder.evaluate.questions import read_questions
from index_builder.evaluate.runs import ROOT, Cell, Table
from index_builder.relevance import load_relevance
from index_builder.vocabulary import LANGUAGES, MajlisError

TITLE = "a language model"
NOTE = (
    "Two questions of the dev half in each language, each with five pieces of evidence, answered freely and greedily. Bare: the tokens of the same prompt through "
    "`llama_cpp.Llama.eval` and an argmax, in this process, with as many threads; nothing is decoded, checked or sent. Rates are those of writing, "
    "after the prompt was read; app and bare loop take turns."
)
_AT_TOKEN = 4  # pieces that are written before a stop is asked for
_NEVER = threading.Event()


@dataclass(frozen=True, slots=True)
class Asked:
    lang: str
    messages: list[Message]
    follows: bool = False  # the question of the second, about the evidence of the first


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the app, in seconds from the call."""

    first: float
    whole: float
    ended: Ended


def missing(options: Options) -> str:
    """Why nothing can be measured; empty when it can."""
    settings = load_settings(model=options.model)
    if settings.generator == "none":
        return "no language model is chosen in models.toml: name one, or a .gguf file, with --model"
    if settings.model(settings.generator, "generator").url:
        return f"{settings.generator} is served by another program: name a local one with --model"
    return ""


def tables(options: Options) -> list[Table]:
    settings = load_settings(model=options.model)
    path = gguf_of(settings.model(settings.generator, "generator"), settings)
    loads = []
    for _ in range(options.runs):
        generator = _opened(settings)
        loads.append(seconds(lambda generator=generator: generator.start(_NEVER)))
        generator.close()
    generator = _opened(settings)
    try:
        generator.start(_NEVER)
        asked = questions(generator)
        bare = Bare(path, generator.context)
        passes = [_rates(generator, bare, [one for one in asked if not one.follows]) for _ in range(options.runs)]
        turns = [[_turns(generator, asked, lang) for lang in LANGUAGES] for _ in range(options.runs)]
        stops = [_stops(generator, asked[-1], turns[0][-1][0].first) for _ in range(options.runs)]
    finally:
        generator.close()
    rows = [
        line("loaded, in a process of its own", "s", loads),
        line("app", "tokens/s", [app for app, _ in passes]),
        line("bare llama_cpp", "tokens/s", [plain for _, plain in passes]),
        line("app against bare", "times", [app / plain for app, plain in passes]),
        line("stop to silence, while it writes", "ms", [writing * 1e3 for writing, _ in stops]),
        line("stop to silence, while it reads the prompt", "ms", [reading * 1e3 for _, reading in stops]),
    ]
    title = f"{generator.name}, {path.stat().st_size / 1e6:.1f} MB, {_threads()} threads"
    return [Table(title, COLUMNS, rows), _first_words(turns)]


def _opened(settings: Settings) -> LocalGenerator:
    generator = open_generator(settings)
    assert isinstance(generator, LocalGenerator)
    return generator


def questions(generator: LocalGenerator) -> list[Asked]:
    """Two a language, as the app would put them to this model, and one that asks the second about the evidence of the first, as a conversation goes on."""
    index, relevance = bundled_index(), load_relevance(BUNDLED)
    try:
        found = []
        own = [one for one in read_questions(ROOT / "assets/evaluation/paraphrase.jsonl", "dev", None) if one.lang == one.evidence_lang]
        for lang in LANGUAGES:
            first, second = [one for one in own if one.lang == lang][:2]
            for asked, about, follows in ((first, first, False), (second, second, False), (second, first, True)):
                evidence = retrieve(index, about.text, lang, relevance).evidence
                messages, _ = build_messages(asked.text, evidence, lang, generator.count_tokens, generator.context)
                found.append(Asked(lang, messages, follows))
        return found
    finally:
        index.close()


def answer(generator: LocalGenerator, messages: Sequence[Message]) -> Answer:
    began, first = time.perf_counter(), 0.0
    ended = Ended("stopped", 0, 0)
    for item in generator.stream(messages, ANSWER_TOKENS, threading.Event()):
        if isinstance(item, str):
            first = first or time.perf_counter() - began
        if isinstance(item, Ended):
            ended = item
    whole = time.perf_counter() - began
    return Answer(first or whole, whole, ended)


class Bare:
    """The loop without anything around it."""

    def __init__(self, path: Path, context: int) -> None:
        import llama_cpp
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        layers, threads = -1 if llama_cpp.llama_supports_gpu_offload() else 0, _threads()
        self._llm: Any = llama_cpp.Llama(
            str(path), n_ctx=context, n_gpu_layers=layers, n_threads=threads, n_threads_batch=threads, n_batch=256, n_ubatch=256, verbose=False
        )  # fmt: skip
        bos, eos = (
            self._llm._model.token_get_text(token) if token >= 0 else "" for token in (self._llm.token_bos(), self._llm.token_eos())
        )
        self._template = Jinja2ChatFormatter(self._llm.metadata["tokenizer.chat_template"], eos_token=eos, bos_token=bos)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        return self._llm.tokenize(self._template(messages=list(messages)).prompt.encode(), add_bos=False, special=True)

    def write(self, prompt: list[int], tokens: int) -> float:
        """Seconds for as many tokens as the app wrote, its last one and the end included; the prompt was read before, but for its last token."""
        llm = self._llm
        llm.reset()
        llm.eval(prompt[:-1])
        began, token = time.perf_counter(), prompt[-1]
        for _ in range(tokens):
            llm.eval([token])
            token = int(np.argmax(np.ctypeslib.as_array(llm._ctx.get_logits_ith(-1), shape=(llm.n_vocab(),))))
        return time.perf_counter() - began


def _rates(generator: LocalGenerator, bare: Bare, asked: Sequence[Asked]) -> tuple[float, float]:
    """(app, bare) tokens a second over all questions: each is asked twice, and the second time its prompt is in the app's cache but for the last token."""
    tokens, app, plain = 0, 0.0, 0.0
    for one in asked:
        read = answer(generator, one.messages).ended
        prompt = bare.prompt(one.messages)
        if read.prompt_tokens != len(prompt):
            raise MajlisError(
                f"The app read {read.prompt_tokens} tokens and the bare loop {len(prompt)}: their prompts differ, so their rates tell nothing."
            )
        again = answer(generator, one.messages)
        written = again.ended.tokens + (again.ended.reason == "stop")  # the token that ends an answer is computed too
        tokens, app, plain = tokens + written, app + again.whole, plain + bare.write(prompt, written)
    return tokens / app, tokens / plain


def _turns(generator: LocalGenerator, asked: Sequence[Asked], lang: str) -> tuple[Answer, Answer, Answer]:
    """The first question in a language after one in another, the next in the same, and, after the first again, one more about its evidence."""
    other = next(one for one in asked if one.lang != lang)
    first, second, follow_up = (one for one in asked if one.lang == lang)
    answer(generator, other.messages)
    answers = answer(generator, first.messages), answer(generator, second.messages)
    answer(generator, first.messages)
    return *answers, answer(generator, follow_up.messages)


def _first_words(turns: Sequence[Sequence[tuple[Answer, Answer, Answer]]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for place, lang in enumerate(LANGUAGES):
        answers = [one[place] for one in turns]
        first, second, follow_up = answers[0]
        milliseconds = [round(statistics.median(one[turn].first for one in answers) * 1e3, 1) for turn in range(3)]
        against_first = [round(statistics.median(one[turn].first / one[0].first for one in answers), 3) for turn in (1, 2)]
        rows.append((
            lang, first.ended.prompt_tokens, milliseconds[0], second.ended.evaluated, milliseconds[1], against_first[0],
            follow_up.ended.evaluated, milliseconds[2], against_first[1], round(statistics.median(one.whole for three in answers for one in three), 2),
        ))  # fmt: skip
    columns = (
        "questions in", "tokens of the first prompt", "its first word, ms", "read anew for the second", "its first word, ms", "second against first",
        "read anew for a follow-up", "its first word, ms", "follow-up against first", "whole answer, s",
    )  # fmt: skip
    note = (
        "The first question comes after one in another language; the second after the first, about other evidence, so that the instructions alone are in the cache; "
        "the follow-up is the second's question about the first's evidence, after the first. Medians."
    )
    return Table("first words", columns, rows, note)


def _stops(generator: LocalGenerator, asked: Asked, first: float) -> tuple[float, float]:
    """Seconds from a stop to the end of the stream: while the model writes, and while it reads a prompt that takes it `first` seconds."""
    return _stop_while_writing(generator, asked), _stop_while_reading(generator, asked, first)


def _stop_while_writing(generator: LocalGenerator, asked: Asked) -> float:
    cancel, pieces, at = threading.Event(), 0, time.perf_counter()
    for item in generator.stream(asked.messages, ANSWER_TOKENS, cancel):
        pieces += isinstance(item, str)
        if pieces == _AT_TOKEN and not cancel.is_set():
            at = time.perf_counter()
            cancel.set()
    return time.perf_counter() - at


def _stop_while_reading(generator: LocalGenerator, asked: Asked, first: float) -> float:
    cancel, at = threading.Event(), [time.perf_counter()]

    def stop() -> None:
        at[0] = time.perf_counter()
        cancel.set()

    # other words at the very beginning, so that nothing of the prompt is in the cache
    cold = [{**message, "content": f"{time.time_ns()} {message['content']}"} for message in asked.messages]
    timer = threading.Timer(first / 2, stop)
    timer.start()
    list(generator.stream(cold, ANSWER_TOKENS, cancel))
    timer.cancel()
    return time.perf_counter() - at[0]

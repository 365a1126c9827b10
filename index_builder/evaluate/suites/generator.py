"""A language model alone on the app's own evidence: does it quote the right one of five, cite it, keep the language, and copy what it chose?

The evidence is what our retrieval finds, so the wrong pieces are hard ones, and it comes in retrieval's order. Only questions whose answer is among
the five are asked: what is measured is the choice, beside that of the quote engine, which takes the first.
"""

import argparse
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from index_builder.evaluate.files import digests
from index_builder.evaluate.measure import Task, by_language
from index_builder.evaluate.questions import Asked, read_questions
from index_builder.evaluate.runs import Cell, Row, Table
from index_builder.evaluate.statistics import mean, mean_with_interval, paired_randomisation
from index_builder.evaluate.suites.opening import (
    check_sample,
    described_engine,
    engine_of,
    engine_options,
    first_of_each,
    question_options,
    sample_option,
)
from index_builder.vocabulary import Evidence, MajlisError

if TYPE_CHECKING:
    from demo.engine import Engine

SUMMARY = "How well a language model chooses among five pieces of evidence, cites and copies them."
ASKED = ("paraphrase", "cross_lingual")


def add_options(parser: argparse.ArgumentParser) -> None:
    engine_options(parser)
    question_options(parser)
    sample_option(parser)
    parser.add_argument("--shuffled", action="store_true", help="number the evidence at random, so that retrieval's order tells nothing")
    parser.add_argument("--free", action="store_true", help="also let it write freely, and see what it copies; slower")


def open_task(options: argparse.Namespace) -> Task:
    check_sample(options)
    engine = engine_of(options)
    if engine.generator is None:
        engine.close()
        raise MajlisError(
            "This suite measures a language model, and none is loaded. Name one of models.toml, or a .gguf file, with --model."
        )
    known = frozenset(entry.entry_id for entry in engine.index.entries())
    files = [options.data / f"{name}.jsonl" for name in ASKED]
    asked = first_of_each([one for path in files for one in read_questions(path, options.split, known)], options.sample)
    configuration = {
        "split": options.split, "sample": options.sample, "free": options.free, "shuffled": options.shuffled, "data": digests(files), "engine": described_engine(engine),
    }  # fmt: skip
    note = f"{options.split.title()} questions whose answer is among the five pieces of evidence that our retrieval finds; of {len(asked)} asked."
    return Task(
        "generator", f"Generator, {options.split}: {engine.generator.name}{', evidence in random order' if options.shuffled else ''}", configuration,
        lambda done: _rows(engine, asked, options, done), tables, note, engine.close,
    )  # fmt: skip


def _shuffled(evidence: Sequence[Evidence], one: Asked) -> tuple[Evidence, ...]:
    """Numbered at random, and yet with what `choose` would let the model choose from: whether it keeps to the own language hangs on the first piece."""
    own = [item for item in evidence if item.hit.entry.lang == one.lang]
    among = own if evidence[0] in own else list(evidence)
    chance = random.Random(one.query_id)
    mixed = chance.sample(among, len(among))
    while among is not own and mixed[0] in own:
        mixed = chance.sample(among, len(among))
    return tuple(replace(item, n=n) for n, item in enumerate(mixed, 1))


def _rows(engine: "Engine", asked: Sequence[Asked], options: argparse.Namespace, done: frozenset[str]) -> Iterator[Row]:
    from demo.compose import choose, write
    from demo.retrieve import retrieve

    engine.generator.start(threading.Event())
    for one in asked:
        if f"{one.set}/{one.query_id}" in done:
            continue
        evidence = retrieve(engine.index, one.text, one.lang, engine.relevance).evidence
        if not any(item.hit.entry.entry_id in one.relevant for item in evidence):
            continue
        first = evidence[0].hit.entry.entry_id
        if options.shuffled:
            evidence = _shuffled(evidence, one)
        began = time.perf_counter()
        composed = _last(choose(engine.generator, one.text, one.lang, evidence, threading.Event()))
        took, first_s = time.perf_counter() - began, composed.first_at - began
        cited = _cited(composed.answer, evidence)
        own = any(item.hit.entry.lang == one.lang for item in evidence)
        row: Row = {
            "id": f"{one.set}/{one.query_id}", "set": one.set, "lang": one.lang, "question": one.text, "answer": composed.answer,
            "evidence": [item.hit.entry.entry_id for item in evidence], "timings_ms": {"first_token": round(first_s * 1e3, 1), "total": round(took * 1e3, 1)},
        }  # fmt: skip
        row["scores"] = {
            "right": float(bool(cited) and cited[0].hit.entry.entry_id in one.relevant),
            "quoted first": float(first in one.relevant),
            "agrees": float(bool(cited) and cited[0].hit.entry.entry_id == first),
            "refused": float(composed.abstained),
        }
        if cited:
            row["scores"]["citation holds"] = float(_copied(composed.answer, evidence))
            if own and evidence[0].hit.entry.lang == one.lang:
                row["scores"]["own language"] = float(composed.lang == one.lang)
        if options.free:
            written = _last(write(engine.generator, one.text, one.lang, evidence, threading.Event(), engine.detector.detect))
            # an answer that had to be quoted instead, because it was in the language of its evidence, is none of the model's writing
            own_writing = not any(key in ("wrong_language", "no_answer") for key, _ in written.notices)
            row["written"] = written.answer
            row["scores"]["written: by the model"] = float(own_writing)
            if own_writing and not written.abstained:
                row["scores"]["written: copied"] = float(_copied(written.answer, evidence))
                of_written = _cited(written.answer, evidence)
                row["scores"]["written: right"] = float(bool(of_written) and of_written[0].hit.entry.entry_id in one.relevant)
        yield row


def _last(composing):
    """What a generator of events returns in the end."""
    while True:
        try:
            next(composing)
        except StopIteration as end:
            return end.value


def _cited(answer: str, evidence: Sequence[Evidence]) -> list[Evidence]:
    from demo.verify import MARK

    by_number = {str(item.n): item for item in evidence}
    return [by_number[number] for number in MARK.findall(answer) if number in by_number]


def _copied(answer: str, evidence: Sequence[Evidence]) -> bool:
    """Whether all of `answer` is whole sentences of the evidence, each with the number of the piece that it stands in."""
    from demo.prompt import source_sentences

    sentences = {f"{sentence} [{item.n}]" for item in evidence for sentence in source_sentences(item.hit.entry)}
    rest = answer.strip()
    while rest:
        found = max((sentence for sentence in sentences if rest.startswith(sentence)), key=len, default="")
        if not found:
            return False
        rest = rest[len(found) :].strip()
    return bool(answer.strip())


def tables(rows: Sequence[Row]) -> list[Table]:
    made = [_choice(rows), _trust(rows), _times(rows)]
    return [table for table in made if table.rows]


def _groups(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for name in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == name]
        yield from ((f"{name} {lang}", group) for lang, group in by_language(of_set).items())
        yield f"{name} all", of_set


def _values(rows: Sequence[Row], name: str) -> list[float]:
    return [row["scores"][name] for row in rows if name in row["scores"]]


def _choice(rows: Sequence[Row]) -> Table:
    lines: list[tuple[Cell, ...]] = [
        (name, len(group), mean_with_interval(_values(group, "right")), mean_with_interval(_values(group, "quoted first")),
         round(paired_randomisation(_values(group, "right"), _values(group, "quoted first")), 4), mean(_values(group, "agrees")), mean(_values(group, "refused")))
        for name, group in _groups(rows)
    ]  # fmt: skip
    note = "Right: the answer is quoted from an entry that answers the question. The quote engine takes the evidence that retrieval puts first."
    return Table(
        "right evidence among five",
        ("questions", "n", "right", "quote engine", "p of the difference", "both choose the same", "refused"),
        lines,
        note,
    )


def _trust(rows: Sequence[Row]) -> Table:
    names = [
        name
        for name in ("citation holds", "own language", "written: by the model", "written: right", "written: copied")
        if any(name in row["scores"] for row in rows)
    ]
    lines = [(name, *(mean_with_interval(_values(group, score)) for score in names)) for name, group in _groups(rows)]
    note = (
        "Citation holds: the text is whole sentences of the source that is cited. Own language: of questions whose best evidence is in their language. "
        "Written: freely, confined to the script alone. By the model: the answer was not quoted by rule instead, as where it came out in another language than was asked in; "
        "of these, right: from an entry that answers, and copied: whole sentences of the evidence with the right number, as they were."
    )
    return Table("citations, language, copying", ("questions", *names), lines, note)


def _times(rows: Sequence[Row]) -> Table:
    def middle(group: Sequence[Row], name: str) -> float:
        values = sorted(row["timings_ms"][name] for row in group)
        return round(values[len(values) // 2])

    lines = [(name, middle(group, "first_token"), middle(group, "total")) for name, group in _groups(rows) if name.endswith(" all")]
    return Table(
        "milliseconds, middle of all", ("questions", "first token", "whole answer"), lines, "Verbatim decoding, without the search."
    )

"""How fast the engine answers in each language, and what the tokenizers charge for it.

The same questions in seven languages (the cross-lingual set), so that a difference between languages is a difference of the language.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import regex
from tokenizers import Tokenizer

from index_builder.evaluate.files import digests
from index_builder.evaluate.measure import Task, by_language
from index_builder.evaluate.questions import read_questions
from index_builder.evaluate.runs import Cell, Row, Table
from index_builder.evaluate.statistics import mean
from index_builder.evaluate.suites.answering import Item
from index_builder.evaluate.suites.answers import answered_by
from index_builder.evaluate.suites.opening import (
    check_sample,
    described_engine,
    engine_of,
    engine_options,
    first_of_each,
    question_options,
    sample_option,
)

if TYPE_CHECKING:
    from demo.engine import Engine

SUMMARY = "Time to the first word and to the whole answer, tokens a second, and tokens a question costs, per language."
_PARALLEL = "cross_lingual"
_WARM_UP = 3


def add_options(parser: argparse.ArgumentParser) -> None:
    engine_options(parser)
    question_options(parser)
    sample_option(parser)
    parser.add_argument("--mode", choices=("verbatim", "generate"), default="")


def open_task(options: argparse.Namespace) -> Task:
    check_sample(options)
    engine = engine_of(options)
    known = frozenset(entry.entry_id for entry in engine.index.entries())
    path = options.data / f"{_PARALLEL}.jsonl"
    asked = [Item(one.query_id, one.set, one.lang, one.text, ()) for one in read_questions(path, options.split, known)]
    mode = options.mode or engine.modes[-1]
    configuration = {
        "split": options.split,
        "sample": options.sample,
        "mode": mode,
        "data": digests([path]),
        "engine": described_engine(engine),
    }
    note = f"One question at a time. Wall time on this machine, after {_WARM_UP} questions to warm up; timings of other days and machines differ."
    return Task(
        "latency", f"Latency and the tokenizer tax: {answered_by(engine, mode)}", configuration,
        lambda done: _rows(engine, first_of_each(asked, options.sample), mode, done), tables, note, engine.close,
    )  # fmt: skip


def _rows(engine: "Engine", items: Sequence[Item], mode: str, done: frozenset[str]) -> Iterator[Row]:
    from demo.engine import Question
    from demo.events import Done, Token

    pieces = Tokenizer.from_file(str(engine.index.encoder.folder / "tokenizer.json"))
    for item in items[:_WARM_UP]:
        list(engine.ask(Question(item.text, mode=mode, page_lang=item.lang)))
    for item in items:
        if item.item_id in done:
            continue
        began, first = time.perf_counter(), 0.0
        finished: Any = None
        for event in engine.ask(Question(item.text, mode=mode, page_lang=item.lang)):
            if isinstance(event, Token) and not first:
                first = (time.perf_counter() - began) * 1e3
            if isinstance(event, Done):
                finished = event
        total = (time.perf_counter() - began) * 1e3
        row: Row = {
            "id": item.item_id, "set": item.set, "lang": item.lang, "letters": len(regex.findall(r"\X", item.text)),
            "timings_ms": {"first": round(first or total, 2), "total": round(total, 2)}, "tokens": {"encoder": len(pieces.encode(item.text, add_special_tokens=False).ids)},
        }  # fmt: skip
        if engine.generator:
            row["tokens"]["generator"] = engine.generator.count_tokens(item.text)
            if finished and finished.mode == "generate" and total > first:
                # what has been waited for after the first piece, without that piece's share, which cannot be told
                row["per_second"] = round(engine.generator.count_tokens(finished.answer) / (total - first) * 1e3, 1)
        yield row


def tables(rows: Sequence[Row]) -> list[Table]:
    groups = by_language(rows) | {"all": list(rows)}
    return [_times(groups), _tax(groups)]


def _times(groups: dict[str, list[Row]]) -> Table:
    lines: list[tuple[Cell, ...]] = []
    for lang, group in groups.items():
        first, total = ([row["timings_ms"][name] for row in group] for name in ("first", "total"))
        lines.append((
            lang, len(group), *(round(float(np.percentile(first, p)), 1) for p in (50, 95)), *(round(float(np.percentile(total, p)), 1) for p in (50, 95)),
            mean([row["per_second"] for row in group if "per_second" in row]),
        ))  # fmt: skip
    columns = (
        "questions in",
        "n",
        "first word, median ms",
        "first word, p95 ms",
        "whole answer, median ms",
        "whole answer, p95 ms",
        "tokens/s",
    )
    return Table("time to answer", columns, lines)


def _tax(groups: dict[str, list[Row]]) -> Table:
    kinds = list(dict.fromkeys(kind for group in groups.values() for row in group for kind in row["tokens"]))
    english = {kind: mean([row["tokens"][kind] for row in groups.get("en", ())]) for kind in kinds}
    lines = []
    for lang, group in groups.items():
        cells: list[Cell] = [lang, mean([row["letters"] for row in group])]
        for kind in kinds:
            tokens = mean([row["tokens"][kind] for row in group])
            cells += [tokens, round(tokens / english[kind], 2) if tokens and english[kind] else None]
        lines.append(tuple(cells))
    columns = ("questions in", "letters", *(column for kind in kinds for column in (f"tokens ({kind})", f"times English ({kind})")))
    return Table(
        "the tokenizer tax",
        columns,
        lines,
        "The same questions in each language: letters (grapheme clusters) and tokens of a question, on average.",
    )

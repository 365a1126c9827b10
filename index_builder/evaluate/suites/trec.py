"""A run file and a qrels file of TREC, from any system -> the ranking figures."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from index_builder.evaluate.files import digests
from index_builder.evaluate.measure import Task
from index_builder.evaluate.metrics import ranking, relevant_ranks
from index_builder.evaluate.runs import Row, Table
from index_builder.evaluate.statistics import mean_with_interval
from index_builder.evaluate.suites.retrieval import METRICS
from index_builder.evaluate.trec import read_qrels, read_run

SUMMARY = "The figures of any system's TREC run file against a qrels file."


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, required=True, dest="run_file", metavar="FILE", help="lines 'query Q0 passage rank score tag'")
    parser.add_argument("--qrels", type=Path, required=True, metavar="FILE", help="lines 'query 0 passage grade', or BEIR's table")


def open_task(options: argparse.Namespace) -> Task:
    qrels = read_qrels(options.qrels)
    run = read_run(options.run_file, qrels)
    note = "Equal scores are ordered by id, descending, as trec_eval does; a judged query that the run lacks counts as 0."
    return Task(
        "trec", f"Run {options.run_file.name}", {"data": digests([options.run_file, options.qrels])}, lambda done: _rows(qrels, run, done), tables, note,
    )  # fmt: skip


def _rows(qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float]], done: frozenset[str]) -> Iterator[Row]:
    for query, grades in qrels.items():
        if query not in done:
            scores = run.get(query, {})
            ranked = ranking(scores)
            yield {
                "id": query, "set": "trec", "relevant": dict(grades), "found": [[one, scores[one]] for one in ranked], "ranks": relevant_ranks(grades, ranked),
                "scores": {name: round(metric(dict(grades), ranked), 6) for name, metric in METRICS.items()},
            }  # fmt: skip


def tables(rows: Sequence[Row]) -> list[Table]:
    lines = [(name, len(rows), mean_with_interval([row["scores"][name] for row in rows])) for name in METRICS]
    return [Table("figures", ("metric", "queries", "mean (95 % interval)"), lines)]

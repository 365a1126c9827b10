"""TREC run and qrels files: `query Q0 passage rank score tag` and `query 0 passage grade`, a line each; BEIR's qrels table too."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from index_builder.evaluate.files import Unique, text_lines
from index_builder.evaluate.metrics import ranking
from index_builder.evaluate.runs import Row
from index_builder.vocabulary import MajlisError


def read_qrels(path: Path, known: Iterable[str] | None = None) -> dict[str, dict[str, int]]:
    """{query: {passage: grade}} of a TREC qrels file, or of BEIR's table (query-id TAB corpus-id TAB score, with a header).

    Raises MajlisError with file and line for a broken line, a pair judged twice, a passage that is not among `known` when that is
    given, a query without anything relevant, and a file without judgements.
    """
    allowed = None if known is None else frozenset(known)
    unique = Unique("the pair of query and passage")
    qrels: dict[str, dict[str, int]] = {}
    first_at: dict[str, str] = {}
    for where, line in text_lines(path):
        parts = line.split()
        if not parts or parts[0] == "query-id":
            continue
        if len(parts) == 3:
            parts.insert(1, "0")
        try:
            query, _, passage, grade = parts[0], parts[1], parts[2], int(parts[3])
        except (IndexError, ValueError) as error:
            raise MajlisError(f"{where}: expected 'query 0 passage grade', found {line!r:.80}.") from error
        if allowed is not None and passage not in allowed:
            raise MajlisError(
                f"{where}: passage {passage!r} is judged, but the corpus holds none of that id. Give the corpus of these qrels."
            )
        unique((query, passage), where)
        first_at.setdefault(query, where)
        qrels.setdefault(query, {})[passage] = grade
    if not qrels:
        raise MajlisError(f"{path} holds no judgement. Expected lines 'query 0 passage grade'.")
    for query, grades in qrels.items():
        if max(grades.values()) < 1:
            raise MajlisError(
                f"{first_at[query]}: query {query!r} has no relevant passage (no grade of 1 or more), so every system would get 0. "
                "Judge it, or leave it out."
            )
    return qrels


def read_run(path: Path, queries: Iterable[str] | None = None) -> dict[str, dict[str, float]]:
    """{query: {passage: score}}; ranks in the file are ignored, as trec_eval ignores them.

    Raises MajlisError with file and line for a broken line, a passage returned twice for a query, a score that is no number, a query
    that is not among `queries` when these are given, and an empty run.
    """
    allowed = None if queries is None else frozenset(queries)
    unique = Unique("the pair of query and passage")
    run: dict[str, dict[str, float]] = {}
    for where, line in text_lines(path):
        parts = line.split()
        if not parts:
            continue
        try:
            query, _, passage, _, score = parts[0], parts[1], parts[2], parts[3], float(parts[4])
        except (IndexError, ValueError) as error:
            raise MajlisError(f"{where}: expected 'query Q0 passage rank score tag', found {line!r:.80}.") from error
        if not math.isfinite(score):
            raise MajlisError(
                f"{where}: the score is {parts[4]}, expected a finite number. The system that wrote this run divided by 0 or overflowed."
            )
        if allowed is not None and query not in allowed:
            raise MajlisError(f"{where}: query {query!r} is not in the qrels. Give the qrels of this run.")
        unique((query, passage), where)
        run.setdefault(query, {})[passage] = score
    if not run:
        raise MajlisError(f"{path} is empty: no query found anything. Expected lines 'query Q0 passage rank score tag'.")
    return run


def write_run(run: Mapping[str, Mapping[str, float]], path: Path, tag: str = "majlis") -> None:
    """Raises MajlisError for an id with white space, which parts the fields of these files."""
    _check_ids(run)
    lines = [
        f"{query} Q0 {passage} {rank} {scores[passage]:.6f} {tag}\n"
        for query, scores in run.items()
        for rank, passage in enumerate(ranking(scores), 1)
    ]
    _write(path, lines)


def write_qrels(qrels: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Raises MajlisError for an id with white space."""
    _check_ids(qrels)
    _write(path, [f"{query} 0 {passage} {grade}\n" for query, grades in qrels.items() for passage, grade in grades.items()])


def export(rows: Iterable[Row], folder: Path) -> list[Path]:
    """run.trec and qrels.trec of the rows that say what was found and what is relevant. Raises MajlisError when none does."""
    kept = [row for row in rows if "found" in row and row.get("relevant")]
    if not kept:
        raise MajlisError("This run ranks nothing, so there is no TREC run to write. Export runs of the suites retrieval and trec.")
    folder.mkdir(parents=True, exist_ok=True)
    write_run({row["id"]: dict(row["found"]) for row in kept}, folder / "run.trec")
    write_qrels({row["id"]: row["relevant"] for row in kept}, folder / "qrels.trec")
    return [folder / "run.trec", folder / "qrels.trec"]


def _check_ids(found: Mapping[str, Mapping[str, float]]) -> None:
    for query, passages in found.items():
        for one in (query, *passages):
            if len(one.split()) != 1:
                raise MajlisError(f"The id {one!r} holds white space, which parts the fields of a TREC file. Give ids without it.")


def _write(path: Path, lines: Iterable[str]) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text("".join(lines), encoding="utf-8", newline="\n")
        partial.replace(path)
    except OSError as error:
        raise MajlisError(f"{path} could not be written ({error}). Give a folder that exists and has space.") from error

"""Files of generated queries, made once by `generate-queries` and attached to the entries of the same corpus whenever an index is built.

A file is JSONL, plain or `.jsonl.xz`. Its first line says what it belongs to:
    {"schema": 1, "corpus_sha256": …, "model": …, "settings": {…}}
and every other line is one query: {"id": entry id, "lang", "text", "score"}. A passage's rows are in the order in which the model ranked them.
"""

import json
import lzma
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

from index_builder.vocabulary import LANGUAGES, Entry, GeneratedQuery, MajlisError

SCHEMA = 1


class QueriesError(MajlisError):
    """A file of generated queries that cannot be used; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a file: the corpus its queries were asked about, and how they were made."""

    corpus_sha256: str
    model: str
    settings: Mapping[str, Any]

    def as_line(self) -> str:
        return _line({"schema": SCHEMA, "corpus_sha256": self.corpus_sha256, "model": self.model, "settings": dict(self.settings)})


def corpus_digest(entries: Iterable[Entry]) -> str:
    """sha256 of what queries are asked about: id, kind, language, question, text and title of every entry, in the order of the ids.

    So neither the files that a corpus is split into, nor their order, nor a source or topic mended later changes it. Only 32 bytes
    and the id of an entry are kept, not the entry.
    """
    rows = []
    for entry in entries:
        row = [entry.entry_id, entry.kind, entry.lang, entry.question, entry.text, entry.title]
        rows.append((entry.entry_id, sha256(json.dumps(row, ensure_ascii=False).encode()).digest()))
    digest = sha256()
    for _, row_digest in sorted(rows):
        digest.update(row_digest)
    return digest.hexdigest()


def row_line(entry_id: str, query: GeneratedQuery) -> str:
    """One query as a line of a file; its model is named in the header."""
    return _line({"id": entry_id, "lang": query.lang, "text": query.text, "score": round(query.score, 6)})


def write_queries(path: Path, header: Header, rows: Iterable[tuple[str, GeneratedQuery]]) -> None:
    """Write a whole file, or none: `path` appears when all of `rows` (entry id, query) are in it."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with lzma.open(partial, "wt", encoding="utf-8") if path.suffix == ".xz" else partial.open("w", encoding="utf-8") as out:
            out.write(header.as_line())
            out.writelines(row_line(entry_id, query) for entry_id, query in rows)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise QueriesError(f"{path} could not be written ({error}). Give a folder that exists and has space.") from error


def read_queries(path: Path) -> tuple[Header, Iterator[tuple[str, GeneratedQuery]]]:
    """The header of a file, and its rows (entry id, query) as they are read. Raises QueriesError with file and line, also while the rows are read."""
    if not path.is_file():
        raise QueriesError(f"{path} is not there. Make it with: python -m index_builder generate-queries --corpus … --out {path}")
    rows = _rows(path)
    return next(rows), rows  # the generator opens the file, yields the header first, and closes the file when it ends


def queries_files(paths: Iterable[Path]) -> list[Path]:
    """`paths`, with each folder replaced by the files of queries in it, in name order."""
    return [file for path in paths for file in (sorted((*path.glob("*.jsonl"), *path.glob("*.jsonl.xz"))) if path.is_dir() else [path])]


def attach(entries: Iterable[Entry], *paths: Path) -> list[Entry]:
    """The entries with the queries of the files behind those they have, each text once per language.

    Raises QueriesError for a file that was made for another corpus: its ids would name other passages, or none.
    """
    entries = list(entries)
    digest = corpus_digest(entries)
    known = {entry.entry_id for entry in entries}
    found: dict[str, list[GeneratedQuery]] = {}
    for path in paths:
        header, rows = read_queries(path)
        with closing(rows):
            if header.corpus_sha256 != digest:
                raise QueriesError(
                    f"{path} was made for another corpus (sha256 {header.corpus_sha256[:12]}…, this one has {digest[:12]}…). "
                    "Give the corpus that it was made for, or make it again: python -m index_builder generate-queries"
                )
            for entry_id, query in rows:
                if entry_id not in known:
                    raise QueriesError(f"{path}: the corpus has no entry {entry_id!r}. The file was changed; make it again.")
                found.setdefault(entry_id, []).append(query)
    return [replace(entry, queries=_once([*entry.queries, *found.get(entry.entry_id, ())])) for entry in entries]


def _once(queries: Sequence[GeneratedQuery]) -> tuple[GeneratedQuery, ...]:
    first: dict[tuple[str, str], GeneratedQuery] = {}
    for query in queries:
        first.setdefault((query.lang, query.text), query)
    return tuple(first.values())


def _objects(path: Path, lines: TextIO) -> Iterator[tuple[int, Any]]:
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            yield number, json.loads(line)
    except (ValueError, RecursionError, EOFError, lzma.LZMAError) as error:  # UnicodeDecodeError is a ValueError
        raise QueriesError(
            f"{path}:{number or 1}: damaged ({error}). Make the file again: python -m index_builder generate-queries"
        ) from error


def _header_of(row: Any, path: Path) -> Header:
    if not isinstance(row, dict) or "corpus_sha256" not in row:
        raise QueriesError(
            f"{path}:1: expected the header of a queries file, with schema and corpus_sha256. Is this file from generate-queries?"
        )
    if row.get("schema") != SCHEMA:
        raise QueriesError(
            f"{path}:1: schema is {row.get('schema')!r}, this version reads {SCHEMA}. Make the file again with generate-queries."
        )
    if not (isinstance(row["corpus_sha256"], str) and isinstance(row.get("model"), str) and isinstance(row.get("settings"), dict)):
        raise QueriesError(f"{path}:1: corpus_sha256 and model must be text and settings an object; found {row}.")
    return Header(row["corpus_sha256"], row["model"], row["settings"])


def _rows(path: Path) -> Iterator[Any]:
    """The header, then (entry id, query) of every further line."""
    with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as lines:
        objects = _objects(path, lines)
        header = _header_of(next(objects, (1, None))[1], path)
        yield header
        for number, row in objects:
            where = f"{path}:{number}"
            if not isinstance(row, dict) or not all(isinstance(row.get(key), str) and row[key] for key in ("id", "lang", "text")):
                raise QueriesError(f"{where}: expected an object with id, lang and text; found {str(row)[:80]}.")
            if row["lang"] not in LANGUAGES:
                raise QueriesError(f"{where}: lang is {row['lang']!r}, expected one of {', '.join(LANGUAGES)}.")
            score = row.get("score")
            if isinstance(score, bool) or not isinstance(score, int | float):
                raise QueriesError(f"{where}: score must be a number, found {score!r}.")
            yield row["id"], GeneratedQuery(row["lang"], row["text"], float(score), header.model)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"

"""Corpus rows: schema, text, ids, duplicates, counts. Every row is looked at, however bad the one before it was."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import md5
from pathlib import Path
from typing import Any

from index_builder.check.characters import character_defects
from index_builder.check.language import language_defects
from index_builder.check.report import Finding, Severity, printable
from index_builder.check.similar import NEAR, SAME, Similar
from index_builder.read import CorpusError, corpus_files, entry_of, raw_rows
from index_builder.text import words
from index_builder.vocabulary import LANGUAGES, TOPICS, Entry

LOCALES = ("ar-QA", "as-IN", "bn-BD", "bn-IN", "en-BD", "en-QA", "hi-IN", "ne-NP", "tr-TR")
_PASSAGE_LOCALES = ("en-IN", "en-NP", "en-TR")  # English about places whose people ask in another language
MINIMUM = 8  # QA pairs per locale and topic
# Words: (error below, warning below, warning above, error above)
_LENGTHS = {"question": (1, 2, 40, 80), "answer": (3, 8, 100, 200), "text": (15, 50, 200, 400)}
_PLACE = re.compile(r"(?P<file>.*?)(?::(?: item )?(?P<line>\d+))?: (?P<problem>.*)", re.S)

# What the reader means where its sentence does not say what it expected
_MEANT = (
    ("not UTF-8", "UTF-8"),
    ("surrogate", "text that UTF-8 can hold"),
    ("not valid JSON", "valid JSON"),
    ("cells than the header", "as many cells as the header"),
    ("not a valid table", "cells with quotes, tabs or line ends in quotation marks"),
    ("the header must name", "a header that names question and answer, or text"),
)


@dataclass(slots=True)
class Row:
    """One row that became an entry, with its place and its fields as they were written."""

    entry: Entry
    file: str
    line: int
    raw: dict[str, Any]

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(slots=True)
class Findings:
    all: list[Finding] = field(default_factory=list)

    def add(self, severity: Severity, file: str, line: int, name: str, check: str, found: str, expected: str) -> None:
        self.all.append(Finding(severity, file, line, name, printable(found, 200), expected, check))


@dataclass(frozen=True, slots=True)
class Indexed:
    """A question that finds an entry: the native one of a QA pair, or a generated one."""

    text: str
    row: Row
    native: bool


def indexed_questions(rows: Sequence[Row]) -> dict[str, list[Indexed]]:
    found: dict[str, list[Indexed]] = {}
    for row in rows:
        if row.entry.question:
            found.setdefault(row.entry.lang, []).append(Indexed(row.entry.question, row, True))
        for query in row.entry.queries:
            found.setdefault(query.lang, []).append(Indexed(query.text, row, False))
    return {lang: [asked for asked in of if words(asked.text)] for lang, of in found.items()}


def read_rows(corpus: Sequence[Path], findings: Findings) -> Iterator[Row]:
    def say(problem: str) -> None:
        _add_problem(problem.removeprefix("left out: ").removeprefix("replaced by �: "), findings)

    for path in corpus_files(corpus):
        if path.suffix.lower() in (".md", ".txt"):
            findings.add("warning", str(path), 0, "lang", "schema", "a text file, which names no language: not checked", "JSONL, JSON, TSV or CSV")
            continue
        try:
            for where, raw in raw_rows(path, True, say, ""):
                if row := _row(raw, where, findings):
                    yield row
        except CorpusError as error:
            _add_problem(str(error), findings)


def _row(raw: Any, where: str, findings: Findings) -> Row | None:
    match = _PLACE.fullmatch(f"{where}: ")
    assert match is not None
    file, line = match["file"], int(match["line"] or 0)
    try:
        return Row(entry_of(raw, where), file, line, raw)
    except CorpusError as error:
        _add_problem(str(error), findings)
        return None


def _add_problem(problem: str, findings: Findings) -> None:
    """What the reader says in a sentence, as place, field, found and expected."""
    match = _PLACE.fullmatch(problem)
    file, line, problem = (match["file"], int(match["line"] or 0), match["problem"]) if match else ("", 0, problem)
    name = re.search(r"(?:field|non-empty) '(\w+)'", problem)
    found = re.search(r"(?:found|' is) (.+?)(?:, expected .*|\.)?$", problem, re.S)
    expected = re.search(r"(?:expected|must be|needs) (.+?)(?:[,;] found .*|\.)?$", problem, re.S)
    wanted = next((meant for word, meant in _MEANT if word in problem), expected[1] if expected else "a row that can be read")
    missing = "needs a non-empty" in problem
    check = "not UTF-8" if wanted == "UTF-8" else "schema"
    findings.add("error", file, line, name[1] if name else "", check, "nothing" if missing else found[1] if found else problem, wanted)


def check_ids(rows: Sequence[Row], findings: Findings) -> None:
    first: dict[str, Row] = {}
    for row in rows:
        identity = row.entry.entry_id
        before = first.setdefault(identity, row)
        if before is not row:
            findings.add("error", row.file, row.line, "id", "duplicate id", f"{identity!r}, used before at {before.place}", "an id of its own")


def check_row(row: Row, findings: Findings) -> None:
    entry, raw = row.entry, row.raw

    def add(severity: Severity, name: str, check: str, found: str, expected: str) -> None:
        findings.add(severity, row.file, row.line, name, check, found, expected)

    for name in ("id", "kind", "lang", "locale", "region", "topic", "title", "input_query", "source", "reliability"):
        if isinstance(raw.get(name), str) and not raw[name].strip() and row.file.endswith(".jsonl"):
            add("error", name, "schema", "an empty field", "a value, or no such field")
    for name in ("locale", "topic", "source", "reliability"):
        if not raw.get(name):
            add("warning", name, "schema", "nothing", f"a {name}")
    known = LOCALES if entry.kind == "qa" else (*LOCALES, *_PASSAGE_LOCALES)
    if entry.locale and entry.locale not in known:
        add("error", "locale", "schema", repr(entry.locale), f"one of {', '.join(known)}")
    elif entry.locale and entry.locale.split("-")[0] != entry.lang:
        add("error", "locale", "schema", f"{entry.locale!r} in a row whose lang is {entry.lang!r}", f"a locale of {entry.lang!r}")
    # MultiNativQA's public files may name the seed query by number; then the sum cannot be made again
    if raw.get("data_id") and "input_query_id" not in raw:
        right = md5(f"{raw.get('input_query', '')} {raw.get('question', '')}".encode()).hexdigest()
        if raw["data_id"] != right:
            add("error", "data_id", "data_id", repr(raw["data_id"]), f"md5 of input_query, a space and question: {right}")
    for name in ("question", "answer") if entry.kind == "qa" else ("title", "text"):
        if isinstance(raw.get(name), str) and raw[name].strip():
            check_text(raw[name], entry.lang, name, add)
    if isinstance(raw.get("input_query"), str) and raw["input_query"].strip():
        for severity, check, found, expected in character_defects(raw["input_query"], entry.lang):
            add(severity, "input_query", check, found, expected)
    for query in entry.queries:
        if query.lang not in LANGUAGES:
            add("error", "queries", "schema", repr(query.lang), f"one of {', '.join(LANGUAGES)}")
        else:
            check_text(query.text, query.lang, "queries", add)


def check_text(text: str, lang: str, name: str, add, script: str = "") -> None:
    """Characters, language and length of one field. `add` is called with (severity, field, check, found, expected)."""
    for severity, check, found, expected in (*character_defects(text, lang), *language_defects(text, lang, script)):
        add(severity, name, check, found, expected)
    if name in _LENGTHS:
        count = len(words(text))
        too_short, short, long, too_long = _LENGTHS[name]
        if not short <= count <= long:
            severity: Severity = "warning" if too_short <= count <= too_long else "error"
            add(severity, name, "length", f"{count} words", f"{short} to {long} words")


def check_duplicates(asked: Sequence[Indexed], findings: Findings) -> None:
    for similarity, earlier, later in Similar([one.text for one in asked]).pairs():
        first, second = asked[earlier], asked[later]
        if first.row is second.row or not (first.native and second.native):
            continue  # a generated question may well repeat a native one
        near = f"{similarity:.2f} like {first.row.entry.entry_id!r} at {first.row.place}: {printable(first.text)!r}"
        same_place = first.row.entry.locale == second.row.entry.locale
        severity: Severity = "error" if similarity == 1 or same_place and similarity >= SAME else "warning"
        check = "duplicate" if similarity == 1 else "near-duplicate"
        findings.add(severity, second.row.file, second.row.line, "question", check, f"{printable(second.text)!r} is {near}", f"a question of its own (below {NEAR})")


def check_counts(rows: Sequence[Row], findings: Findings) -> None:
    """Too little about a topic is a gap of the corpus and no defect of a row: a warning, once for a locale."""
    pairs = [row for row in rows if row.entry.kind == "qa"]
    counts = Counter((row.entry.locale, row.entry.topic) for row in pairs)
    files = {row.entry.locale: row.file for row in reversed(pairs)}
    for locale in sorted(files):
        if few := [f"{topic} {counts[locale, topic]}" for topic in TOPICS if counts[locale, topic] < MINIMUM]:
            findings.add("warning", files[locale], 0, "topic", "counts", f"{locale or 'no locale'}: {', '.join(few)}", f"{MINIMUM} QA pairs for each topic")
    if pairs and (none := [locale for locale in LOCALES if locale not in files]):
        findings.add("warning", pairs[0].file, 0, "locale", "counts", f"no QA pair of {', '.join(none)}", "QA pairs of each of the nine locales")

"""Questions and qrels -> how well retrieval finds: success@1, success@5 and MRR per language, with bootstrap intervals."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from index_builder.relevance import Relevance, fit_relevance
from index_builder.search import Index, Reader
from index_builder.vocabulary import LANGUAGES, Hit, MajlisError

SUITES = ("cross_lingual", "paraphrase", "romanised", "temporal")
DEPTH = 10  # how far a ranking is read; a relevant entry below it counts as not found
_RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class Asked:
    """One row of an evaluation file."""

    query_id: str
    suite: str
    lang: str
    split: str
    text: str
    evidence_lang: str
    relevant: frozenset[str]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one group of questions; shares in [0, 1], the interval is the 95 % bootstrap interval of success@1."""

    group: str
    questions: int
    success_at_1: float
    low: float
    high: float
    success_at_5: float
    mrr: float


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    rows: tuple[Figures, ...]

    def as_json(self) -> dict[str, Any]:
        return {"title": self.title, "rows": [{name: getattr(row, name) for name in Figures.__dataclass_fields__} for row in self.rows]}

    def as_markdown(self) -> str:
        lines = [f"### {self.title}", "", "| questions in | n | success@1 (95 % interval) | success@5 | MRR@10 |", "|---|---|---|---|---|"]
        lines += [
            f"| {row.group} | {row.questions} | {row.success_at_1:.3f} ({row.low:.3f} to {row.high:.3f}) | {row.success_at_5:.3f} | {row.mrr:.3f} |"
            for row in self.rows
        ]
        return "\n".join(lines)


def read_questions(path: Path, split: str, known: frozenset[str]) -> list[Asked]:
    """The rows of one evaluation file in one split. Raises MajlisError with file and line for a bad row or a qrel that the index does not know."""
    if not path.is_file():
        raise MajlisError(f"{path} is not there. The evaluation files ship in assets/evaluation; give another folder with --data.")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise MajlisError(f"{path} is not UTF-8 (byte 0x{error.object[error.start]:02x}). Save the file as UTF-8.") from error
    asked = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            one = Asked(
                row["id"],
                path.stem,
                row["lang"],
                row["split"],
                row["question"],
                row.get("evidence_lang", ""),
                frozenset(i for i, grade in row["qrels"].items() if grade >= 1),
            )
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise MajlisError(f"{path}:{number}: expected id, lang, split, question and qrels ({error!r}).") from error
        unknown = one.relevant - known
        if unknown:
            raise MajlisError(
                f"{path}:{number}: qrels name {min(unknown)!r}, which the index does not hold. Build the index from the corpus of these questions."
            )
        if one.split == split:
            asked.append(one)
    return asked


def evaluate_retrieval(index: Index, data: Path, split: str, native: Callable[[str], str] | None = None) -> list[Table]:
    """One table per suite: a row per language of the question, then all. `native` turns a romanised question into its own script, as the app does."""
    known = frozenset(entry.entry_id for entry in index.entries())
    tables = []
    for suite in SUITES:
        asked = read_questions(data / f"{suite}.jsonl", split, known)
        ranks = [first_rank(index, one, native) for one in asked]
        by_language = [(lang, [rank for rank, one in zip(ranks, asked, strict=True) if one.lang == lang]) for lang in LANGUAGES]
        groups = [(lang, of) for lang, of in by_language if of] + [("all", ranks)]
        if suite == "paraphrase":
            groups += [
                (name, [rank for rank, one in zip(ranks, asked, strict=True) if (one.lang == one.evidence_lang) == same])
                for name, same in (("own language", True), ("another language", False))
            ]
        tables.append(Table(f"{suite}, {split}", tuple(figures(name, of) for name, of in groups if of)))
        pairs = sorted({(one.lang, one.evidence_lang) for one in asked})
        if len(pairs) > len(LANGUAGES):  # more than one language of evidence for a language of questions
            by_pair = [
                (f"{a} -> {b}", [rank for rank, one in zip(ranks, asked, strict=True) if (one.lang, one.evidence_lang) == (a, b)])
                for a, b in pairs
            ]
            tables.append(Table(f"{suite}, {split}, question -> evidence", tuple(figures(name, of) for name, of in by_pair)))
    return tables


def first_rank(index: Index, one: Asked, native: Callable[[str], str] | None = None) -> int:
    """Rank of the first relevant entry, from 1; 0 when none is among the first DEPTH."""
    text = native(one.text) if native and one.suite == "romanised" else one.text
    hits = index.search(text, DEPTH, reader=Reader(one.lang))
    return next((hit.rank for hit in hits if hit.entry.entry_id in one.relevant), 0)


def figures(group: str, ranks: Sequence[int]) -> Figures:
    array = np.array(ranks)
    first = array == 1
    samples = np.random.default_rng(0).integers(0, len(first), (_RESAMPLES, len(first)))
    low, high = np.percentile(first[samples].mean(1), [2.5, 97.5])
    values = (first.mean(), low, high, ((array >= 1) & (array <= 5)).mean(), np.where(array > 0, 1 / np.maximum(array, 1), 0).mean())
    return Figures(group, len(ranks), *(round(float(value), 4) for value in values))


@dataclass(frozen=True, slots=True)
class Refusals:
    """Of one language; shares in [0, 1]."""

    lang: str
    unanswerable: int
    refused: float  # of the unanswerable: higher is better
    answerable: int
    wrongly_refused: float  # of the answerable: lower is better


@dataclass(frozen=True, slots=True)
class RefusalTable:
    title: str
    rows: tuple[Refusals, ...]

    def as_json(self) -> dict[str, Any]:
        return {"title": self.title, "rows": [{name: getattr(row, name) for name in Refusals.__dataclass_fields__} for row in self.rows]}

    def as_markdown(self) -> str:
        lines = [f"### {self.title}", "", "| language | unanswerable | refused | answerable | wrongly refused |", "|---|---|---|---|---|"]
        lines += [
            f"| {row.lang} | {row.unanswerable} | {row.refused:.3f} | {row.answerable} | {row.wrongly_refused:.3f} |" for row in self.rows
        ]
        return "\n".join(lines)


def first_hits(index: Index, data: Path, split: str) -> tuple[list[tuple[str, Hit]], list[tuple[str, Hit]]]:
    """(language, first hit) of answerable and of unanswerable questions; the answerable are those in the language of their evidence."""
    known = frozenset(entry.entry_id for entry in index.entries())
    answerable = [
        one
        for suite in ("paraphrase", "temporal")
        for one in read_questions(data / f"{suite}.jsonl", split, known)
        if one.lang == one.evidence_lang
    ]
    unanswerable = read_questions(data / "unanswerable.jsonl", split, known)

    def hits(asked: list[Asked]) -> list[tuple[str, Hit]]:
        return [(one.lang, index.search(one.text, 1, reader=Reader(one.lang))[0]) for one in asked]

    return hits(answerable), hits(unanswerable)


def calibrate(index: Index, data: Path) -> Relevance:
    """Fitted on the dev half alone."""
    answered, unanswered = first_hits(index, data, "dev")
    return fit_relevance([hit for _, hit in answered], [hit for _, hit in unanswered])


def evaluate_refusal(index: Index, data: Path, split: str, relevance: Relevance) -> RefusalTable:
    answered, unanswered = first_hits(index, data, split)
    rows = []
    for lang in (*LANGUAGES, "all"):
        yes = [relevance.of(hit) >= relevance.threshold for one, hit in answered if lang in (one, "all")]
        no = [relevance.of(hit) < relevance.threshold for one, hit in unanswered if lang in (one, "all")]
        if yes and no:
            rows.append(Refusals(lang, len(no), round(sum(no) / len(no), 4), len(yes), round(1 - sum(yes) / len(yes), 4)))
    return RefusalTable(f"refusal, {split}", tuple(rows))

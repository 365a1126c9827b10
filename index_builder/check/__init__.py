"""The linter of corpora and evaluation files: paths -> a report of findings."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from index_builder.check.corpus import Findings, check_counts, check_duplicates, check_ids, check_row, indexed_questions, read_rows
from index_builder.check.evaluation import check_evaluation
from index_builder.check.report import Finding, Report

__all__ = ["Finding", "Report", "check_corpus"]


def check_corpus(corpus: Sequence[Path], evaluation: Path | None = None) -> Report:
    """Raises CorpusError when a path is not there or a folder holds no corpus; everything else is a finding."""
    findings = Findings()
    rows = list(read_rows(corpus, findings))
    check_ids(rows, findings)
    for row in rows:
        check_row(row, findings)
    questions = indexed_questions(rows)
    for asked in questions.values():
        check_duplicates(asked, findings)
    check_counts(rows, findings)
    asked_by_split = check_evaluation(evaluation, rows, questions, findings) if evaluation else Counter()
    of_kind = {kind: [row.entry for row in rows if row.entry.kind == kind] for kind in ("qa", "passage")}
    return Report(
        tuple(findings.all),
        Counter((entry.locale or entry.lang, entry.topic) for entry in of_kind["qa"]),
        Counter((entry.region or entry.locale or entry.lang, entry.topic) for entry in of_kind["passage"]),
        Counter(row.entry.reliability for row in rows),
        asked_by_split,
    )

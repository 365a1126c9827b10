"""What the linter found, as a table for people and as JSON for programs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from index_builder.vocabulary import TOPICS

Severity = Literal["error", "warning"]
_LISTED = 60  # findings of one check that the table lists; a corpus with one habit would bury all others


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect: where it is, what was found there and what was expected."""

    severity: Severity
    file: str
    line: int  # from 1; in a JSON array the number of the item, and 0 for the whole file
    field: str
    found: str
    expected: str
    check: str  # the kind of defect, "near-duplicate"

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Report:
    findings: tuple[Finding, ...]
    pairs: Counter[tuple[str, str]]  # (locale, topic) -> QA pairs
    passages: Counter[tuple[str, str]]  # (region, or locale where the rows name none; topic) -> passages
    reliability: Counter[str]
    questions: Counter[tuple[str, str]]  # (evaluation file, split) -> questions

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "warning"]

    def as_json(self) -> dict[str, Any]:
        return {
            "errors": [asdict(finding) for finding in self.errors],
            "warnings": [asdict(finding) for finding in self.warnings],
            "qa_pairs": _nested(self.pairs),
            "passages": _nested(self.passages),
            "reliability": dict(self.reliability),
            "evaluation": _nested(self.questions),
        }

    def as_table(self) -> str:
        """Markdown: counts, then findings, errors first, then one line that sums up."""
        parts = []
        for title, counts in (("QA pairs", self.pairs), ("Passages", self.passages)):
            if counts:
                parts.append(f"### {title}\n\n{_by_topic(counts)}")
        if self.questions:
            parts.append(f"### Evaluation questions\n\n{_by_split(self.questions)}")
        if self.findings:
            parts.append(f"### Findings\n\n{_listed(self.errors + self.warnings)}")
        of = ", ".join(f"{count:,} {name or 'without reliability'}" for name, count in self.reliability.most_common())
        rows = self.pairs.total() + self.passages.total()
        parts.append(f"{len(self.errors):,} errors, {len(self.warnings):,} warnings in {rows:,} corpus rows ({of or 'none'}).")
        return "\n\n".join(parts)


def printable(text: str, limit: int = 90) -> str:
    """`text` on one line, with what does not show written as its code point: a finding about a hidden character must show it."""
    shown = "".join(
        c if c.isprintable() or c in "\u200c\u200d" and 0 < i < len(text) - 1 else f"<U+{ord(c):04X}>" for i, c in enumerate(text)
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _nested(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    outer: dict[str, dict[str, int]] = {}
    for (first, second), count in sorted(counts.items()):
        outer.setdefault(first, {})[second] = count
    return outer


def _by_topic(counts: Counter[tuple[str, str]]) -> str:
    places = sorted({place for place, _ in counts})
    topics = [topic for topic in (*TOPICS, "") if any((place, topic) in counts for place in places)]
    rows = [(topic or "(none)", *(counts[place, topic] for place in places)) for topic in topics]
    return _table(("topic", *(place or "(none)" for place in places)), rows, sums=True)


def _by_split(counts: Counter[tuple[str, str]]) -> str:
    names = sorted({name for name, _ in counts})
    return _table(("file", "dev", "test"), [(name, counts[name, "dev"], counts[name, "test"]) for name in names], sums=True)


def _listed(findings: Sequence[Finding]) -> str:
    rows, seen = [], Counter[tuple[str, str]]()
    for finding in findings:
        seen[finding.severity, finding.check] += 1
        if seen[finding.severity, finding.check] <= _LISTED:
            cells = (finding.severity, finding.place, finding.field, finding.check, finding.found, finding.expected)
            rows.append(tuple(cell.replace("|", "\\|") for cell in cells))
    table = _table(("severity", "where", "field", "check", "found", "expected"), rows)
    left = [f"- {count - _LISTED:,} more of {severity} {check!r}: --json lists all" for (severity, check), count in seen.items() if count > _LISTED]
    return "\n".join([table, *([""] + left if left else [])])


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]], sums: bool = False) -> str:
    if sums:
        head = (*head, "all")
        rows = [(*row, sum(row[1:])) for row in rows]
        rows.append(("all", *(sum(column) for column in zip(*(row[1:] for row in rows), strict=True))))
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)

"""Two kept runs of one suite: paired by question, with differences and p-values."""

from collections.abc import Mapping, Sequence
from typing import Any

from index_builder.evaluate.runs import Cell, Row, Run, Table
from index_builder.evaluate.statistics import mean, paired_randomisation
from index_builder.vocabulary import MajlisError


def compare(first: Run, first_rows: Sequence[Row], second: Run, second_rows: Sequence[Row]) -> list[Table]:
    """How the figures of the second run differ from those of the first, on the questions that both asked; and how their configurations differ.

    Raises MajlisError when the runs are of different suites or share no question.
    """
    if first.suite != second.suite:
        raise MajlisError(f"The runs are of different suites, {first.suite} and {second.suite}. Compare two runs of one suite.")
    mine, theirs = ({row["id"]: row for row in rows if row.get("scores")} for rows in (first_rows, second_rows))
    shared = [row_id for row_id in mine if row_id in theirs]
    if not shared:
        raise MajlisError(
            f"The runs share no scored question ({len(mine):,} and {len(theirs):,} of their own). Compare runs on the same files, and of the same split."
        )
    groups: dict[str, list[str]] = {"all": shared}
    for row_id in shared:
        for group in (mine[row_id].get("set", ""), mine[row_id].get("lang", "")):
            if group:
                groups.setdefault(group, []).append(row_id)
    lines: list[tuple[Cell, ...]] = []
    for group, ids in groups.items():
        for metric in dict.fromkeys(name for row_id in ids for name in mine[row_id]["scores"]):
            pairs = [
                (mine[i]["scores"][metric], theirs[i]["scores"][metric])
                for i in ids
                if metric in mine[i]["scores"] and metric in theirs[i]["scores"]
            ]
            if pairs:
                a, b = (list(side) for side in zip(*pairs, strict=True))
                lines.append(
                    (f"{group}: {metric}", len(pairs), mean(a), mean(b), mean([y - x for x, y in pairs]), paired_randomisation(a, b))
                )
    note = (
        "Paired by question; p by Fisher's randomisation test, two-sided, 10,000 exchanges. Many lines are tested here: by chance alone one in twenty "
        f"falls below 0.05. {_alone(mine, theirs)}"
    )
    columns = ("figure", "n", f"A: {first.title}", f"B: {second.title}", "B - A", "p")
    return [
        Table("differences", columns, lines, note.strip()),
        Table("configurations that differ", ("key", "A", "B"), _differing(first.configuration, second.configuration)),
    ]


def _alone(mine: Mapping[str, Row], theirs: Mapping[str, Row]) -> str:
    alone = len(mine.keys() - theirs.keys()), len(theirs.keys() - mine.keys())
    return f"{alone[0]:,} questions are in A alone and {alone[1]:,} in B alone; they are left out." if any(alone) else ""


def _differing(first: Any, second: Any, key: str = "") -> list[tuple[str, str, str]]:
    """Keys, nested ones with dots, whose values differ."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        keys = dict.fromkeys([*first, *second])
        return [line for name in keys for line in _differing(first.get(name), second.get(name), f"{key}.{name}" if key else str(name))]
    return [] if first == second else [(key, _said(first), _said(second))]


def _said(value: Any) -> str:
    return "" if value is None else str(value)

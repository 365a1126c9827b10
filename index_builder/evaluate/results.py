"""docs/results.md from kept runs: pure, so that a test can hold the page equal to its runs."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from index_builder.evaluate.questions import FREE
from index_builder.evaluate.runs import ROOT, Cell, Row, Run, find_runs, read_rows, read_run, shown
from index_builder.evaluate.statistics import Share, mean_with_interval
from index_builder.vocabulary import LANGUAGES, MajlisError

# the order of the page; suites that are not named here come last, by name
ORDER = (
    "retrieval", "answers", "refusal", "latency", "language", "lareqa", "bitext", "nativqa", "mkqa", "xor", "encoder", "encoder-ablation", "xqg", "seq2seq",
    "generator", "benchmarks",
)  # fmt: skip
_ENDONYMS = {"ar": "العربية", "as": "অসমীয়া", "bn": "বাংলা", "en": "English", "hi": "हिन्दी", "ne": "नेपाली", "tr": "Türkçe"}
_OWN_SETS = ("paraphrase", "temporal")
Kept = tuple[Run, Path]


def newest(folders: Iterable[Path]) -> list[Kept]:
    """Of each suite and title the last run, in the order of the page."""
    chosen: dict[tuple[str, str], Kept] = {}
    for run, folder in sorted(((read_run(folder), folder) for folder in folders), key=lambda kept: kept[0].time):
        chosen[run.suite, run.title] = run, folder
    return sorted(
        chosen.values(), key=lambda kept: (_place(kept[0]), kept[0].suite, kept[0].configuration.get("split") == "dev", kept[0].title)
    )


def superseded(folders: Sequence[Path]) -> list[Path]:
    """Runs that a newer one of the same suite and title replaces."""
    kept = {folder for _, folder in newest(folders)}
    return [folder for folder in folders if folder not in kept]


def results_page(folders: Sequence[Path], out: str = "docs/results.md") -> str:
    """The whole page, from runs in `folders` (any folder that holds some)."""
    kept = newest(find_runs(folders))
    if not kept:
        raise MajlisError(
            f"No kept run in {', '.join(map(str, folders))}. `python -m index_builder evaluate all --out {folders[0]}` keeps some."
        )
    named = " ".join(_named(folder) for folder in folders)
    parts = [
        "# Results",
        "",
        f"Every figure here comes from a kept run in `{named}`; `python -m index_builder evaluate results {named} --out {out}` writes this page from them, and",
        "a test fails when the two differ. Under each heading stands the command that measures it again, on your own index and models if you name them.",
        "Figures are shares, higher is better unless said otherwise, and the brackets hold 95 % intervals. What was tuned was tuned on `dev`.",
        "How languages are told apart has [a page of its own](language-detection.md), with more data.",
        "",
        *overview([(run, read_rows(folder)) for run, folder in kept]),
    ]
    for run, folder in kept:
        parts += ["", f"## {run.title}", "", *([run.note, ""] if run.note else []), *_how(run, folder, folders), ""]
        parts += [f"{table.as_markdown()}\n" for table in run.tables]
    return "\n".join(parts).rstrip() + "\n"


def _how(run: Run, folder: Path, folders: Sequence[Path]) -> list[str]:
    return [f"    {run.command}", "", f"{run.time[:10]}, {run.machine}; kept in `{_named(folder)}`."]


def _named(folder: Path) -> str:
    resolved = folder.resolve()
    return resolved.relative_to(ROOT).as_posix() if resolved.is_relative_to(ROOT) else folder.name


def _place(run: Run) -> int:
    return ORDER.index(run.suite) if run.suite in ORDER else len(ORDER)


# the first table


def overview(runs: Sequence[tuple[Run, Sequence[Row]]]) -> list[str]:
    """For each language: right evidence first, answer right, in the right language, refused, how fast, on which machine. Test halves alone."""
    retrieval, answers, refusal = (_of(runs, suite) for suite in ("retrieval", "answers", "refusal"))
    latency = _of(runs, "latency")
    columns: dict[str, Mapping[str, Cell]] = {}
    own = [row for row in retrieval[1] if row["set"] in _OWN_SETS and row["lang"] == row.get("evidence_lang")]
    columns["right evidence first"] = _intervals(own, "success@1")
    own_answers = [row for row in answers[1] if row["set"] in _OWN_SETS and row["lang"] == row.get("evidence_lang")]
    columns["answer right"] = _intervals(own_answers, "right")
    columns["answer in the language asked"] = _means(own_answers, "line pass")
    cannot = [row for row in refusal[1] if not row["answerable"]]
    columns["refused what it nearly knows"] = _shares([(row["lang"], row["refused"]) for row in cannot if row["set"] != FREE])
    columns["refused what it cannot know, asked freely"] = _shares([(row["lang"], row["refused"]) for row in cannot if row["set"] == FREE])
    columns["wrongly refused"] = _shares([(row["lang"], row["refused"]) for row in refusal[1] if row["answerable"] and row["set"] != FREE])
    columns["median time to an answer"] = {
        lang: _milliseconds([row["timings_ms"]["total"] for row in latency[1] if row["lang"] == lang]) for lang in LANGUAGES if latency[1]
    }
    columns = {name: cells for name, cells in columns.items() if cells}
    if not columns:
        return []
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {_ENDONYMS[lang]} | {' | '.join(shown(cells.get(lang)) for cells in columns.values())} |" for lang in LANGUAGES]
    machine = latency[0] or answers[0] or retrieval[0]
    said = [
        "Reworded questions and questions of date and season, in the language of their evidence; the index holds none of them word for word. Wrongly refused: lower is better."
    ]
    generator = answers[0].configuration["engine"]["generator"] if answers[0] and "engine" in answers[0].configuration else "none"
    said.append("Answers are quoted from the evidence." if generator == "none" else f"Answers by {generator}.")
    if machine:
        said.append(f"Measured on {machine.machine}.")
    return [*lines, "", " ".join(said)]


def _of(runs: Sequence[tuple[Run, Sequence[Row]]], suite: str) -> tuple[Run | None, Sequence[Row]]:
    """The run of the test half to sum up: of several, that in which a language model answers, else the first."""
    fitting = [
        (run, rows)
        for run, rows in runs
        if run.suite == suite and run.configuration.get("split") == "test" and "folder" not in run.configuration
    ]
    written = [(run, rows) for run, rows in fitting if run.configuration.get("engine", {}).get("generator", "none") != "none"]
    return next(iter(written or fitting), (None, ()))


def _grouped(rows: Sequence[Row], metric: str) -> dict[str, list[float]]:
    return {
        lang: [row["scores"][metric] for row in rows if row["lang"] == lang and metric in row["scores"]] for lang in LANGUAGES if rows
    }  # fmt: skip


def _intervals(rows: Sequence[Row], metric: str) -> dict[str, Cell]:
    return {lang: mean_with_interval(values) for lang, values in _grouped(rows, metric).items()}


def _means(rows: Sequence[Row], metric: str) -> dict[str, Cell]:
    return {lang: sum(values) / len(values) if values else None for lang, values in _grouped(rows, metric).items()}


def _shares(decided: Sequence[tuple[str, Any]]) -> dict[str, Cell]:
    return {
        lang: Share(sum(said for one, said in decided if one == lang), sum(one == lang for one, _ in decided)).cell() for lang in LANGUAGES if decided
    }  # fmt: skip


def _milliseconds(values: Sequence[float]) -> str:
    if not values:
        return ""
    median = float(np.median(values))
    return f"{median:.0f} ms" if median < 1_000 else f"{median / 1e3:.1f} s"

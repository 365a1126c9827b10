"""How good the answers of what is loaded are, in seven languages: figures from kept runs, and only from those that were measured with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from index_builder.evaluate.questions import FREE
from index_builder.evaluate.runs import ROOT, RUN_FILE, Row, Run, Table, read_rows, read_run
from index_builder.evaluate.statistics import Share, mean_with_interval
from index_builder.evaluate.suites.opening import described_engine
from index_builder.evaluate.suites.refusal import ANSWERABLE
from index_builder.vocabulary import LANGUAGES

if TYPE_CHECKING:
    from demo.engine import Engine

FOLDERS = (ROOT / "docs/runs", ROOT / "runs")  # what ships, and what somebody measured here
COMMAND = "python -m index_builder evaluate all --out docs/runs"
MEASURED, OTHER, MISSING = "measured", "other", "missing"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What decides the figures: as the suites describe an engine in the configuration of a run."""

    engine: Mapping[str, Any]
    mode: str  # in which questions are answered unless another is chosen

    @staticmethod
    def of(engine: "Engine") -> "Loaded":
        return Loaded(described_engine(engine), engine.modes[-1])


@dataclass(frozen=True, slots=True)
class Figure:
    """Of one language: a share in [0, 1] with its 95 % interval, or seconds without."""

    value: float
    low: float | None
    high: float | None
    questions: int


@dataclass(frozen=True, slots=True)
class Column:
    """One figure in every language. `key` is its name in the strings."""

    key: str
    status: str  # MEASURED, OTHER: only with something else than what is loaded, or MISSING
    cells: Mapping[str, Figure]  # language -> figure; a language without questions has none


@dataclass(frozen=True, slots=True)
class Figures:
    columns: tuple[Column, ...]
    generator: str  # who writes the answers; "none" when they are quoted
    measured_on: tuple[tuple[str, str], ...] = ()  # (machine, ISO date) of every run in the table

    def of_status(self, status: str) -> list[Column]:
        return [column for column in self.columns if column.status == status]


# key -> (suite, its rows -> figure for each language)
_COLUMNS: Mapping[str, tuple[str, Callable[[Sequence[Row]], dict[str, Figure]]]] = {
    "found": ("retrieval", lambda rows: _means(_own(rows), "success@1")),
    "right": ("answers", lambda rows: _means(_own(rows), "right")),
    "in_language": ("answers", lambda rows: _means(_own(rows), "line pass")),
    "refused": ("refusal", lambda rows: _refusals(rows, answerable=False)),
    "wrongly_refused": ("refusal", lambda rows: _refusals(rows, answerable=True)),
    "time": ("latency", lambda rows: _medians(rows)),
}
SUITES = tuple(dict.fromkeys(suite for suite, _ in _COLUMNS.values()))


def figures(loaded: Loaded, kept: Sequence[tuple[Run, Callable[[], Sequence[Row]]]]) -> Figures:
    """The seven-language table for what is loaded. `kept`: runs, each with what reads its rows; only those that are shown are read.

    Of the runs that ask the test half of the bundled questions and were measured with the loaded index, models and mode, the newest
    of each suite counts.
    """
    asked = sorted((one for one in kept if _asks_the_app(one[0])), key=lambda one: one[0].time)
    fitting = {run.suite: (run, rows) for run, rows in asked if _fits(run, loaded)}
    known = {run.suite for run, _ in asked}
    rows_of = {suite: rows() for suite, (_, rows) in fitting.items()}
    columns = tuple(
        Column(key, MEASURED, of(rows_of[suite])) if suite in fitting else Column(key, OTHER if suite in known else MISSING, {})
        for key, (suite, of) in _COLUMNS.items()
    )
    places = sorted({(run.machine, run.time[:10]) for run, _ in fitting.values()}, key=lambda place: place[1])
    return Figures(columns, loaded.engine["generator"], tuple(places))


def read_figures(loaded: Loaded, folders: Sequence[Path] = FOLDERS) -> Figures:
    """`figures` of the runs that are kept in `folders`. Raises MajlisError for a kept run that cannot be read."""
    paths = [path.parent for folder in folders for suite in SUITES for path in sorted((folder / suite).glob(f"*/{RUN_FILE}"))]
    return figures(loaded, [(read_run(path), lambda path=path: read_rows(path)) for path in paths if not path.name.startswith(".")])


def as_table(found: Figures) -> Table:
    """For the command line."""
    columns = found.of_status(MEASURED)
    lines = [
        (lang, *(_cell(column.cells.get(lang)) for column in columns))
        for lang in LANGUAGES
        if any(lang in column.cells for column in columns)
    ]
    places = "; ".join(f"{date}, {machine}" for machine, date in found.measured_on)
    said = ["Answers are quoted from the evidence." if found.generator == "none" else f"Answers by {found.generator}.", f"Measured: {places or 'nothing yet'}."]  # fmt: skip
    for status, meaning in ((OTHER, "measured only with another index or model"), (MISSING, f"not measured yet, run {COMMAND}")):
        if keys := [column.key for column in found.of_status(status)]:
            said.append(f"{', '.join(keys)}: {meaning}.")
    return Table("about these answers", ("language", *(column.key for column in columns)), lines, " ".join(said))


def _cell(figure: Figure | None) -> tuple[float, float, float] | str | None:
    if figure is None:
        return None
    return f"{figure.value:.2f} s" if figure.low is None or figure.high is None else (figure.value, figure.low, figure.high)


def _asks_the_app(run: Run) -> bool:
    """Whether a run asks the bundled test questions as the app would: not somebody's answers, another protocol, or another corpus."""
    given = run.configuration
    strange = "folder" in given or "answers" in given or given.get("protocol", "honest") != "honest"
    return run.suite in SUITES and given.get("split") == "test" and not strange


def _fits(run: Run, loaded: Loaded) -> bool:
    given = run.configuration
    engine = given.get("engine", given)
    if _searched(engine.get("index", {})) != _searched(loaded.engine["index"]):
        return False
    if run.suite in ("answers", "refusal") and any(engine.get(key) != loaded.engine[key] for key in ("detector", "relevance")):
        return False
    return run.suite not in ("answers", "latency") or (engine.get("generator"), given.get("mode")) == (
        loaded.engine["generator"],
        loaded.mode,
    )


def _searched(index: Mapping[str, Any]) -> tuple[Any, ...]:
    """What decides what is found: the files of an index and its encoder, whatever they are called and wherever they lie."""
    encoder = index.get("encoder", {})
    return index.get("files"), encoder.get("fingerprint"), encoder.get("prefixes")


def _own(rows: Sequence[Row]) -> list[Row]:
    """Reworded questions and those of date and season, in the language of their evidence: what a reader of that language asks."""
    return [row for row in rows if row["set"] in ANSWERABLE and row["lang"] == row.get("evidence_lang")]


def _means(rows: Sequence[Row], score: str) -> dict[str, Figure]:
    values = {lang: [row["scores"][score] for row in rows if row["lang"] == lang and score in row["scores"]] for lang in LANGUAGES}
    return {lang: Figure(*interval, len(values[lang])) for lang in LANGUAGES if (interval := mean_with_interval(values[lang]))}


def _refusals(rows: Sequence[Row], answerable: bool) -> dict[str, Figure]:
    asked = [row for row in rows if row["set"] != FREE and row["answerable"] == answerable]
    said = {lang: [row["refused"] for row in asked if row["lang"] == lang] for lang in LANGUAGES}
    return {lang: Figure(*cell, len(said[lang])) for lang in LANGUAGES if (cell := Share(sum(said[lang]), len(said[lang])).cell())}


def _medians(rows: Sequence[Row]) -> dict[str, Figure]:
    took = {lang: [row["timings_ms"]["total"] for row in rows if row["lang"] == lang] for lang in LANGUAGES}
    return {lang: Figure(float(np.median(took[lang])) / 1e3, None, None, len(took[lang])) for lang in LANGUAGES if took[lang]}

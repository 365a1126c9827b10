"""Kept runs: what was measured, with everything that somebody needs to measure it again.

A run is a folder <out>/<suite>/<time>-<digest>/ that holds `run.json` (a `Run`) and, where there are any, `rows.jsonl.xz`: one JSON
object for each query. The folder is written whole or not at all. Any part of the project may keep a run:

    keep(Run("encoder", "Training", [Table("FLORES dev", ("pair", "P@1"), [("ar-en", 0.91)])]), rows, Path("docs/runs"))

Fields of a row that the comparison and the report understand, all but `id` optional: `id` (unique in the run), `set`, `lang`,
`evidence_lang`, `scores` {name: number}, `question`, `answer`, `evidence` [{"id", "lang", "text"}], `found` [[id, score], …],
`relevant` {id: grade}, `ranks` (of what is relevant, from 1), `by_lang` {language of the evidence: figure}, `confidence` in [0, 1]
with `right`, `guess` (a language), `timings_ms`.
"""

import hashlib
import json
import lzma
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from index_builder.vocabulary import MajlisError

ROOT = Path(__file__).resolve().parent.parent.parent
RUN_FILE, ROWS_FILE = "run.json", "rows.jsonl.xz"
# (value, low, high) is a figure with its 95 % interval
Cell = str | int | float | None | tuple[float, float, float]
Row = dict[str, Any]
_PACKAGES = ("numpy", "hnswlib", "tokenizers", "torch", "transformers", "ctranslate2", "llama-cpp-python", "sacrebleu", "nltk")


@dataclass(frozen=True, slots=True)
class Table:
    """A title, names of columns, and rows with as many cells; the first cell of a row names it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""  # a sentence or two under the title: what was asked, which way is better

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_markdown(self) -> str:
        lines = [f"### {self.title}", "", *([self.note, ""] if self.note else [])]
        lines += [f"| {' | '.join(self.columns)} |", "|---" * len(self.columns) + "|"]
        lines += [f"| {' | '.join(map(shown, row))} |" for row in self.rows]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement. What is not given is filled in from this process: command, versions, machine and time."""

    suite: str
    title: str
    tables: Sequence[Table]
    note: str = ""
    configuration: Mapping[str, Any] = field(default_factory=dict)  # all that decides the figures: JSON values
    command: str = field(default_factory=lambda: command_line())
    versions: Mapping[str, str] = field(default_factory=lambda: versions())
    machine: str = field(default_factory=lambda: machine())
    time: str = field(default_factory=lambda: now())  # ISO 8601, UTC

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that differ when suite or configuration do."""
        return config_digest(self.suite, self.configuration)


def config_digest(suite: str, configuration: Mapping[str, Any]) -> str:
    canonical = json.dumps([suite, configuration], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def keep(run: Run, rows: Iterable[Row], out: Path) -> Path:
    """Write a run below `out` and return its folder. Raises MajlisError for a table whose rows do not fit its columns."""
    for table in run.tables:
        for cells in table.rows:
            if len(cells) != len(table.columns):
                raise MajlisError(
                    f"Table {table.title!r} has {len(table.columns)} columns and a row of {len(cells)} cells: {cells}. Give it as many."
                )
    folder = out / run.suite / f"{run.time.replace(':', '').replace('-', '').removesuffix('Z')}-{run.digest}"
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        written = 0
        with lzma.open(partial / ROWS_FILE, "wt", encoding="utf-8", preset=9, newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
                written += 1
        if not written:
            (partial / ROWS_FILE).unlink()
        text = json.dumps(asdict(run), ensure_ascii=False, indent=1)
        (partial / RUN_FILE).write_text(text + "\n", encoding="utf-8", newline="\n")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except OSError as error:
        raise MajlisError(f"{folder} could not be written ({error}). Give a folder that has space with --out.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def read_run(folder: Path) -> Run:
    """Raises MajlisError for a folder that is no kept run."""
    path = folder / RUN_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        tables = tuple(
            Table(t["title"], tuple(t["columns"]), tuple(tuple(map(_cell, r)) for r in t["rows"]), t["note"]) for t in data["tables"]
        )
        return Run(**(data | {"tables": tables}))
    except OSError as error:
        raise MajlisError(
            f"{folder} is no kept run: {path.name} cannot be read ({error.strerror}). Name a folder that `evaluate` wrote."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise MajlisError(f"{path} is no run of this version ({error!r}). Measure again, or leave this folder out.") from error


def read_rows(folder: Path) -> list[Row]:
    """The rows of a kept run, in the order in which they were measured; empty when it has none."""
    path = folder / ROWS_FILE
    if not path.is_file():
        return []
    rows: list[Row] = []
    try:
        with lzma.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                rows.append(json.loads(line))
        return rows
    except (lzma.LZMAError, EOFError, ValueError) as error:
        raise MajlisError(f"{path}:{len(rows) + 1}: the rows of this run are damaged ({error}). Measure again.") from error


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """Every kept run in or below `folders`, by suite and time. Half-written ones, which a kill leaves behind, are none."""
    found = [path.parent for folder in folders for path in sorted(folder.rglob(RUN_FILE)) if not path.parent.name.startswith(".")]
    return list(dict.fromkeys(found))


def shown(cell: Cell) -> str:
    """A cell as text: "0.311 (0.265 to 0.356)", "1,190", "0.857", "12.5"; a figure that there is not is empty."""
    if cell is None:
        return ""
    if isinstance(cell, (tuple, list)):
        return f"{cell[0]:.3f} ({cell[1]:.3f} to {cell[2]:.3f})"
    if isinstance(cell, float):
        decimals = 3 if abs(cell) < 2 else 2 if abs(cell) < 10 else 1 if abs(cell) < 100 else 0
        return f"{cell:,.{decimals}f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def machine() -> str:
    """The processor, cores, memory, system and Python of this machine, in one line."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    memory = psutil.virtual_memory().total / 1e9
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def versions() -> dict[str, str]:
    """Of the packages that a figure may depend on, as far as they are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def command_line() -> str:
    """How this process was started, as anybody would type it: paths inside the project relative, other folders by their last name."""
    arguments = ["python", *sys.orig_argv[1:]]
    return " ".join(portable(argument) for argument in arguments)


def portable(argument: str) -> str:
    path = Path(argument)
    if not path.is_absolute():
        return argument
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def _cell(cell: Any) -> Cell:
    return tuple(cell) if isinstance(cell, list) else cell

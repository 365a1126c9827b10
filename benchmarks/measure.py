"""What the parts share: how often something is timed, and how that becomes a line of a table."""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from index_builder.encode import BUNDLED, open_encoder
from index_builder.evaluate.questions import SETS, read_questions
from index_builder.evaluate.runs import ROOT, Cell
from index_builder.search import Index, open_index

COLUMNS = ("measured", "unit", "median", "lowest", "highest", "runs")
_WARM_UP = 20  # calls that are not timed


@dataclass(frozen=True, slots=True)
class Options:
    """What a person can choose on the command line."""

    sizes: tuple[int, ...] = (10_000, 30_000, 100_000)  # numbers of vectors
    runs: int = 3  # how often everything is measured; tables hold the median
    chart: Path | None = None  # where the chart of how cost grows is written
    model: str = ""  # the language model: a name from models.toml or a .gguf file; empty: that of models.toml


def line(name: str, unit: str, values: Sequence[float]) -> tuple[Cell, ...]:
    """A row under COLUMNS: one value for each run."""
    return (name, unit, *(round(float(one), 4) for one in (statistics.median(values), min(values), max(values))), len(values))


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def percentile_lines(name: str, call: Callable[[str], object], inputs: Sequence[str], runs: int) -> list[tuple[Cell, ...]]:
    """Median and 99th percentile of one call, in milliseconds, for each of `runs` passes over the inputs."""
    for one in inputs[:_WARM_UP]:
        call(one)
    return quantile_lines(name, [[seconds(lambda one=one: call(one)) * 1e3 for one in inputs] for _ in range(runs)])


def quantile_lines(name: str, passes: Iterable[Sequence[float]]) -> list[tuple[Cell, ...]]:
    """`passes`: milliseconds of every call, for each pass."""
    found = [np.percentile(one, [50, 99]) for one in passes]
    return [line(f"{name}, p50", "ms", [p50 for p50, _ in found]), line(f"{name}, p99", "ms", [p99 for _, p99 in found])]


def bundled_index() -> Index:
    return open_index(ROOT / "assets/index", open_encoder(BUNDLED))


def dev_questions() -> list[str]:
    """Every question of the dev half, in seven languages: as long and as varied as people ask them."""
    return [one.text for name in SETS for one in read_questions(ROOT / f"assets/evaluation/{name}.jsonl", "dev", None)]

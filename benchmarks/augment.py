"""What the augmentation costs, and that its memory does not grow: vectors come a chunk at a time, as they do in a build, and go to a file."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil

from benchmarks.measure import Options
from index_builder.augment import Augmentation, augmented
from index_builder.encode import normalised
from index_builder.evaluate.runs import Cell, Table
from index_builder.store import _CHUNK as CHUNK
from index_builder.vocabulary import LANGUAGES

TITLE = "augmentation"
ENTRIES = (10_000, 100_000, 1_000_000)
DIMENSION = 256
VARIANTS = ("sum", "mean")  # those that mix vectors; max and language add to the graphs what would be a vector of its own anyhow
NOTE = (
    f"Unit vectors of {DIMENSION} dimensions with {len(LANGUAGES)} queries each, one in every language, {CHUNK} entries at a time as in a build; the same random chunk "
    f"again and again, so that neither an encoder nor a generator of random numbers is measured. Resident: the whole process, Python and numpy included, at most after any chunk; grown: over what it was before the first."
)


def tables(options: Options) -> list[Table]:
    return [measured(ENTRIES, options.runs)]


def measured(sizes: tuple[int, ...], runs: int) -> Table:
    """A row for each variant and number of entries."""
    rows: list[tuple[Cell, ...]] = []
    for setting in VARIANTS:
        for size in sizes:
            found = sorted(stream(size, Augmentation.parse(setting)) for _ in range(runs))
            took = found[len(found) // 2][0]
            rows.append(
                (
                    f"{size:,} entries, {setting}",
                    size * (1 + len(LANGUAGES)),
                    round(took, 2),
                    round(size / took),
                    round(max(most for _, most, _ in found) / 1e6, 1),
                    round(max(grown for _, _, grown in found) / 1e6, 1),
                )
            )
    columns = ("what", "vectors read", "median s", "entries/s", "resident at most, MB", "grown, MB")
    return Table("augmentation in constant memory", columns, rows)


def stream(size: int, chosen: Augmentation) -> tuple[float, int, int]:
    """(seconds, bytes, bytes): augment `size` entries chunk by chunk into a file. The bytes are resident memory at most, and how much of it was new."""
    random = np.random.default_rng(0)
    own = normalised(random.standard_normal((CHUNK, DIMENSION), dtype=np.float32))
    queries = normalised(random.standard_normal((CHUNK * len(LANGUAGES), DIMENSION), dtype=np.float32))
    owner = np.repeat(np.arange(CHUNK), len(LANGUAGES))
    process = psutil.Process()
    with TemporaryDirectory() as folder, (Path(folder) / "vectors.f32").open("wb") as file:
        before = most = process.memory_info().rss
        began = time.perf_counter()
        for first in range(0, size, CHUNK):
            here = min(CHUNK, size - first)
            asked = here * len(LANGUAGES)
            file.write(augmented(own[:here], queries[:asked], owner[:asked], chosen).tobytes())
            most = max(most, process.memory_info().rss)
        return time.perf_counter() - began, most, most - before

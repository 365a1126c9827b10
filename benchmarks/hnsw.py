"""Our HNSW settings in hnswlib, FAISS and usearch at equal recall, against numpy brute force; and how all of them grow."""

import ctypes
import gc
import importlib
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import psutil
from threadpoolctl import threadpool_limits

from benchmarks.growth import chart, power_law
from benchmarks.measure import Options
from index_builder.encode import normalised
from index_builder.evaluate.runs import Cell, Table, shown
from index_builder.search import _EF_SEARCH as APP_EF
from index_builder.store import BuildSettings
from index_builder.vocabulary import MajlisError

TITLE = "HNSW against brute force, FAISS and usearch"
K = 10
RECALL = 0.95  # that every library is brought to
MOST_EF = 2_048
_QUERIES = 200
_BRUTE_QUERIES = 40  # brute force takes the same time for all
_LATENT, _CLUSTER = 64, 1_000  # dimensions that the vectors fill, and vectors about one centre
_M, _EF_BUILD = BuildSettings().hnsw_m, BuildSettings().hnsw_ef_construction
NOTE = (
    f"Clustered vectors of 256 dimensions, k = {K}, M = {_M} and ef_construction = {_EF_BUILD} in every library; ef is the smallest that finds {RECALL:.0%} of "
    f"the true neighbours. Searches run on one core, one query a call from Python; builds on all cores. Times and ratios are medians over passes of one process."
)


class Library(Protocol):
    """One implementation of HNSW with inner product as similarity."""

    name: str

    def build(self, vectors: np.ndarray) -> None: ...

    def aim(self, ef: int) -> None:
        """How many candidates a search keeps."""

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        """Rows of the nearest vectors, best first."""
        ...

    def save(self, path: Path) -> None: ...


class Hnswlib:
    name = "hnswlib"

    def build(self, vectors: np.ndarray) -> None:
        import hnswlib

        self._graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self._graph.init_index(max_elements=len(vectors), ef_construction=_EF_BUILD, M=_M, random_seed=BuildSettings().hnsw_seed)
        self._graph.add_items(vectors, np.arange(len(vectors)), num_threads=-1)
        self._graph.set_num_threads(1)

    def aim(self, ef: int) -> None:
        self._graph.set_ef(ef)

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        return self._graph.knn_query(query, k=k)[0][0]

    def save(self, path: Path) -> None:
        self._graph.save_index(str(path))


class Faiss:
    name = "FAISS"

    def __init__(self) -> None:
        self._faiss = _package("faiss", "faiss-cpu")

    def build(self, vectors: np.ndarray) -> None:
        self._faiss.omp_set_num_threads(os.cpu_count() or 1)
        self._graph = self._faiss.IndexHNSWFlat(vectors.shape[1], _M, self._faiss.METRIC_INNER_PRODUCT)
        self._graph.hnsw.efConstruction = _EF_BUILD
        self._graph.add(vectors)
        self._faiss.omp_set_num_threads(1)

    def aim(self, ef: int) -> None:
        self._graph.hnsw.efSearch = ef

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        return self._graph.search(query[None], k)[1][0]

    def save(self, path: Path) -> None:
        self._faiss.write_index(self._graph, str(path))


class Usearch:
    name = "usearch"

    def __init__(self) -> None:
        self._package = _package("usearch.index", "usearch")

    def build(self, vectors: np.ndarray) -> None:
        self._graph = self._package.Index(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=_M, expansion_add=_EF_BUILD)
        self._graph.add(np.arange(len(vectors)), vectors, threads=os.cpu_count() or 1)

    def aim(self, ef: int) -> None:
        self._graph.expansion_search = ef

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        return self._graph.search(query, k, threads=1).keys

    def save(self, path: Path) -> None:
        self._graph.save(str(path))


def _package(module: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MajlisError(
            f"{name} is not installed; it is needed only to compare with: pip install -r tests/requirements.txt, or leave this part out with --only."
        ) from error


LIBRARIES: tuple[type[Any], ...] = (Hnswlib, Faiss, Usearch)


@dataclass(frozen=True, slots=True)
class Built:
    library: Library
    seconds: float
    memory: int  # bytes of resident memory that the graph and its copy of the vectors added
    file: int  # bytes


@dataclass(frozen=True, slots=True)
class Measured:
    """One way to search one number of vectors."""

    way: str
    size: int
    ef: int  # 0: brute force
    recall: float
    search_ms: float  # median of the passes' medians
    faster: float  # brute force's time over this, median of the passes
    build_s: float = 0.0
    memory: int = 0
    file: int = 0


BRUTE = "numpy brute force"


def tables(options: Options) -> list[Table]:
    found: list[Measured] = []
    for size in sorted(options.sizes):
        if len({one.size for one in found}) > 1:
            _say_how_long(found, size)
        found += measure(size, options.runs)
    if options.chart:
        write_chart(options.chart, found)
    return [comparison(found), *([growth(found)] if len(options.sizes) > 1 else [])]


def measure(size: int, runs: int, dimension: int = 256, count: int = _QUERIES) -> list[Measured]:
    """Every way to search `size` vectors: brute force, each library at equal recall, and hnswlib as the app searches."""
    _check_memory(size, dimension)
    vectors, queries = clustered(size, dimension, count)
    built = [_build(library(), vectors) for library in LIBRARIES]
    with threadpool_limits(1):
        truth = [set(nearest(vectors, query, K)) for query in queries]
        aims = [(one.library.name, one, *least_ef(one.library, queries, truth)) for one in built]
        built[0].library.aim(APP_EF)
        aims.append((f"hnswlib, ef {APP_EF} as in the app", built[0], APP_EF, recall(built[0].library, queries, truth)))
        brute, times = [], {name: [] for name, *_ in aims}
        for _ in range(runs):
            brute.append(_median_ms(lambda query: nearest(vectors, query, K), queries[:_BRUTE_QUERIES]))
            for name, one, ef, _ in aims:
                one.library.aim(ef)
                times[name].append(_median_ms(lambda query, one=one: one.library.search(query, K), queries))
    return [
        Measured(BRUTE, size, 0, 1.0, statistics.median(brute), 1.0, memory=vectors.nbytes),
        *(
            Measured(
                name, size, ef, reached, statistics.median(times[name]), statistics.median([slow / fast for slow, fast in zip(brute, times[name], strict=True)]),
                one.seconds, one.memory, one.file,
            )
            for name, one, ef, reached in aims
        ),
    ]  # fmt: skip


def clustered(size: int, dimension: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """((size, dimension), (count, dimension)) float32 unit rows, the same at every call: vectors about centres, and queries near some of them.

    Like those of sentences they fill few of their dimensions, and queries lie near one of them, as questions do near their answers.
    Vectors random in all dimensions have no neighbours worth finding: all are about equally far.
    """
    random = np.random.default_rng(0)
    latent = min(_LATENT, dimension)
    spread = random.standard_normal((latent, dimension), dtype=np.float32)
    centres = random.standard_normal((max(1, size // _CLUSTER), latent), dtype=np.float32)
    points = centres[random.integers(0, len(centres), size)] + random.standard_normal((size, latent), dtype=np.float32)
    vectors = normalised(points @ spread)
    near = vectors[random.integers(0, size, count)]
    return vectors, normalised(near + 0.3 / dimension**0.5 * random.standard_normal(near.shape, dtype=np.float32))


def nearest(vectors: np.ndarray, query: np.ndarray, k: int) -> np.ndarray:
    """The k rows most similar to `query`, best first, as fast as numpy does it: only the k best are sorted."""
    similarity = vectors @ query
    best = np.argpartition(-similarity, k - 1)[:k]
    return best[np.argsort(-similarity[best])]


def recall(library: Library, queries: np.ndarray, truth: Sequence[set[int]]) -> float:
    found = [len(true.intersection(map(int, library.search(query, K)))) for query, true in zip(queries, truth, strict=True)]
    return sum(found) / (K * len(truth))


def least_ef(library: Library, queries: np.ndarray, truth: Sequence[set[int]]) -> tuple[int, float]:
    """(ef, its recall@k): the smallest ef that reaches RECALL, or MOST_EF when none does."""

    def reached(ef: int) -> float:
        library.aim(ef)
        return recall(library, queries, truth)

    high = K
    while reached(high) < RECALL and high < MOST_EF:
        high *= 2
    low, high = max(K, high // 2), min(high, MOST_EF)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= RECALL else (middle + 1, high)
    return high, reached(high)


def _build(library: Library, vectors: np.ndarray) -> Built:
    before = _resident()
    began = time.perf_counter()
    library.build(vectors)
    took = time.perf_counter() - began
    memory = _resident() - before
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph"
        library.save(path)
        return Built(library, took, memory, path.stat().st_size)


def _resident() -> int:
    """Bytes, after what was freed has been given back, so that the next graph's memory is its own."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return psutil.Process().memory_info().rss


def _median_ms(search, queries: np.ndarray) -> float:
    for query in queries[:5]:
        search(query)
    took = []
    for query in queries:
        began = time.perf_counter()
        search(query)
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took)


def _check_memory(size: int, dimension: int) -> None:
    needed = size * dimension * 4 * (2 + len(LIBRARIES)) * 1.5
    free = psutil.virtual_memory().available
    if needed > free:
        raise MajlisError(
            f"{size:,} vectors in {len(LIBRARIES)} libraries need about {needed / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free. Give smaller --sizes."
        )


def _say_how_long(found: Sequence[Measured], size: int) -> None:
    lines = (power_law([(one.size, one.build_s) for one in found if one.way == library.name]) for library in LIBRARIES)
    total = sum(factor * size**exponent for exponent, factor in lines)
    print(f"hnsw: {size:,} vectors will take about {total / 60:.0f} min to build, by the fitted lines", file=sys.stderr, flush=True)


# tables and chart


def comparison(found: Sequence[Measured]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            f"{one.size:,}: {one.way}", one.ef or None, round(one.recall, 3), round(one.search_ms, 4), round(one.faster, 1), round(one.build_s, 2) if one.ef else None,
            round(one.memory / 1e6, 1), round(one.file / 1e6, 1) if one.ef else None,
        )
        for one in found
    ]  # fmt: skip
    columns = (
        "vectors", "ef", f"recall@{K}", "search, median ms", "times faster than brute force", "build, s", "resident memory, MB", "file, MB",
    )  # fmt: skip
    return Table("nearest neighbours at equal recall", columns, rows)


_COSTS = {
    "search, ms": lambda one: one.search_ms,
    "build, s": lambda one: one.build_s,
    "memory, MB": lambda one: one.memory / 1e6,
    "file, MB": lambda one: one.file / 1e6,
}


def curves(found: Sequence[Measured]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """cost -> way -> points (size, cost), for those that have such a cost."""
    ways = [BRUTE, *(library.name for library in LIBRARIES)]
    points = {
        cost: {way: [(one.size, of(one)) for one in found if one.way == way and of(one) > 0] for way in ways} for cost, of in _COSTS.items()
    }
    return {cost: {way: line for way, line in series.items() if line} for cost, series in points.items()}


def growth(found: Sequence[Measured]) -> Table:
    """The exponent of each cost, and what its line says about a million vectors."""
    rows: list[tuple[Cell, ...]] = []
    for cost, series in curves(found).items():
        for way, line in series.items():
            if len(line) > 1:
                exponent, factor = power_law(line)
                rows.append(
                    (f"{cost.partition(',')[0]}: {way}", round(exponent, 2), f"{shown(factor * 1_000_000**exponent)} {cost.split()[-1]}")
                )
    note = (
        "Least squares over logarithms: cost = factor * n^exponent. 1 is linear; the last column is where the line is at a million vectors."
    )
    return Table("growth with the number of vectors n", ("cost", "exponent", "at 1,000,000 by the line"), rows, note)


def write_chart(path: Path, found: Sequence[Measured]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(chart(f"Cost of nearest neighbours at recall@{K} of {RECALL}", curves(found), "vectors"), encoding="utf-8")
    partial.replace(path)

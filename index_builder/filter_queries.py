"""Which generated queries are worth indexing (Doc2Query--, Gospodinov et al. 2023; METHODS section 1): those that find their own entry
again, and are not among the least similar to it."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from index_builder.augment import Augmentation
from index_builder.encode import Encoder
from index_builder.search import Index, Reader
from index_builder.store import BuildSettings, IndexFolderError, build_index, corpus_line
from index_builder.vocabulary import Entry, MajlisError

_BINS = 20_000  # of a histogram over [-1, 1]: a percentile to 0.0001, in a memory that does not grow
_REPORT = 2_000


@dataclass(frozen=True, slots=True)
class QueryFilter:
    """`str` gives the setting that `parse` reads."""

    round_trip: int = 0  # a query must find its own entry among the first so many of the index without queries; 0: need not
    percentile: float = 0.0  # and be more similar to it than this percentage of all queries are to theirs

    @classmethod
    def parse(cls, text: str) -> "QueryFilter":
        """Raises MajlisError saying what a setting looks like."""
        try:
            given = dict(part.split("=") for part in text.split(","))
            chosen = cls(int(given.pop("round-trip", 0)), float(given.pop("percentile", 0)))
            if given or chosen.round_trip < 0 or not 0 <= chosen.percentile < 100:
                raise ValueError(text)
        except ValueError as error:
            raise MajlisError(
                f"--filter-queries is {text!r}, expected round-trip=10,percentile=30 or one of the two: how far down a query may find its own entry, "
                "and the percentage of the queries, those least similar to their entry, that is left out."
            ) from error
        return chosen

    def __str__(self) -> str:
        return f"round-trip={self.round_trip},percentile={self.percentile:g}"


@dataclass(frozen=True, slots=True)
class Filtered:
    """What came of it; `entries` may be read once, inside the `with`."""

    entries: Iterator[Entry]
    generated: int
    without_round_trip: int
    below_percentile: int

    def as_json(self, chosen: QueryFilter) -> dict:
        kept = self.generated - self.without_round_trip - self.below_percentile
        return {"filter": str(chosen), "generated": self.generated, "without_round_trip": self.without_round_trip,
                "below_percentile": self.below_percentile, "kept": kept}  # fmt: skip


@contextmanager
def filtered(
    entries: Callable[[], Iterable[Entry]],
    encoder: Encoder,
    settings: BuildSettings,
    chosen: QueryFilter,
    work: Path,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> Iterator[Filtered]:
    """The entries with the queries that pass.

    In `work` the entries are indexed without their queries, and every query is asked there, as a reader of its language would. The
    percentile is over all queries that are asked, also those without a round trip. Memory does not grow with the corpus. `work` is
    removed at the end of the `with`, unless something goes wrong in it: then `resume` goes on with what was finished.
    """
    if not resume:
        shutil.rmtree(work, ignore_errors=True)
    folder = work / "index"
    try:
        index = _unaugmented(entries, encoder, replace(settings, augment=Augmentation()), folder, resume, say)
        with closing(index):
            found_file = work / f"found.{chosen.round_trip}.f32"
            _ask_all(index, chosen.round_trip, found_file, say)
            # (queries, 2): whether the own entry was among the first, and the similarity to it
            found = np.memmap(found_file, dtype=np.float32, mode="r").reshape(-1, 2) if found_file.stat().st_size else np.empty((0, 2))
            least = _percentile(found[:, 1], chosen.percentile)
            back, near = found[:, 0] > 0, found[:, 1] >= least
            lost = int((~back).sum()) if chosen.round_trip else 0
            too_far = int((~near & (back if chosen.round_trip else True)).sum())
            kept = near & back if chosen.round_trip else near
            generated = len(found)
            del found  # Windows removes no file that is mapped
            yield Filtered(_keep(index, kept), generated, lost, too_far)
    except OSError as error:
        raise IndexFolderError(
            f"{work} could not be written ({error}). Free space there, then run the same command with --resume."
        ) from error
    shutil.rmtree(work)


def _unaugmented(entries, encoder: Encoder, settings: BuildSettings, folder: Path, resume: bool, say) -> Index:
    if resume and (folder / "manifest.json").is_file():
        index = Index(folder, encoder)
        digest = sha256()
        for entry in entries():
            digest.update(corpus_line(entry))
        if index.manifest["corpus_sha256"] == digest.hexdigest() and index.manifest["settings"] == settings.as_json():
            return index
        index.close()
        shutil.rmtree(folder.parent)
    say("asking every query of an index without queries")
    build_index(entries(), encoder, folder, settings, resume, say)
    return Index(folder, encoder)


def _ask_all(index: Index, depth: int, found_file: Path, say) -> None:
    """Two float32 for each query, in the order of entries and their queries; what an interrupted run wrote is kept."""
    found_file.touch()
    with found_file.open("r+b") as file:
        done = found_file.stat().st_size // 8
        file.truncate(done * 8)
        file.seek(done * 8)
        number = 0
        for entry in index.entries():
            asked = entry.queries[max(0, done - number) :]
            number += len(entry.queries)
            if not asked:
                continue
            vectors = index.encoder.encode([query.text for query in asked], "query")
            for query, vector in zip(asked, vectors, strict=True):
                hits = index.search_vector(query.text, vector, depth, reader=Reader(query.lang)) if depth else []
                back = any(hit.entry.entry_id == entry.entry_id for hit in hits)
                file.write(np.array([back, index.similarity(entry.entry_id, vector)], dtype=np.float32).tobytes())
            if number // _REPORT > (number - len(entry.queries)) // _REPORT:
                file.flush()
                say(f"asked {number:,} queries")


def _percentile(values: np.ndarray, percentile: float) -> float:
    """The value below which `percentile` per cent of `values`, in [-1, 1], lie, to 0.0001; -2 when nothing is to be left out."""
    if not percentile or not len(values):
        return -2.0
    counts = np.zeros(_BINS, dtype=np.int64)
    for first in range(0, len(values), 1 << 20):
        counts += np.histogram(np.clip(values[first : first + (1 << 20)], -1, 1), _BINS, (-1, 1))[0]
    below = np.searchsorted(np.cumsum(counts), percentile / 100 * len(values), side="left")
    return float(below) * 2 / _BINS - 1


def _keep(index: Index, kept: np.ndarray) -> Iterator[Entry]:
    number = 0
    for entry in index.entries():
        passed = kept[number : number + len(entry.queries)]
        number += len(entry.queries)
        yield replace(entry, queries=tuple(query for query, good in zip(entry.queries, passed, strict=True) if good))

"""Corpus to index folder, and how that grows with the corpus."""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.growth import power_law
from benchmarks.measure import Options, seconds
from index_builder.encode import BUNDLED, open_encoder
from index_builder.evaluate.runs import ROOT, Cell, Table
from index_builder.read import read_corpus
from index_builder.store import BuildSettings, build_index
from index_builder.vocabulary import Entry

TITLE = "index build"
NOTE = "The bundled corpus without generated queries: read, encoded, written and renamed into place. A part of it is every n-th row."
_SHARES = (4, 2, 1)  # every n-th row


def tables(options: Options) -> list[Table]:
    corpus = ROOT / "assets/corpus"
    entries = list(read_corpus([corpus]))
    read = sorted(seconds(lambda: list(read_corpus([corpus]))) for _ in range(options.runs))
    return [measured(entries, options.runs, f"{len(entries):,} rows are read and checked in {read[len(read) // 2]:.2f} s.")]


def measured(entries: list[Entry], runs: int, note: str = "") -> Table:
    """Builds of a quarter, a half and all of `entries`."""
    encoder = open_encoder(BUNDLED)
    rows: list[tuple[Cell, ...]] = []
    for every in _SHARES:
        part = entries[::every]
        took, size = [], 0
        for _ in range(runs):
            with TemporaryDirectory() as folder:
                out = Path(folder) / "index"
                took.append(seconds(lambda part=part, out=out: build_index(part, encoder, out, BuildSettings(), say=lambda _: None)))
                size = sum(path.stat().st_size for path in out.iterdir())
        took.sort()
        middle = took[len(took) // 2]
        rows.append(
            (
                f"{len(part):,} entries",
                round(middle, 3),
                round(took[0], 3),
                round(took[-1], 3),
                round(len(part) / middle),
                round(size / 1e6, 2),
            )
        )
    time_exponent, size_exponent = (power_law([(len(entries[::every]), row[column]) for every, row in zip(_SHARES, rows, strict=True)])[0] for column in (1, 5))  # fmt: skip
    grows = f"Time grows as n^{time_exponent:.2f}, size as n^{size_exponent:.2f} (least squares over logarithms)."
    columns = ("corpus", "build, median s", "lowest s", "highest s", "entries/s", "size on disk, MB")
    return Table("build", columns, rows, f"{note} {grows}".strip())

"""Speed and memory of the parts, printed as tables and kept as runs. Figures are medians of several runs; compare ratios of one run, not days."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.measure import Options
from index_builder.evaluate.runs import Run, keep, machine
from index_builder.vocabulary import MajlisError

# A module each, with TITLE, NOTE and tables(options) -> list[Table]; each keeps a run of its own, so that one can be measured again alone.
# One that may have nothing to measure says why in missing(options) -> str.
PARTS = ("start", "detection", "encoding", "question", "hnsw", "index_build", "augment", "query_generation", "generator")
LARGE = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        options = Options(sizes(given.sizes, given.large), given.runs, given.chart, given.model)
        print(f"{machine()}\n", flush=True)
        for name in given.only or PARTS:
            part = part_module(name)
            if reason := part.missing(options) if hasattr(part, "missing") else "":
                if given.only:
                    raise MajlisError(f"{name}: {reason}.")
                print(f"left out {name}: {reason}", file=sys.stderr)
                continue
            print(f"## {part.TITLE}\n", flush=True)
            tables = part.tables(options)
            for table in tables:
                print(f"{table.as_markdown()}\n", flush=True)
            configuration = {"part": name, "runs": options.runs} | _particular(name, options)
            folder = keep(Run("benchmarks", f"Speed: {part.TITLE}", tables, part.NOTE, configuration), (), given.out)
            print(f"kept in {folder}", file=sys.stderr)
    except MajlisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def part_module(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


def _particular(name: str, options: Options) -> dict[str, Any]:
    """What only one part depends on."""
    return {"hnsw": {"sizes": list(options.sizes)}, "generator": {"model": Path(options.model).name}}.get(name, {})


def sizes(text: str, large: bool = False) -> tuple[int, ...]:
    """ "10000,100000" as numbers, ascending, with LARGE when it is asked for. Raises MajlisError for anything else."""
    try:
        found = {int(one) for one in text.split(",")}
    except ValueError as error:
        raise MajlisError(f"--sizes is {text!r}, expected numbers of vectors with commas between them: 10000,100000.") from error
    if min(found) < 100:
        raise MajlisError(f"--sizes holds {min(found)}; fewer than 100 vectors tell nothing about a graph.")
    return tuple(sorted(found | ({LARGE} if large else set())))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=f"one of {', '.join(PARTS)} (may be repeated)")
    parser.add_argument("--runs", type=int, default=Options().runs, help="how often everything is measured (default 3)")
    parser.add_argument(
        "--sizes",
        default="10000,30000,100000",
        help="numbers of vectors for HNSW (default 10000,30000,100000: some ten minutes on two cores)",
    )
    parser.add_argument("--large", action="store_true", help=f"{LARGE:,} vectors too: 10 GB of memory, an hour on two cores")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="also draw how the cost of HNSW grows (docs/scaling.svg)")
    parser.add_argument(
        "--model", default="", help="language model: a name from models.toml or a .gguf file (default: that of models.toml)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="where runs are kept (docs/runs for docs/results.md)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""python -m index_builder evaluate SUITE | all | compare | results | report | export: arguments in, tables out, runs kept."""

import argparse
import importlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from index_builder.evaluate import results, trec
from index_builder.evaluate.compare import compare
from index_builder.evaluate.measure import finished, measure
from index_builder.evaluate.report import page
from index_builder.evaluate.runs import Row, Run, Table, find_runs, portable, read_rows, read_run
from index_builder.evaluate.suites import SUITES
from index_builder.vocabulary import MajlisError

_DEFAULT_OUT = Path("runs")
_OTHERS = {
    "all": "Every suite that docs/results.md is made from, one after the other; a killed one goes on where it was.",
    "compare": "Two kept runs side by side: differences and p-values.",
    "results": "Write docs/results.md from kept runs.",
    "report": "Write one HTML page from kept runs.",
    "export": "Write a kept run as TREC run and qrels files.",
}


def main(arguments: Sequence[str], app: bool = False) -> int:
    """`app`: as `python -m demo evaluate`, where romanised questions are transliterated and no suite means retrieval and refusal."""
    prog = f"python -m {'demo' if app else 'index_builder'} evaluate"
    name, *rest = arguments or [""]
    if app and (not name or name.startswith("-")) and name not in ("-h", "--help"):
        return max(_run_suite(suite, list(arguments), prog, app) for suite in ("retrieval", "refusal"))
    if name in SUITES:
        return _run_suite(name, rest, prog, app)
    if name in _OTHERS:
        return {"all": _all, "compare": _compare, "results": _results, "report": _report, "export": _export}[name](rest, prog)
    _usage(prog).parse_args(arguments)  # prints the help, or says what is wrong, and exits
    return 2


def suite_module(name: str) -> ModuleType:
    return importlib.import_module(f"index_builder.evaluate.suites.{name}")


def _usage(prog: str) -> argparse.ArgumentParser:
    known = {suite: suite_module(suite).SUMMARY for suite in SUITES} | _OTHERS
    lines = "\n".join(f"  {name:10} {summary}" for name, summary in known.items())
    parser = argparse.ArgumentParser(
        prog=prog, description=f"Measure Majlis, keep what was measured, and compare it.\n\n{lines}", formatter_class=argparse.RawDescriptionHelpFormatter
    )  # fmt: skip
    parser.add_argument("suite", choices=known, metavar="SUITE", help="one of the above; `SUITE --help` lists its options")
    return parser


def suite_parser(name: str, prog: str, app: bool = False) -> argparse.ArgumentParser:
    module = suite_module(name)
    parser = argparse.ArgumentParser(prog=f"{prog} {name}", description=f"{module.__doc__}")
    module.add_options(parser)
    parser.add_argument("--out", type=Path, default=_DEFAULT_OUT, metavar="DIR", help="where the run is kept (default: runs)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run of the same configuration")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="also write one self-contained page with tables and charts")
    parser.add_argument("--json", action="store_true", help="print tables as JSON, one a line")
    if app:
        parser.add_argument("--offline", action="store_true", help="forbid every download (measuring makes none)")
        parser.set_defaults(native=True)
    return parser


def _run_suite(name: str, arguments: Sequence[str], prog: str, app: bool) -> int:
    options = suite_parser(name, prog, app).parse_args(arguments)
    run, rows, folder = measure(suite_module(name).open_task(options), options.out, options.resume, _say)
    _print(run.tables, options.json)
    if options.report:
        _write(options.report, page([(run, rows)]))
    _say(f"kept in {folder}")
    return 0


# everything that docs/results.md needs


def _all(arguments: Sequence[str], prog: str) -> int:
    parser = argparse.ArgumentParser(prog=f"{prog} all", description=_OTHERS["all"])
    parser.add_argument("--out", type=Path, default=_DEFAULT_OUT, metavar="DIR", help="where runs are kept (docs/runs for docs/results.md)")
    parser.add_argument(
        "--model", default="", help="generator to answer with (default: that of models.toml); quoting is measured beside it"
    )
    parser.add_argument(
        "--sample", type=int, default=20, metavar="N", help="questions of each set and language that a language model answers (default 20)"
    )
    parser.add_argument("--development", type=Path, metavar="DIR", help="folder of development data: the encoder is measured on it too")
    parser.add_argument("--again", action="store_true", help="also measure what was finished with the same configuration")
    options = parser.parse_args(arguments)
    for name, given in all_steps(options.model, options.sample, options.development):
        _say(f"== {name} {' '.join(given)}")
        step = suite_parser(name, prog).parse_args([*given, "--out", str(options.out)])
        task = suite_module(name).open_task(step)
        if not options.again and (found := finished(task, options.out)):
            task.close()
            _say(f"measured already, kept in {found}")
            continue
        command = " ".join(["python -m index_builder evaluate", name, *map(portable, given)])
        _, _, folder = measure(task, options.out, resume=True, say=_say, command=command)
        _say(f"kept in {folder}")
    _say(f"now: {prog} results {portable(str(options.out.resolve()))} --out docs/results.md")
    return 0


def all_steps(model: str, sample: int, development: Path | None) -> list[tuple[str, list[str]]]:
    """(suite, its arguments), in the order in which they are measured."""
    steps: list[tuple[str, list[str]]] = []
    for split in ("test", "dev"):
        steps += [("retrieval", ["--split", split, "--native"]), ("refusal", ["--split", split, "--model", "none"])]
    steps += [("answers", ["--split", "test", "--model", "none"]), ("latency", ["--split", "test", "--model", "none"])]
    if model != "none" and (model or _default_generator() != "none"):
        chosen = ["--model", model] if model else []
        steps += [(suite, ["--split", "test", *chosen, "--sample", str(sample)]) for suite in ("answers", "refusal", "latency")]
    steps.append(("language", []))
    if development:
        steps += [("bitext", ["--data", str(development / "dev")]), ("encoder", ["--data", str(development)])]
    return steps


def _default_generator() -> str:
    from demo.settings import load_settings

    return load_settings().generator


# kept runs


def _compare(arguments: Sequence[str], prog: str) -> int:
    parser = argparse.ArgumentParser(prog=f"{prog} compare", description=_OTHERS["compare"])
    parser.add_argument("runs", type=Path, nargs=2, metavar="RUN", help="folder of a kept run")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="also write the comparison and both runs as one page")
    parser.add_argument("--json", action="store_true", help="print tables as JSON, one a line")
    options = parser.parse_args(arguments)
    (first, first_rows), (second, second_rows) = map(_read, options.runs)
    tables = compare(first, first_rows, second, second_rows)
    _print(tables, options.json)
    if options.report:
        summary = Run(first.suite, f"{first.title}: B against A", tables, versions={}, machine="", time="")
        _write(options.report, page([(summary, ()), (first, first_rows), (second, second_rows)]))
    return 0


def _results(arguments: Sequence[str], prog: str) -> int:
    parser = argparse.ArgumentParser(prog=f"{prog} results", description=_OTHERS["results"])
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="kept runs, or folders that hold some; of each suite and title the newest counts"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.md")
    parser.add_argument("--prune", action="store_true", help="delete the runs that newer ones replace")
    options = parser.parse_args(arguments)
    _write(options.out, results.results_page(options.runs, portable(str(options.out))))
    for folder in results.superseded(find_runs(options.runs)) if options.prune else ():
        shutil.rmtree(folder)
        _say(f"deleted {folder}: a newer run replaces it")
    _say(f"written to {options.out}")
    return 0


def _report(arguments: Sequence[str], prog: str) -> int:
    parser = argparse.ArgumentParser(prog=f"{prog} report", description=_OTHERS["report"])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.html")
    options = parser.parse_args(arguments)
    _write(options.out, page([_read(folder) for folder in find_runs(options.runs)]))
    _say(f"written to {options.out}")
    return 0


def _export(arguments: Sequence[str], prog: str) -> int:
    parser = argparse.ArgumentParser(prog=f"{prog} export", description=_OTHERS["export"])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    _, rows = _read(options.run)
    for path in trec.export(rows, options.out):
        _say(f"written to {path}")
    _say(
        "A kept run holds the first passages of each query, not its whole ranking: what looks past them, such as mAP, comes out a little lower."
    )
    return 0


def _read(folder: Path) -> tuple[Run, list[Row]]:
    return read_run(folder), read_rows(folder)


def _print(tables: Sequence[Table], as_json: bool) -> None:
    for table in tables:
        if as_json:
            rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
            print(json.dumps({"title": table.title, "rows": rows}, ensure_ascii=False))
        else:
            print(f"{table.as_markdown()}\n")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise MajlisError(f"{path} could not be written ({error}). Give a file in a folder that exists and has space.") from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

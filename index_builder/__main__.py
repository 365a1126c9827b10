"""python -m index_builder build | search | encode | check | evaluate | train-encoder"""

import argparse
import importlib.util
import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from index_builder.encode import BUNDLED, Encoder, normalised, open_encoder
from index_builder.querygen.commands import add_commands as querygen_commands
from index_builder.vocabulary import LANGUAGES, Entry, Hit, MajlisError

ROOT = Path(__file__).resolve().parent.parent
_BATCH = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=stream.errors)  # Windows would write a redirected stream in its code page
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["evaluate"]:
            return _evaluate(arguments[1:])
        options = _parser().parse_args(arguments)
        return options.run(options)
    except MajlisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m index_builder", description="Build, search and measure the knowledge of Majlis.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(run=run)
        return sub

    def encoder_option(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--encoder",
            type=Path,
            default=BUNDLED,
            help="a sentence-transformers folder (default: the bundled encoder)",
        )
        sub.add_argument("--query-prefix", default="", help='put before every question, "query: " for the E5 family')
        sub.add_argument("--passage-prefix", default="", help='put before every passage, "passage: " for the E5 family')

    build = command("build", _build, "Read a corpus and write an index folder.")
    build.add_argument(
        "--corpus", type=Path, nargs="+", required=True, metavar="PATH", help="files or folders: .jsonl .json .tsv .csv .md .txt"
    )
    build.add_argument("--out", type=Path, required=True, metavar="DIR")
    build.add_argument("--resume", action="store_true", help="go on with an interrupted build")
    build.add_argument("--skip-bad", action="store_true", help="report bad rows and leave them out instead of stopping")
    build.add_argument("--lang", default="", choices=["", *LANGUAGES], help="language of text files, and of table rows that name none")
    build.add_argument("--json", action="store_true", help="print the manifest as JSON")
    build.add_argument(
        "--question-weight", type=float, metavar="W", help="share of the native question in a QA pair's vector (default 0.5)"
    )
    build.add_argument("--views", metavar="LIST", help="what gets a vector of its own (default entry,question,sentence)")
    build.add_argument(
        "--queries", type=Path, nargs="+", default=[], metavar="PATH", help="queries that generate-queries wrote for this corpus: files or folders"
    )
    build.add_argument(
        "--augment",
        metavar="VARIANT",
        help="what the index makes of generated queries: none, sum, mean, language, max, lexical, or two as in max+lexical (the default)",
    )
    build.add_argument(
        "--filter-queries", metavar="RULES", help="leave queries out that do not find their own entry: round-trip=10,percentile=30"
    )
    encoder_option(build)

    search = command("search", _search, "Search an index and say why each hit was found.")
    search.add_argument("question")
    search.add_argument("--index", type=Path, default=ROOT / "assets/index", metavar="DIR")
    search.add_argument("--k", type=int, default=10)
    search.add_argument("--lang", action="append", default=[], choices=LANGUAGES, help="only entries in this language (may be repeated)")
    search.add_argument("--locale", action="append", default=[], help='only entries of this locale, "bn-BD" (may be repeated)')
    search.add_argument("--json", action="store_true")
    encoder_option(search)

    encode = command("encode", _encode, "Encode the lines of standard input to a .npy file of float32 unit rows.")
    encode.add_argument("--kind", choices=("query", "passage"), required=True)
    encode.add_argument("--out", type=Path, required=True, metavar="X.npy")
    encode.add_argument(
        "--dimensions", type=int, metavar="N", help="keep the first N, which the bundled encoder is trained to bear at 64 and above"
    )
    encode.add_argument("--json", action="store_true")
    encoder_option(encode)

    check = command("check", _check, "Check a corpus: schema, scripts, duplicates, lengths, evaluation files. Exits 1 on errors.")
    check.add_argument("--corpus", type=Path, nargs="+", required=True, metavar="PATH")
    check.add_argument("--evaluation", type=Path, metavar="DIR", help="folder of evaluation files whose qrels name rows of the corpus")
    check.add_argument("--json", action="store_true")

    # its own arguments are read by index_builder/evaluate/commands.py, which `main` calls; here it is only listed
    command("evaluate", None, "Measure anything, keep the run, compare runs: `evaluate --help` lists the suites.")

    calibrate = command(
        "calibrate",
        _calibrate,
        "Fit when to say 'I do not know', and when a citation holds, on judging questions and the dev half of the evaluation files; writes relevance.json and support.json beside the encoder.",
    )
    calibrate.add_argument("--index", type=Path, default=ROOT / "assets/index", metavar="DIR")
    calibrate.add_argument("--data", type=Path, default=ROOT / "assets/evaluation", metavar="DIR")
    calibrate.add_argument("--judging", type=Path, default=ROOT / "assets/judging", metavar="DIR", help="questions and near misses to learn from")
    encoder_option(calibrate)

    train = command("train-encoder", _train_encoder, "Train the bundled static encoder.")
    train.add_argument("--config", type=Path, default=ROOT / "index_builder/train/encoder.toml")
    train.add_argument("--data", type=Path, required=True, help="folder with parallel/, qa/, romanised/ and dev/")
    train.add_argument("--out", type=Path, required=True, metavar="DIR")
    train.add_argument("--teacher", type=Path, metavar="DIR", help="an English sentence-transformers folder, for the settings that need one")
    train.add_argument("--work", type=Path, default=Path("runs/encoder"), help="checkpoints; the same command goes on from the last one")
    ablate = command("ablate-encoder", _ablate_encoder, "Short training runs of the encoder: what each method adds, alone and together.")
    ablate.add_argument("--config", type=Path, default=ROOT / "index_builder/train/encoder.toml", help="the last run trains its first member as it is")
    ablate.add_argument("--data", type=Path, required=True, help="folder with parallel/, qa/, romanised/ and dev/")
    ablate.add_argument("--teacher", type=Path, required=True, metavar="DIR", help="an English sentence-transformers folder")
    ablate.add_argument("--steps", type=int, required=True, metavar="N", help="of each run")
    ablate.add_argument("--work", type=Path, default=Path("runs/encoder"), help="vocabulary and teacher's vectors, as of train-encoder")
    ablate.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="where the run is kept; a killed one goes on")
    cross = command("train-cross-encoder", _train_cross_encoder, "Train what says how far an entry answers a question; writes cross_encoder.npz beside the encoder.")
    cross.add_argument("--config", type=Path, default=ROOT / "index_builder/train/cross_encoder.toml")
    cross.add_argument("--data", type=Path, required=True, help="folder with qa/")
    cross.add_argument("--index", type=Path, default=ROOT / "assets/index", metavar="DIR")
    cross.add_argument("--judging", type=Path, default=ROOT / "assets/judging", metavar="DIR", help="questions and near misses to learn from")
    cross.add_argument("--work", type=Path, default=Path("runs/cross-encoder"), help="checkpoints; the same command goes on from the last one")
    encoder_option(cross)
    generator = command("train-generator", _train_generator, "Train the bundled nano Llama, or a LoRA of a larger one.")
    generator.add_argument("--config", type=Path, default=ROOT / "index_builder/train/generator.nano.toml")
    generator.add_argument("--data", type=Path, required=True, help="folder with qa/, parallel/ and text/")
    generator.add_argument("--corpus", type=Path, nargs="+", default=[ROOT / "assets/corpus"], help="half of whose entries, by hash, are trained on")
    generator.add_argument("--queries", type=Path, nargs="+", default=[], metavar="PATH", help="queries that generate-queries wrote for this corpus")
    generator.add_argument("--nativqa", type=Path, nargs="+", default=[], metavar="PATH", help="files of MultiNativQA, or any question-answer pairs")
    generator.add_argument("--encoder", type=Path, default=BUNDLED, help="a static encoder (default: the bundled one)")
    generator.add_argument("--base", type=Path, metavar="DIR", help="for a LoRA: the transformers folder of the model that the configuration names")
    generator.add_argument("--converter", type=Path, metavar="FILE", help="for a LoRA: convert_hf_to_gguf.py of llama.cpp")
    generator.add_argument("--out", type=Path, required=True, metavar="DIR")
    generator.add_argument("--work", type=Path, default=Path("runs/generator"), help="checkpoints; the same command goes on from the last one")
    language = command("train-language", _train_language, "Train the bundled language detection.")
    language.add_argument("--data", type=Path, required=True, help="folder with language/, romanised/, text/ and parallel/")
    language.add_argument("--corpus", type=Path, default=ROOT / "assets/corpus", help="half of whose questions, by hash, are trained on")
    language.add_argument("--out", type=Path, required=True, metavar="DIR")
    querygen_commands(command)
    return parser


def _open(options: argparse.Namespace) -> Encoder:
    return open_encoder(options.encoder, query_prefix=options.query_prefix, passage_prefix=options.passage_prefix)


def _build(options: argparse.Namespace) -> int:
    from index_builder.augment import Augmentation
    from index_builder.filter_queries import QueryFilter, filtered
    from index_builder.queries import attach, queries_files
    from index_builder.read import read_corpus
    from index_builder.store import CHOICES, BuildSettings, build_index

    settings = BuildSettings()
    if options.question_weight is not None:
        if not 0 <= options.question_weight <= 1:
            raise MajlisError(f"--question-weight is {options.question_weight}, expected a share between 0 and 1.")
        settings = replace(settings, question_weight=options.question_weight)
    if options.views:
        views = tuple(options.views.split(","))
        if "entry" not in views or set(views) - set(CHOICES):
            raise MajlisError(f"--views is {options.views!r}, expected 'entry' and any of {', '.join(CHOICES)}.")
        settings = replace(settings, views=views)
    if options.augment or options.queries:
        settings = replace(settings, augment=Augmentation.parse(options.augment or "max+lexical"))
    chosen = QueryFilter.parse(options.filter_queries) if options.filter_queries else None
    say = lambda text: print(text, file=sys.stderr)
    encoder = _open(options)

    def entries() -> Iterable[Entry]:
        rows = read_corpus(options.corpus, skip_bad=options.skip_bad, say=say, lang=options.lang)
        return attach(rows, *queries_files(options.queries)) if options.queries else rows

    if chosen:
        work = options.out.parent / f".{options.out.name}.filtering"
        with filtered(entries, encoder, settings, chosen, work, options.resume, say) as passed:
            notes = {"queries": passed.as_json(chosen)}
            manifest = build_index(passed.entries, encoder, options.out, settings, options.resume, say, notes)
    else:
        manifest = build_index(entries(), encoder, options.out, settings, options.resume, say)
    if options.json:
        print(json.dumps(manifest, ensure_ascii=False))
        return 0
    size = sum(file["bytes"] for file in manifest["files"].values())
    print(f"{options.out}: {manifest['entries']:,} entries {manifest['entries_by_language']}, {size / 1e6:.1f} MB")
    return 0


def hit_as_json(hit: Hit) -> dict:
    entry = hit.entry
    return {
        "rank": hit.rank, "entry_id": entry.entry_id, "kind": entry.kind, "lang": entry.lang, "locale": entry.locale, "topic": entry.topic,
        "title": entry.title, "question": entry.question, "text": entry.text, "source": entry.source, "reliability": entry.reliability,
        "scores": {
            "fused": round(hit.fused, 6), "dense": round(hit.dense, 4), "lexical": round(hit.lexical, 4), "coverage": round(hit.coverage, 4),
            "answers": None if hit.answers is None else round(hit.answers, 4),
        },
        "matched_by": {"kind": hit.matched_by, "query": hit.matched_query, "lang": hit.matched_query_lang},
    }  # fmt: skip


def _search(options: argparse.Namespace) -> int:
    from index_builder.search import open_index

    if options.k < 1:
        raise MajlisError(f"--k is {options.k}, expected 1 or more.")
    if not options.question.strip():
        raise MajlisError("The question is empty. Type what you want to find.")
    try:
        options.question.encode()
    except UnicodeEncodeError as error:  # Python's way of keeping foreign bytes of a command line
        raise MajlisError("The question is not UTF-8. Set the terminal to UTF-8 and type it again.") from error
    index = open_index(options.index, _open(options))
    for hit in index.search(options.question, options.k, options.lang, options.locale):
        if options.json:
            print(json.dumps(hit_as_json(hit), ensure_ascii=False))
        else:
            by = f"{hit.matched_by}: {hit.matched_query}" if hit.matched_query else hit.matched_by
            print(f"{hit.rank:2}. [{hit.entry.locale or hit.entry.lang} {hit.entry.topic}] {hit.entry.question or hit.entry.title}")
            print(f"    {hit.entry.text}")
            print(
                f"    cosine {hit.dense:.3f}  BM25 {hit.lexical:.2f}  words found {hit.coverage:.0%}  matched by {by}  ({hit.entry.entry_id})"
            )
    return 0


def _encode(options: argparse.Namespace) -> int:
    """Constant memory: the rows are appended to a raw file, and the .npy header is put before them when their number is known."""
    encoder = _open(options)
    dimension = encoder.dimension if options.dimensions is None else options.dimensions
    if not 1 <= dimension <= encoder.dimension:
        raise MajlisError(
            f"--dimensions is {dimension}, and the encoder makes vectors of {encoder.dimension}. Give 1 to {encoder.dimension}."
        )
    partial = options.out.with_suffix(".partial")
    rows = 0
    # bytes, because text mode would decode as the locale says, and take a lone carriage return for the end of a line
    lines = (line.decode("utf-8").removesuffix("\n").removesuffix("\r") for line in sys.stdin.buffer)
    try:
        with partial.open("wb") as raw:
            # the header's length does not depend on the number of rows as long as both fit in its padding
            raw.write(_npy_header(0, dimension))
            while batch := list(islice(lines, _BATCH)):
                vectors = encoder.encode(batch, options.kind)
                raw.write((vectors if dimension == encoder.dimension else normalised(vectors[:, :dimension])).tobytes())
                rows += len(batch)
                if rows % (_BATCH * 100) == 0:
                    print(f"{rows:,} lines", file=sys.stderr)
            raw.seek(0)
            raw.write(_npy_header(rows, dimension))
        partial.replace(options.out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise MajlisError(f"{options.out} could not be written ({error}). Give a folder that exists and has space with --out.") from error
    except UnicodeDecodeError as error:
        partial.unlink()
        raise MajlisError(
            f"Standard input is not UTF-8 near line {rows + 1} (byte 0x{error.object[error.start]:02x}). Convert it first."
        ) from error
    if options.json:
        print(json.dumps({"out": str(options.out), "rows": rows, "dimension": dimension}))
    print(f"{options.out}: {rows:,} x {dimension} float32", file=sys.stderr)
    return 0


def _npy_header(rows: int, dimension: int) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimension}), }}"
    return np.lib.format.magic(1, 0) + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n"


def _check(options: argparse.Namespace) -> int:
    from index_builder.check import check_corpus

    report = check_corpus(options.corpus, options.evaluation)
    print(json.dumps(report.as_json(), ensure_ascii=False) if options.json else report.as_table())
    return 1 if report.errors else 0


def _evaluate(arguments: Sequence[str]) -> int:
    from index_builder.evaluate.commands import main as evaluate

    return evaluate(arguments)


def _calibrate(options: argparse.Namespace) -> int:
    from index_builder.calibrate import calibrate, calibrate_support
    from index_builder.relevance import save_relevance
    from index_builder.search import open_index
    from index_builder.support import save_support

    index = open_index(options.index, _open(options))
    how = "python -m index_builder calibrate, on the dev half of assets/evaluation and on assets/judging"
    relevance, support = calibrate(index, options.data, options.judging), calibrate_support(index, options.data)
    save_relevance(relevance, options.encoder, how)
    save_support(support, options.encoder, how)
    print(f"{options.encoder}: answers from {relevance.own.threshold} in the reader's language, from {relevance.other.threshold} in another")
    return 0


def _train_encoder(options: argparse.Namespace) -> int:
    from index_builder.evaluate.files import digests
    from index_builder.train.data import training_files
    from index_builder.train.encoder import save, train_recipe
    from index_builder.train.recipe import Recipe

    recipe = Recipe.read(options.config)
    trained = train_recipe(recipe, options.data, options.work, lambda text: print(text, flush=True), options.teacher)
    save(trained, recipe, options.out, digests(training_files(options.data)))
    print(f"{options.out}: {trained.figures}")
    return 0


def _train_cross_encoder(options: argparse.Namespace) -> int:
    from index_builder.search import Index
    from index_builder.train.cross_encoder import Config, train_and_save

    config, index = Config.read(options.config), Index(options.index, _open(options))
    path = train_and_save(config, index, options.data, options.judging, options.work, lambda text: print(text, flush=True))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB. Now run `python -m index_builder calibrate`.")
    return 0


def _ablate_encoder(options: argparse.Namespace) -> int:
    from index_builder.evaluate.measure import measure
    from index_builder.train.ablation import ablation_task
    from index_builder.train.recipe import Recipe

    say = lambda text: print(text, file=sys.stderr, flush=True)
    task = ablation_task(Recipe.read(options.config).members[0], options.data, options.teacher, options.work, options.steps, say)
    run, _, folder = measure(task, options.out, resume=True, say=say)
    for table in run.tables:
        print(table.as_markdown())
    say(f"kept in {folder}")
    return 0


def _train_generator(options: argparse.Namespace) -> int:
    missing = [name for name in ("gguf", "peft", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise MajlisError(f"Training a Llama needs {', '.join(missing)} too: python -m pip install -r tests/requirements.txt")
    from index_builder.queries import attach, queries_files
    from index_builder.read import read_corpus
    from index_builder.train.generator import is_lora, train_and_save

    say = lambda text: print(text, flush=True)
    corpus = list(read_corpus(options.corpus))
    if options.queries:
        corpus = attach(corpus, *queries_files(options.queries))
    nativqa = list(read_corpus(options.nativqa))
    if is_lora(options.config):
        from index_builder.train.generator_lora import train_and_save_lora

        paths = train_and_save_lora(
            options.config, options.base, options.data, corpus, nativqa, options.work, options.out, options.encoder, options.converter, say
        )
    else:
        paths = [train_and_save(options.config, options.data, corpus, nativqa, options.work, options.out, options.encoder, say)]
    for path in paths:
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _train_language(options: argparse.Namespace) -> int:
    from index_builder.train.language import describe, train_language

    train_language(options.data, options.out, lambda text: print(text, flush=True), options.corpus)
    print(describe(options.out))  # the table of sources for the model card
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""python -m index_builder convert | generate-queries | train-seq2seq"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from index_builder.querygen.families import TASKS, QueryModelError
from index_builder.vocabulary import LANGUAGES, MajlisError

ROOT = Path(__file__).resolve().parent.parent.parent


def add_commands(command: Callable[[str, Any, str], argparse.ArgumentParser]) -> None:
    """`command` adds one: (name, function, help) -> its parser."""
    convert = command("convert", _convert, "Convert a fetched Hub model to CTranslate2 format, for generate-queries.")
    which = convert.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", metavar="NAME", help="a model of role seq2seq in models.toml, fetched before")
    which.add_argument("--hub-folder", type=Path, metavar="DIR", help="a folder with a model in transformers' form")
    convert.add_argument("--out", type=Path, required=True, metavar="DIR")
    convert.add_argument("--quantization", default="int8", choices=("int8", "int8_float32", "int16", "float16", "bfloat16", "float32"))
    convert.add_argument("--prompt", help="of a T5 that asks across languages, with {language}, {title} and {text} (with --hub-folder)")
    convert.add_argument("--langs", nargs="+", choices=LANGUAGES, help="that a T5 asks in; of a Marian model its source, then its targets")

    generate = command(
        "generate-queries", _generate, "Write questions that the passages of a corpus answer, in other languages too, to a file."
    )
    generate.add_argument("--corpus", type=Path, nargs="+", required=True, metavar="PATH")
    generate.add_argument("--model", required=True, help="a converted or trained folder, a generator of models.toml, or a .gguf file")
    generate.add_argument("--langs", type=_languages, default=LANGUAGES, metavar="ar,bn,…", help="to ask in (default: all seven)")
    generate.add_argument("--per-language", type=int, default=5, metavar="N", help="queries for each entry in each language")
    generate.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl[.xz]")
    generate.add_argument(
        "--task", choices=TASKS, help="ask about the text, or translate its native question (default: ask, where the model can)"
    )
    generate.add_argument(
        "--queries", type=Path, nargs="+", default=[], metavar="FILE", help="queries in the entries' own languages, to be translated"
    )
    generate.add_argument("--sampling-top-k", type=int, default=10, metavar="K", help="sample among the K likeliest tokens; 0: beam search")
    generate.add_argument("--batch-tokens", type=int, default=4_096)
    generate.add_argument("--threads", type=int, default=2)
    generate.add_argument("--seed", type=int, default=0)
    generate.add_argument("--resume", action="store_true", help="go on with a file that was interrupted")

    train = command("train-seq2seq", _train, "Train, convert and measure a small model that translates and asks questions.")
    train.add_argument("--config", type=Path, default=ROOT / "index_builder/train/seq2seq.toml")
    train.add_argument("--data", type=Path, required=True, help="folder with parallel/, qa/ and dev/")
    train.add_argument("--out", type=Path, required=True, metavar="DIR")
    train.add_argument("--work", type=Path, default=Path("runs/seq2seq"), help="checkpoints; the same command goes on from the last one")
    train.add_argument("--only-measure", action="store_true", help="measure the model in --out as it is")
    train.add_argument(
        "--corpus",
        type=Path,
        nargs="+",
        default=[ROOT / "assets/corpus"],
        metavar="PATH",
        help="half of it is trained on, half measured on",
    )
    train.add_argument(
        "--queries", type=Path, nargs="+", default=[], metavar="PATH", help="questions about the corpus to learn from: files or folders"
    )
    train.add_argument("--runs", type=Path, metavar="DIR", help="also keep the figures as a run, for the results page")


def _languages(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    strange = [lang for lang in found if lang not in LANGUAGES]
    if strange or not found:
        raise argparse.ArgumentTypeError(f"{', '.join(strange) or 'nothing'} given, expected some of {','.join(LANGUAGES)}")
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _convert(options: argparse.Namespace) -> int:
    from index_builder.querygen.convert import convert

    if options.hub_folder:
        folder, name = options.hub_folder, options.hub_folder.name
        languages, prompt, licence = tuple(options.langs or ()), options.prompt or "", "see its maker"
    else:
        from demo.hub import require
        from demo.settings import load_settings

        settings = load_settings()
        model = settings.model(options.name, "seq2seq")
        if model.folder:
            raise QueryModelError(f"{model.name} ships in CTranslate2 format, in {model.folder}; it needs no conversion.")
        folder, name, licence = require(model, settings), model.repo, model.licence
        languages, prompt = tuple(options.langs or model.languages), options.prompt or model.prompt
    family = convert(folder, options.out, name, languages, prompt, options.quantization)
    print(f"{options.out}: {family.family}, {' and '.join(family.tasks)}, writes {', '.join(family.languages)}; licence: {licence}")
    return 0


def _generate(options: argparse.Namespace) -> int:
    from index_builder.queries import attach
    from index_builder.querygen.generate import generate_queries
    from index_builder.read import read_corpus

    for name, least in (("per_language", 1), ("threads", 1), ("batch_tokens", 1), ("sampling_top_k", 0)):
        if getattr(options, name) < least:
            raise MajlisError(f"--{name.replace('_', '-')} is {getattr(options, name)}, expected {least} or more.")

    def corpus():
        entries = read_corpus(options.corpus, say=_say)
        return attach(entries, *options.queries) if options.queries else entries

    writer, close = _writer(options)
    try:
        count = generate_queries(corpus, writer, options.langs, options.per_language, options.out, options.resume, _say)
    finally:
        close()
    print(f"{options.out}: {count:,} queries")
    return 0


def _writer(options: argparse.Namespace):
    """The model that --model names, and what ends it."""
    if Path(options.model).is_dir():
        from index_builder.querygen.model import Decoding, open_seq2seq
        from index_builder.querygen.writers import Seq2SeqWriter

        model = open_seq2seq(Path(options.model), options.threads, options.seed)
        decoding = Decoding(sampling_top_k=options.sampling_top_k, batch_tokens=options.batch_tokens)
        return Seq2SeqWriter(model, options.task or model.family.tasks[0], decoding, options.seed), lambda: None
    if options.task == "translate":
        raise QueryModelError("A Llama asks questions; --task translate needs a model in CTranslate2 format.")
    from index_builder.querygen.llama import open_llama

    return open_llama(options.model)


def _train(options: argparse.Namespace) -> int:
    from index_builder.queries import attach, queries_files
    from index_builder.read import read_corpus
    from index_builder.train.seq2seq import Config, save, train
    from index_builder.train.seq2seq_measure import measure

    entries = attach(read_corpus(options.corpus, say=_say), *queries_files(options.queries))
    if not options.only_measure:
        config = Config.read(options.config)
        save(train(config, options.data, options.work, entries, say=lambda text: print(text, flush=True)), config, options.out)
    for table in measure(options.out, options.data, entries, options.runs):
        print(f"{table.as_markdown()}\n")
    return 0

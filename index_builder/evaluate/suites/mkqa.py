"""MKQA (Longpre et al. 2021) as published, with XOR-Full's script for each language. Its answers are the same in every language, so that it
cannot say whether an answer is in the right one.

The file holds lines of example_id, queries {lang: text} and answers {lang: [{text, aliases}]}; it may be packed.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from index_builder.evaluate.files import Source, Unique, digests, field, json_lines, require
from index_builder.evaluate.measure import Task
from index_builder.evaluate.suites.opening import described_engine, engine_of, engine_options, sample_option
from index_builder.evaluate.suites.xor import FULL_NOTE, Gold, engine_answers, full_rows, full_tables
from index_builder.vocabulary import LANGUAGES, MajlisError

SUMMARY = "F1 and EM on MKQA, by this engine or from a folder of predictions."
SOURCE = Source("mkqa.jsonl.gz", "github.com/apple/ml-mkqa", "CC BY-SA 3.0")


def add_options(parser: argparse.ArgumentParser) -> None:
    engine_options(parser)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help=f"{SOURCE.file} of {SOURCE.where} ({SOURCE.licence})")
    parser.add_argument(
        "--lang", action="append", default=[], metavar="LANG", help="only this language (may be repeated; default: ar en tr)"
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="DIR",
        help="folder of LANG.jsonl with example_id and prediction, as published, instead of this engine",
    )
    sample_option(parser)


def open_task(options: argparse.Namespace) -> Task:
    langs = tuple(options.lang) or ("ar", "en", "tr")
    gold = read_gold(require(options.data, SOURCE), langs, options.sample)
    configuration = {"langs": list(langs), "sample": options.sample, "data": digests([options.data])}
    note = f"{FULL_NOTE} Questions without an answer in words are left out."
    if options.predictions:
        predictions = {
            key: text for lang in langs for key, text in read_predictions(options.predictions / f"{lang}.jsonl", lang, gold).items()
        }
        configuration["predictions"] = digests(options.predictions / f"{lang}.jsonl" for lang in langs)
        return Task("mkqa", "MKQA", configuration, lambda done: full_rows("MKQA", gold, predictions.get, done), full_tables, note)
    if strange := sorted(set(langs) - set(LANGUAGES)):
        raise MajlisError(
            f"Majlis does not speak {strange[0]!r}. Give predictions in that language with --predictions, or other languages with --lang."
        )
    engine = engine_of(options)
    configuration["engine"] = described_engine(engine)
    return Task(
        "mkqa",
        "MKQA",
        configuration,
        lambda done: full_rows("MKQA", gold, engine_answers(engine, gold), done),
        full_tables,
        note,
        engine.close,
    )


def read_gold(path: Path, langs: Sequence[str], sample: int = 0) -> list[Gold]:
    """Questions with an answer string, by language; ids are lang/example_id. Aliases count as answers too."""
    unique = Unique("the example")
    by_lang: dict[str, list[Gold]] = {lang: [] for lang in langs}
    for where, row in json_lines(path):
        example = str(field(row, "example_id", (int, str), where))
        unique(example, where)
        queries, answers = field(row, "queries", dict, where), field(row, "answers", dict, where)
        for lang in langs:
            if lang not in queries or lang not in answers:
                raise MajlisError(f"{where}: nothing in {lang!r}, only {', '.join(queries)}. Name languages that MKQA has with --lang.")
            texts = [
                text
                for one in _objects(field(answers, lang, list, where), where)
                for text in (one.get("text"), *(one.get("aliases") or ()))
                if text
            ]
            if strange := [text for text in texts if not isinstance(text, str)]:
                raise MajlisError(f"{where}: expected texts as answers in {lang!r}, found {strange[0]!r:.60}.")
            if texts and (not sample or len(by_lang[lang]) < sample):
                by_lang[lang].append(Gold(f"{lang}/{example}", lang, queries[lang], tuple(dict.fromkeys(texts))))
    gold = [one for lang in langs for one in by_lang[lang]]
    if not gold:
        raise MajlisError(f"{path} holds no question with an answer in words in {', '.join(langs)}. Give the file as it is published.")
    return gold


def _objects(values: Sequence[Any], where: str) -> Sequence[dict[str, Any]]:
    if strange := [value for value in values if not isinstance(value, dict)]:
        raise MajlisError(f"{where}: expected answers as objects with 'text', found {strange[0]!r:.60}.")
    return values


def read_predictions(path: Path, lang: str, gold: Sequence[Gold]) -> dict[str, str]:
    known = {one.question_id for one in gold}
    unique = Unique("the prediction for")
    found = {}
    source = Source(f"{lang}.jsonl with lines of example_id and prediction", SOURCE.where, "its licence")
    for where, row in json_lines(require(path, source, "--predictions")):
        example = f"{lang}/{field(row, 'example_id', (int, str), where)}"
        unique(example, where)
        if row.get("language", lang) != lang:
            raise MajlisError(f"{where}: the prediction is in {row['language']!r}, the file is for {lang!r}.")
        if example in known:
            found[example] = field(row, "prediction", str, where)
    if not found:
        raise MajlisError(f"{path}: no prediction for a question that has an answer. Give predictions for {SOURCE.file}.")
    return found

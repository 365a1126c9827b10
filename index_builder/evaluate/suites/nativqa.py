"""MultiNativQA's nine configurations as published, through the whole engine or from a file of answers.

The folder holds one folder for each configuration, with files such as arabic_qa/NativQA_ar_msa_qa_test.json: a JSON list, or lines, of data_id,
question and answer. They do not ship with Majlis (CC BY-NC-SA 4.0); to fetch them:
hf download QCRI/MultiNativQA --repo-type dataset --local-dir DIR
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from index_builder.evaluate.files import Source, require
from index_builder.evaluate.measure import Task
from index_builder.evaluate.suites.answering import Item
from index_builder.evaluate.suites.answers import answer_options, engine_task
from index_builder.evaluate.suites.opening import check_sample, engine_of, engine_options, first_of_each, sample_option
from index_builder.read import read_corpus
from index_builder.vocabulary import MajlisError

SUMMARY = "Answers to MultiNativQA, honest or with the protocol of its paper."
WHERE, LICENCE = "huggingface.co/datasets/QCRI/MultiNativQA", "CC BY-NC-SA 4.0"
FETCH = "hf download QCRI/MultiNativQA --repo-type dataset --local-dir"
# configuration -> file, with the split to fill in
FILES = {
    "arabic_qa": "NativQA_ar_msa_qa_{}.json", "assamese_in": "NativQA_asm_NA_in_{}.json", "bangla_bd": "NativQA_bn_scb_bd_{}.json",
    "bangla_in": "NativQA_bn_scb_in_{}.json", "english_bd": "NativQA_en_NA_bd_{}.json", "english_qa": "NativQA_en_NA_qa_{}.json",
    "hindi_in": "NativQA_hi_NA_in_{}.json", "nepali_np": "NativQA_ne_NA_np_{}.json", "turkish_tr": "NativQA_tr_NA_tr_{}.json",
}  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    engine_options(parser)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help=f"folder with a folder for each configuration, as at {WHERE} ({LICENCE})"
    )
    parser.add_argument("--split", choices=("train", "dev", "test"), default="test")
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        choices=FILES,
        help="only this configuration (may be repeated; default: all that are there)",
    )
    sample_option(parser)
    answer_options(parser)


def open_task(options: argparse.Namespace) -> Task:
    check_sample(options)
    files = published_files(options.data, options.split, tuple(options.config))
    items = first_of_each([item for config, path in files.items() for item in read_items(config, path)], options.sample)
    title = f"MultiNativQA, {options.split}" + (f", protocol {options.protocol}" if options.protocol != "honest" else "")
    return engine_task("nativqa", title, engine_of(options), items, list(files.values()), options)


def published_files(folder: Path, split: str, configs: tuple[str, ...] = ()) -> dict[str, Path]:
    """Configuration -> its file. Those that are asked for must be there, otherwise at least one of the nine."""
    paths = {config: folder / config / FILES[config].format(split) for config in configs or FILES}
    source = {config: Source(f"{config}/{path.name}", WHERE, LICENCE) for config, path in paths.items()}
    if configs:
        return {config: require(path, source[config]) for config, path in paths.items()}
    found = {config: path for config, path in paths.items() if path.is_file()}
    if not found:
        expected = ", ".join(one.file for one in source.values())
        raise MajlisError(
            f"{folder} holds none of MultiNativQA's files. Expected any of {expected}, published at {WHERE} under {LICENCE}. They do not ship with "
            f"Majlis: fetch them with `{FETCH} {folder}` and name that folder with --data. (Nepali is published as a test split alone.)"
        )
    return found


def read_items(config: str, path: Path) -> Iterator[Item]:
    for entry in read_corpus([path]):
        yield Item(f"{config}/{entry.entry_id}", config, entry.lang, entry.question, (entry.text,), locale=entry.locale)

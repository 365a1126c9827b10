"""Aligned text: of all the sentences in the other language, is the translation the nearest?"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from index_builder.encode import Encoder
from index_builder.evaluate.files import Source, digests, text_lines
from index_builder.evaluate.measure import Task, by_language
from index_builder.evaluate.runs import Row, Table
from index_builder.evaluate.statistics import macro_average, mean
from index_builder.evaluate.suites.opening import described_encoder, encoder_of, encoder_options
from index_builder.vocabulary import LANGUAGES, MajlisError

SUMMARY = "P@1 of every pair of languages on aligned text files, such as FLORES."
SOURCE = Source(
    "one file a language, line i the same in all: flores.bn.txt or ben_Beng.dev", "github.com/openlanguagedata/flores", "CC BY-SA 4.0"
)
_FLORES = {"arb_Arab": "ar", "asm_Beng": "as", "ben_Beng": "bn", "eng_Latn": "en", "hin_Deva": "hi", "npi_Deva": "ne", "tur_Latn": "tr"}


def add_options(parser: argparse.ArgumentParser) -> None:
    encoder_options(parser)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help=SOURCE.file)


def open_task(options: argparse.Namespace) -> Task:
    files = aligned_files(options.data)
    lines = read_aligned(files)
    encoder = encoder_of(options)
    configuration = {"data": digests(files.values()), "encoder": described_encoder(encoder)}
    count = len(next(iter(lines.values())))
    note = f"Share of {count:,} sentences whose translation is the nearest (cosine, brute force) of all sentences in the other language."
    return Task("bitext", f"Bitext, {options.data.name}", configuration, lambda done: _rows(encoder, lines, done), tables, note)


def aligned_files(folder: Path) -> dict[str, Path]:
    """Language -> file, by names such as flores.bn.txt.xz or ben_Beng.devtest. Raises MajlisError when fewer than two are found."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        parts = path.name.split(".")
        lang = _FLORES.get(parts[0]) or next((part for part in parts[1:] if part in LANGUAGES), "")
        if not lang or not path.is_file():
            continue
        if lang in found:
            raise MajlisError(
                f"{folder} holds two files in {lang}: {found[lang].name} and {path.name}. Give a folder with one set of aligned files."
            )
        found[lang] = path
    if len(found) < 2:
        raise MajlisError(
            f"{folder} holds {len(found)} aligned files, two or more are needed. Expected {SOURCE.file}, as published at {SOURCE.where} under {SOURCE.licence}."
        )
    return {lang: found[lang] for lang in LANGUAGES if lang in found}


def read_aligned(files: Mapping[str, Path]) -> dict[str, list[str]]:
    lines = {lang: [line for _, line in text_lines(path)] for lang, path in files.items()}
    (first, count), *others = ((lang, len(found)) for lang, found in lines.items())
    for lang, other in others:
        if other != count:
            raise MajlisError(
                f"{files[lang]} has {other:,} lines, {files[first]} has {count:,}: they are not aligned. Give files whose lines correspond."
            )
    if not count:
        raise MajlisError(f"{files[first]} is empty. Give files with one sentence a line.")
    return lines


def _rows(encoder: Encoder, lines: Mapping[str, Sequence[str]], done: frozenset[str]) -> Iterator[Row]:
    vectors = {lang: encoder.encode(texts, "passage") for lang, texts in lines.items()}
    for lang, texts in lines.items():
        nearest = {other: np.argmax(vectors[lang] @ vectors[other].T, axis=1) for other in lines if other != lang}
        for i in range(len(texts)):
            if f"{lang}/{i + 1}" not in done:
                hits = {f"to {other}": float(found[i] == i) for other, found in nearest.items()}
                yield {
                    "id": f"{lang}/{i + 1}",
                    "set": "bitext",
                    "lang": lang,
                    "scores": hits | {"P@1": round(sum(hits.values()) / len(hits), 4)},
                    "by_lang": {other: hits[f"to {other}"] for other in nearest},
                }


def tables(rows: Sequence[Row]) -> list[Table]:
    groups = by_language(rows)
    lines = []
    for lang, group in groups.items():
        pairs = [mean([row["scores"][f"to {other}"] for row in group]) if other != lang else None for other in groups]
        lines.append((lang, *pairs, mean([row["scores"]["P@1"] for row in group])))
    overall = macro_average({lang: [row["scores"]["P@1"] for row in group] for lang, group in groups.items()})
    lines.append(("all pairs", *(None for _ in groups), overall))
    return [Table("P@1", ("from", *(f"to {lang}" for lang in groups), "mean"), lines)]

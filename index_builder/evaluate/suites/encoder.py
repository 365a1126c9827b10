"""What an encoder is worth alone, without words in common and without fusion: translations, questions, passages, names, speed.

Several encoders are measured side by side; the first is looked at more closely (shorter vectors, centred languages, float32 weights).
"""

import argparse
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from index_builder.encode import BUNDLED, Encoder, open_encoder
from index_builder.evaluate.encoder_closer import WORST, variant_rows, write_worst
from index_builder.evaluate.encoder_material import Material, held_out_names, held_out_questions
from index_builder.evaluate.encoder_rows import (
    flores_rows,
    name_rows,
    paraphrase_rows,
    passage_rows,
    pool_rows,
    question_rows,
    sentence_rows,
)
from index_builder.evaluate.encoder_speed import speed_row, timed_questions
from index_builder.evaluate.encoder_tables import tables
from index_builder.evaluate.files import digests
from index_builder.evaluate.measure import Task
from index_builder.evaluate.questions import read_questions
from index_builder.evaluate.runs import ROOT, Row
from index_builder.evaluate.suites.bitext import aligned_files, read_aligned
from index_builder.evaluate.suites.opening import QUESTIONS, described_encoder
from index_builder.read import corpus_files, read_corpus
from index_builder.vocabulary import MajlisError

SUMMARY = "The encoder alone: aligned text, held-out questions and names, the bundled questions, speed; several encoders side by side."
BUNDLED_NAME = "bundled"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="the folder of training and development data: dev/, qa/, parallel/, romanised/",
    )
    parser.add_argument(
        "--encoder",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a sentence-transformers folder (may be repeated; default: the bundled one)",
    )
    parser.add_argument(
        "--query-prefix", action="append", default=[], help='of each --encoder in their order, "query: " for the E5 family, "" for none'
    )
    parser.add_argument(
        "--passage-prefix", action="append", default=[], help='of each --encoder in their order, "passage: " for the E5 family, "" for none'
    )
    parser.add_argument("--split", choices=("dev", "test"), default="test", help="of the bundled questions (default test)")
    parser.add_argument("--questions", type=Path, default=QUESTIONS, metavar="DIR", help="evaluation files (default: the bundled ones)")
    parser.add_argument(
        "--corpus",
        type=Path,
        default=ROOT / "assets/corpus",
        metavar="DIR",
        help="what the evaluation files ask about (default: the bundled corpus)",
    )
    parser.add_argument(
        "--unrounded",
        type=Path,
        metavar="FILE.safetensors",
        help="vectors.safetensors that the training of the first encoder left in --work: what float16 costs is measured",
    )
    parser.add_argument("--worst", type=Path, metavar="FILE.jsonl", help=f"write the {WORST} development sentences of each language that the first encoder finds worst")  # fmt: skip


def open_task(options: argparse.Namespace) -> Task:
    encoders = _encoders(options)
    flores = aligned_files(options.data / "dev")
    asked_files = [options.questions / f"{name}.jsonl" for name in ("cross_lingual", "paraphrase")]
    entries = list(read_corpus([options.corpus], say=lambda _: None))
    known = frozenset(entry.entry_id for entry in entries)
    cross, paraphrase = (read_questions(path, options.split, known) for path in asked_files)
    material = Material(read_aligned(flores), held_out_questions(options.data), entries, cross, paraphrase, held_out_names(options.data))
    others = [
        options.data / "qa/qa.jsonl.xz",
        options.data / "romanised/words.tsv.xz",
        *sorted((options.data / "parallel").glob("en-*.tsv.xz")),
    ]
    configuration: dict[str, Any] = {
        "split": options.split, "data": digests([*flores.values(), *others, *asked_files]), "corpus": digests(corpus_files([options.corpus])),
        "encoders": {name: described_encoder(encoder) for name, encoder in encoders.items()},
    }  # fmt: skip
    if options.unrounded:
        configuration["unrounded"] = digests([options.unrounded])
    note = (
        "Brute-force search by cosine, no words in common, no fusion. FLORES dev, the held-out questions and the held-out names are no part of what the bundled "
        "encoder was trained on; what other encoders have seen is theirs to say. Brackets hold 95 % bootstrap intervals."
    )
    rows = partial(_rows, encoders, material, options.unrounded, options.worst)
    return Task("encoder", "The encoder", configuration, rows, tables, note)


def _encoders(options: argparse.Namespace) -> dict[str, Encoder]:
    folders = options.encoder or [BUNDLED]
    prefixes = []
    for name, given in (("--query-prefix", options.query_prefix), ("--passage-prefix", options.passage_prefix)):
        if given and len(given) != len(folders):
            raise MajlisError(
                f"{len(given)} times {name} for {len(folders)} encoders. Give it once for each --encoder, in their order, or not at all."
            )
        prefixes.append(given or [""] * len(folders))
    found: dict[str, Encoder] = {}
    for folder, query, passage in zip(folders, *prefixes, strict=True):
        name = BUNDLED_NAME if folder.resolve() == BUNDLED else folder.resolve().name
        if name in found:
            raise MajlisError(f"Two encoders are called {name!r}, and the tables could not tell them apart. Rename one of the folders.")
        found[name] = open_encoder(folder, query_prefix=query, passage_prefix=passage)
    return found


def _rows(
    encoders: Mapping[str, Encoder], material: Material, unrounded: Path | None, worst: Path | None, done: frozenset[str]
) -> Iterator[Row]:
    for number, (name, encoder) in enumerate(encoders.items()):
        # the ids of the first encoder bear no name, so that two runs of different encoders compare
        before = "" if number == 0 else f"{name}: "
        flores = {lang: encoder.encode(texts, "query") for lang, texts in material.flores.items()}
        if number == 0 and worst:
            write_worst(worst, material.flores, flores)
        found = [*flores_rows(flores), *pool_rows(flores), *question_rows(encoder, *material.questions), *sentence_rows(encoder, material)]
        found += [*passage_rows(encoder, material), *paraphrase_rows(encoder, material), *name_rows(encoder, material.names)]
        if number == 0:
            found += variant_rows(encoder, flores, material, unrounded)
        found.append(speed_row(encoder, timed_questions(material)))
        for row in found:
            if number == 0 and row["set"] == "flores":
                row["evidence_lang"] = row["to"]  # the report draws the 42 pairs
            row = row | {"id": before + row["id"], "encoder": name}
            if row["id"] not in done:
                yield row

"""LAReQA's XQuAD-R (Roy et al. 2020): answer sentences of several languages in one pool. Whoever prefers their own language loses.

The folder holds LANG.json, an object with data[].paragraphs[], each with context, sentences, sentence_breaks and qas[] of id, question and
answers[] {answer_start, text}; the same id is the same question in every language.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from index_builder.encode import Encoder
from index_builder.evaluate.files import Source, Unique, digests, field, json_file, require
from index_builder.evaluate.measure import Task, by_language
from index_builder.evaluate.metrics import same_language_bias
from index_builder.evaluate.runs import Cell, Row, Table
from index_builder.evaluate.statistics import macro_average, mean, mean_with_interval
from index_builder.evaluate.suites.opening import described_encoder, encoder_of, encoder_options
from index_builder.vocabulary import MajlisError

SUMMARY = "mAP in a pool of mixed languages, and the pull of the own language (XQuAD-R as published)."
SOURCE = Source("xquad-r/{ar,en,hi,tr}.json", "github.com/google-research-datasets/lareqa", "CC BY-SA 4.0")
_FIRST = 10
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence of the pool."""

    lang: str
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    question_id: str
    lang: str
    text: str


def add_options(parser: argparse.ArgumentParser) -> None:
    encoder_options(parser)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help=f"the folder xquad-r of {SOURCE.where} ({SOURCE.licence})")
    parser.add_argument(
        "--lang", action="append", default=[], metavar="LANG", help="only these of its languages (may be repeated; default: ar en hi tr)"
    )


def open_task(options: argparse.Namespace) -> Task:
    langs = tuple(options.lang) or ("ar", "en", "hi", "tr")
    files = [require(options.data / f"{lang}.json", SOURCE) for lang in langs]
    encoder = encoder_of(options)
    configuration = {"langs": list(langs), "data": digests(files), "encoder": described_encoder(encoder)}
    note = (
        f"Questions and sentences of {', '.join(langs)} in one pool; each question has one right sentence in each language. Brute-force search, "
        "sentences encoded alone. The published figures are of 11 languages in one pool, so that they compare only where all are given."
    )
    return Task("lareqa", "LAReQA, XQuAD-R", configuration, lambda done: _rows(encoder, *read_xquad_r(files, langs), done), tables, note)


def read_xquad_r(files: Sequence[Path], langs: Sequence[str]) -> tuple[list[Candidate], list[Asked], dict[str, list[int]]]:
    """(pool, questions, question id -> rows of the pool that answer it, one a language). Raises MajlisError naming file and question."""
    pool: list[Candidate] = []
    asked: list[Asked] = []
    answers: dict[str, list[int]] = {}
    unique = Unique("the question")
    for path, lang in zip(files, langs, strict=True):
        for number, paragraph in enumerate(_paragraphs(path), 1):
            where = f"{path}: paragraph {number}"
            sentences, breaks = field(paragraph, "sentences", list, where), field(paragraph, "sentence_breaks", list, where)
            if len(sentences) != len(breaks):
                raise MajlisError(f"{where}: {len(sentences)} sentences and {len(breaks)} sentence_breaks. Download the file again.")
            first = len(pool)
            pool += [Candidate(lang, sentence.lstrip("\ufeff").strip()) for sentence in sentences]
            for qa in field(paragraph, "qas", list, where):
                if not isinstance(qa, dict) or not field(qa, "answers", list, where):
                    raise MajlisError(f"{where}: a question without an answer ({qa!r:.60}). Download the file again.")
                question, text = str(field(qa, "id", (str, int), where)), field(qa, "question", str, where)
                start = field(qa["answers"][0], "answer_start", int, f"{where}, question {question!r}")
                inside = next((i for i, (begin, end) in enumerate(breaks) if begin <= start < end), None)
                if inside is None:
                    raise MajlisError(
                        f"{where}: the answer of question {question!r} starts at {start}, in no sentence. Download the file again."
                    )
                unique((lang, question), where)
                asked.append(Asked(question, lang, text.strip()))
                answers.setdefault(question, []).append(first + inside)
    return pool, asked, answers


def _paragraphs(path: Path) -> Iterator[dict[str, Any]]:
    data = json_file(path)
    if not isinstance(data, dict) or not isinstance(data.get("data"), list):
        raise MajlisError(f"{path} is no XQuAD-R file: expected an object with data[].paragraphs[]. It is published at {SOURCE.where}.")
    for article in data["data"]:
        yield from field(article, "paragraphs", list, str(path))


def _rows(
    encoder: Encoder, pool: Sequence[Candidate], asked: Sequence[Asked], answers: dict[str, list[int]], done: frozenset[str]
) -> Iterator[Row]:
    left = [one for one in asked if f"{one.lang}/{one.question_id}" not in done]
    sentences = encoder.encode([one.text for one in pool], "passage")
    langs = np.array([one.lang for one in pool])
    counts = {str(lang): int((langs == lang).sum()) for lang in np.unique(langs)}
    for begin in range(0, len(left), _BATCH):
        batch = left[begin : begin + _BATCH]
        similarities = encoder.encode([one.text for one in batch], "query") @ sentences.T
        for one, similarity in zip(batch, similarities, strict=True):
            order = np.argsort(-similarity, kind="stable")
            yield ranked(one, order, langs, answers[one.question_id], counts)


def ranked(one: Asked, order: np.ndarray, langs: np.ndarray, relevant: Sequence[int], pool: dict[str, int]) -> Row:
    """Figures of one question. order: rows of the pool, best first; langs: (n,) language of each row."""
    found_langs = langs[order]
    is_right = np.isin(order, relevant)
    scores = {"mAP": _average_precision(is_right), "mAP, own language alone": _average_precision(is_right[found_langs == one.lang])}
    if len(pool) > 1:
        scores["mAP, other languages alone"] = _average_precision(is_right[found_langs != one.lang])
        scores["same-language bias"] = same_language_bias(one.lang, [str(lang) for lang in found_langs[:_FIRST]], pool)
    by_lang = {lang: _average_precision(is_right[found_langs == lang]) for lang in pool}
    return {
        "id": f"{one.lang}/{one.question_id}", "set": "XQuAD-R", "lang": one.lang, "question": one.text,
        "scores": {name: round(float(value), 4) for name, value in scores.items()}, "by_lang": {lang: round(value, 4) for lang, value in by_lang.items()},
    }  # fmt: skip


def _average_precision(is_right: np.ndarray) -> float:
    ranks = np.flatnonzero(is_right) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).mean()) if len(ranks) else 0.0


def tables(rows: Sequence[Row]) -> list[Table]:
    groups = by_language(rows)
    metrics = list(rows[0]["scores"])
    lines: list[tuple[Cell, ...]] = []
    for lang, group in groups.items():
        first, *others = ([row["scores"][name] for row in group] for name in metrics)
        lines.append((lang, len(group), mean_with_interval(first), *map(mean, others)))
    macro = [macro_average({lang: [row["scores"][name] for row in group] for lang, group in groups.items()}) for name in metrics]
    lines.append(("macro-average", len(rows), *macro))
    pairs = [(lang, *(mean([row["by_lang"][other] for row in group]) for other in groups)) for lang, group in groups.items()]
    note = "Bias: share of the question's language among the first ten, less its share of the pool; 0 is none."
    pair_note = "A row is the language of the question, a column that of the sentences, which are searched alone."
    return [
        Table("mixed pool", ("questions in", "n", *metrics), lines, note),
        Table("mAP by language of the pool", ("", *groups), pairs, pair_note),
    ]

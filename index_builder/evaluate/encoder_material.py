"""What an encoder is asked, and what it looks among: held-out questions and names of the training data, sentences and views of the corpus."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from index_builder.evaluate.questions import Asked
from index_builder.text import sentences
from index_builder.train.data import read_parallel, read_rows, split_names
from index_builder.train.data import read_questions as read_answered
from index_builder.vocabulary import Entry

_POOL = 1_200  # sentences among which a held-out question looks for its answer


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A question that was not trained on, and the place of its answer among the sentences of its language."""

    lang: str
    question: str
    answer: int


@dataclass(frozen=True, slots=True)
class Names:
    """Place names in some of the seven languages; none was trained on as a row of its own."""

    texts: Sequence[Mapping[str, frozenset[str]]]  # of each name: language -> its spellings
    territories: frozenset[int]  # which of them are territories of CLDR
    left_out: int  # held out of the parallel text, but spelt out in a list of romanised words


@dataclass(frozen=True, slots=True)
class Material:
    flores: Mapping[str, Sequence[str]]
    questions: tuple[Sequence[HeldOut], Mapping[str, Sequence[str]]]  # and the sentences of each language
    entries: Sequence[Entry]
    cross: Sequence[Asked]
    paraphrase: Sequence[Asked]
    names: Names


def held_out_questions(data: Path) -> tuple[list[HeldOut], dict[str, list[str]]]:
    """The tenth of the questions that training leaves out, and for each language the sentences that they look among: those of their own
    passages, then those of other passages, until there are enough.
    """
    _, held_out = read_answered(data)
    rows = list(map(json.loads, read_rows(data / "qa/qa.jsonl.xz")))
    lang_of = {row["question"]: row["lang"] for row in rows}
    passages = {row["question"]: row["passage"] for row in rows}
    pools: dict[str, dict[str, int]] = {}
    asked = []
    for example in held_out:
        question, answer = example.sides["question"][0], example.sides["answer"][-1]
        pool = pools.setdefault(lang_of[question], {})
        for sentence in (answer, *sentences(passages[question])):
            pool.setdefault(sentence, len(pool))
        asked.append(HeldOut(lang_of[question], question, pool[answer]))
    for row in rows:
        pool = pools.get(row["lang"], {})
        for sentence in sentences(row["passage"]) if pool and len(pool) < _POOL else ():
            pool.setdefault(sentence, len(pool))
    return asked, {lang: list(pool) for lang, pool in pools.items()}


def held_out_names(data: Path) -> Names:
    _, held_out = split_names(read_parallel(data))
    romanised = {row.split("\t")[1].lower() for row in read_rows(data / "romanised/words.tsv.xz")}
    by_name: dict[str, dict[str, set[str]]] = {}
    territories = set()
    for example in held_out:
        name = example.sides["en"][0].lower()
        for lang, texts in example.sides.items():
            by_name.setdefault(name, {}).setdefault(lang, set()).update(texts[:1])
        if example.source == "cldr-ter":
            territories.add(name)
    unseen = [name for name in by_name if name not in romanised]
    return Names(
        [{lang: frozenset(texts) for lang, texts in by_name[name].items()} for name in unseen],
        frozenset(place for place, name in enumerate(unseen) if name in territories),
        len(by_name) - len(unseen),
    )


def english_sentences(entries: Sequence[Entry]) -> tuple[list[str], dict[str, list[int]]]:
    """(distinct English sentences of the corpus, entry id -> which of them are its own)."""
    pool: dict[str, int] = {}
    of_entry = {}
    for entry in entries:
        if entry.lang == "en":
            of_entry[entry.entry_id] = [pool.setdefault(sentence, len(pool)) for sentence in sentences(entry.text)]
    return list(pool), of_entry


@dataclass(frozen=True, slots=True)
class Views:
    """Every text by which an entry can be found, entry by entry."""

    texts: Sequence[str]
    langs: Sequence[str]
    starts: np.ndarray  # (entries,) the first view of each entry


def views_of(entries: Sequence[Entry]) -> Views:
    """As the index has them: the whole, the native question, each sentence."""
    texts: list[str] = []
    langs: list[str] = []
    starts = []
    for entry in entries:
        parts = sentences(entry.text)
        starts.append(len(texts))
        texts += [f"{entry.title}. {entry.text}" if entry.title else entry.text, *([entry.question] if entry.question else ()), *(parts if len(parts) > 1 else ())]  # fmt: skip
        langs += [entry.lang] * (len(texts) - len(langs))
    return Views(texts, langs, np.array(starts))

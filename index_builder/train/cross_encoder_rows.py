"""What the cross-encoder is trained on: questions with texts that answer them, and with texts that nearly do.

Three kinds of pairs, half of each answered:

* passages of published question sets: some sentences with the answer, or others of the same passage, which are about the same thing;
* generated queries and native questions with their entry, or with a neighbour that a search brings up beside it;
* judging questions (assets/judging): what an entry answers, and near misses.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from index_builder.cross_encoder import TEXT, TITLE, Parts, parts_of
from index_builder.evaluate.files import json_lines
from index_builder.judging import held_out, read_judging
from index_builder.search import Index, Reader
from index_builder.text import sentences
from index_builder.train.data import is_held_out, present

_NEIGHBOURS = 8  # hits among which neighbours of a query are looked for
_TWIN = 0.8  # cosine; an entry with a question this near may answer it as well, and is no negative
_WINDOW = 3  # sentences of a passage at most
_HITS = 5


@dataclass(frozen=True, slots=True)
class Pair:
    question: str
    parts: Parts
    answered: bool


@dataclass(frozen=True, slots=True)
class Passage:
    """A question, and the sentences of the passage with its answer."""

    question: str
    title: str
    sentences: tuple[str, ...]
    answering: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A question that stands for an entry, and neighbours of that which do not answer it."""

    text: str
    own: Parts
    neighbours: tuple[Parts, ...]


@dataclass(frozen=True, slots=True)
class Material:
    passages: Sequence[Passage]
    queries: Sequence[Query]
    judged: Sequence[Pair]

    def draw(self, count: int, shares: tuple[float, float], choice: random.Random) -> list[Pair]:
        """`count` pairs, `shares` of them of passages and of queries."""
        found: list[Pair] = []
        if self.passages:
            found += [_of_passage(choice.choice(self.passages), choice) for _ in range(round(count * shares[0]))]
        if self.queries:
            found += [_of_query(choice.choice(self.queries), choice) for _ in range(round(count * shares[1]))]
        answered, unanswered = ([pair for pair in self.judged if pair.answered == kind] for kind in (True, False))
        while len(found) < count:
            found.append(choice.choice(answered if choice.random() < 0.5 else unanswered))
        return found


def _of_passage(passage: Passage, choice: random.Random) -> Pair:
    most = choice.randint(1, _WINDOW)
    others = [number for number in range(len(passage.sentences)) if number not in passage.answering]
    answered = choice.random() < 0.5
    if answered:
        first = max(0, choice.choice(passage.answering) - choice.randrange(most))
        shown = list(range(first, min(first + most, len(passage.sentences))))
        answered = any(number in passage.answering for number in shown)
    else:
        first = choice.choice(others)
        shown = [number for number in others if first <= number < first + most]
    return Pair(passage.question, ((TITLE, passage.title), (TEXT, " ".join(passage.sentences[number] for number in shown))), answered)


def _of_query(query: Query, choice: random.Random) -> Pair:
    answered = choice.random() < 0.5 or not query.neighbours
    return Pair(query.text, query.own if answered else choice.choice(query.neighbours), answered)


def read_passages(data: Path) -> tuple[list[Passage], list[Passage]]:
    """(trained on, the tenth that is measured on) of `qa/qa.jsonl.xz`; a question whose answer is in no sentence, or in all, is left out."""
    train: list[Passage] = []
    measured: list[Passage] = []
    for _, row in json_lines(present(data / "qa" / "qa.jsonl.xz")):
        parts = tuple(sentences(row["passage"]))
        answering = tuple(number for number, part in enumerate(parts) if row["answer"] in part)
        if 0 < len(answering) < len(parts):
            (measured if is_held_out(row["title"]) else train).append(Passage(row["question"], row["title"], parts, answering))
    return train, measured


def find_queries(index: Index, most: int, seed: int) -> list[Query]:
    """At most `most` generated queries and native questions of the entries that are not held out. A native question's own entry is shown without it."""
    entries = {entry.entry_id: entry for entry in index.entries() if not held_out(entry.entry_id)}
    asked = [(entry, query.lang, query.text) for entry in entries.values() for query in entry.queries]
    asked += [(entry, entry.lang, entry.question) for entry in entries.values() if entry.question]
    random.Random(seed).shuffle(asked)
    theirs = {
        name: index.encoder.encode([one for one in (entry.question, *(query.text for query in entry.queries)) if one], "query")
        for name, entry in entries.items()
    }
    found = []
    for entry, lang, text in asked[:most]:
        vector = index.encoder.encode([text], "query")[0]
        hits = index.search_vector(text, vector, _NEIGHBOURS, reader=Reader(lang))
        others = [entries[hit.entry.entry_id] for hit in hits if hit.entry.entry_id in entries and hit.entry.entry_id != entry.entry_id]
        neighbours = [parts_of(other) for other in others if (theirs[other.entry_id] @ vector).max(initial=0.0) < _TWIN]
        own = tuple(part for part in parts_of(entry) if part[1] != text)
        found.append(Query(text, own, tuple(neighbours)))
    return found


def find_judged(index: Index, folder: Path) -> list[Pair]:
    """The judging questions with the entries that they were written for, and with the best other hit, which answers neither kind."""
    entries = {entry.entry_id: entry for entry in index.entries() if not held_out(entry.entry_id)}
    judged = list(read_judging(folder))
    answering: dict[str, set[str]] = {}  # wholly or in part
    for one in judged:
        if one.answered is not False:
            answering.setdefault(one.question, set()).add(one.entry_id)
    found = []
    for one in judged:
        if one.entry_id not in entries or one.answered is None:
            continue
        found.append(Pair(one.question, parts_of(entries[one.entry_id]), one.answered))
        hits = [hit.entry for hit in index.search(one.question, _HITS, reader=Reader(one.lang))]
        others = [entry for entry in hits if entry.entry_id != one.entry_id and entry.entry_id not in answering.get(one.question, ())]
        if others and others[0].entry_id in entries and (one.answered or others[0] == hits[0]):
            found.append(Pair(one.question, parts_of(others[0]), False))
    return found

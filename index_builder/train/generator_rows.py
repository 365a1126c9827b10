"""Training rows of a generator: a question, one to five numbered pieces of evidence, and the answer copied from the right one with its citation.

The prompt is what `demo.prompt.build_messages` makes at run time; importing it here, when rows are made, is the one place where index_builder
looks at demo. Wrong evidence comes from our own retrieval: the bundled encoder's nearest neighbours, in the question's language and in others.
No open question set is in Assamese, Hindi or Nepali, so sentences ask for themselves: by some of their words, or by their translation.
"""

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType

import numpy as np

from index_builder.encode import Encoder
from index_builder.search import Index, Reader
from index_builder.text import sentence_spans, sentences, words
from index_builder.train.data import read_parallel, read_rows
from index_builder.vocabulary import LANGUAGES, TOPICS, Entry, Evidence, Hit

MOST_EVIDENCE = 5
_MOST_SENTENCES = 3  # of an answer
_SAME = 0.92  # a cosine above this is another copy of the right evidence, not a wrong one
_REGIONS = ("assam", "bangladesh", "gulf", "nepal", "north_india", "turkiye", "west_bengal")
_SCRIPTURE = "bible"  # old in style


@dataclass(frozen=True, slots=True)
class Ask:
    """A question and the entry that answers it, before any wrong evidence is added."""

    source: str
    licence: str
    lang: str  # of the question
    question: str
    entry: Entry
    answer: tuple[int, ...]  # the sentences of the entry that answer, as `demo.prompt.source_sentences` numbers them
    group: str  # entries of one group are never wrong evidence for each other
    held_out: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One training example. `target` is what the assistant says; `right` the number of the evidence it quotes, 0 for a refusal."""

    source: str
    licence: str
    lang: str
    messages: tuple[Mapping[str, str], ...]
    target: str
    right: int
    given: Mapping[int, tuple[str, ...]]  # number -> sentences of the evidence in the prompt
    held_out: bool


def is_held_out(key: str, share: int = 2) -> bool:
    """One key in `share`, by its hash: the same on every machine and in every run."""
    return blake2b(key.encode(), digest_size=4).digest()[0] % share == 0


def asks_of_corpus(entries: Iterable[Entry]) -> list[Ask]:
    """Native and generated questions about entries of a corpus. One entry in five, by the hash of its id, is held out with all its questions."""
    found = []
    for entry in entries:
        held_out, count = is_held_out(entry.entry_id, 5), len(sentences(entry.text))
        whole = tuple(range(min(count, _MOST_SENTENCES)))
        licence = "CC BY-SA 4.0" if entry.source.startswith("written for Majlis") else "as its corpus"
        if entry.kind == "qa":
            bare = replace(entry, question="")  # with the question beside it the answer would be found by its looks
            found.append(Ask("corpus questions", licence, entry.lang, entry.question, bare, whole, entry.entry_id, held_out))
        for query in entry.queries:
            answer = whole if entry.kind == "qa" else _nearest(query.text, entry) if query.lang == entry.lang else ()
            found.append(Ask("corpus queries", licence, query.lang, query.text, entry, answer, entry.entry_id, held_out))
    return found


def asks_of_nativqa(entries: Iterable[Entry]) -> list[Ask]:
    """MultiNativQA, or any corpus of pairs given by path: every pair asks for itself, its question hidden from half of the evidence."""
    found = []
    for entry in entries:
        if entry.kind == "qa":
            whole = tuple(range(min(len(sentences(entry.text)), _MOST_SENTENCES)))
            shown = entry if is_held_out(f"shown {entry.entry_id}") else replace(entry, question="")
            found.append(
                Ask(
                    "multinativqa",
                    "CC BY-NC-SA 4.0",
                    entry.lang,
                    entry.question,
                    shown,
                    whole,
                    entry.entry_id,
                    is_held_out(entry.entry_id, 10),
                )
            )
    return found


def asks_of_qa(data: Path) -> list[Ask]:
    """`qa/qa.jsonl.xz`: the sentence that holds the answer, with its neighbours. A row whose answer is in no sentence is left out."""
    found = []
    for number, row in enumerate(map(json.loads, read_rows(data / "qa/qa.jsonl.xz"))):
        spans = sentence_spans(row["passage"])
        holding = [i for i, (start, end) in enumerate(spans) if row["answer"] in row["passage"][start:end]]
        if not holding or spans[holding[0]][1] - spans[holding[0]][0] > 600:
            continue
        first = max(0, holding[0] - number % 2)
        last = min(len(spans), holding[0] + 2)
        entry = Entry(f"qa.{number}", "passage", row["lang"], row["passage"][spans[first][0] : spans[last - 1][1]], title=row["title"])
        held_out = is_held_out(row["title"], 20)  # by title, so that no article is on both sides
        found.append(
            Ask(row["source"], row["licence"], row["lang"], row["question"], entry, (holding[0] - first,), row["passage"], held_out)
        )
    return found


def asks_of_mkqa(data: Path) -> list[Ask]:
    """`qa/mkqa_dev.jsonl.xz`: a question in one language, evidence that says question and answer in another."""
    found = []
    for row in map(json.loads, read_rows(data / "qa/mkqa_dev.jsonl.xz")):
        langs = [lang for lang in ("ar", "en", "tr") if lang in row]
        random_ = random.Random(row["id"])
        asked, told = random_.sample(langs, 2)
        answer = ", ".join(map(str, row[told]["answers"]))
        if answer:
            entry = Entry(f"mkqa.{row['id']}.{told}", "qa", told, answer, question=row[told]["question"])
            found.append(
                Ask("mkqa-dev", row["licence"], asked, row[asked]["question"], entry, (0,), f"mkqa.{row['id']}", is_held_out(row["id"], 20))
            )
    return found


def asks_of_sentences(data: Path, per_language: int, seed: int) -> list[Ask]:
    """Sentences of parallel and running text, asked for by some of their own words or by their translation, alone or as the question of a pair."""
    chooser = random.Random(seed)
    bodies: dict[str, list[str]] = {lang: [] for lang in LANGUAGES}  # what a pair answers, where only its question matters
    found: dict[str, list[Ask]] = {lang: [] for lang in LANGUAGES}
    examples = [example for example in read_parallel(data) if not example.source.startswith(_SCRIPTURE)]
    chooser.shuffle(examples)
    for number, example in enumerate(examples):
        usable = {
            lang: side[0]
            for lang, side in example.sides.items()
            if len(side[0].split()) >= 4 and len(side[0]) < 300 and "\n" not in side[0]
        }
        for lang, text in usable.items():
            bodies[lang].append(text)
        if len(usable) < 2:
            continue
        # rare languages first: English is a side of every row
        asked, told = sorted(chooser.sample(sorted(usable), 2), key=lambda lang: len(found[lang]))
        if len(found[asked]) >= per_language:
            continue
        query = usable[asked] if chooser.random() < 0.6 else _keywords(usable[asked], chooser)
        if chooser.random() < 0.5 and len(bodies[told]) > 10:
            entry = Entry(f"parallel.{number}", "qa", told, chooser.choice(bodies[told][-500:-1]), question=usable[told])
        else:
            entry = Entry(f"parallel.{number}", "passage", told, usable[told])
        found[asked].append(
            Ask(example.source, example.licence, asked, query, entry, (0,), f"parallel.{number}", is_held_out(usable[asked], 20))
        )
    for path in sorted((data / "text").glob("*.txt.xz")):
        lang, source = path.name.split(".")[:2]
        licence = "CC0" if source == "common_voice" else "CC BY 4.0 / CC BY-SA 4.0"
        lines = [line for line in read_rows(path) if 6 <= len(line.split()) <= 40]
        for number in sorted(chooser.sample(range(len(lines)), min(len(lines), per_language // 2))):
            text = lines[number]
            entry = Entry(f"{path.name}.{number}", "passage", lang, text)
            found[lang].append(Ask(source, licence, lang, _keywords(text, chooser), entry, (0,), entry.entry_id, is_held_out(text, 20)))
    return [ask for asks in found.values() for ask in asks]


def _keywords(text: str, chooser: random.Random) -> str:
    """Half of the words of `text`, the longer ones more likely, some out of order: what someone remembers of a sentence."""
    tokens = text.split()
    count = max(2, len(tokens) // 2)
    kept = sorted(range(len(tokens)), key=lambda i: -(len(tokens[i]) ** 0.5) * chooser.random())[:count]
    if chooser.random() < 0.5:
        kept.sort()
    return " ".join(tokens[i].strip(".,;:!?؟।॥\"'“”") for i in kept)


def _nearest(question: str, entry: Entry) -> tuple[int, ...]:
    """The sentence of `entry` that shares most words with a question in its language."""
    asked = set(words(question))
    shared = [len(asked & set(words(sentence))) / (3 + len(words(sentence))) ** 0.5 for sentence in sentences(entry.text)]
    return (int(np.argmax(shared)),)


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and its numbered evidence, as tokens."""

    question: list[int]
    evidence: list[list[int]]
    right: int  # the place of the piece that answers, from 0; -1: none does
    lang: str


@dataclass(frozen=True, slots=True)
class Picked:
    """A question and the entries given with it, in the order of their numbers."""

    ask: Ask
    entries: tuple[Entry, ...]
    right: int  # the number of the one that answers, from 1; 0: none does


def retrieved(asks: Sequence[Ask], index: Index, depth: int = 2 * MOST_EVIDENCE) -> dict[int, list[Entry]]:
    """Number of an ask -> what our own retrieval finds for it, best first, for every ask about an entry that the index holds."""
    known = {entry.entry_id: entry for entry in index.entries()}
    numbers = [number for number, ask in enumerate(asks) if ask.entry.entry_id in known]
    vectors = index.encoder.encode([asks[number].question for number in numbers], "query")
    return {
        number: [hit.entry for hit in index.search_vector(asks[number].question, vector, depth, reader=Reader(asks[number].lang))]
        for number, vector in zip(numbers, vectors, strict=True)
    }


class RowMaker:
    """Adds wrong evidence to questions and writes the prompt and the answer.

    Wrong evidence is what our own retrieval found for the question (`found`) or, where a question has no index, its nearest neighbours by the encoder.
    Three rows in four number the evidence as retrieval does, best first, the others at random: the order tells something, and must not tell all.
    """

    def __init__(
        self, asks: Sequence[Ask], encoder: Encoder, count_tokens: Callable[[str], int], context: int, seed: int,
        found: Mapping[int, Sequence[Entry]] = MappingProxyType({}),
    ):  # fmt: skip
        self._asks, self._count, self._context, self._found = asks, count_tokens, context, found
        self._random = random.Random(seed)
        texts = [f"{ask.entry.question} {ask.entry.title} {ask.entry.text}" for ask in asks]
        self._entries = encoder.encode(texts, "passage")
        self._questions = encoder.encode([ask.question for ask in asks], "query")
        self._langs = np.array([ask.entry.lang for ask in asks])
        self._held_out = np.array([ask.held_out for ask in asks])
        self._held_out_ids = {ask.entry.entry_id for ask in asks if ask.held_out}

    def restart(self, seed: str) -> None:
        """From here on the rows depend on `seed` alone, not on those made before."""
        self._random = random.Random(seed)

    def pick(
        self, number: int, most_evidence: int = MOST_EVIDENCE, refuse: float = 0.12, least_evidence: int = 1, in_order: float = 0.75
    ) -> Picked:
        """asks[number] among wrong evidence. With probability `refuse` its right evidence is left out; with `in_order` retrieval's order is kept."""
        ask = self._asks[number]
        refused = self._random.random() < refuse
        count = self._random.randint(least_evidence, max(most_evidence, least_evidence))
        kept = self._random.random() < in_order
        if number in self._found:
            ordered = self._nearest_found(number)
            if refused:
                chosen = [entry for entry in ordered if entry.entry_id != ask.entry.entry_id][:count]
            else:
                places = [place for place, entry in enumerate(ordered) if entry.entry_id == ask.entry.entry_id]
                place = min(places[0] if places else count, count - 1)
                chosen = [entry for entry in ordered if entry.entry_id != ask.entry.entry_id][: count - 1]
                chosen.insert(place, ask.entry)
        else:
            wrong = self._wrong(number, max(count - 1, int(refused)))
            pool = wrong + ([] if refused else [number])
            pool.sort(key=lambda other: -float(self._entries[other] @ self._questions[number]))
            chosen = [self._asks[other].entry for other in pool]
        if not kept:
            self._random.shuffle(chosen)
        return Picked(ask, tuple(chosen), 0 if refused else 1 + [entry.entry_id for entry in chosen].index(ask.entry.entry_id))

    def row(
        self, number: int, most_evidence: int = MOST_EVIDENCE, refuse: float = 0.12, least_evidence: int = 1, in_order: float = 0.75
    ) -> Row:
        """The row of pick(…). Where the right evidence is missing the answer is the refusal."""
        from demo.languages import strings
        from demo.prompt import build_messages, source_sentences

        picked = self.pick(number, most_evidence, refuse, least_evidence, in_order)
        ask = picked.ask
        chosen = [self._placed(entry) for entry in picked.entries]
        evidence = [Evidence(n, Hit(entry, n, 0.0, 0.0, 0.0, 0.0, "text"), 0, 0) for n, entry in enumerate(chosen, 1)]
        messages, given = build_messages(ask.question, evidence, ask.lang, self._count, self._context)
        right = picked.right if picked.right in given else 0  # it may not have fitted, and then nothing in the prompt answers
        quoted = source_sentences(ask.entry)
        places = [place for place in ask.answer if place < len(given.get(right, ()))] or list(
            range(min(_MOST_SENTENCES, len(given.get(right, ()))))
        )
        target = " ".join(f"{quoted[place]} [{right}]" for place in places) if right else strings(ask.lang)["unknown"]
        return Row(ask.source, ask.licence, ask.lang, tuple(messages), target, right, given, ask.held_out)

    def pair(self, number: int, encode: Callable[[str], list[int]], longest: int = 220, **options) -> Pair:
        """pick(…) as the tokens of the question and of each piece of evidence, without places and topics."""
        from demo.languages import strings

        picked = self.pick(number, **options)
        pieces = [encode(f"{entry.question or entry.title} {entry.text}")[:longest] for entry in picked.entries]
        question = encode(f"{strings(picked.ask.lang)['prompt_question']} {picked.ask.question}")
        return Pair(question[:64], pieces, picked.right - 1, picked.ask.lang)

    def _nearest_found(self, number: int) -> list[Entry]:
        """What retrieval found, without entries that are held out from a question that is trained on."""
        ask = self._asks[number]
        found = self._found[number]
        if not ask.held_out:
            found = [entry for entry in found if entry.entry_id not in self._held_out_ids]
        return [ask.entry if entry.entry_id == ask.entry.entry_id else entry for entry in found]

    def _placed(self, entry: Entry) -> Entry:
        """`entry` with a place and a topic at random where it has none: most evidence at run time has them, and they say nothing of the answer."""
        if entry.region or entry.topic or self._random.random() < 0.3:
            return entry
        return replace(entry, region=self._random.choice(_REGIONS), topic=self._random.choice(TOPICS))

    def _wrong(self, number: int, count: int) -> list[int]:
        """`count` neighbours of the question that do not answer it, half of them in its own language where that has some."""
        if not count:
            return []
        ask = self._asks[number]
        sample = np.array(self._random.sample(range(len(self._asks)), min(len(self._asks), 4_000)))  # enough for near ones, and quick
        sample = sample[self._held_out[sample] == ask.held_out]
        near = self._entries[sample] @ self._questions[number]
        same = self._entries[sample] @ self._entries[number]
        usable = [int(i) for i in sample[np.argsort(-near)][:200]]
        twins = set(sample[same > _SAME].tolist())
        usable = [i for i in usable if i not in twins and self._asks[i].group != ask.group and self._asks[i].entry is not ask.entry]
        own = [i for i in usable if self._langs[i] == ask.lang]
        other = [i for i in usable if self._langs[i] != ask.lang]
        taken: list[int] = []
        groups = set()
        for pool in self._random.choices((own, other), weights=(2, 1), k=4 * count):
            pool = pool or own or other
            i = pool.pop(self._random.randrange(min(4, len(pool)))) if pool else None
            if i is not None and self._asks[i].group not in groups:
                groups.add(self._asks[i].group)
                taken.append(i)
            if len(taken) == count:
                break
        return taken

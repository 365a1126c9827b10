"""Training files -> token rows of two tasks: translate between any two languages of a sentence, and ask a question about a passage.

A source row begins with what is wanted: `<2bn>` … for a translation into Bangla, `<ask> <2bn>` … for a question in Bangla about the
passage that follows. Language and task are tokens of their own, so that asking in a language that no question set has can be
learned from translating into it.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import regex
import sentencepiece

from index_builder.querygen.families import ASK, wanted
from index_builder.text import sentences
from index_builder.train.data import read_parallel, read_rows
from index_builder.train.seq2seq_align import Lexicon, learn_lexicon
from index_builder.vocabulary import LANGUAGES, Entry

BOS, PAD, EOS, UNKNOWN = range(4)  # transformers' M2M-100 counts positions from pad + 1, CTranslate2 from 2: pad must be 1
CONTROL = (ASK, *(wanted(lang) for lang in LANGUAGES))
_VOWELLED = regex.compile(r"[\u064B-\u065F\u0640\u0670\u06D6-\u06ED]")
_CORPUS_LICENCE = "CC BY-SA 4.0"
_SAMPLE = 60_000  # texts of each language that the vocabulary is made from
_LEXICON_REFILLS = 4  # of translations that the lexicon is made from


@dataclass(frozen=True, slots=True)
class Row:
    """One sentence in several languages (`lang` empty), or a passage and a question about it in `lang` (sides "passage", "question")."""

    source: str
    licence: str
    sides: dict[str, list[str]]
    lang: str = ""


def cleaned(text: str) -> str:
    """Composed letters, single spaces, and Arabic without vowel signs: scripture is vocalised throughout, people never write so."""
    return " ".join(_VOWELLED.sub("", unicodedata.normalize("NFC", text)).split())


def parallel_rows(data: Path) -> list[Row]:
    """Sentences in two to seven languages. A translation equal to its English is an untranslated string and is left out."""
    rows = []
    for example in read_parallel(data):
        sides = {lang: [cleaned(text) for text in texts] for lang, texts in example.sides.items()}
        english = sides["en"][0]
        sides = {lang: [text for text in texts if text and (lang == "en" or text != english)] for lang, texts in sides.items()}
        sides = {lang: texts for lang, texts in sides.items() if texts}
        if len(sides) > 1:
            rows.append(Row(example.source, example.licence, sides))
    return rows


def question_rows(data: Path, most_letters: int = 320) -> tuple[list[Row], list[Row]]:
    """(training, a held-out twentieth by title) passage -> question, in the language of the passage. The passage is cut to the sentences around the answer."""
    train: list[Row] = []
    held_out: list[Row] = []
    for row in map(json.loads, read_rows(data / "qa" / "qa.jsonl.xz")):
        parts = sentences(row["passage"])
        at = next((number for number, sentence in enumerate(parts) if row["answer"] in sentence), None)
        if at is None:
            continue
        text = around(parts, at, most_letters)
        sides = {"passage": [cleaned(f"{row['title']}. {text}")], "question": [cleaned(row["question"])]}
        twentieth = blake2b(row["title"].encode(), digest_size=2).digest()[0] % 20 == 0
        (held_out if twentieth else train).append(Row(row["source"], row["licence"], sides, row["lang"]))
    return train, held_out


def corpus_rows(entries: Sequence[Entry]) -> tuple[list[Row], list[Row]]:
    """(passage -> question, parallel questions) of the entries that are trained on, from the queries attached to them.

    The native question of a QA pair and its queries are renderings of one question; a passage's queries are different ones.
    """
    asking: list[Row] = []
    parallel: list[Row] = []
    for entry in entries:
        if not trained_on(entry.entry_id):
            continue
        passage = [cleaned(f"{entry.title}. {entry.text}" if entry.title else entry.text)]
        asked = [(query.lang, cleaned(query.text), query.model) for query in entry.queries]
        models = " and ".join(sorted({model for *_, model in asked if model}))
        source = f"bundled corpus{f', questions by {models}' if models else ''}"
        if entry.question:
            asked.append((entry.lang, cleaned(entry.question), ""))
            sides: dict[str, list[str]] = {}
            for lang, text, _ in asked:
                sides.setdefault(lang, []).append(text)
            if len(sides) > 1:
                parallel.append(Row(source, _CORPUS_LICENCE, sides))
        asking += [Row(source, _CORPUS_LICENCE, {"passage": passage, "question": [text]}, lang) for lang, text, _ in asked]
    return asking, parallel


def trained_on(entry_id: str) -> bool:
    """Half of the entries of a corpus, by a hash of their ids; the other half is for measuring."""
    return blake2b(entry_id.encode(), digest_size=1).digest()[0] % 2 == 0


def around(parts: Sequence[str], at: int, most_letters: int) -> str:
    """Sentence `at` with as many whole sentences after it, then before it, as fit."""
    first = last = at
    length = len(parts[at])
    while last + 1 < len(parts) and length + len(parts[last + 1]) < most_letters:
        last += 1
        length += len(parts[last])
    while first > 0 and length + len(parts[first - 1]) < most_letters:
        first -= 1
        length += len(parts[first])
    return " ".join(parts[first : last + 1])


def train_vocabulary(rows: Iterable[Row], size: int, seed: int, out: Path) -> None:
    """A SentencePiece unigram vocabulary with bytes for letters it does not know; the languages take part equally."""
    texts: dict[str, list[str]] = {lang: [] for lang in LANGUAGES}
    for row in rows:
        for side, found in row.sides.items():
            texts[row.lang or side] += found
    rng = np.random.default_rng(seed)
    chosen = []
    for lang in LANGUAGES:
        order = rng.permutation(len(texts[lang]))[:_SAMPLE]
        chosen += [texts[lang][i] for i in order]
    partial = out.with_suffix(".partial")
    with partial.open("wb") as writer:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(chosen), model_writer=writer, model_type="unigram", vocab_size=size, character_coverage=0.9998,
            byte_fallback=True, normalization_rule_name="nfkc", split_digits=True, control_symbols=list(CONTROL), hard_vocab_limit=False,
            bos_id=BOS, pad_id=PAD, eos_id=EOS, unk_id=UNKNOWN, num_threads=1, minloglevel=2,
        )  # fmt: skip
    partial.replace(out)


@dataclass(frozen=True, slots=True)
class Batch:
    source: np.ndarray  # (n, s) int64, PAD at the end of shorter rows
    target: np.ndarray  # (n, t) int64: language token, text, EOS
    places: np.ndarray  # (n, t) int64: where in the source each target piece comes from, -1 where that is not known


class Sampler:
    """Draws rows by weight and gives them as batches of about equal numbers of tokens.

    Refill r takes every 1/n-th of the weight of all rows, from an offset that moves by the golden ratio: so that a run sees its data
    as evenly as an epoch would show it, whatever its length, and a resumed run sees what the killed one would have.
    """

    def __init__(self, words: sentencepiece.SentencePieceProcessor, seed: int, batch_tokens: int, most_tokens: int, refill: int = 16_384):
        self._words, self._seed, self._batch_tokens, self._most_tokens, self._refill = words, seed, batch_tokens, most_tokens, refill
        self._rows: list[dict[str, list[np.ndarray]]] = []
        self._langs: list[str] = []
        self._weights: list[float] = []
        self._ask, self._to = words.piece_to_id(ASK), {lang: words.piece_to_id(wanted(lang)) for lang in LANGUAGES}
        self.counts = np.zeros((len(LANGUAGES), words.vocab_size()))  # of each piece in each language
        self._lexicon: Lexicon | None = None

    def add(self, rows: Sequence[Row], weights: Sequence[float]) -> None:
        texts = [text for row in rows for found in row.sides.values() for text in found]
        # all in one call: each call of sentencepiece with a list starts threads
        tokens = iter(self._words.encode(texts, num_threads=1))
        for row, weight in zip(rows, weights, strict=True):
            sides = {
                side: [np.array(next(tokens)[: self._most_tokens], dtype=np.int64) for _ in found] for side, found in row.sides.items()
            }
            for side, found in sides.items():
                np.add.at(self.counts[LANGUAGES.index(row.lang or side)], np.concatenate(found), 1)
            self._rows.append(sides)
            self._langs.append(row.lang)
            self._weights.append(weight)

    def batches(self, refill: int) -> list[Batch]:
        """The batches of one refill, always the same ones for its number."""
        rng = np.random.default_rng((self._seed, refill))
        pairs = self._drawn(refill, rng)
        places = self._places(pairs)
        order = sorted(range(len(pairs)), key=lambda i: (len(pairs[i].source) // 4, len(pairs[i].target)))
        groups: list[list[int]] = []
        widths = (0, 0)
        for i in order:
            size = len(pairs[i].source), len(pairs[i].target)
            wider = max(widths[0], size[0]), max(widths[1], size[1])
            if not groups or (len(groups[-1]) + 1) * sum(wider) > self._batch_tokens:
                groups.append([])
                wider = size
            groups[-1].append(i)
            widths = wider
        return [
            Batch(
                _padded([pairs[i].source for i in groups[g]], PAD),
                _padded([pairs[i].target for i in groups[g]], PAD),
                _padded([places[i] for i in groups[g]], -1),
            )
            for g in rng.permutation(len(groups))
        ]

    def learn_lexicon(self) -> None:
        """From the translations among the rows so far; batches drawn before it say of copied words only where they come from."""
        pairs = []
        for refill in range(_LEXICON_REFILLS):
            drawn = self._drawn(refill, np.random.default_rng((self._seed, refill)))
            pairs += [_words_of(pair) for pair in drawn if not pair.asked]
        self._lexicon = learn_lexicon(pairs, self._words.vocab_size())

    def _drawn(self, refill: int, rng: np.random.Generator) -> "list[_Pair]":
        cumulative = np.cumsum(self._weights)
        offset = (refill * 0.6180339887498949) % 1
        chosen = np.searchsorted(cumulative / cumulative[-1], (np.arange(self._refill) + offset) / self._refill)
        return [self._pair(int(min(i, len(self._rows) - 1)), rng) for i in chosen]

    def _pair(self, i: int, rng: np.random.Generator) -> "_Pair":
        sides, lang = self._rows[i], self._langs[i]
        asked = bool(lang)
        if asked:
            source, target, head = sides["passage"], sides["question"], [self._ask, self._to[lang]]
        else:
            a, b = rng.choice(len(sides), 2, replace=False)
            names = list(sides)
            source, target, lang = sides[names[a]], sides[names[b]], names[b]
            head = [self._to[lang]]
        return _Pair(
            [*head, *source[rng.integers(len(source))], EOS],
            [self._to[lang], *target[rng.integers(len(target))], EOS],
            len(head),
            LANGUAGES.index(lang),
            asked,
        )

    def _places(self, pairs: "Sequence[_Pair]") -> list[np.ndarray]:
        """Of each target: by the lexicon in a translation, where the same piece stands first in a passage; the ends belong together."""
        translated = iter(self._lexicon.places([_words_of(pair) for pair in pairs if not pair.asked]) if self._lexicon else ())
        out = []
        for pair in pairs:
            if pair.asked or not self._lexicon:
                first: dict[int, int] = {}
                for place, piece in enumerate(pair.source[pair.head : -1]):
                    first.setdefault(int(piece), place)
                inner = np.array([first.get(int(piece), -1) for piece in pair.target[1:-1]], dtype=np.int64)
            else:
                inner = next(translated)
            out.append(np.array([-1, *np.where(inner < 0, -1, inner + pair.head), len(pair.source) - 1]))
        return out


@dataclass(frozen=True, slots=True)
class _Pair:
    source: list[int]  # with the tokens that say what is wanted, and EOS
    target: list[int]  # with the language and EOS
    head: int  # how many tokens say what is wanted
    lang: int  # number of the target's language
    asked: bool  # a question about a passage, not a translation


def _words_of(pair: _Pair) -> tuple[np.ndarray, np.ndarray, int]:
    return np.array(pair.source[pair.head : -1], dtype=np.int64), np.array(pair.target[1:-1], dtype=np.int64), pair.lang


def _padded(rows: Sequence[Sequence[int] | np.ndarray], fill: int) -> np.ndarray:
    out = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for line, row in zip(out, rows, strict=True):
        line[: len(row)] = row
    return out


def row_weights(rows: Sequence[Row], source_weights: Mapping[str, float]) -> list[float]:
    """Of parallel rows: a row counts for each of its languages, a language with many rows for less in each, a source as `source_weights` says."""
    sizes = Counter(lang for row in rows for lang in row.sides)
    factors = {
        source: next((weight for start, weight in source_weights.items() if source.startswith(start)), 1.0)
        for source in {row.source for row in rows}
    }
    return [factors[row.source] * sum(sizes[lang] ** -0.5 for lang in row.sides if lang != "en") for row in rows]


def sources_of(rows: Iterable[Row]) -> Iterator[tuple[str, str, int]]:
    """(source, licence, rows), the largest first."""
    for (source, licence), count in Counter((row.source, row.licence) for row in rows).most_common():
        yield source, licence, count

"""Training files -> (class, text) rows for the language model, and the rows that are held out for measuring.

A class is a language in its own script ("bn"), a language in Latin letters ("bn-Latn"), or a neighbour ("mr"). What is held out,
by hash or by line and never by chance: every second question of the corpus with its answer, a tenth of the romanised sentences,
the second half of the Latin-script Arabic of FLORES, and a fifth of each neighbour.
"""

import json
import random
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from index_builder.language import ROMAN
from index_builder.text import sentences
from index_builder.train.data import read_rows
from index_builder.train.romanise import romanise, to_typewriter_turkish
from index_builder.vocabulary import LANGUAGES, MajlisError

# Lists of names and of single interface words say little about a language
LEFT_OUT = ("libmateweather-places", "cldr-", "aosp-deskclock", "osm-tagging", "holidays", "gnome-aisleriot", "mkqa-dev-a", "aosp-health")
KEPT_SHARE = {"bible": 0.2, "bengali-dictionary-17k": 0.15, "aosp-settings": 0.5, "aosp-frameworks_base": 0.5, "gnome-user-docs": 0.6}
# One class for what one reader reads: Gulf, Levantine and Egyptian speakers ask in their dialect and read standard Arabic
MERGED = {
    "acm": "ar", "acq": "ar", "aeb": "ar", "ajp": "ar", "apc": "ar", "ars": "ar", "ary": "ar", "arz": "ar", "prs": "fa", "ms": "id",
}  # fmt: skip
NEIGHBOURS = {
    "ur": "Arab", "fa": "Arab", "ckb": "Arab", "mr": "Deva", "mai": "Deva", "bho": "Deva", "sa": "Deva",
    "az": "Latn", "ku": "Latn", "uz": "Latn", "de": "Latn", "fr": "Latn", "es": "Latn", "id": "Latn",
}  # fmt: skip
SCRIPT_OF = {"ar": "Arab", "as": "Beng", "bn": "Beng", "en": "Latn", "hi": "Deva", "ne": "Deva", "tr": "Latn", **NEIGHBOURS}
ROMANISED = ("ar", "as", "bn", "hi", "ne")
LIKE = {"bho": "hi", "mai": "hi"}  # neighbour -> the one of ours with which it shares most words
SEEDS = Path(__file__).with_name("language.toml")


@dataclass(frozen=True, slots=True)
class Row:
    """One text with the class it belongs to."""

    label: str
    text: str
    source: str
    licence: str
    weight: float = 1.0  # how many snippets are cut from it, relative to the other rows of its class


def script_of(label: str) -> str:
    return "Latn" if label.endswith(ROMAN) else SCRIPT_OF[label]


def classes_of(script: str) -> tuple[str, ...]:
    labels = [*LANGUAGES, *NEIGHBOURS, *(lang + ROMAN for lang in ROMANISED)]
    return tuple(label for label in labels if script_of(label) == script)


def held_out(text: str, one_in: int) -> bool:
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=4).digest()) % one_in == 0


def corpus_rows(corpus: Path) -> Iterator[tuple[dict, bool]]:
    """Every row of the corpus' JSONL files, with whether it belongs to the held-out half. Passages are never held out."""
    paths = sorted(corpus.rglob("*.jsonl"))
    if not paths:
        raise MajlisError(f"{corpus} holds no .jsonl file. Give the folder of the corpus with --corpus (assets/corpus).")
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield row, "question" in row and held_out(row["question"], 2)


def read_training(data: Path, corpus: Path | None, seed: int) -> list[Row]:
    """All training rows. `corpus` is a folder of JSONL as in assets/corpus; None leaves it out."""
    rng = random.Random(seed)
    rows = [*_parallel(data, rng), *_texts(data), *_questions(data), *_neighbours(data), *_romanised_sentences(data)]
    if corpus:
        for row, test in corpus_rows(corpus):
            if not test:
                rows.extend(
                    Row(row["lang"], row[key], "majlis-corpus", "CC BY-SA 4.0", 3.0 if key == "question" else 1.0)
                    for key in ("question", "answer", "text")
                    if key in row
                )
    rows += [*_seeds(), *_foreign(data, rng)]
    return rows + list(_romanised_by_rule(data, rows, rng))


def _parallel(data: Path, rng: random.Random) -> Iterator[Row]:
    english: dict[str, Row] = {}
    for path in sorted((data / "parallel").glob("en-*.tsv.xz")):
        lang = path.name[3:5]
        for line in read_rows(path):
            source_text, text, source, licence = line.split("\t")[:4]
            source = source.split(":")[0]
            if source.startswith(LEFT_OUT) or rng.random() > KEPT_SHARE.get(source, 1.0):
                continue
            weight = 2.0 if source.startswith(("mkqa", "common-voice", "ntrex")) else 0.7 if source == "tatoeba-manythings" else 1.0
            english.setdefault(source_text, Row("en", source_text, source, licence, weight))
            yield Row(lang, text, source, licence, weight)
            if lang == "tr" and held_out(text, 7):
                yield Row("tr", to_typewriter_turkish(text), source, licence, weight)
    yield from english.values()


def _texts(data: Path) -> Iterator[Row]:
    for path in sorted((data / "text").glob("*.txt.xz")):
        lang, kind = path.name.split(".")[:2]
        licence = "CC0" if kind == "common_voice" else "CC BY / CC BY-SA 4.0"
        yield from (Row(lang, line, kind, licence, 2.0 if lang == "ne" else 1.0) for line in read_rows(path) if line.strip())


def _questions(data: Path) -> Iterator[Row]:
    for name, key in (("language/questions.jsonl.xz", "text"), ("qa/qa.jsonl.xz", "question")):
        for row in map(json.loads, read_rows(data / name)):
            yield Row(row["lang"], row[key], row["source"], row["licence"], 2.0)
            for sentence in sentences(row.get("passage", ""))[:4]:
                yield Row(row["lang"], sentence, row["source"] + " passages", row["licence"], 2.0 if row["lang"] in ("en", "tr") else 0.5)


def _neighbours(data: Path, test: bool = False) -> Iterator[Row]:
    """The last fifth of each file of each language is for measuring; a line of FLORES or NTREX has one place in all languages.

    In the training part of FLORES, rare words of the languages nearest to ours are replaced. They are names and topics that the two
    languages share, and learning that "वॉशिंगटन" is Bhojpuri, because only the Bhojpuri translation of that line is here, would take
    Hindi lines for Bhojpuri. With Hindi words in their place, what remains to be learned is the grammar.
    """
    files: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for row in map(json.loads, read_rows(data / "language" / "neighbours.jsonl.xz")):
        files[row["lang"], row["source"]].append(row)
    stand_ins = {} if test else _rare_words(data)
    for (lang, source), rows in files.items():
        label = MERGED.get(lang, lang)
        if label not in SCRIPT_OF:
            continue
        if test:
            yield from (Row(lang, row["text"], source, row["licence"]) for row in rows[797:])
            continue
        common = Counter(word for row in rows[:797] for word in set(row["text"].split()))
        near = stand_ins.get(LIKE.get(label, "")) if source.startswith("flores") else None
        rng = random.Random(label)
        for row in rows[:797]:
            words = row["text"].split()
            if near:
                words = [word if common[word] > 2 else rng.choice(near) for word in words]
            elif label == "az" and source.startswith("flores"):
                words = [word for word in words if common[word] > 2]  # Turkish grammar is inside the words: a Turkish stand-in would teach the wrong thing
            yield Row(label, " ".join(words), source, row["licence"])


def _rare_words(data: Path) -> dict[str, list[str]]:
    """Words of Hindi that are not among the commonest: the content of sentences without their grammar."""
    found = {}
    for lang in sorted(set(LIKE.values())):
        lines = [
            line.split("\t")[1] for line in read_rows(data / "parallel" / f"en-{lang}.tsv.xz") if line.split("\t")[2].startswith(("ntrex", "tico", "mkqa"))
        ]
        counts = Counter(word for line in lines for word in line.split())
        found[lang] = [word for word, count in sorted(counts.items()) if count < 40 for _ in range(count)]
    return found


def _romanised_sentences(data: Path, test: bool = False) -> Iterator[Row]:
    arabic = 0
    for row in map(json.loads, read_rows(data / "romanised" / "sentences.jsonl.xz")):
        if row["lang"] == "ar":
            arabic += 1
            is_test = arabic > 498
        else:
            is_test = held_out(row["native"], 10)
        if is_test == test:
            yield Row(row["lang"] + ROMAN, row["roman"], row["source"] + "-romanised", row["licence"])


def _seeds() -> Iterator[Row]:
    """Romanised questions written for this trainer: the question words and particles that no collection holds."""
    for lang, texts in tomllib.loads(SEEDS.read_text(encoding="utf-8"))["romanised"].items():
        yield from (Row(lang + ROMAN, text, "majlis-seeds", "CC0", 12.0) for text in texts)


def _foreign(data: Path, rng: random.Random) -> Iterator[Row]:
    """Questions in English and Turkish around romanised words of our other languages."""
    words = [roman for by_native in lexicon(data, ("as", "bn", "hi", "ur")).values() for spellings in by_native.values() for roman in spellings]
    for lang, templates in tomllib.loads(SEEDS.read_text(encoding="utf-8"))["foreign"].items():
        for _ in range(2_500):
            text = rng.choice(templates)
            while "_" in text:
                text = text.replace("_", rng.choice(words), 1)
            yield Row(lang, text, "majlis-seeds", "CC0", 2.0)


def lexicon(data: Path, langs: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """lang -> native word -> its romanisations, from Dakshina and Aksharantar."""
    # in the order asked for: a set's order changes from run to run, and with it what is drawn from these words
    found: dict[str, dict[str, list[str]]] = {lang: defaultdict(list) for lang in langs}
    for line in read_rows(data / "romanised" / "words.tsv.xz"):
        lang, roman, native = line.split("\t")[:3]
        if lang in found:
            found[lang][native].append(roman)
    return found


def _romanised_by_rule(data: Path, rows: list[Row], rng: random.Random) -> Iterator[Row]:
    """Native sentences of Arabic, Assamese and Nepali (and a few of Bangla and Hindi questions), written in Latin letters."""
    spelled = lexicon(data, ("as", "bn", "hi"))
    by_lang: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.label in ROMANISED and (row.label in ("ar", "as", "ne") or row.source in ("majlis-corpus", "miracl-train")) and len(row.text) > 8:
            by_lang[row.label].append(row)
    for lang, texts in sorted(by_lang.items()):
        rng.shuffle(texts)
        texts.sort(key=lambda row: row.source not in ("majlis-corpus", "common_voice"))
        for row in texts[:9_000]:
            words = re.findall(r"[^\s\d\W]+[\w'’\u0900-\u09ff\u064b-\u0652]*", row.text)
            latin = []
            for word in words:
                known = spelled.get(lang, {}).get(word)
                latin.append(rng.choice(known) if known and rng.random() < 0.5 else romanise(word, lang, rng) if not word.isascii() else word)
            if len(latin) > 1 and lang not in ("bn", "hi") or latin and all(word in spelled.get(lang, {}) for word in words):
                yield Row(lang + ROMAN, " ".join(latin), f"{row.source}, romanised by rule", row.licence, row.weight)


def snippets(rows: list[Row], count: int, rng: random.Random) -> list[str]:
    """`count` runs of 1 to 8 words, or whole texts, cut from `rows` in proportion to their weights."""
    lengths, chances = (1, 2, 3, 4, 5, 6, 8, 60), (7, 12, 20, 14, 16, 9, 9, 13)
    chosen = rng.choices(rows, weights=[row.weight for row in rows], k=count)
    cut = []
    for row, length in zip(chosen, rng.choices(lengths, weights=chances, k=count), strict=True):
        words = row.text.split()
        # half of the cuts start at the beginning: that is where question words stand in some of the languages
        start = 0 if rng.random() < 0.4 else rng.randrange(max(1, len(words) - length + 1))
        cut.append(" ".join(words[start : start + length]))
    return cut


def measuring_rows(data: Path, corpus: Path | None) -> dict[str, list[Row]]:
    """What is held out, by set: flores, corpus, neighbours, romanised."""
    flores = [Row(lang, line, "flores-dev", "CC BY-SA 4.0") for lang in LANGUAGES for line in read_rows(data / "dev" / f"flores.{lang}.txt.xz")]
    questions = [Row(row["lang"], row["question"], "majlis-corpus", "CC BY-SA 4.0") for row, test in corpus_rows(corpus) if test] if corpus else []
    return {"flores": flores, "corpus": questions, "neighbours": list(_neighbours(data, test=True)), "romanised": list(_romanised_sentences(data, test=True))}

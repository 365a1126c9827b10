"""What an encoder is worth alone, without words in common and without fusion: translations, questions, passages, names, speed.

Several encoders are measured side by side; the first is looked at more closely (shorter vectors, centred languages, float32 weights).
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from index_builder.encode import BUNDLED, Encoder, normalised, open_encoder
from index_builder.evaluate.files import digests
from index_builder.evaluate.measure import Task
from index_builder.evaluate.questions import Asked, read_questions
from index_builder.evaluate.runs import ROOT, Cell, Row, Table
from index_builder.evaluate.statistics import mean_with_interval
from index_builder.evaluate.suites.bitext import aligned_files, read_aligned
from index_builder.evaluate.suites.opening import QUESTIONS, described_encoder
from index_builder.read import corpus_files, read_corpus
from index_builder.text import sentences, words
from index_builder.train.data import read_parallel, read_rows, split_names
from index_builder.train.data import read_questions as read_answered
from index_builder.vocabulary import LANGUAGES, Entry, MajlisError

SUMMARY = "The encoder alone: aligned text, held-out questions and names, the bundled questions, speed; several encoders side by side."
# What a user would otherwise pick. A column each, empty until somebody names its folder: no figure is quoted that was not measured.
OTHERS = ("multilingual-e5-small", "LaBSE", "static-similarity-mrl-multilingual-v1", "potion-multilingual-128M")
BUNDLED_NAME = "bundled"
_POOL = 1_200  # sentences among which a held-out question looks for its answer
_FEWEST = 20  # names that a pair of languages must share to be measured
_WORST = 50  # sentences a language
_SHORTER = (64, 128)
_WORDS = 12  # of a timed question
_ROUNDS = 5
_SCRIPTS = {"ar": "Arab", "as": "Beng", "bn": "Beng", "en": "Latn", "hi": "Deva", "ne": "Deva", "tr": "Latn"}
_MEANS = ("to English", "from English", "all pairs")
Vectors = Mapping[str, np.ndarray]  # language -> (n, d) float32 unit rows


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
        "--checkpoint", type=Path, metavar="FILE.pt", help="the trainer's checkpoint of the first encoder: what float16 costs is measured"
    )
    parser.add_argument("--worst", type=Path, metavar="FILE.jsonl", help=f"write the {_WORST} development sentences of each language that the first encoder finds worst")  # fmt: skip


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
    if options.checkpoint:
        configuration["checkpoint"] = digests([options.checkpoint])
    note = (
        "Brute-force search by cosine, no words in common, no fusion. FLORES dev, the held-out questions and the held-out names are no part of what the bundled "
        "encoder was trained on; what other encoders have seen is theirs to say. Brackets hold 95 % bootstrap intervals."
    )
    rows = partial(_rows, encoders, material, options.checkpoint, options.worst)
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


# what is asked


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


# measuring


def _rows(
    encoders: Mapping[str, Encoder], material: Material, checkpoint: Path | None, worst: Path | None, done: frozenset[str]
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
            found += variant_rows(encoder, flores, material, checkpoint)
        found.append(speed_row(encoder, timed_questions(material)))
        for row in found:
            if number == 0 and row["set"] == "flores":
                row["evidence_lang"] = row["to"]  # the report draws the 42 pairs
            row = row | {"id": before + row["id"], "encoder": name}
            if row["id"] not in done:
                yield row


def ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(queries,) rank from 1 of the best right candidate. Both (queries, candidates); a wrong one that scores the same counts as before it,
    so that an encoder that tells nothing apart finds nothing.
    """
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    return 1 + ((scores >= best) & ~right).sum(1)


def aligned_ranks(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """(n,) rank of candidate i for query i."""
    return ranks(queries @ candidates.T, np.eye(len(queries), len(candidates), dtype=bool))


def _summed_up(row_id: str, name: str, lang: str, values: Mapping[str, Sequence[float] | np.ndarray], **more: Any) -> Row:
    """A row that stands for many queries: their number, and each mean with its interval."""
    intervals = {metric: mean_with_interval(one) for metric, one in values.items()}
    scores = {metric: interval[0] for metric, interval in intervals.items() if interval}
    return {
        "id": row_id,
        "set": name,
        "lang": lang,
        "n": len(next(iter(values.values()))),
        "scores": scores,
        "intervals": intervals,
        **more,
    }


def flores_hits(vectors: Vectors) -> dict[tuple[str, str], np.ndarray]:
    """(n,) 1 where the translation is the nearest, for every ordered pair."""
    return {(a, b): (aligned_ranks(vectors[a], vectors[b]) == 1).astype(float) for a, b in permutations(vectors, 2)}


def flores_means(hits: Mapping[tuple[str, str], np.ndarray]) -> dict[str, np.ndarray]:
    """(n,) means over pairs of each sentence, so that the interval is that of sentences."""
    chosen: dict[str, Callable[[str, str], bool]] = {"to English": lambda a, b: b == "en", "from English": lambda a, b: a == "en", "all pairs": lambda a, b: True}  # fmt: skip
    return {name: np.mean([hit for pair, hit in hits.items() if choose(*pair)], axis=0) for name, choose in chosen.items()}


def flores_rows(vectors: Vectors) -> Iterator[Row]:
    hits = flores_hits(vectors)
    for (a, b), hit in hits.items():
        yield _summed_up(f"flores/{a}-{b}", "flores", a, {"P@1": hit}, to=b)
    yield _summed_up("flores/means", "flores means", "all", flores_means(hits))


def pool_figures(vectors: Vectors) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each language, of its sentences in one pool of all languages: (share of the translations among as many nearest, average precision)."""
    langs = list(vectors)
    pool = np.concatenate([vectors[lang] for lang in langs])
    count = len(pool) // len(langs)
    figures = {}
    for place, lang in enumerate(langs):
        scores = vectors[lang] @ pool.T
        own = np.arange(count)
        scores[own, place * count + own] = -np.inf
        # ties count against
        found = [(scores >= scores[own, other * count + own][:, None]).sum(1) for other in range(len(langs)) if other != place]
        ordered = np.sort(np.stack(found, 1), axis=1)
        share = (ordered <= len(langs) - 1).mean(1)
        figures[lang] = share, (np.arange(1, len(langs)) / ordered).mean(1)
    return figures


def pool_rows(vectors: Vectors) -> Iterator[Row]:
    figures = pool_figures(vectors)
    figures["all"] = tuple(np.concatenate([one[i] for one in figures.values()]) for i in (0, 1))  # type: ignore[assignment]
    for lang, (share, precision) in figures.items():
        yield _summed_up(f"pool/{lang}", "one pool", lang, {"translations first": share, "mAP": precision})


def question_rows(encoder: Encoder, asked: Sequence[HeldOut], pools: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    for lang in sorted(pools):
        number_and_question = [(number, one) for number, one in enumerate(asked, 1) if one.lang == lang]
        scores = encoder.encode([one.question for _, one in number_and_question], "query") @ encoder.encode(pools[lang], "passage").T
        right = np.zeros_like(scores, dtype=bool)
        right[np.arange(len(right)), [one.answer for _, one in number_and_question]] = True
        for (number, _), rank in zip(number_and_question, ranks(scores, right), strict=True):
            yield _ranked(f"question/{number:04}", "question to sentence", lang, int(rank), (1, 10), pool=len(pools[lang]))


def _ranked(row_id: str, name: str, lang: str, rank: int, at: Sequence[int], **more: Any) -> Row:
    return {"id": row_id, "set": name, "lang": lang, "scores": {f"success@{k}": float(rank <= k) for k in at}, "rank": rank, **more}


def english_sentences(entries: Sequence[Entry]) -> tuple[list[str], dict[str, list[int]]]:
    """(distinct English sentences of the corpus, entry id -> which of them are its own)."""
    pool: dict[str, int] = {}
    of_entry = {}
    for entry in entries:
        if entry.lang == "en":
            of_entry[entry.entry_id] = [pool.setdefault(sentence, len(pool)) for sentence in sentences(entry.text)]
    return list(pool), of_entry


def sentence_rows(encoder: Encoder, material: Material) -> Iterator[Row]:
    """Question in any language -> the English sentence that holds all words of the English answer; questions whose answer no one sentence holds are left out."""
    pool, of_entry = english_sentences(material.entries)
    asked, right = [], []
    for one in material.cross:
        answer = set(words(one.answers[-1])) if one.answers else set()  # the English one is the last
        holding = [
            place for entry_id in one.relevant for place in of_entry.get(entry_id, ()) if answer and answer <= set(words(pool[place]))
        ]
        if holding:
            asked.append(one)
            right.append(np.isin(np.arange(len(pool)), holding))
    if not asked:
        return
    scores = encoder.encode([one.text for one in asked], "query") @ encoder.encode(pool, "passage").T
    for one, rank in zip(asked, ranks(scores, np.stack(right)), strict=True):
        yield _ranked(f"sentence/{one.query_id}", "question to English sentence", one.lang, int(rank), (1, 10), pool=len(pool))


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


def passage_ranks(questions: np.ndarray, views: np.ndarray, starts: np.ndarray, asked: Sequence[Asked], entries: Sequence[Entry]) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Ranks of the right passage (among English passages, among all entries); an entry scores as its best view."""
    scores = np.maximum.reduceat(questions @ views.T, starts, axis=1)
    right = np.array([[entry.entry_id in one.relevant for entry in entries] for one in asked])
    english = np.array([entry.lang == "en" and entry.kind == "passage" for entry in entries])
    return ranks(scores[:, english], right[:, english]), ranks(scores, right)


def passage_rows(encoder: Encoder, material: Material) -> Iterator[Row]:
    views = views_of(material.entries)
    questions = encoder.encode([one.text for one in material.cross], "query")
    found = passage_ranks(questions, encoder.encode(views.texts, "passage"), views.starts, material.cross, material.entries)
    for one, among_english, among_all in zip(material.cross, *found, strict=True):
        row = _ranked(f"passage/{one.query_id}", "question to English passage", one.lang, int(among_english), (1, 5))
        row["scores"]["success@5 of all"] = float(among_all <= 5)
        yield row


def paraphrase_rows(encoder: Encoder, material: Material) -> Iterator[Row]:
    """A question in other words -> the native question that it rewords, among those of all languages."""
    asked = [one for one in material.paraphrase if one.lang == one.evidence_lang]
    pairs = [entry for entry in material.entries if entry.question]
    scores = encoder.encode([one.text for one in asked], "query") @ encoder.encode([entry.question for entry in pairs], "passage").T
    right = np.array([[entry.entry_id in one.relevant for entry in pairs] for one in asked])
    for one, rank in zip(asked, ranks(scores, right), strict=True):
        yield _ranked(f"paraphrase/{one.query_id}", "paraphrase", one.lang, int(rank), (1, 5))


def name_rows(encoder: Encoder, names: Names) -> Iterator[Row]:
    langs = [lang for lang in LANGUAGES if sum(lang in name for name in names.texts) >= _FEWEST]
    pools = {lang: sorted({text for name in names.texts for text in name.get(lang, ())}) for lang in langs}
    vectors = {lang: encoder.encode(pool, "query") for lang, pool in pools.items()}
    territories: dict[str, list[float]] = {lang: [] for lang in langs}
    for a, b in permutations(langs, 2):
        shared = [place for place, name in enumerate(names.texts) if a in name and b in name]
        if len(shared) < _FEWEST:
            continue
        asked = [pools[a].index(min(names.texts[place][a])) for place in shared]
        right = np.array([[text in names.texts[place][b] for text in pools[b]] for place in shared])
        hits = (ranks(vectors[a][asked] @ vectors[b].T, right) == 1).astype(float)
        yield _summed_up(f"names/{a}-{b}", "names", a, {"P@1": hits}, to=b, scripts=_SCRIPTS[a] != _SCRIPTS[b])
        if b == "en":
            territories[a] += [hit for place, hit in zip(shared, hits, strict=True) if place in names.territories]
    if any(territories.values()):
        yield _summed_up("names/territories", "territories", "all", {"P@1": [hit for hits in territories.values() for hit in hits]})


# a closer look at the first encoder


def variant_rows(encoder: Encoder, flores: Vectors, material: Material, checkpoint: Path | None) -> Iterator[Row]:
    views = views_of(material.entries)
    asked = [one for one in material.cross if one.lang != "en"]

    def row(name: str, of_encoder: Encoder, vectors: Vectors, change: Callable[[np.ndarray, Sequence[str]], np.ndarray]) -> Row:
        hits = flores_hits({lang: change(one, [lang] * len(one)) for lang, one in vectors.items()})
        questions = change(of_encoder.encode([one.text for one in asked], "query"), [one.lang for one in asked])
        entries = change(of_encoder.encode(views.texts, "passage"), views.langs)
        _, among_all = passage_ranks(questions, entries, views.starts, asked, material.entries)
        pooled = [share for share, _ in pool_figures({lang: change(one, [lang] * len(one)) for lang, one in vectors.items()}).values()]
        made = _summed_up(f"variant/{name}", "variant", "all", flores_means(hits), variant=name)
        more = {"translations first": np.concatenate(pooled), "success@5 of all": among_all <= 5}
        made["intervals"] |= {metric: mean_with_interval(values) for metric, values in more.items()}
        worst = min(hits, key=lambda pair: hits[pair].mean())
        return made | {"worst": [f"{worst[0]} -> {worst[1]}", round(float(hits[worst].mean()), 4)]}

    yield row(f"as it is, {encoder.dimension} dimensions", encoder, flores, lambda vectors, langs: vectors)
    for dimension in _SHORTER:
        if dimension < encoder.dimension:
            yield row(f"the first {dimension} dimensions", encoder, flores, lambda vectors, langs, d=dimension: normalised(vectors[:, :d]))
    yield row("each language's mean taken away", encoder, flores, centred)
    if checkpoint:
        with tempfile.TemporaryDirectory() as folder:
            precise = float32_encoder(encoder, checkpoint, Path(folder))
            vectors = {lang: precise.encode(texts, "query") for lang, texts in material.flores.items()}
            yield row("float32 weights", precise, vectors, lambda vectors, langs: vectors)


def centred(vectors: np.ndarray, langs: Sequence[str]) -> np.ndarray:
    """Unit rows from which the mean of the rows of the same language was taken."""
    found = vectors.copy()
    of_row = np.array(langs)
    for lang in np.unique(of_row):
        found[of_row == lang] -= vectors[of_row == lang].mean(0)
    return normalised(found)


def float32_encoder(encoder: Encoder, checkpoint: Path, folder: Path) -> Encoder:
    """The same encoder with the weights as they were before they were rounded, written to `folder`."""
    import torch

    from index_builder.train.encoder import Config, new_model, shortened

    try:
        state = torch.load(checkpoint, weights_only=True, map_location="cpu")["model"]
        record = json.loads((encoder.folder / "training.json").read_text(encoding="utf-8"))["config"]
        config = Config(**{key: tuple(value) if isinstance(value, list) else value for key, value in record.items()})
        teacher = len(state["to_teacher.weight"]) if "to_teacher.weight" in state else 0
        model = new_model(config, Tokenizer.from_file(str(encoder.folder / "tokenizer.json")), teacher)
        model.load_state_dict(state)
        shipped = load_file(encoder.folder / "model.safetensors")["embedding.weight"]
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise MajlisError(
            f"{checkpoint} is no checkpoint of the encoder in {encoder.folder} ({reason}). Name the one it was saved from."
        ) from error
    table = model.folded()
    if not np.array_equal(shortened(table), shipped):
        raise MajlisError(f"{checkpoint} is of another training run than the encoder in {encoder.folder}. Name the one it was saved from.")
    save_file({"embedding.weight": table}, folder / "model.safetensors")
    for name in ("tokenizer.json", "modules.json"):
        (folder / name).write_bytes((encoder.folder / name).read_bytes())
    return open_encoder(folder, encoder.name, encoder.query_prefix, encoder.passage_prefix)


def write_worst(path: Path, texts: Mapping[str, Sequence[str]], vectors: Vectors) -> None:
    """For each language the sentences whose translations stand lowest on average, with each rank and what was preferred where it is worst."""
    langs = list(texts)
    partial_file = path.with_name(path.name + ".partial")
    try:
        with partial_file.open("w", encoding="utf-8", newline="\n") as file:
            for lang in langs:
                others = [other for other in langs if other != lang]
                scores = {other: vectors[lang] @ vectors[other].T for other in others}
                found = {other: ranks(scores[other], np.eye(len(texts[lang]), dtype=bool)) for other in others}
                # the logarithm, so that one rank of 900 does not outweigh five of 30
                badness = np.mean([np.log(found[other]) for other in others], axis=0)
                for line in np.argsort(-badness, kind="stable")[:_WORST]:
                    worst = max(others, key=lambda other: found[other][line])
                    first = int(scores[worst][line].argmax())
                    row = {
                        "lang": lang, "line": int(line) + 1, "text": texts[lang][line], "en": texts["en"][line] if "en" in texts else "",
                        "ranks": {other: int(found[other][line]) for other in others},
                        "preferred": {"lang": worst, "line": first + 1, "text": texts[worst][first], "en": texts["en"][first] if "en" in texts else ""},
                        "cosine": {"right": round(float(scores[worst][line, line]), 3), "preferred": round(float(scores[worst][line, first]), 3)},
                    }  # fmt: skip
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        partial_file.replace(path)
    except OSError as error:
        partial_file.unlink(missing_ok=True)
        raise MajlisError(
            f"{path} could not be written ({error}). Give a file in a folder that exists and has space with --worst."
        ) from error


# speed

# Programs of their own: one thread, and nothing loaded but what the first answer needs.
_FIRST = """import sys, time; from pathlib import Path; from index_builder.encode import open_encoder
open_encoder(Path(sys.argv[1])).encode([sys.argv[2]], "query"); print(time.process_time(), flush=True)"""
_MANY = """import json, sys, time; from pathlib import Path; from index_builder.encode import open_encoder
encoder = open_encoder(Path(sys.argv[1])); questions = json.load(sys.stdin); rounds = []; single = []
for _ in range(int(sys.argv[2])):
    began = time.process_time()
    for start in range(0, len(questions), 256): encoder.encode(questions[start : start + 256], "query")
    rounds.append(time.process_time() - began)
for question in questions[:500]:
    began = time.perf_counter(); encoder.encode([question], "query"); single.append(time.perf_counter() - began)
print(json.dumps({"rounds": rounds, "single": single}))"""
_ONE_THREAD = {
    "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def timed_questions(material: Material) -> list[str]:
    """The bundled questions of every language, written one after the other and cut every twelve words."""
    found = []
    for lang in LANGUAGES:
        said = [entry.question for entry in material.entries if entry.lang == lang] + [
            one.text for one in material.cross if one.lang == lang
        ]
        split = " ".join(said).split()
        found += [" ".join(split[start : start + _WORDS]) for start in range(0, len(split) - _WORDS + 1, _WORDS)]
    # mixed, as questions come
    return sorted(found, key=lambda text: blake2b(text.encode(), digest_size=8).digest())


def speed_row(encoder: Encoder, questions: Sequence[str]) -> Row:
    first, processor = zip(*(_first_vector(encoder.folder, questions[0]) for _ in range(_ROUNDS)), strict=True)
    with _started(_MANY, [str(encoder.folder), str(_ROUNDS)]) as process:
        many = json.loads(_finished(process, json.dumps(list(questions))))
    size = sum(path.stat().st_size for path in encoder.folder.rglob("*") if path.is_file())
    return {
        "id": "speed", "set": "speed", "lang": "all", "n": len(questions), "dimension": encoder.dimension, "megabytes": round(size / 1e6, 1),
        "per_second": round(len(questions) / float(np.median(many["rounds"]))), "single_us": round(float(np.median(many["single"])) * 1e6, 1),
        "first_s": round(float(np.median(first)), 3), "first_processor_s": round(float(np.median(processor)), 3),
    }  # fmt: skip


def _first_vector(folder: Path, question: str) -> tuple[float, float]:
    """(seconds from the start of a process to its first vector, processor time of it)."""
    began = time.perf_counter()
    with _started(_FIRST, [str(folder), question]) as process:
        assert process.stdout
        said = process.stdout.readline()
        seconds = time.perf_counter() - began  # leaving takes time too, but nobody waits for it
        _finished(process)
    return seconds, float(said)


def _started(program: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
    environment = os.environ | _ONE_THREAD | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, encoding="utf-8", env=environment)


def _finished(process: subprocess.Popen[str], stdin: str = "") -> str:
    said, complaint = process.communicate(stdin)
    if process.returncode:
        raise MajlisError(f"The encoder could not be timed in a process of its own: {complaint.strip()[-500:]}")
    return said


# tables


def tables(rows: Sequence[Row]) -> list[Table]:
    of_encoder: dict[str, list[Row]] = {}
    for row in rows:
        of_encoder.setdefault(row["encoder"], []).append(row)
    found = [_overview(of_encoder)]
    for name, group in of_encoder.items():
        title = f"{name}: " if len(of_encoder) > 1 else ""
        found += [_aligned(title, group), _asked(title, group), _pairs(title, group, "flores"), _pairs(title, group, "names")]
        if any(row["set"] == "variant" for row in group):
            found.append(_variants(group))
    found.append(_speed(of_encoder))
    return [table for table in found if table.rows]


def _of(rows: Sequence[Row], name: str, lang: str | None = None, to: str | None = None) -> list[Row]:
    return [row for row in rows if row["set"] == name and (lang is None or row["lang"] == lang) and (to is None or row.get("to") == to)]


def _cell(rows: Sequence[Row], metric: str) -> tuple[float, float, float] | None:
    """Of one row that sums up many queries, or of many rows of one query each."""
    if len(rows) == 1 and "intervals" in rows[0]:
        interval = rows[0]["intervals"].get(metric)
        return tuple(interval) if interval else None  # type: ignore[return-value]
    return mean_with_interval([row["scores"][metric] for row in rows])


_BY_LANGUAGE = {  # name -> (set, metric)
    "question -> sentence, same language, success@10": ("question to sentence", "success@10"),
    "question -> English sentence, success@10": ("question to English sentence", "success@10"),
    "question -> English passage, success@5": ("question to English passage", "success@5"),
    "among all entries, success@5": ("question to English passage", "success@5 of all"),
    "paraphrase, success@1": ("paraphrase", "success@1"),
}


def _languages(rows: Sequence[Row], name: str) -> list[str]:
    present = {row["lang"] for row in _of(rows, name)}
    # an English question finds an English passage without any translation
    return [lang for lang in LANGUAGES if lang in present and not (lang == "en" and "English" in name)]


def _overview(of_encoder: Mapping[str, Sequence[Row]]) -> Table:
    columns = [*of_encoder, *(other for other in OTHERS if other.lower() not in map(str.lower, of_encoder))]
    figures: dict[str, tuple[str, Callable[[Sequence[Row]], Cell]]] = {}

    def languages(metric_name: str, name: str, metric: str, aim: str, lowest: str) -> None:
        values = lambda rows: [cell[0] for lang in _languages(rows, name) if (cell := _cell(_of(rows, name, lang), metric))]
        figures[f"{metric_name}, mean of languages"] = (
            aim,
            lambda rows: round(float(np.mean(found)), 4) if (found := values(rows)) else None,
        )
        figures[f"{metric_name}, lowest language"] = lowest, lambda rows: min(values(rows), default=None)

    def pairs(metric_name: str, choose: Callable[[Row], bool], aim: str) -> None:
        figures[metric_name] = aim, lambda rows: min((row["scores"]["P@1"] for row in _of(rows, "flores") if choose(row)), default=None)

    mean = lambda metric: lambda rows: _cell(_of(rows, "flores means"), metric)
    figures["FLORES dev P@1, X -> en, mean"] = "", mean("to English")
    pairs("FLORES dev P@1, X -> en, lowest language", lambda row: row["to"] == "en", ">= .97")
    figures["FLORES dev P@1, en -> X, mean"] = "", mean("from English")
    pairs("FLORES dev P@1, en -> X, lowest language", lambda row: row["lang"] == "en", ">= .97")
    figures["FLORES dev P@1, 42 pairs, mean"] = ">= .94", mean("all pairs")
    pairs("FLORES dev P@1, 42 pairs, worst", lambda row: True, ">= .86")
    figures["one pool, six translations in the top six"] = ">= .90", lambda rows: _cell(_of(rows, "one pool", "all"), "translations first")
    figures["one pool, mAP"] = "", lambda rows: _cell(_of(rows, "one pool", "all"), "mAP")
    aims = ((">= .86", ""), (">= .66", ""), (">= .85", ">= .75"), ("", ""), (">= .90", ""))
    for (metric_name, (name, metric)), (aim, lowest) in zip(_BY_LANGUAGE.items(), aims, strict=True):
        languages(metric_name, name, metric, aim, lowest)
    figures["place names across scripts, P@1"] = ">= .90", _across_scripts
    figures["territories to English, P@1"] = (
        ">= .90",
        lambda rows: _cell(_of(rows, "territories"), "P@1") if _of(rows, "territories") else None,
    )
    lines = [(name, aim, *(figure(of_encoder.get(column, ())) if column in of_encoder else None for column in columns)) for name, (aim, figure) in figures.items()]  # fmt: skip
    note = "An encoder has an empty column where its folder was not given with --encoder. The means of languages leave English out where the other side is English."
    return Table("what was aimed at, and what was reached", ("measure", "aim", *columns), lines, note)


def _across_scripts(rows: Sequence[Row]) -> float | None:
    found = [row for row in _of(rows, "names") if row["scripts"]]
    return round(sum(row["scores"]["P@1"] * row["n"] for row in found) / sum(row["n"] for row in found), 4) if found else None


def _aligned(title: str, rows: Sequence[Row]) -> Table:
    one = lambda name, metric, **where: _cell(found, metric) if (found := _of(rows, name, **where)) else None
    lines = [
        (lang, one("flores", "P@1", lang=lang, to="en"), one("flores", "P@1", lang="en", to=lang), one("one pool", "translations first", lang=lang),
         one("one pool", "mAP", lang=lang), one("names", "P@1", lang=lang, to="en"), one("names", "P@1", lang="en", to=lang))
        for lang in LANGUAGES if _of(rows, "flores", lang)
    ]  # fmt: skip
    count = next((row["n"] for row in _of(rows, "flores")), 0)
    names = [row["n"] for row in _of(rows, "names", to="en")]
    note = f"{count:,} FLORES dev sentences; one pool: all languages together. Names: {min(names, default=0)} to {max(names, default=0)} held-out place names a language."
    columns = (
        "language",
        "X -> en, P@1",
        "en -> X, P@1",
        "one pool, top six",
        "one pool, mAP",
        "names, X -> en, P@1",
        "names, en -> X, P@1",
    )
    return Table(f"{title}aligned text and names", columns, lines, note)


def _asked(title: str, rows: Sequence[Row]) -> Table:
    lines = []
    for lang in LANGUAGES:
        cells: list[Cell] = []
        for name, metric in _BY_LANGUAGE.values():
            found = _of(rows, name, lang)
            cells += [_cell(found, metric) if found else None, len(found) or None]
        if any(cell is not None for cell in cells):
            lines.append((lang, *cells))
    pools = {lang: group[0]["pool"] for lang in LANGUAGES if (group := _of(rows, "question to sentence", lang))}
    english = next((row["pool"] for row in _of(rows, "question to English sentence")), 0)
    note = (
        f"Sentences looked among, same language: {', '.join(f'{lang} {count:,}' for lang, count in pools.items())}; English: {english:,}, all of the corpus. A passage or pair is found by "
        "its whole or any of its sentences. No open set of questions and sentences exists in as, hi or ne. The second number is that of the questions."
    )
    columns = ("questions in", *(column for name in _BY_LANGUAGE for column in (name, "n")))
    return Table(f"{title}questions", columns, lines, note)


def _pairs(title: str, rows: Sequence[Row], name: str) -> Table:
    found = {(row["lang"], row["to"]): row["scores"]["P@1"] for row in _of(rows, name)}
    langs = [lang for lang in LANGUAGES if any(lang in pair for pair in found)]
    lines = [(lang, *(found.get((lang, other)) for other in langs)) for lang in langs]
    what = "all pairs of FLORES dev, P@1" if name == "flores" else "held-out place names, P@1"
    note = "A row is the language that asks, a column the one that is looked through." + (f" Pairs that share fewer than {_FEWEST} names are empty." if name == "names" else "")  # fmt: skip
    return Table(f"{title}{what}", ("from", *(f"to {lang}" for lang in langs)), lines, note)


def _variants(rows: Sequence[Row]) -> Table:
    metrics = (*_MEANS, "translations first", "success@5 of all")
    lines = [
        (row["variant"], *(tuple(row["intervals"][metric]) for metric in metrics), "{}, {:.3f}".format(*row["worst"]))
        for row in _of(rows, "variant")
    ]
    note = "FLORES dev P@1, one pool of its languages, and the bundled questions in six languages to English passages among all entries."
    columns = ("vectors", "X -> en", "en -> X", "42 pairs", "one pool, top six", "passage among all entries, success@5", "worst pair")
    return Table("shorter, centred and unrounded vectors", columns, lines, note)


def _speed(of_encoder: Mapping[str, Sequence[Row]]) -> Table:
    lines = [
        (name, row["dimension"], row["megabytes"], row["per_second"], row["single_us"], row["first_s"], row["first_processor_s"])
        for name, rows in of_encoder.items() for row in _of(rows, "speed")
    ]  # fmt: skip
    note = (
        f"Questions of {_WORDS} words, one thread. A second is one of processor time, which other work on the machine hardly changes; the times of one question and of the first "
        f"vector are by the clock and do change. Medians, of {_ROUNDS} rounds and of {_ROUNDS} processes. Aim: 10,000 a second, first vector after 0.4 s."
    )
    columns = (
        "encoder",
        "dimensions",
        "MB on disk",
        "questions a second",
        "one question, µs",
        "process start to first vector, s",
        "of it processor time, s",
    )
    return Table("speed", columns, lines, note)

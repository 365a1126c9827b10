"""Rows of an encoder's figures: aligned text, one pool of languages, questions to sentences and passages, names. All by brute-force cosine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from index_builder.encode import Encoder
from index_builder.evaluate.encoder_material import HeldOut, Material, Names, english_sentences, views_of
from index_builder.evaluate.questions import Asked
from index_builder.evaluate.runs import Row
from index_builder.evaluate.statistics import mean_with_interval
from index_builder.text import words
from index_builder.vocabulary import LANGUAGES, Entry

FEWEST = 20  # names that a pair of languages must share to be measured
_SCRIPTS = {"ar": "Arab", "as": "Beng", "bn": "Beng", "en": "Latn", "hi": "Deva", "ne": "Deva", "tr": "Latn"}
Vectors = Mapping[str, np.ndarray]  # language -> (n, d) float32 unit rows


def ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(queries,) rank from 1 of the best right candidate. Both (queries, candidates); a wrong one that scores the same counts as before it,
    so that an encoder that tells nothing apart finds nothing.
    """
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    return 1 + ((scores >= best) & ~right).sum(1)


def aligned_ranks(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """(n,) rank of candidate i for query i."""
    return ranks(queries @ candidates.T, np.eye(len(queries), len(candidates), dtype=bool))


def summed_up(row_id: str, name: str, lang: str, values: Mapping[str, Sequence[float] | np.ndarray], **more: Any) -> Row:
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
        yield summed_up(f"flores/{a}-{b}", "flores", a, {"P@1": hit}, to=b)
    yield summed_up("flores/means", "flores means", "all", flores_means(hits))


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
        yield summed_up(f"pool/{lang}", "one pool", lang, {"translations first": share, "mAP": precision})


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
    langs = [lang for lang in LANGUAGES if sum(lang in name for name in names.texts) >= FEWEST]
    pools = {lang: sorted({text for name in names.texts for text in name.get(lang, ())}) for lang in langs}
    vectors = {lang: encoder.encode(pool, "query") for lang, pool in pools.items()}
    territories: dict[str, list[float]] = {lang: [] for lang in langs}
    for a, b in permutations(langs, 2):
        shared = [place for place, name in enumerate(names.texts) if a in name and b in name]
        if len(shared) < FEWEST:
            continue
        asked = [pools[a].index(min(names.texts[place][a])) for place in shared]
        right = np.array([[text in names.texts[place][b] for text in pools[b]] for place in shared])
        hits = (ranks(vectors[a][asked] @ vectors[b].T, right) == 1).astype(float)
        across = _SCRIPTS[a] != _SCRIPTS[b]
        yield summed_up(f"names/{a}-{b}", "names", a, {"P@1": hits}, to=b, scripts=across)
        if across:
            territories[a] += [hit for place, hit in zip(shared, hits, strict=True) if place in names.territories]
    if any(territories.values()):
        yield summed_up("names/territories", "territories", "all", {"P@1": [hit for hits in territories.values() for hit in hits]})

"""Fit when to say "I do not know" (relevance.py) and when a citation holds (support.py), on the dev half of the evaluation files alone.

Positive: a question with an entry that answers it among its first hits. Negative: the unanswerable questions, written as near misses,
and, for first hits in another language, questions of the corpus itself with every entry in their own language hidden: what is found
then shares the topic and rarely answers. Leave-one-out rows were tried for the own language too and made it worse: they are easier.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from index_builder.encode import Encoder
from index_builder.evaluate.questions import SETS, UNANSWERABLE, Asked, read_questions
from index_builder.relevance import HITS, NAMES, Fit, Relevance, features
from index_builder.search import Index, Reader
from index_builder.support import Likeness, Support, likeness
from index_builder.text import sentences, words
from index_builder.vocabulary import LANGUAGES, Entry, Hit, MajlisError

_ROMANISED = "romanised"  # the app searches for these in their own script, which takes its detector
_MOST_WRONGLY_REFUSED = 0.05
_FOLDS = 10
_STRENGTH = 0.03  # inverse of the ridge; chosen on dev by cross-validation among .01, .03, .1 and .3
_LEFT_OUT = 450  # questions of the corpus asked with their own language hidden
_DEEP = 20  # how many hits are read for these
_TWIN = 0.7  # entries whose own question is this similar answer the same thing
_LEAST_KEPT = 0.95  # of the sentences that their source carries
_OVERLAPS = tuple(n / 20 for n in range(6, 19))
_SIMILARITIES = (-1.0, *(n / 20 for n in range(2, 15)))


@dataclass(frozen=True, slots=True)
class Row:
    """One judged first hit."""

    lang: str
    own: bool  # the first hit is in the language of the question
    answered: bool
    features: dict[str, float]


def calibrate(index: Index, data: Path, seed: int = 0) -> Relevance:
    """Raises MajlisError when a kind of question is missing."""
    rows = dev_rows(index, data)
    own = [row for row in rows if row.own]
    other = [row for row in rows if not row.own] + left_out_rows(index, seed)
    return Relevance(fit(own), fit(other))


def dev_rows(index: Index, data: Path) -> list[Row]:
    """The dev questions with their first hits. An answerable question whose entry is not among them says nothing about the first hit and is left out."""
    known = frozenset(entry.entry_id for entry in index.entries())
    asked = [one for name in SETS if name != _ROMANISED for one in read_questions(data / f"{name}.jsonl", "dev", known)]
    asked += read_questions(data / f"{UNANSWERABLE}.jsonl", "dev", known)
    found = [(one, index.search(one.text, HITS, reader=Reader(one.lang))) for one in asked]
    return [
        _row(index, one.lang, one.text, hits, bool(one.relevant))
        for one, hits in found
        if hits and (not one.relevant or _among(one, hits))
    ]


def left_out_rows(index: Index, seed: int) -> list[Row]:
    """Questions of the corpus with all entries in their own language hidden, and those in others that ask the same: near misses in another language."""
    asking = [entry for entry in index.entries() if entry.question]
    chosen = np.random.default_rng(seed).permutation(len(asking))[:_LEFT_OUT]
    rows = []
    for entry in (asking[int(i)] for i in chosen):
        hits = [
            hit
            for hit in index.search(entry.question, _DEEP, reader=Reader(entry.lang))
            if hit.entry.lang != entry.lang and not _twins(entry, hit.entry, index.encoder)
        ][:HITS]
        if hits:
            rows.append(_row(index, entry.lang, entry.question, [replace(hit, rank=rank) for rank, hit in enumerate(hits, 1)], False))
    return rows


def fit(rows: Sequence[Row], most_wrongly_refused: float = _MOST_WRONGLY_REFUSED) -> Fit:
    """Logistic regression with the two classes weighing the same.

    The threshold is the highest at which at most `most_wrongly_refused` of the answered rows fall below it, each judged by a fit that has not
    seen it. Raises MajlisError when one of the classes is too small for that.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names = sorted(NAMES)
    truth = np.array([row.answered for row in rows])
    fewest = min(int(truth.sum()), int((~truth).sum())) if len(rows) else 0
    if fewest < 2:
        raise MajlisError(
            f"Calibration needs at least two answered and two unanswered questions of each kind; it found {int(truth.sum())} and {int((~truth).sum())}. "
            "Give the folder of the evaluation files with --data, and an index of the corpus that they are about with --index."
        )
    matrix = np.array([[row.features[name] for name in names] for row in rows])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=5_000))
    folds = StratifiedKFold(min(_FOLDS, fewest), shuffle=True, random_state=0)
    unseen = cross_val_predict(model, matrix, truth, cv=folds, method="predict_proba")[:, 1]
    answered = np.sort(unseen[truth])
    threshold = math.floor(answered[int(most_wrongly_refused * len(answered))] * 1e4) / 1e4
    scaler, logistic = model.fit(matrix, truth).named_steps.values()
    weights = logistic.coef_[0] / scaler.scale_
    bias = float(logistic.intercept_[0] - weights @ scaler.mean_)
    return Fit({name: round(float(weight), 5) for name, weight in zip(names, weights, strict=True)}, round(bias, 5), threshold)


def _row(index: Index, lang: str, text: str, hits: Sequence[Hit], answered: bool) -> Row:
    found = features(text, hits, index.encoder, index.telling(words(text)))
    return Row(lang, hits[0].entry.lang == lang, answered, found)


def _among(one: Asked, hits: Sequence[Hit]) -> bool:
    return any(hit.entry.entry_id in one.relevant for hit in hits)


def _twins(entry: Entry, other: Entry, encoder: Encoder) -> bool:
    if not other.question:
        return False
    one, two = encoder.encode([entry.question, other.question], "query")
    return float(one @ two) > _TWIN


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence held against a source, and whether the source carries it."""

    lang: str
    across: bool  # the source is in another language
    carried: bool
    likeness: Likeness


def calibrate_support(index: Index, data: Path, seed: int = 0) -> Support:
    return fit_support(claims(index, data, seed))


def claims(index: Index, data: Path, seed: int = 0) -> list[Claim]:
    """Sentences as models write them, made by rule from the sources of the dev questions, since nobody has judged real ones.

    Carried: a sentence with a quarter of its words left out, two sentences run together, a question with its short answer.
    Not carried: a sentence of another source that was found with this one, and half a sentence that goes on with half of such a one.
    """
    entries = {entry.entry_id: entry for entry in index.entries()}
    random = np.random.default_rng(seed)
    found: list[Claim] = []
    for one in (one for name in SETS if name != _ROMANISED for one in read_questions(data / f"{name}.jsonl", "dev", frozenset(entries))):
        entry = entries[min(one.relevant)]
        others = [hit.entry for hit in index.search(one.text, HITS + 1, reader=Reader(one.lang)) if hit.entry.entry_id not in one.relevant]
        own = [other for other in others if other.lang == one.lang and sentences(other.text)]
        across = entry.lang != one.lang
        carried = [f"{one.text.rstrip('?؟।')} {one.answers[0]}"] if one.answers else []
        foreign = [str(random.choice(sentences(other.text))) for other in own[:2]]
        parts = sentences(entry.text)
        if not across:
            carried += [" ".join(word for word in part.split() if random.random() > 0.25) for part in parts[:2]]
            carried += [_halves(parts[0], parts[1])] if len(parts) > 1 else []
            foreign += [_halves(parts[0], sentence) for sentence in foreign]
        for sentence, holds in [*((sentence, True) for sentence in carried), *((sentence, False) for sentence in foreign)]:
            if words(sentence):
                found.append(Claim(one.lang, across, holds, likeness(sentence, entry, index.encoder)))
    return found


def fit_support(found: Sequence[Claim]) -> Support:
    """Per language the thresholds that tell carried from not carried best while at least _LEAST_KEPT of the carried claims hold.

    A language's own claims count twice as much as all others' together: a hundred or so are few for two thresholds.
    """
    overlap, similarity, across = {}, {}, {}
    for lang in LANGUAGES:
        overlap[lang], similarity[lang] = _thresholds([one for one in found if not one.across], lang, _OVERLAPS)
        _, across[lang] = _thresholds([one for one in found if one.across], lang, (0.0,))
    return Support(overlap, similarity, across)


def _thresholds(found: Sequence[Claim], lang: str, overlaps: Sequence[float]) -> tuple[float, float]:
    truth = np.array([one.carried for one in found], dtype=bool)
    if truth.all() or not truth.any():
        raise MajlisError(
            "Citations cannot be calibrated: the evaluation files give no sentence that a source carries, or none that it does not. "
            "Give their folder with --data, and an index of the corpus that they are about with --index."
        )
    mine = np.array([one.lang == lang for one in found])
    weight = np.where(mine, 2.0 * (~mine).sum() / max(1, mine.sum()), 1.0) if mine.any() else np.ones(len(found))
    overlap = np.array([one.likeness.overlap for one in found])
    similarity = np.array([one.likeness.similarity for one in found])
    best = (-1.0, -1.0, 0.0, -1.0)
    for least_overlap in overlaps:
        for least_similarity in _SIMILARITIES:
            holds = (overlap >= least_overlap) & (similarity >= least_similarity)
            kept = float(np.average(holds[truth], weights=weight[truth]))
            refused = float(np.average(~holds[~truth], weights=weight[~truth]))
            best = max(best, (min(kept, _LEAST_KEPT), kept + refused, least_overlap, least_similarity))
    return best[2], best[3]


def _halves(one: str, other: str) -> str:
    first, second = one.split(), other.split()
    return " ".join([*first[: len(first) // 2], *second[len(second) // 2 :]])

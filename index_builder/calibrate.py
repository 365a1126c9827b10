"""Fit when to say "I do not know" (relevance.py) and when a citation holds (support.py), on the dev half of the evaluation files.

Positive: a question with an entry that answers it among its first hits. Negative: the unanswerable questions, written as near misses, and the
freely asked ones that nothing answers. Near misses of the dev half are few, so some judging questions (assets/judging) are learned from as well.
The threshold is set by the dev half alone. Questions whose own entry was hidden were tried as negatives too and made it worse: they are easier.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from index_builder.evaluate.questions import FREE, SETS, UNANSWERABLE, Asked, read_questions
from index_builder.judging import held_out, read_judging
from index_builder.relevance import HITS, NAMES, Fit, Relevance, features
from index_builder.search import Index, Reader
from index_builder.support import Likeness, Support, likeness
from index_builder.text import sentences, words
from index_builder.vocabulary import LANGUAGES, Hit, MajlisError

_ROMANISED = "romanised"  # the app searches for these in their own script, which takes its detector
_MOST_WRONGLY_REFUSED = 0.05
_FOLDS = 10
_STRENGTH = 0.1  # inverse of the ridge; chosen on dev by cross-validation among .01 to 1
_JUDGING_WEIGHT = 0.25  # of all judging rows beside all dev rows, of the same class; chosen on dev by cross-validation among 0 to 2
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


def calibrate(index: Index, data: Path, judging: Path) -> Relevance:
    """Raises MajlisError when a kind of question is missing."""
    rows, learned = dev_rows(index, data), judging_rows(index, judging)
    own, other = ([[row for row in some if row.own == in_own] for some in (rows, learned)] for in_own in (True, False))
    return Relevance(fit(*own), fit(*other))


def dev_rows(index: Index, data: Path) -> list[Row]:
    """The dev questions with their first hits. An answerable question whose entry is not among them says nothing about the first hit and is left out."""
    known = frozenset(entry.entry_id for entry in index.entries())
    asked = [one for name in SETS if name != _ROMANISED for one in read_questions(data / f"{name}.jsonl", "dev", known)]
    asked += [one for name in (UNANSWERABLE, FREE) for one in read_questions(data / f"{name}.jsonl", "dev", known)]
    found = [(one, index.search(one.text, HITS, reader=Reader(one.lang))) for one in asked]
    return [
        _row(index, one.lang, one.text, hits, bool(one.relevant)) for one, hits in found if hits and (not one.relevant or _among(one, hits))
    ]


def judging_rows(index: Index, folder: Path) -> list[Row]:
    """The judging questions of the entries that `index` holds, with their first hits; of entries that its cross-encoder has not seen, when it has one.

    A near miss stays one when the first hit is another entry than it was written for: that answers it as little. Raises MajlisError for a
    folder or a line that is not as its card says.
    """
    known = frozenset(entry.entry_id for entry in index.entries() if index.cross is None or held_out(entry.entry_id))
    rows = []
    for one in read_judging(folder):
        if one.entry_id not in known or one.answered is None:
            continue
        hits = index.search(one.question, HITS, reader=Reader(one.lang))
        if hits and (not one.answered or any(hit.entry.entry_id == one.entry_id for hit in hits)):
            rows.append(_row(index, one.lang, one.question, hits, one.answered))
    return rows


def fit(rows: Sequence[Row], learned: Sequence[Row] = (), most_wrongly_refused: float = _MOST_WRONGLY_REFUSED) -> Fit:
    """Logistic regression over `rows` and `learned`, the two classes weighing the same.

    The threshold is the highest at which at most `most_wrongly_refused` of the answered `rows` fall below it, each judged by a fit that has not
    seen it. Raises MajlisError when one of the classes is too small for that.
    """
    from sklearn.model_selection import StratifiedKFold

    truth = np.array([row.answered for row in rows], dtype=bool)
    fewest = min(int(truth.sum()), int((~truth).sum()))
    if fewest < 2:
        raise MajlisError(
            f"Calibration needs at least two answered and two unanswered questions of each kind; it found {int(truth.sum())} and {int((~truth).sum())}. "
            "Give the folder of the evaluation files with --data, and an index of the corpus that they are about with --index."
        )
    unseen = np.empty(len(rows))
    for seen, held in StratifiedKFold(min(_FOLDS, fewest), shuffle=True, random_state=0).split(truth, truth):
        weights, bias = _logistic([rows[i] for i in seen], learned)
        of = Fit(weights, bias, 0.0).of
        unseen[held] = [of(rows[i].features) for i in held]
    answered = np.sort(unseen[truth])
    threshold = math.floor(answered[int(most_wrongly_refused * len(answered))] * 1e4) / 1e4
    weights, bias = _logistic(rows, learned)
    return Fit({name: round(weight, 5) for name, weight in weights.items()}, round(bias, 5), threshold)


def _logistic(rows: Sequence[Row], learned: Sequence[Row]) -> tuple[dict[str, float], float]:
    """(weights, bias) for features as they are. Each class of `rows` weighs as much as the other, and each of `learned` _JUDGING_WEIGHT times that."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    names = sorted(NAMES)
    together = [*rows, *learned]
    matrix = np.array([[row.features[name] for name in names] for row in together])
    truth = np.array([row.answered for row in together], dtype=bool)
    of_dev = np.arange(len(together)) < len(rows)
    weight = np.zeros(len(together))
    for part, mass in ((of_dev, 1.0), (~of_dev, _JUDGING_WEIGHT)):
        for kind in (truth, ~truth):
            weight[part & kind] = mass * len(rows) / 2 / max(1, int((part & kind).sum()))
    scaler = StandardScaler().fit(matrix)
    logistic = LogisticRegression(C=_STRENGTH, max_iter=5_000).fit(scaler.transform(matrix), truth, sample_weight=weight)
    weights = logistic.coef_[0] / scaler.scale_
    return dict(zip(names, weights.tolist(), strict=True)), float(logistic.intercept_[0] - weights @ scaler.mean_)


def _row(index: Index, lang: str, text: str, hits: Sequence[Hit], answered: bool) -> Row:
    found = features(text, hits, index.encoder, index.telling(words(text)))
    return Row(lang, hits[0].entry.lang == lang, answered, found)


def _among(one: Asked, hits: Sequence[Hit]) -> bool:
    return any(hit.entry.entry_id in one.relevant for hit in hits)


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

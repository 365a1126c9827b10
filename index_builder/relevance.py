"""How far a hit answers a question, as a probability; fitted on questions that the corpus answers and questions that it does not."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from index_builder.vocabulary import Hit, MajlisError

FILE = "relevance.json"  # beside the encoder's weights: the figures hold for that encoder alone


@dataclass(frozen=True, slots=True)
class Relevance:
    """Logistic of a hit's similarity and of the share of the question's words that it holds, with a threshold for abstaining."""

    dense: float
    coverage: float
    bias: float
    threshold: float

    def of(self, hit: Hit) -> float:
        return 1 / (1 + math.exp(-(self.dense * hit.dense + self.coverage * hit.coverage + self.bias)))


UNCALIBRATED = Relevance(
    dense=6.0, coverage=2.0, bias=-3.0, threshold=0.0
)  # for an encoder nobody calibrated: shows a figure, never abstains


def load_relevance(folder: Path) -> Relevance:
    path = folder / FILE
    if not path.is_file():
        return UNCALIBRATED
    try:
        return Relevance(**json.loads(path.read_text(encoding="utf-8"))["fit"])
    except (ValueError, TypeError, KeyError) as error:
        raise MajlisError(
            f"{path} cannot be read ({error!r}). Restore it, or write it anew with `python -m index_builder calibrate`."
        ) from error


def fit_relevance(answered: Sequence[Hit], unanswered: Sequence[Hit], most_wrongly_refused: float = 0.10) -> Relevance:
    """Logistic regression (Newton's method, light ridge) of answered against unanswered first hits.

    The threshold is the highest at which at most `most_wrongly_refused` of the answered questions fall below it.
    """
    if not answered or not unanswered:
        raise MajlisError("Calibration needs first hits of answerable and of unanswerable questions; one of the two is empty.")
    rows = np.array([[hit.dense, hit.coverage, 1.0] for hit in (*answered, *unanswered)])
    truth = np.array([1.0] * len(answered) + [0.0] * len(unanswered))
    balance = np.where(truth > 0, 0.5 / len(answered), 0.5 / len(unanswered)) * len(rows)
    weights = np.zeros(3)
    ridge = np.diag([1e-2, 1e-2, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-rows @ weights))
        gradient = rows.T @ (balance * (p - truth)) + ridge @ weights
        hessian = (rows * (balance * p * (1 - p))[:, None]).T @ rows + ridge
        step = np.linalg.solve(hessian, gradient)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    fitted = Relevance(*(round(float(value), 4) for value in weights), threshold=0.0)
    scores = sorted(fitted.of(hit) for hit in answered)
    return Relevance(fitted.dense, fitted.coverage, fitted.bias, math.floor(scores[int(most_wrongly_refused * len(scores))] * 1e4) / 1e4)


def save_relevance(relevance: Relevance, folder: Path, how: str) -> None:
    (folder / FILE).write_text(json.dumps({"fit": asdict(relevance), "how": how}, indent=1) + "\n", encoding="utf-8")

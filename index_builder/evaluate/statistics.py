"""Figures of many queries: means with intervals, differences with p-values, calibration. Seeded, so that a run is reprinted exactly."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 1_000
_FLIPS = 10_000
_BATCH = 256  # resamples at a time, to keep a long list of queries out of memory


def mean_with_interval(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Mean with its 95 % percentile bootstrap interval, four decimals; None of nothing."""
    array = np.asarray(values, dtype=float)
    if not len(array):
        return None
    random = np.random.default_rng(0)
    means = np.concatenate(
        [array[random.integers(0, len(array), (min(_BATCH, _RESAMPLES - i), len(array)))].mean(1) for i in range(0, _RESAMPLES, _BATCH)]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return round(float(array.mean()), 4), round(float(low), 4), round(float(high), 4)


def mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if len(values) else None


def macro_average(by_group: Mapping[str, Sequence[float]]) -> float | None:
    """Unweighted mean of the means of the groups: a language with few questions counts as much as one with many."""
    means = [float(np.mean(values)) for values in by_group.values() if len(values)]
    return round(sum(means) / len(means), 4) if means else None


def paired_randomisation(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p-value of the mean difference of paired figures, by Fisher's randomisation test (Smucker et al. 2007).

    Under the null hypothesis each pair may be exchanged: the share of random exchanges whose difference is at least as large as the
    one seen, with one added to both counts so that p is never 0 (Phipson and Smyth 2010). 1 when there is nothing to compare.
    """
    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    if not differences.any():
        return 1.0
    random = np.random.default_rng(0)
    seen = abs(differences.sum()) - 1e-12
    as_large = 0
    for start in range(0, _FLIPS, _BATCH):
        signs = random.choice((-1.0, 1.0), (min(_BATCH, _FLIPS - start), len(differences)))
        as_large += int((np.abs(signs @ differences) >= seen).sum())
    return round((as_large + 1) / (_FLIPS + 1), 4)


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with the 95 % interval of Wilson (1927), which stays inside [0, 1]."""

    right: int
    total: int

    @property
    def value(self) -> float:
        return self.right / self.total if self.total else math.nan

    def interval(self) -> tuple[float, float]:
        if not self.total:
            return math.nan, math.nan
        z, n, p = 1.96, self.total, self.value
        middle, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - spread) / (1 + z * z / n)), min(1.0, (middle + spread) / (1 + z * z / n))

    def cell(self) -> tuple[float, float, float] | None:
        """For a table; None of nothing."""
        if not self.total:
            return None
        low, high = self.interval()
        return round(self.value, 4), round(low, 4), round(high, 4)


@dataclass(frozen=True, slots=True)
class Bin:
    """Of one range of stated confidence."""

    count: int
    confidence: float  # mean of what was stated
    right: float  # share that was right


def reliability_bins(judged: Sequence[tuple[float, bool]], bins: int = 10) -> list[Bin]:
    """Equal-width bins over [0, 1] that are not empty, lowest first. `judged`: (confidence, right)."""
    grouped: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in judged:
        grouped.setdefault(min(bins - 1, int(confidence * bins)), []).append((confidence, right))
    return [Bin(len(rows), sum(c for c, _ in rows) / len(rows), sum(r for _, r in rows) / len(rows)) for _, rows in sorted(grouped.items())]


def expected_calibration_error(judged: Sequence[tuple[float, bool]], bins: int = 10) -> float:
    """Mean |stated confidence - share right| over the bins, weighted by their size (Naeini et al. 2015); nan of nothing."""
    found = reliability_bins(judged, bins)
    return sum(one.count * abs(one.confidence - one.right) for one in found) / len(judged) if judged else math.nan


@dataclass(frozen=True, slots=True)
class Detection:
    """Of a yes-or-no decision: `precision` of the times it said yes, `recall` of the times it should have; None where there was none."""

    precision: float | None
    recall: float | None
    false_alarms: float | None  # share of the times it should have said no at which it said yes

    @staticmethod
    def of(decided: Sequence[tuple[bool, bool]]) -> "Detection":
        """`decided`: (said yes, should have)."""
        hits = sum(said and should for said, should in decided)
        said = sum(said for said, _ in decided)
        should = sum(should for _, should in decided)

        def share(part: int, whole: int) -> float | None:
            return round(part / whole, 4) if whole else None

        return Detection(share(hits, said), share(hits, should), share(said - hits, len(decided) - should))


def area_under_curve(judged: Sequence[tuple[float, bool]]) -> float | None:
    """Chance that a true case scores above a false one (ROC AUC), ties half; None without both. `judged`: (score, true)."""
    true = np.array([score for score, is_true in judged if is_true])
    false = np.array([score for score, is_true in judged if not is_true])
    if not len(true) or not len(false):
        return None
    above = (true[:, None] > false).mean() + 0.5 * (true[:, None] == false).mean()
    return round(float(above), 4)

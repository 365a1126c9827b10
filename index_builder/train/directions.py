"""The last step of training a static encoder: a linear map in which translations lie nearest, folded into the vectors and so free at run time.

Within-class covariance normalisation (Hatch, Kajarekar, Stolcke 2006), a class being one sentence in all its languages: directions in which
translations of a sentence differ are shrunk. Then the principal directions, widest first, so that the beginning of a vector serves alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from index_builder.encode import normalised

_RIDGE = 0.1  # of the mean variance, added to every direction: a few thousand sentences say little about the narrowest
_LEAST_SHARED = 100  # sentences that two languages must share to be heard; fewer are mostly noise

Aligned = Mapping[str, tuple[np.ndarray, np.ndarray]]  # language -> (numbers of its sentences, ascending; (sentences, dimension) unit rows)


def within_covariance(aligned: Aligned, least_shared: int = _LEAST_SHARED) -> np.ndarray:
    """(dimension, dimension): how translations of a sentence differ, each pair of languages counting the same. Raises ValueError when no two share enough."""
    found = []
    langs = sorted(aligned)
    for place, one in enumerate(langs):
        for other in langs[place + 1 :]:
            (numbers, rows), (other_numbers, other_rows) = aligned[one], aligned[other]
            _, here, there = np.intersect1d(numbers, other_numbers, assume_unique=True, return_indices=True)
            if len(here) >= least_shared:
                apart = rows[here] - other_rows[there]
                found.append(apart.T @ apart / len(here) / 2)
    if not found:
        raise ValueError(f"no two languages share {least_shared} sentences")
    return np.mean(found, axis=0)


def directions(
    aligned: Aligned, power: float, kept: int, others: Sequence[np.ndarray] = (), least_shared: int = _LEAST_SHARED
) -> np.ndarray:
    """(dimension, kept) float32, to multiply vectors with: S^-power, S being `within_covariance` with a ridge, then the `kept` principal directions.

    power: 0.5 would make the differences between translations equally wide in all directions, 0 leaves them as they are.
    others: unit rows of other kinds of text, whose widest directions are worth as much as those of `aligned`: names and questions live in some of their own.
    """
    within = within_covariance(aligned, least_shared)
    dimension = len(within)
    widths, axes = np.linalg.eigh(within + _RIDGE * np.trace(within) / dimension * np.eye(dimension))
    evened = (axes * widths**-power) @ axes.T
    kinds = [np.concatenate([rows for _, rows in aligned.values()]), *(rows for rows in others if len(rows) > 1)]
    widths, axes = np.linalg.eigh(np.sum([np.cov(normalised(rows @ evened).T) for rows in kinds], axis=0))
    found = evened @ axes[:, ::-1][:, :kept]
    return (found / np.sqrt((found**2).sum() / kept)).astype(np.float32)


def of_length(texts: Sequence[str], least_words: int, most_words: int, most: int, seed: int) -> list[int]:
    """Numbers, ascending, of at most `most` of these texts with so many words."""
    found = [number for number, text in enumerate(texts) if least_words <= len(text.split()) <= most_words]
    chosen = np.random.default_rng(seed).permutation(len(found))[:most]
    return sorted(found[int(place)] for place in chosen)

"""Which source piece each target piece renders: IBM model 1 with a preference for equal places (as fast_align has it), over pieces.

Cross-attention that is shown this from the first step on needs not discover it, which takes a Transformer most of a short training.
(Guided alignment: Chen et al. 2016, "Guided Alignment Training for Topic-Aware Neural Machine Translation".)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ROUNDS = 5
_TENSION = 4.0  # how fast a link loses with its distance from the diagonal
_UNALIGNED = 0.1  # chance before seeing the words that a target piece renders nothing
_LEAST = 0.01  # likelihoods below it are forgotten
_SURE = 0.5  # a link less likely than this is not shown

Pair = tuple[np.ndarray, np.ndarray, int]  # source pieces, target pieces, number of the target language


@dataclass(frozen=True, slots=True)
class Lexicon:
    pieces: int
    keys: np.ndarray  # (k,) int64, sorted: target language, source piece, target piece
    likelihoods: np.ndarray  # (k,) of the target piece, given the others

    def places(self, pairs: Sequence[Pair]) -> list[np.ndarray]:
        """For each pair the number of the source piece that each target piece renders, -1 where none is likely."""
        links = _Links(pairs, self.pieces)
        at = np.minimum(np.searchsorted(self.keys, links.keys), len(self.keys) - 1)
        chance = np.where(self.keys[at] == links.keys, self.likelihoods[at], 0.0) * links.prior
        total = np.bincount(links.rendered, chance, links.count)
        best = np.full(links.count, -1)
        sure = (chance > _SURE * total[links.rendered]) & (links.place >= 0)
        best[links.rendered[sure]] = links.place[sure]
        return np.split(best, np.cumsum([len(target) for _, target, _ in pairs])[:-1])


def learn_lexicon(pairs: Sequence[Pair], pieces: int) -> Lexicon:
    """From sentences and their translations, by expectation-maximisation."""
    links = _Links(pairs, pieces)
    keys, place = np.unique(links.keys, return_inverse=True)
    given = np.unique(keys // pieces, return_inverse=True)[1]
    likelihood = np.ones(len(keys))
    for _ in range(_ROUNDS):
        chance = likelihood[place] * links.prior
        chance /= np.bincount(links.rendered, chance, links.count)[links.rendered]
        count = np.bincount(place, chance, len(keys))
        likelihood = count / np.bincount(given, count)[given]
    kept = likelihood >= _LEAST
    return Lexicon(pieces, keys[kept], likelihood[kept])


class _Links:
    """Every source piece, and "nothing", beside every target piece of its pair, flat."""

    def __init__(self, pairs: Sequence[Pair], pieces: int):
        keys, prior, rendered, place = [], [], [], []
        self.count = 0
        for source, target, lang in pairs:
            rows, columns = len(target), len(source)
            # "nothing" stands first, as a piece of its own
            given = (lang * (pieces + 1) + np.concatenate([[pieces], source])) * pieces
            keys.append((given[None, :] + target[:, None]).ravel())
            far = np.abs(np.arange(rows)[:, None] / max(1, rows) - np.arange(columns)[None, :] / max(1, columns))
            near = np.exp(-_TENSION * far)
            near *= (1 - _UNALIGNED) / np.maximum(near.sum(1, keepdims=True), 1e-12)
            prior.append(np.concatenate([np.full((rows, 1), _UNALIGNED), near], axis=1).ravel())
            rendered.append(np.repeat(np.arange(self.count, self.count + rows), columns + 1))
            place.append(np.tile(np.arange(-1, columns), rows))
            self.count += rows
        self.keys, self.prior, self.rendered, self.place = map(np.concatenate, (keys, prior, rendered, place))

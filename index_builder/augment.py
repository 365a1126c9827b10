"""What an index makes of the generated queries of its entries: xQG and its relatives (METHODS section 1). Pure.

    none      nothing: an entry is found by its own text and its native question
    sum=A     the entry's vector is (1-A) p + A SUM q, over its queries in every language (the paper: A = 0.01)
    mean=B    (1-B) p + B mean(q), which does not grow with the number of queries
    language=B  a further vector for each language, (1-B) p + B mean(q) over the queries in it; only questions in that language meet it
    max       a further vector for each query; only questions in the language of the query meet it
    lexical   the words of the queries become words by which an entry is found; alone, or after another: max+lexical

p is the entry's own unit vector, in which the native question of a QA pair already has its share. The paper leaves z as long as it
comes out, and takes the dot product; our graphs compare by cosine, so z is made a unit vector again. What is lost with its length is
only that entries with many queries that agree are favoured over others.
"""

from dataclasses import dataclass

import numpy as np

from index_builder.encode import normalised
from index_builder.vocabulary import MajlisError

DENSE = ("none", "sum", "mean", "language", "max")
_WEIGHTS = {"sum": 0.01, "mean": 0.26, "language": 0.5}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """One variant. `str` gives the setting that `parse` reads."""

    dense: str = "none"  # of DENSE
    weight: float = 0.0  # A of a sum, B of a mean; no part in the others
    lexical: bool = False

    @classmethod
    def parse(cls, text: str) -> "Augmentation":
        """Raises MajlisError saying what a setting looks like."""
        parts = text.split("+")
        lexical = parts[-1] == "lexical"
        dense, given, weight = (parts[0] if parts != ["lexical"] else "none").partition("=")
        try:
            number = float(weight) if given else _WEIGHTS.get(dense, 0.0)
        except ValueError:
            number = -1.0
        wrong_weight = dense in _WEIGHTS and not 0 < number <= 1 or bool(given) and dense not in _WEIGHTS
        if dense not in DENSE or len(parts) > 1 + lexical * (parts != ["lexical"]) or wrong_weight:
            raise MajlisError(
                f"The augmentation is {text!r}, expected one of {', '.join(DENSE)} or lexical, or a dense one and lexical: max+lexical. "
                "sum, mean and language take a weight above 0 and at most 1: mean=0.3."
            )
        return cls(dense, number, lexical)

    def __str__(self) -> str:
        dense = f"{self.dense}={self.weight:g}" if self.dense in _WEIGHTS else self.dense
        if not self.lexical:
            return dense
        return "lexical" if dense == "none" else f"{dense}+lexical"


def augmented(own: np.ndarray, queries: np.ndarray, owner: np.ndarray, chosen: Augmentation) -> np.ndarray:
    """(n, d) float32 unit rows: the vectors of n entries with their queries in them.

    own      (n, d)  float32 unit rows, the entries' own vectors
    queries  (m, d)  float32 unit rows
    owner    (m,)    the entry of each query, ascending
    An entry without queries keeps its own vector. For "sum", "mean" and "language"; the rows of a chunk at a time, so memory does not grow.
    """
    if not len(owner):
        return own
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    asked = owner[starts]
    sums = np.add.reduceat(queries, starts, axis=0)
    if chosen.dense != "sum":
        sums /= np.diff(starts, append=len(owner))[:, None]
    found = own.copy()
    found[asked] = (1 - chosen.weight) * own[asked] + chosen.weight * sums
    return normalised(found).astype(np.float32)

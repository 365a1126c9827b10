"""Pieces of the vocabulary -> what they are made of: character n-grams and consonant sounds.

While it is trained, a piece's vector is its own plus those of its features, so that forms of one word (evde, evlerde) and one name
in four scripts (ঢাকা, ढाका, دكا, dhaka) learn from each other. Features depend on the piece alone: they are folded into its vector
when training ends, and cost nothing at run time.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from index_builder.sound import sounds_of

_WORD_START = "▁"
_NGRAMS = (3, 4)
_FEWEST_PIECES = 2  # a feature of one piece teaches nothing that the piece's own vector does not


# Bengali letters as the Devanagari ones at the same place of their block: the Sanskrit words that four of our languages share become one
_TO_DEVANAGARI = {code: code - 0x80 for code in range(0x0980, 0x0A00)} | {0x09F1: 0x0935, 0x09F0: 0x0930, 0x09DF: 0x092F, 0x09CE: 0x0924}


def ngrams(piece: str) -> Iterator[str]:
    """The piece and its character n-grams, with the start of a word marked and Bengali letters written in Devanagari."""
    marked = piece.replace(_WORD_START, "<").translate(_TO_DEVANAGARI)
    if len(marked) >= _NGRAMS[0]:
        yield f"w:{marked}"
    for n in _NGRAMS:
        if len(marked) > n:
            yield from (f"n:{marked[i : i + n]}" for i in range(len(marked) - n + 1))


def sounds(piece: str) -> Iterator[str]:
    """The consonant skeleton of the piece, whole and in threes."""
    start = "<" if piece.startswith(_WORD_START) else ""
    found = sounds_of(piece.removeprefix(_WORD_START))
    if len(found) >= 2:
        yield f"s:{start}{found}"
    if len(found) > 3:
        yield from (f"s3:{found[i : i + 3]}" for i in range(len(found) - 2))


def feature_table(pieces: Sequence[str], with_ngrams: bool, with_sounds: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """(starts, features, number of features): those of piece i are features[starts[i]:starts[i + 1]]."""
    rows = [[*(ngrams(piece) if with_ngrams else ()), *(sounds(piece) if with_sounds else ())] for piece in pieces]
    counts = Counter(feature for row in rows for feature in set(row))
    numbers = {feature: number for number, feature in enumerate(sorted(f for f, count in counts.items() if count >= _FEWEST_PIECES))}
    kept = [[numbers[feature] for feature in dict.fromkeys(row) if feature in numbers] for row in rows]
    starts = np.cumsum([0, *map(len, kept)])
    return starts, np.array([number for row in kept for number in row], dtype=np.int64), len(numbers)

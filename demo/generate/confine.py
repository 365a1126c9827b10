"""What a model may write next: anything, one of the given texts, or letters of one script. Pure: token ids and scores in, token ids out.

A steering object is asked in turns: `forced` are the tokens that follow without a choice, `pick` makes the next choice from the model's
scores, `over` says that nothing can follow. The model reads forced tokens in one go, so a quoted sentence costs one choice, not one a word.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import regex

_LETTER = regex.compile(r"[\p{L}\p{M}]")
_BETWEEN_WORDS = regex.compile(r"[^\p{L}\p{M}]+")
_SCRIPTS = {"Arab": r"\p{Arabic}", "Beng": r"\p{Bengali}", "Deva": r"\p{Devanagari}", "Latn": r"\p{Latin}"}
_SHARED = r"\p{Common}\p{Inherited}"  # signs that belong to no script: digits, punctuation, emoji, the danda


@dataclass(slots=True)
class Node:
    children: dict[int, "Node"] = field(default_factory=dict)
    choice: int = -1  # the number of the text that may end here; -1: none may


def trie_of(texts: Sequence[Sequence[int]]) -> Node:
    """The tree of all `texts`, token by token. Every node has a child or ends a text, so a walk that follows children cannot be stranded.

    A text without tokens is left out; of texts with the same tokens the first one counts.
    """
    root = Node()
    for number, tokens in enumerate(texts):
        node = root
        for token in tokens:
            node = node.children.setdefault(token, Node())
        if tokens and node.choice < 0:
            node.choice = number
    return root


class Free:
    """The most probable token, whatever it is."""

    over = False
    choice = -1

    def forced(self) -> list[int]:
        return []

    def pick(self, scores: np.ndarray) -> int:
        """`scores` (vocabulary,) float32 of the next token."""
        return int(np.argmax(scores))


class OneOf:
    """One of the texts of a trie, chosen by the model where they part. `ends`: the tokens by which the model may end where a text ends."""

    def __init__(self, root: Node, ends: Sequence[int]):
        if not root.children:
            raise ValueError("there is no text to choose from")
        self._node, self._ends = root, list(ends)

    @property
    def over(self) -> bool:
        return not self._node.children

    @property
    def choice(self) -> int:
        """The text that has been written; -1 in the middle of one."""
        return self._node.choice

    def forced(self) -> list[int]:
        tokens = []
        while len(self._node.children) == 1 and self._node.choice < 0:
            ((token, self._node),) = self._node.children.items()
            tokens.append(token)
        return tokens

    def pick(self, scores: np.ndarray) -> int:
        tokens = [*self._node.children, *(self._ends if self._node.choice >= 0 else ())]
        token = tokens[int(np.argmax(scores[tokens]))]
        self._node = self._node.children.get(token, self._node)
        return token


class Vocabulary:
    """The texts of a model's tokens, and which letters are in them."""

    def __init__(self, pieces: Sequence[bytes]):
        self._texts = [_decoded(piece) for piece in pieces]
        self._plain: dict[tuple[str, str], np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def text(self, token: int) -> str:
        return self._texts[token]

    def plain(self, script: str, without: str) -> np.ndarray:
        """(vocabulary,) bool: tokens with no letter of a script other than `script` (ISO 15924), nor any of the letters `without`.

        Parts of characters (bytes) and tokens without text are among them: what they make is seen by the language guard.
        """
        if (script, without) not in self._plain:
            foreign = _foreign(script, without)
            self._plain[script, without] = np.array([not foreign.search(text) for text in self._texts])
        return self._plain[script, without]


class OneScript:
    """The most probable token in letters of one script. Words in other letters are allowed as far as they begin one of `words`, as names do."""

    over = False
    choice = -1

    def __init__(self, vocabulary: Vocabulary, script: str, words: Iterable[str], without: str = ""):
        self._vocabulary, self._foreign = vocabulary, _foreign(script, without)
        self._plain = vocabulary.plain(script, without)
        self._words = {word.lower() for word in words if self._foreign.search(word)}
        self._begun = ""  # the letters of the unfinished word
        letters = set("".join(self._words))
        others = [
            token
            for token in np.flatnonzero(~self._plain)
            if all(letter in letters for letter in vocabulary.text(token).lower() if _LETTER.match(letter))
        ]
        self._others = np.array(others, dtype=np.int64)

    def forced(self) -> list[int]:
        return []

    def pick(self, scores: np.ndarray) -> int:
        size = min(len(scores), len(self._plain))  # some models have rows of scores without a token
        token = int(np.argmax(np.where(self._plain[:size], scores[:size], -np.inf)))
        # whether a word may go on is asked of the few tokens that the model prefers to all plain ones
        preferred = self._others[scores[self._others] > scores[token]]
        for other in preferred[np.argsort(-scores[preferred], kind="stable")]:
            if self._fits(self._vocabulary.text(other)):
                token = int(other)
                break
        self._begun = _last_word(self._begun + self._vocabulary.text(token))
        return token

    def _fits(self, text: str) -> bool:
        *whole, last = _BETWEEN_WORDS.split((self._begun + text).lower())
        return all(word in self._words for word in whole if self._foreign.search(word)) and (
            not self._foreign.search(last) or any(word.startswith(last) for word in self._words)
        )


def words_of(texts: Iterable[str]) -> set[str]:
    """The words of `texts`, letters alone."""
    return {word for text in texts for word in _BETWEEN_WORDS.split(text) if word}


def _last_word(text: str) -> str:
    return _BETWEEN_WORDS.split(text)[-1]


def _foreign(script: str, without: str) -> regex.Pattern:
    own = _SCRIPTS[script] + _SHARED
    return regex.compile(rf"[[\p{{L}}\p{{M}}]--[{own}]]" + (f"|[{regex.escape(without)}]" if without else ""), regex.V1)


def _decoded(piece: bytes) -> str:
    """The text of a token, or nothing where it is only a part of a character."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return ""

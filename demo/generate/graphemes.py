"""Pieces of text as they come from a model -> whole grapheme clusters, as a reader sees characters."""

import regex

_CLUSTER = regex.compile(r"\X")


class Graphemes:
    """Holds the last cluster back: the next piece may still add a vowel sign, a joiner or half of a flag to it."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        """What is surely complete now; may be empty."""
        clusters = _CLUSTER.findall(self._held + text)
        self._held = clusters.pop() if clusters else ""
        return "".join(clusters)

    def rest(self) -> str:
        """What was held back, once nothing more can come."""
        held, self._held = self._held, ""
        return held

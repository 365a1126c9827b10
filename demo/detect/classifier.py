"""langid's engine with the retrained model: scores of the classes of one script, and which features moved them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from index_builder.language import Block, LanguageModel, as_bytes, as_features, build_automaton, load_model


@dataclass(frozen=True, slots=True)
class Scored:
    """Probabilities of the classes of one script for a text."""

    classes: tuple[str, ...]
    probabilities: np.ndarray


class Classifier:
    """A langid LanguageIdentifier (its tokenizer and its linear scores) for each script, with a calibrated softmax over the script's classes."""

    def __init__(self, model: LanguageModel):
        from langid.langid import LanguageIdentifier  # here, because importing it costs 70 ms

        self._blocks = {block.script: block for block in model.blocks}
        self._identifiers = {}
        for block in model.blocks:
            nextmove, output = build_automaton(block.trie)
            # a memoryview yields plain ints, three times as fast as indexing the array
            self._identifiers[block.script] = LanguageIdentifier(
                block.weights, block.bias, len(block.weights), list(block.classes), memoryview(nextmove), output,
            )  # fmt: skip

    @classmethod
    def open(cls, folder: Path) -> "Classifier":
        return cls(load_model(folder))

    def knows(self, script: str) -> bool:
        return script in self._blocks

    def score(self, words: list[str], script: str) -> Scored:
        """`words` of `script`, as words_by_script gives them; at least one."""
        block = self._blocks[script]
        text = as_features(words)
        counts, places = self._count(text, block)
        # langid multiplies the whole count vector; the few features that occur are enough, and 50 times faster
        scores = counts @ block.weights[places] + block.bias
        a, b = block.temperature
        scores = scores / np.exp(a + b * np.log(len(text)))
        exponentials = np.exp(scores - scores.max())
        return Scored(block.classes, exponentials / exponentials.sum())

    def telling(self, words: list[str], script: str, label: str, rival: str) -> str:
        """The word of the text that speaks most for `label` against `rival`; empty when none does.

        A word's weight is that of every feature inside it, and the words' weights add up to the score of the text.
        """
        block = self._blocks[script]
        mine, other = block.classes.index(label), block.classes.index(rival)
        best, most = "", 0.0
        for word in dict.fromkeys(words[:12]):
            counts, places = self._count(as_features([word]), block)
            weight = float(counts @ (block.weights[places, mine] - block.weights[places, other]))
            if weight > most:
                best, most = word, weight
        return best

    def _count(self, text: str, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """(how often, which) features occur in `text`."""
        counts = self._identifiers[block.script].instance2fv(as_bytes(text, block.alphabet))
        places = counts.nonzero()[0]
        return counts[places].astype(np.float32), places

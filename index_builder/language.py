"""What the language trainer and the detector share: text -> words by script, and the model file.

The model is, for each script, a linear classifier over character n-grams in the form that langid's engine runs: an automaton that
counts features, times a matrix of feature x class, plus a bias per class. Two things differ from langid's own file: the automaton is
rebuilt from the feature list at load, in milliseconds where unpickling took a second, and nothing is unpickled, so that a file from
a stranger cannot run code.
"""

import json
import re
import unicodedata
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import regex

from index_builder.vocabulary import MajlisError

SCRIPTS = ("Arab", "Beng", "Deva", "Latn")
MAX_CHARACTERS = 600  # a hundred words decide as well as ten thousand
ROMAN = "-Latn"  # suffix of a class: "bn-Latn" is Bangla in Latin letters

# Tatweel, vowel signs and recitation marks that users never type; joiners and bidi controls, which show nothing
_INVISIBLE = regex.compile(r"[\u0640\u064B-\u065F\u0670\u06D6-\u06ED\u200B-\u200F\u2060\u202A-\u202E\u2066-\u2069\uFEFF\u00AD\p{Cc}--[\t\n\r]]", regex.V1)
_QUOTED = regex.compile(r"\"[^\"]{2,80}\"|“[^”]{2,80}”|«[^»]{2,80}»|‘[^’]{2,80}’")
_QUOTES = frozenset('"“«‘')
# A digit inside a Latin word is a letter of Arabizi (3arabi, 7abibi); an apostrophe is a letter of Assamese (ক'ত) and of Turkish names.
_WORD = regex.compile(
    r"(?P<Latn>(?:[2-9](?=\p{Latin}))?\p{Latin}(?:[\p{Latin}\p{M}]|['’ʼ](?=\p{Latin})|[2-9](?![0-9]))*)"
    r"|(?P<Arab>[\p{Arabic}&&\p{L}][[\p{Arabic}&&\p{L}]\p{M}]*)"
    r"|(?P<Beng>[\p{Bengali}&&\p{L}](?:[[\p{Bengali}&&\p{L}]\p{M}]|['’ʼ‘](?=\p{Bengali}))*)"
    r"|(?P<Deva>[\p{Devanagari}&&\p{L}][[\p{Devanagari}&&\p{L}]\p{M}]*)"
    r"|(?P<Zyyy>\p{L}[\p{L}\p{M}]*)",
    regex.V1,
)
_APOSTROPHES = str.maketrans("’ʼ‘", "'''")


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text, lower-cased and cleaned, by script in the order of the text."""

    by_script: dict[str, list[str]]  # ISO 15924; "Zyyy" holds every script that the model does not know


def words_by_script(text: str) -> Words:
    """Raises nothing: any string, lone surrogates included, has some words or none."""
    found: dict[str, list[str]] = {}
    text = _INVISIBLE.sub("", text[: 2 * MAX_CHARACTERS])[:MAX_CHARACTERS]
    # NFC writes ড় and ज़ as two letters, whichever way they were typed; lower() would leave a loose dot of İ
    text = unicodedata.normalize("NFC", text).replace("İ", "i").lower().translate(_APOSTROPHES)
    for match in _WORD.finditer(text):
        found.setdefault(match.lastgroup or "Zyyy", []).append(match.group())
    return Words(found)


def without_quotes(text: str) -> str:
    """`text` without what stands in quotation marks: a foreign title says nothing about the language of the question."""
    return _QUOTED.sub(" ", text[: 2 * MAX_CHARACTERS]) if _QUOTES.intersection(text) else text


def as_features(words: Sequence[str]) -> str:
    """The words as the automaton reads them: spaces mark where a word begins and ends."""
    return " " + " ".join(words) + " "


@dataclass(frozen=True, slots=True)
class Trie:
    """The features of a script as a tree of letters; state 0 is the root, and states are in the order of their depth.

    parents (states,) uint16: the state before the last letter. letters (states,) uint8: that letter, as a byte.
    ends (states,) int32: the number of the feature that ends here, -1 where none does.
    """

    parents: np.ndarray
    letters: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True, slots=True)
class Block:
    """The classes of one script. Probabilities are a softmax over `classes` of (counts @ weights + bias) / temperature."""

    script: str
    classes: tuple[str, ...]
    alphabet: str  # the letters of its features; the automaton reads letter i as byte i + 1, and any other letter as byte 0
    trie: Trie
    weights: np.ndarray  # (features, classes) float32
    bias: np.ndarray  # (classes,) float32
    temperature: tuple[float, float]  # (a, b): exp(a + b * log(characters))


@dataclass(frozen=True, slots=True)
class LanguageModel:
    name: str
    blocks: tuple[Block, ...]
    about: dict[str, Any]  # how it was made


def as_bytes(text: str, alphabet: str) -> bytes:
    """One byte a letter: a third of the automaton that UTF-8 would need for our scripts, and a third of the steps."""
    return text.translate(_codes(alphabet)).encode("latin-1")


@lru_cache(maxsize=16)
def _codes(alphabet: str) -> "_Codes":
    return _Codes(alphabet)


class _Codes(dict[int, int]):
    def __init__(self, alphabet: str):
        super().__init__({ord(letter): place + 1 for place, letter in enumerate(alphabet)})

    def __missing__(self, letter: int) -> int:
        return 0


def save_model(model: LanguageModel, folder: Path) -> None:
    """Write `model.json` (classes, calibration and how it was made) and per script its trie and its weights (int8, with a scale per class)."""
    folder.mkdir(parents=True, exist_ok=True)
    blocks = []
    for block in model.blocks:
        scale = np.maximum(np.abs(block.weights).max(axis=0), 1e-6) / 127
        weights = np.round(block.weights / scale).astype(np.int8)
        np.savez_compressed(folder / f"{block.script}.npz", weights=weights, parents=block.trie.parents, letters=block.trie.letters, ends=block.trie.ends)
        blocks.append({
            "script": block.script, "classes": block.classes, "alphabet": block.alphabet, "temperature": block.temperature,
            "bias": [round(float(value), 4) for value in block.bias], "scale": [float(f"{value:.5g}") for value in scale],
        })  # fmt: skip
    head = {"name": model.name, "blocks": blocks, "about": model.about}
    (folder / "model.json").write_text(json.dumps(head, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def load_model(folder: Path) -> LanguageModel:
    """Raises MajlisError when a file is missing or the parts do not fit each other."""
    try:
        head = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        return LanguageModel(head["name"], tuple(_load_block(folder, row) for row in head["blocks"]), head.get("about", {}))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise MajlisError(f"The language model in {folder} cannot be read ({error}). Restore it, or: python -m index_builder train-language.") from error


def _load_block(folder: Path, row: dict[str, Any]) -> Block:
    script = row["script"]
    if not re.fullmatch("[A-Z][a-z]{3}", script):
        raise ValueError(f"{script!r} is no script")
    with np.load(folder / f"{script}.npz", allow_pickle=False) as arrays:
        weights = arrays["weights"].astype(np.float32) * np.asarray(row["scale"], np.float32)
        trie = Trie(arrays["parents"], arrays["letters"], arrays["ends"])
    a, b = row["temperature"]
    block = Block(script, tuple(row["classes"]), row["alphabet"], trie, weights, np.asarray(row["bias"], np.float32), (float(a), float(b)))
    states = len(trie.parents)
    sound = (
        weights.shape == (int(trie.ends.max()) + 1, len(block.classes)) and block.bias.shape == (len(block.classes),) and states <= 65_535
        and trie.letters.shape == trie.ends.shape == (states,) and bool((trie.parents[1:] < np.arange(1, states)).all())
    )  # fmt: skip
    if not sound:
        raise ValueError(f"the parts of {script} do not fit each other")
    return block


def build_trie(words: Sequence[bytes]) -> Trie:
    """The tree of `words`, whose places are the features' numbers."""
    prefixes: set[bytes] = {b""}
    for word in words:
        length = len(word)
        # walk down from the whole word: once a prefix is known, all shorter ones are
        while word[:length] not in prefixes:
            prefixes.add(word[:length])
            length -= 1
    ordered = sorted(prefixes, key=lambda prefix: (len(prefix), prefix))
    if len(ordered) > 65_535:
        raise MajlisError(f"{len(ordered)} states do not fit the automaton of langid; train with fewer features.")
    number = {prefix: state for state, prefix in enumerate(ordered)}
    ends = np.full(len(ordered), -1, np.int32)
    ends[[number[word] for word in words]] = np.arange(len(words))
    parents = np.array([number[prefix[:-1]] for prefix in ordered], np.uint16)
    return Trie(parents, np.array([prefix[-1] if prefix else 0 for prefix in ordered], np.uint8), ends)


class Outputs:
    """langid's `tk_output`: state -> numbers of the features that end there. Filled as states are met, because filling it whole is half the load."""

    def __init__(self, ends: np.ndarray, fallback: np.ndarray):
        self._ends, self._fallback = ends, fallback
        self._known: dict[int, tuple[int, ...]] = {0: ()}

    def get(self, state: int, default: Sequence[int] = ()) -> tuple[int, ...]:
        found = self._known.get(state)
        if found is None:
            end = int(self._ends[state])
            found = (*((end,) if end >= 0 else ()), *self.get(int(self._fallback[state])))
            self._known[state] = found
        return found


def build_automaton(trie: Trie) -> tuple[np.ndarray, Outputs]:
    """Aho-Corasick: langid's `tk_nextmove`, (states * 256,) uint16, and `tk_output`.

    Built level by level: a state's row is the row of its longest proper suffix, with its own children written over it.
    """
    states = len(trie.parents)
    parents = trie.parents.astype(np.int64)
    rows = np.zeros((states, 256), np.uint16)
    fallback = np.zeros(states, np.int64)
    first = 1
    while first < states:
        # states are ordered by depth, so a level ends where parents reach into it
        last = first + int(np.searchsorted(parents[first:], first))
        up, letters, level = parents[first:last], trie.letters[first:last], np.arange(first, last)
        # where the parent's suffix goes on the same letter; the root's children fall back to the root
        fallback[level] = 0 if first == 1 else rows[fallback[up], letters]
        rows[up, letters] = level
        rows[level] = rows[fallback[level]]
        first = last
    return rows.reshape(-1), Outputs(trie.ends, fallback)

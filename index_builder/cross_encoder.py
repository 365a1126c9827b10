"""Question and entry -> how far the entry answers the question: a small cross-encoder, which reads both at once.

A vector of each can only say that they are about the same thing: "Who painted it?" and "What did he paint?" lie side by side. Here each piece of
the question looks at the pieces of the entry (cross-attention; METHODS section 2 and Nogueira and Cho, 2019, call such a model a reranker). It
works on the token vectors of the static encoder, in which the seven languages already meet, so that one language learns from all.
"""

import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from index_builder.digest import file_sha256
from index_builder.encode import Encoder, StaticEncoder, normalised
from index_builder.vocabulary import Entry, MajlisError

FILE = "cross_encoder.npz"  # beside the encoder's weights, over whose vectors it was trained
QUESTION, ENTRY = 32, 240  # pieces that are read of each
TITLE, ASKED, TEXT = range(3)  # the parts of an entry
OF_QUESTION = 3  # the row of the part embedding that a question's pieces get
SIGNALS = 4  # of each piece, beside its vector: see `signals`
HEADS = 4
SPREAD = 16.0  # unit vectors of 256 dimensions have entries of about 1/16
_SAME_PIECE = 0.98
_LEAST_NORM = 0.05
_SURE = 0.999
_EPSILON = 1e-5  # torch's, in a layer norm

Parts = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Pieces:
    """A text for the network. vectors: (pieces, dimension) float32 of unit length; norms: (pieces,) their lengths before, 1 on average over the vocabulary."""

    vectors: np.ndarray
    norms: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class CrossEncoder:
    """weights: name -> array, as the trainer's `state_dict` names them. digest: of the file, tells one from another."""

    encoder: StaticEncoder = field(repr=False)
    weights: Mapping[str, np.ndarray] = field(repr=False)
    digest: str = ""

    def probabilities(self, question: str, entries: Sequence[Entry]) -> np.ndarray:
        """(len(entries),) float32: how probably each answers; 1/2 for a question without a single known piece."""
        asked = pieces(self.encoder, self.encoder.piece_ids(question)[:QUESTION])
        return 1 / (1 + np.exp(-np.array([self._log_odds(asked, entry) for entry in entries], dtype=np.float32)))

    def _log_odds(self, asked: Pieces, entry: Entry) -> float:
        ids, parts = entry_ids(self.encoder.piece_ids, parts_of(entry))
        if not len(asked.norms) or not ids:
            return 0.0
        read = pieces(self.encoder, ids)
        of_question, of_entry = signals(asked, read)
        w = self.weights
        q = self._linear("project", asked.vectors * SPREAD) + w["part.weight"][OF_QUESTION] + of_question @ w["signals.weight"].T
        e = self._linear("project", read.vectors * SPREAD) + w["part.weight"][parts] + of_entry @ w["signals.weight"].T
        q, e = self._in_context(q), self._in_context(e)
        for layer in range(_count(w, "layers")):
            name = f"layers.{layer}"
            q = self._norm(f"{name}.norms.0", q + self._attention(f"{name}.across", q, e))
            q = self._norm(f"{name}.norms.1", q + self._attention(f"{name}.within", q, q))
            q = self._norm(f"{name}.norms.2", q + self._linear(f"{name}.narrow", np.maximum(self._linear(f"{name}.wide", q), 0)))
        share = _softmax(self._linear("pool", q)[:, 0])
        pooled = self._norm("out_norm", np.concatenate([share @ q, q.max(0)]))
        return float(self._linear("out", np.maximum(self._linear("hidden", pooled), 0))[0])

    def _in_context(self, x: np.ndarray) -> np.ndarray:
        """Each piece with its neighbours: convolutions over three."""
        for layer in range(_count(self.weights, "convolutions")):
            weight = self.weights[f"convolutions.{layer}.weight"]  # (out, in, 3)
            edged = np.pad(x, ((1, 1), (0, 0)))
            mixed = sum(edged[place : place + len(x)] @ weight[:, :, place].T for place in range(3))
            x = self._norm(f"convolution_norms.{layer}", x + np.maximum(mixed + self.weights[f"convolutions.{layer}.bias"], 0))
        return x

    def _attention(self, name: str, asking: np.ndarray, asked: np.ndarray) -> np.ndarray:
        query, key, value = (
            self._linear(f"{name}.{part}", x).reshape(len(x), HEADS, -1).transpose(1, 0, 2)
            for part, x in (("query", asking), ("key", asked), ("value", asked))
        )
        share = _softmax(query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1]))
        return self._linear(f"{name}.out", (share @ value).transpose(1, 0, 2).reshape(len(asking), -1))

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + _EPSILON)
        return centred / scale * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def parts_of(entry: Entry) -> Parts:
    return (TITLE, entry.title), (ASKED, entry.question), (TEXT, entry.text)


def entry_ids(piece_ids: Callable[[str], Sequence[int]], parts: Parts) -> tuple[list[int], list[int]]:
    """(pieces of all parts one after the other, the part of each), cut at ENTRY."""
    ids, of_part = [], []
    for part, text in parts:
        found = piece_ids(text) if text else ()
        ids += found
        of_part += [part] * len(found)
    return ids[:ENTRY], of_part[:ENTRY]


def pieces(encoder: StaticEncoder, ids: Sequence[int]) -> Pieces:
    """`ids`: rows of the encoder's table."""
    vectors = encoder.table[np.asarray(ids, dtype=np.intp)].astype(np.float32)
    return Pieces(normalised(vectors), np.linalg.norm(vectors, axis=1) / encoder.mean_norm)


def signals(asked: Pieces, read: Pieces) -> tuple[np.ndarray, np.ndarray]:
    """(pieces, SIGNALS) of a question and of an entry: nearest cosine on the other side, whether that is the same piece, length, its logarithm.

    The length of a static vector is what its piece tells: short for "the", long for a name.
    """
    cosines = asked.vectors @ read.vectors.T
    return _signals(cosines.max(1), asked.norms), _signals(cosines.max(0), read.norms)


def _signals(nearest: np.ndarray, norms: np.ndarray) -> np.ndarray:
    return np.stack([nearest, nearest > _SAME_PIECE, norms, np.log(np.maximum(norms, _LEAST_NORM))], 1).astype(np.float32)


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Of probabilities between 0 and 1; none is taken for surer than _SURE."""
    held = np.clip(probability, 1 - _SURE, _SURE)
    return np.log(held / (1 - held))


def _softmax(x: np.ndarray) -> np.ndarray:
    grown = np.exp(x - x.max(-1, keepdims=True))
    return grown / grown.sum(-1, keepdims=True)


def _count(weights: Mapping[str, np.ndarray], name: str) -> int:
    return len({key.split(".")[1] for key in weights if key.startswith(f"{name}.")})


def open_cross_encoder(encoder: Encoder) -> CrossEncoder | None:
    """The cross-encoder beside `encoder`, None where none was trained. Raises MajlisError for one that is damaged or was trained over other vectors."""
    path = encoder.folder / FILE
    if not path.is_file():
        return None
    train = "train it with `python -m index_builder train-cross-encoder`"
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(bytes(file["about"]))
            weights = {name: file[name].astype(np.float32) for name in file.files if name != "about"}
        trained_over = about["encoder"]
        fits = trained_over == encoder.fingerprint and isinstance(encoder, StaticEncoder)
        if fits:  # a weight that is missing or of another shape shows now, and not at a reader's question
            CrossEncoder(encoder, weights).probabilities("tea", [Entry("", "passage", "", "tea")])
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise MajlisError(f"{path} cannot be read ({error!r}). Restore it from the repository, or {train}.") from error
    if not fits:
        raise MajlisError(
            f"{path} was trained over the vectors of encoder {trained_over[:12]}, and {encoder.name} is {encoder.fingerprint[:12]}. Remove it, or {train}."
        )
    return CrossEncoder(encoder, weights, file_sha256(path)[:16])


def save_cross_encoder(weights: Mapping[str, np.ndarray], about: Mapping[str, object], folder: Path) -> Path:
    """float16, written whole or not at all. `about` names the encoder's fingerprint as "encoder"."""
    partial = folder / f"{FILE}.partial"
    with partial.open("wb") as file:
        text = np.frombuffer(json.dumps(about, ensure_ascii=False).encode(), dtype=np.uint8)
        np.savez_compressed(file, about=text, **{name: array.astype(np.float16) for name, array in weights.items()})
    return partial.replace(folder / FILE)

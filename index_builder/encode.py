"""Text -> unit vectors. A static model runs on numpy alone; any other sentence-transformers folder loads torch when it is opened."""

import json
import threading
from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from index_builder.digest import file_sha256
from index_builder.vocabulary import MajlisError

BUNDLED = Path(__file__).resolve().parent.parent / "assets/models/encoder"
TextKind = Literal["query", "passage"]
# What decides a vector. README and training records may change without making an index stale.
_WEIGHTS = ("*.safetensors", "*.bin", "tokenizer.json", "*.model", "modules.json", "*_Pooling/config.json", "*_Dense/*", "config.json")


class EncoderError(MajlisError):
    """An encoder folder that cannot be used."""


class Encoder(Protocol):
    name: str
    folder: Path
    dimension: int
    fingerprint: str  # changes whenever the vectors would
    query_prefix: str
    passage_prefix: str

    def encode(self, texts: Sequence[str], kind: TextKind) -> np.ndarray:
        """(len(texts), dimension) float32, rows of unit length; a text without a single known piece gives zeros."""
        ...


def open_encoder(folder: Path, name: str = "", query_prefix: str = "", passage_prefix: str = "") -> Encoder:
    """The encoder in a sentence-transformers folder. Raises EncoderError for a folder that is missing, incomplete or altered."""
    modules_file = folder / "modules.json"
    if not modules_file.is_file():
        raise EncoderError(
            f"No encoder in {folder}: modules.json is missing. Expected a sentence-transformers folder; "
            "restore assets/models/encoder from the repository, or fetch another with `python -m demo models fetch NAME`."
        )
    try:
        modules = {
            module["type"].rsplit(".", 1)[-1]: module.get("path", "") for module in json.loads(modules_file.read_text(encoding="utf-8"))
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(f"{modules_file} is not a sentence-transformers module list ({error}). Restore the file.") from error
    if modules.keys() <= {"StaticEmbedding", "Normalize"}:
        return StaticEncoder(folder, name or folder.name, query_prefix, passage_prefix, modules.get("StaticEmbedding", ""))
    return TransformerEncoder(folder, name or folder.name, query_prefix, passage_prefix)


class StaticEncoder:
    """Mean of token vectors, normalised: sentence-transformers' StaticEmbedding + Normalize, without torch.

    table: (pieces, dimension) float16 or float32, the token vectors.
    """

    def __init__(self, folder: Path, name: str, query_prefix: str = "", passage_prefix: str = "", inside: str = ""):
        """`inside`: the subfolder of the weights and the tokenizer, where the module list names one."""
        self.name, self.folder, self.query_prefix, self.passage_prefix = name, folder, query_prefix, passage_prefix
        try:
            with safe_open(folder / inside / "model.safetensors", framework="numpy") as weights:
                self.table = _token_vectors(weights)
            if self.table.ndim != 2:
                raise ValueError(f"embedding.weight has shape {self.table.shape}, expected tokens x dimension")
        except (OSError, SafetensorError, ValueError, TypeError) as error:
            raise EncoderError(
                f"The encoder in {folder} cannot be read ({error}). Restore its files from the repository or fetch it again."
            ) from error
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / inside / "tokenizer.json"))
        except Exception as error:  # tokenizers raises a bare Exception for a broken or missing file
            raise EncoderError(f"{folder / inside / 'tokenizer.json'} cannot be read ({error}). Restore it from the repository.") from error
        if len(self.table) < self._tokenizer.get_vocab_size():
            raise EncoderError(
                f"The encoder in {folder} has {len(self.table)} token vectors for a vocabulary of {self._tokenizer.get_vocab_size()}: "
                "its files belong to different models. Restore the folder as a whole."
            )
        self.dimension = self.table.shape[1]
        self.fingerprint = fingerprint(folder)

    @cached_property
    def mean_norm(self) -> float:
        """Mean length of the token vectors."""
        return float(np.mean([np.linalg.norm(some.astype(np.float32), axis=1).mean() for some in np.array_split(self.table, 16)]))

    def piece_ids(self, text: str) -> list[int]:
        """The rows of `table` that `text` is made of, in order."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode(self, texts: Sequence[str], kind: TextKind) -> np.ndarray:
        prefix = self.query_prefix if kind == "query" else self.passage_prefix
        encodings = self._tokenizer.encode_batch_fast([prefix + text for text in texts], add_special_tokens=False)
        vectors = np.zeros((len(encodings), self.dimension), dtype=np.float32)
        filled = [row for row, encoding in enumerate(encodings) if encoding.ids]
        if not filled:
            return vectors
        lengths = [len(encodings[row].ids) for row in filled]
        flat = np.concatenate([encodings[row].ids for row in filled])
        starts = np.concatenate(([0], np.cumsum(lengths[:-1]))).astype(np.intp)
        vectors[filled] = np.add.reduceat(self.table[flat].astype(np.float32), starts, axis=0)
        return normalised(vectors)


class TransformerEncoder:
    """Any other sentence-transformers model. Importing torch takes seconds and half a gigabyte, so only opening such an encoder does it."""

    def __init__(self, folder: Path, name: str, query_prefix: str = "", passage_prefix: str = ""):
        self.name, self.folder, self.query_prefix, self.passage_prefix = name, folder, query_prefix, passage_prefix
        self.fingerprint = fingerprint(folder)
        self._lock = threading.Lock()
        from sentence_transformers import SentenceTransformer

        try:
            self._model = SentenceTransformer(str(folder), local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise EncoderError(
                f"The encoder in {folder} cannot be loaded ({error}). Fetch it again with `python -m demo models fetch {name}`."
            ) from error
        self.dimension = self._model.get_embedding_dimension()

    def encode(self, texts: Sequence[str], kind: TextKind) -> np.ndarray:
        prefix = self.query_prefix if kind == "query" else self.passage_prefix
        with self._lock:
            vectors = self._model.encode([prefix + text for text in texts], normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


def _token_vectors(weights: safe_open) -> np.ndarray:
    """(tokens, dimension): ours and sentence-transformers' tensor, or model2vec's with its row and weight of each token, where it has them."""
    names = weights.keys()
    if "embeddings" not in names:
        return weights.get_tensor("embedding.weight")
    table = weights.get_tensor("embeddings")
    if "mapping" in names:
        table = table[weights.get_tensor("mapping")]
    if "weights" in names:
        table = (table * weights.get_tensor("weights")[:, None]).astype(np.float32)
    return table


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Rows of unit length; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def fingerprint(folder: Path) -> str:
    """sha256 over the names and contents of the files that decide a vector."""
    digest = sha256()
    for path in sorted({path for pattern in _WEIGHTS for path in folder.rglob(pattern) if path.is_file()}):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()

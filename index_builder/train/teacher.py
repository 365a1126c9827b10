"""An English teacher's vectors for the English sides of the training examples, made once and kept beside the checkpoints."""

import json
import time
from pathlib import Path

import numpy as np

from index_builder.digest import file_sha256
from index_builder.vocabulary import MajlisError

FEWEST_WORDS = 4  # a sentence encoder has little to say about single words
_CHUNK = 2_048


def teacher_vectors(texts: list[str], folder: Path, work: Path, say=print) -> np.ndarray:
    """(texts, dimension) float16 unit rows of the sentence-transformers model in `folder`; a row of zeros where a text is too short to teach.

    Kept in `work` by text and by the digest of the weights, a chunk at a time: a killed run goes on, and other examples make only what is new.
    """
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise MajlisError(
            f"{folder} holds no model.safetensors. Give a sentence-transformers folder with --teacher, for example all-MiniLM-L6-v2."
        )
    kept = work / f"teacher-{file_sha256(weights)[:12]}"
    kept.mkdir(parents=True, exist_ok=True)
    known: dict[str, np.ndarray] = {}
    for path in sorted(kept.glob("*.json")):
        known |= zip(json.loads(path.read_text(encoding="utf-8")), np.load(path.with_suffix(".npy")), strict=True)
    taught = [i for i, text in enumerate(texts) if len(text.split()) >= FEWEST_WORDS]
    missing = list(dict.fromkeys(texts[i] for i in taught if texts[i] not in known))
    if missing:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder))
        began = time.monotonic()
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            found = model.encode(chunk, batch_size=128, normalize_embeddings=True, show_progress_bar=False).astype(np.float16)
            known |= zip(chunk, found, strict=True)
            name = f"{len(known):08}"
            np.save(kept / f"{name}.npy", found)
            partial = kept / f"{name}.partial"  # the texts come last: vectors without them do not count
            partial.write_text(json.dumps(chunk, ensure_ascii=False), encoding="utf-8")
            partial.replace(kept / f"{name}.json")
            done = start + len(chunk)
            left = (time.monotonic() - began) / done * (len(missing) - done) / 60
            say(f"teacher: {done:,} of {len(missing):,} sentences, {left:.0f} min left")
    dimension = len(next(iter(known.values()))) if known else 1
    vectors = np.zeros((len(texts), dimension), np.float16)
    for i in taught:
        vectors[i] = known[texts[i]]
    return vectors

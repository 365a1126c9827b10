"""BERTScore (Zhang et al. 2020) of an answer against a reference, with whatever encoder is at hand."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from index_builder.evaluate.answer_metrics import Score
from index_builder.vocabulary import MajlisError


def open_scorer(folder: Path, layer: int = 0) -> Score:
    """F1 of greedily matched contextual tokens; a folder with a transformers encoder, `layer` from 1 (default: three quarters of the depth,
    9 of 12, which is what the authors found best for BERT-base). No idf weights, no rescaling. Tokens that frame the text may be
    matched but do not count.

    Raises MajlisError when the folder holds no model.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError, KeyError) as error:
        raise MajlisError(
            f"{folder} holds no transformers encoder ({error}). Fetch one and name its folder, or leave --bertscore out."
        ) from error
    chosen = layer or max(1, round(0.75 * model.config.num_hidden_layers))

    @lru_cache(maxsize=2_048)
    def tokens(text: str) -> tuple[np.ndarray, np.ndarray]:
        """(unit vectors of all tokens, which of them count)."""
        encoded = tokenizer(text, return_tensors="pt", truncation=True, max_length=512, return_special_tokens_mask=True)
        counts = encoded.pop("special_tokens_mask")[0].numpy() == 0
        with torch.inference_mode():
            states = model(**encoded, output_hidden_states=True).hidden_states[chosen][0].numpy()
        return states / np.linalg.norm(states, axis=1, keepdims=True), counts

    def score(answer: str, reference: str) -> float:
        if not answer.strip() or not reference.strip():
            return 0.0
        (given, given_counts), (wanted, wanted_counts) = tokens(answer), tokens(reference)
        similarity = given @ wanted.T
        precision, recall = similarity.max(1)[given_counts].mean(), similarity.max(0)[wanted_counts].mean()
        return float(2 * precision * recall / (precision + recall)) if precision + recall > 0 else 0.0

    return score

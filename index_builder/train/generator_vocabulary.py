"""The nano's vocabulary: SentencePiece-BPE with byte fallback and no normalisation, so that a copied sentence is the sentence, letter by letter."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import regex
import sentencepiece
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from index_builder.train.generator_circuit import Special
from index_builder.train.generator_match import MEANING
from index_builder.vocabulary import MajlisError

CONTROL = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
# The system message ends in the sentence to refuse with, after its last colon. The nano follows no instructions, but it can point at that
# sentence, so this much of the message is kept; tokens are time.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['role'] == 'system' %}{{ message['content'].split(': ')[-1] }}{% else %}{{ message['content'] }}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_BRACKETS = str.maketrans("[]", "()")
_MARKS = " [1] [2] [3] [4] [5] [6] [7] [8] [9]"  # so that brackets are pieces, and never part of one
_END = regex.compile(r"[.!।॥…]+[\"'”’»)]*$")
_ASKED = regex.compile(r"[?؟][\"'”’»)]*$")
_OPENS = regex.compile(r"^▁(?!\p{Ll})")  # as index_builder.text tells a full stop from one in an abbreviation
_SCALE = 0.6  # beside identities of length 1
_CAP = 4.0  # lengths of the encoder's piece vectors lie between 0.5 (function words) and 4 (rare names)


def train_vocabulary(texts: Iterable[str], size: int) -> bytes:
    """A SentencePiece model of `size` pieces. `texts` should hold about as much of every language."""
    out = io.BytesIO()

    def lines():
        for text in texts:
            yield text.replace("\n", " ").translate(_BRACKETS)
            yield _MARKS

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines(), model_writer=out, model_type="bpe", vocab_size=size, byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, character_coverage=0.9998, split_digits=True, max_sentence_length=20_000, control_symbols=list(CONTROL),
        hard_vocab_limit=False, num_threads=1, minloglevel=2,
    )  # fmt: skip
    return out.getvalue()


def load_vocabulary(path: Path) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise MajlisError(f"The vocabulary {path} cannot be read ({error}). Delete it: the next training run writes it again.") from error


def chat_tokens(words: sentencepiece.SentencePieceProcessor, messages: Sequence[dict]) -> list[int]:
    """The tokens of CHAT_TEMPLATE with the answer's turn begun, as llama.cpp makes them: a space is put before each text after a control token."""
    tokens = [words.bos_id()]
    for message in messages:
        content = message["content"].split(": ")[-1] if message["role"] == "system" else message["content"]
        tokens += [words.piece_to_id(f"<|{message['role']}|>"), *words.encode(content), words.piece_to_id("<|end|>")]
    return [*tokens, words.piece_to_id("<|assistant|>")]


def special_tokens(words: sentencepiece.SentencePieceProcessor) -> Special:
    def known(*pieces: str) -> tuple[int, ...]:
        return tuple(token for piece in pieces if (token := words.piece_to_id(piece)) != words.unk_id())

    texts = [words.id_to_piece(token) for token in range(words.vocab_size())]
    open_, bracket, digits, close = known("▁["), known("["), known(*"123456789"), known("]", "▁]")
    if not (open_ and bracket and close) or len(digits) != 9:
        raise MajlisError(
            "The vocabulary has no pieces for citations. Train it on more text: it needs brackets and digits as pieces of their own."
        )
    return Special(
        bos=words.bos_id(), newline=words.piece_to_id("<0x0A>"), user=words.piece_to_id("<|user|>"),
        assistant=words.piece_to_id("<|assistant|>"), system=words.piece_to_id("<|system|>"),
        end_of_turn=words.piece_to_id("<|end|>"), open=open_[0], bracket=bracket[0], close=close, digits=digits,
        sentence_end=tuple(token for token, text in enumerate(texts) if _END.search(text)),
        asked=tuple(token for token, text in enumerate(texts) if _ASKED.search(text)),
        colon=tuple(token for token, text in enumerate(texts) if text.endswith(":")),
        opens=tuple(token for token, text in enumerate(texts) if _OPENS.search(text)),
        aside=tuple(token for token, text in enumerate(texts) if text.startswith("▁(")),
        aside_end=tuple(token for token, text in enumerate(texts) if text.endswith(")")),
    )  # fmt: skip


def piece_meanings(words: sentencepiece.SentencePieceProcessor, encoder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(vocabulary, MEANING) float32: the static encoder's vector of every piece in its own principal directions; and (vocabulary,) in [0, 1], how much it matters.

    A static encoder's vectors are longer for words that tell more, and the length is kept.
    """
    plain = [
        ""
        if words.is_control(token) or words.is_byte(token) or words.is_unknown(token)
        else words.id_to_piece(token).replace("▁", " ").strip()
        for token in range(words.vocab_size())
    ]
    table = load_file(encoder / "model.safetensors")["embedding.weight"]
    tokenizer = Tokenizer.from_file(str(encoder / "tokenizer.json"))
    vectors = np.stack(
        [table[found.ids].astype(np.float32).sum(0) for found in tokenizer.encode_batch_fast(plain, add_special_tokens=False)]
    )
    length = np.linalg.norm(vectors, axis=1)
    _, _, directions = np.linalg.svd(vectors[length > 0].astype(np.float64), full_matrices=False)
    meaning = vectors @ directions[:MEANING].T
    meaning = np.pad(meaning, ((0, 0), (0, MEANING - meaning.shape[1])))  # an encoder of fewer dimensions
    return (_SCALE * meaning).astype(np.float32), np.clip(length / _CAP, 0, 1)

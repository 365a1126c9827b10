"""A Llama of transformers -> GGUF, and GGUF -> smaller GGUF.

Own writer for models with a SentencePiece vocabulary (the nano, the tests), through the `gguf` package. A model with another tokenizer (Llama 3's byte-level
BPE) goes through llama.cpp's own converter, whose path is given: it knows the pre-tokenizers that a vocabulary alone does not tell.
"""

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import sentencepiece
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from index_builder.vocabulary import MajlisError

QUANTISATIONS = ("F32", "F16", "Q8_0", "Q5_K_M", "Q4_K_M")
_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight",
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate", "up_proj": "ffn_up",
    "down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


class ExportError(MajlisError):
    """A model that cannot be written as GGUF."""


def export_llama(
    model: LlamaForCausalLM, words: sentencepiece.SentencePieceProcessor, path: Path, *, name: str, chat_template: str | None, end_of_turn: str,
    architecture: str = "llama", user_defined: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    """`model` in F32 as llama.cpp reads it, so that greedy tokens are those of transformers.

    The vocabulary must be SentencePiece-BPE with byte fallback: llama.cpp ends its process on text that it cannot spell otherwise.
    `end_of_turn` is the piece that ends an answer; `user_defined` pieces are declared as such instead of as control tokens.
    """
    config = model.config
    if not any(words.is_byte(token) for token in range(words.vocab_size())):
        raise ExportError("The vocabulary has no byte fallback, and llama.cpp aborts on text it cannot spell. Train it with byte_fallback.")
    if words.vocab_size() != config.vocab_size:
        raise ExportError(
            f"The model has {config.vocab_size} token vectors for a vocabulary of {words.vocab_size()} pieces: they do not belong together."
        )
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    partial = path.with_name(f"{path.name}.partial")
    out = gguf.GGUFWriter(partial, architecture)
    out.add_name(name)
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    out.add_vocab_size(config.vocab_size)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_key_length(head)
    out.add_value_length(head)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_dimension_count(head)
    out.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))

    out.add_tokenizer_model("llama")
    out.add_token_list([words.id_to_piece(token).encode() for token in range(words.vocab_size())])
    out.add_token_scores([words.get_score(token) for token in range(words.vocab_size())])
    out.add_token_types([_token_type(words, token, user_defined) for token in range(words.vocab_size())])
    out.add_bos_token_id(words.bos_id())
    out.add_eos_token_id(words.eos_id())
    out.add_eot_token_id(words.piece_to_id(end_of_turn))
    out.add_unk_token_id(words.unk_id())
    out.add_add_bos_token(True)
    out.add_add_eos_token(False)
    out.add_add_space_prefix(True)
    if chat_template is not None:
        out.add_chat_template(chat_template)

    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue  # llama.cpp uses the token vectors where there is no output layer
        name_there, part = _gguf_name(key), key.split(".")[-2]
        tensor = tensor.detach().float().cpu()
        out.add_tensor(name_there, (_interleaved(tensor, heads[part]) if part in heads else tensor).contiguous().numpy())
    try:
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ExportError(f"{path} could not be written ({error}). Give a folder that exists and has space.") from error
    return path


def quantise(source: Path, path: Path, kind: str) -> Path:
    """`source` in fewer bits, by llama.cpp's own quantiser. Rows that a K-quantisation cannot divide get the nearest kind that can."""
    import llama_cpp

    if kind not in QUANTISATIONS:
        raise ExportError(f"The quantisation {kind!r} is not known; known are {', '.join(QUANTISATIONS)}.")
    types = {"F32": "LLAMA_FTYPE_ALL_F32"} | {name: f"LLAMA_FTYPE_MOSTLY_{name}" for name in QUANTISATIONS[1:]}
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, types[kind])
    parameters.nthread = 2
    partial = path.with_name(f"{path.name}.partial")
    failed = llama_cpp.llama_model_quantize(str(source).encode(), str(partial).encode(), ctypes.byref(parameters))
    if failed:
        partial.unlink(missing_ok=True)
        raise ExportError(
            f"llama.cpp could not quantise {source} to {kind} (its code is {failed}). Is it a whole GGUF in F32 or F16, and is there space?"
        )
    partial.replace(path)
    return path


def export_lora(adapter: Path, config: LlamaConfig, path: Path, *, name: str) -> Path:
    """A LoRA of peft (`adapter_config.json`, `adapter_model.safetensors`) for a Llama of this `config`, as a GGUF adapter for `lora` in models.toml."""
    try:
        settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        weights = load_file(adapter / "adapter_model.safetensors")
    except (OSError, ValueError) as error:
        raise ExportError(f"{adapter} is not a LoRA of peft ({error}).") from error
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    partial = path.with_name(f"{path.name}.partial")
    out = gguf.GGUFWriter(partial, "llama")
    out.add_type(gguf.GGUFType.ADAPTER)
    out.add_name(name)
    out.add_string(gguf.Keys.Adapter.TYPE, "lora")
    out.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(settings["lora_alpha"]))
    for key, tensor in weights.items():
        target, side = key.removeprefix("base_model.model.").rsplit(".lora_", 1)
        side = side.split(".")[0].lower()
        part = target.rsplit(".", 1)[-1]
        tensor = tensor.float()
        if side == "b" and part in heads:  # the rows of B are the rows of the weight, so they are turned as it is
            tensor = _interleaved(tensor, heads[part])
        out.add_tensor(f"{_gguf_name(f'{target}.weight')}.lora_{side}", np.ascontiguousarray(tensor.numpy()))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    partial.replace(path)
    return path


def convert(folder: Path, path: Path, converter: Path) -> Path:
    """A folder of transformers -> GGUF in F16 by llama.cpp's convert_hf_to_gguf.py at `converter`."""
    if not converter.is_file():
        raise ExportError(f"{converter} is not there. Give the path of convert_hf_to_gguf.py in a checkout of llama.cpp.")
    done = subprocess.run(
        [sys.executable, str(converter), str(folder), "--outfile", str(path), "--outtype", "f16"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ExportError(f"llama.cpp's converter failed on {folder}: {done.stderr.strip()[-500:]}")
    return path


def _interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp rotates neighbouring pairs of a head's dimensions, transformers its two halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _token_type(words: sentencepiece.SentencePieceProcessor, token: int, user_defined: tuple[str, ...]) -> int:
    if words.id_to_piece(token) in user_defined:
        return gguf.TokenType.USER_DEFINED
    if words.is_unknown(token):
        return gguf.TokenType.UNKNOWN
    if words.is_control(token):
        return gguf.TokenType.CONTROL
    if words.is_byte(token):
        return gguf.TokenType.BYTE
    return gguf.TokenType.NORMAL


def _gguf_name(key: str) -> str:
    if key in _NAMES:
        return _NAMES[key]
    _, _, layer, *_, part, kind = key.split(".")
    if part not in _NAMES or kind != "weight":
        raise ExportError(f"The weight {key} has no place in a GGUF of a Llama.")
    return f"blk.{layer}.{_NAMES[part]}.weight"

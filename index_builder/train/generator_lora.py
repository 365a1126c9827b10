"""Fine-tune a real Llama on a GPU: LoRA through peft on the same rows as the nano, merge, GGUF; or the LoRA alone as a GGUF adapter (`lora` in models.toml)."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from index_builder.encode import open_encoder
from index_builder.train.generator import drawn, gather, held_out_numbers, own_retrieval, record_of
from index_builder.train.generator_fit import Schedule, Speaker, fit
from index_builder.train.generator_rows import MOST_EVIDENCE, RowMaker
from index_builder.train.gguf_export import QUANTISATIONS, convert, export_lora, quantise
from index_builder.train.settings import checked, read_toml
from index_builder.vocabulary import Entry, MajlisError


@dataclass(frozen=True, slots=True)
class Config:
    """All that decides the result, beside data and base model; kept with the adapter."""

    base: str = ""  # the Hub id of the model to begin from; its folder is given with --base
    licence: str = ""
    rank: int = 64
    alpha: int = 16
    dropout: float = 0.1
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    dtype: str = "bfloat16"
    quantisations: tuple[str, ...] = ("Q4_K_M",)
    seed: int = 0
    context: int = 4_096
    longest: int = 2_048
    sentences_per_language: int = 2_000
    source_weights: dict[str, float] = field(default_factory=dict)
    steps: int = 3_000
    batch_tokens: int = 8_192
    learning_rate: float = 2e-4
    warmup: int = 100
    refuse: float = 0.12
    checkpoint_every: int = 200
    evaluate_rows: int = 200

    @classmethod
    def read(cls, path: Path) -> "Config":
        config = cls(**checked(cls, read_toml(path), str(path)))
        if not hasattr(torch, config.dtype):
            raise MajlisError(f"{path}: dtype is {config.dtype!r}, expected float32, float16 or bfloat16.")
        strange = sorted(set(config.quantisations) - set(QUANTISATIONS))
        if strange:
            raise MajlisError(f"{path}: the quantisation {strange[0]!r} is not known; known are {', '.join(QUANTISATIONS)}.")
        return config

    def schedule(self) -> Schedule:
        return Schedule(**{known.name: getattr(self, known.name) for known in fields(Schedule)})


class TemplateSpeaker:
    """How a model of transformers reads and writes: its own chat template and tokenizer."""

    def __init__(self, tokenizer: Any):
        if not tokenizer.chat_template:
            raise MajlisError(f"The tokenizer of {tokenizer.name_or_path} has no chat template. Begin from an instruction-tuned model.")
        self._tokenizer = tokenizer
        self.end = tokenizer.eos_token_id

    def prompt(self, messages: Sequence[dict]) -> list[int]:
        text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return self._tokenizer.encode(text, add_special_tokens=False)

    def answer(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)


def train_lora(
    config: Config, base, speaker: Speaker, count_tokens: Callable[[str], int], data: Path, corpus: Sequence[Entry], nativqa: Sequence[Entry], work: Path,
    encoder: Path, say: Callable[[str], None],
) -> tuple[Any, dict]:  # fmt: skip
    """The peft model around `base`, trained or gone on with from the checkpoint in `work`, and the record of how it was made."""
    torch.manual_seed(config.seed)
    adapted = get_peft_model(
        base,
        LoraConfig(
            r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=list(config.targets), task_type="CAUSAL_LM"
        ),
    )
    asks = gather(data, corpus, nativqa, config.sentences_per_language, config.seed)
    digest = sha256(json.dumps([asdict(config), len(asks)], sort_keys=True).encode()).hexdigest()[:8]
    vectors = open_encoder(encoder)
    maker = RowMaker(asks, vectors, count_tokens, config.context, config.seed, own_retrieval(asks, corpus, vectors, work / "index", say))
    held_out = [maker.row(number, least_evidence=MOST_EVIDENCE) for number in held_out_numbers(asks, config.evaluate_rows, config.seed)]
    figures = fit(
        adapted,
        maker,
        drawn(asks, config.source_weights),
        held_out,
        speaker,
        config.schedule(),
        work / f"lora-{digest}.pt",
        config.longest,
        say,
    )
    return adapted, record_of(config, figures, asks)


def train_and_save_lora(
    config: Path, base: Path | None, data: Path, corpus: Sequence[Entry], nativqa: Sequence[Entry], work: Path, out: Path, encoder: Path,
    converter: Path | None, say: Callable[[str], None],
) -> list[Path]:  # fmt: skip
    """The `train-generator` command for a LoRA: the adapter (peft and GGUF), the merged model, and its quantised GGUFs where llama.cpp's converter is given."""
    settings = Config.read(config)
    if base is None or not (base / "config.json").is_file():
        raise MajlisError(f"No model in {base}. Fetch {settings.base} ({settings.licence}) and give its folder with --base.")
    if converter is not None and not converter.is_file():  # better now than after hours
        raise MajlisError(f"{converter} is not there. Give the path of convert_hf_to_gguf.py in a checkout of llama.cpp.")
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, dtype=getattr(torch, settings.dtype))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    speaker = TemplateSpeaker(tokenizer)
    adapted, record = train_lora(
        settings, model, speaker, lambda text: len(speaker.answer(text)), data, corpus, nativqa, work, encoder, say
    )

    out.mkdir(parents=True, exist_ok=True)
    adapted.save_pretrained(out / "adapter")
    (out / "training.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    written = [export_lora(out / "adapter", model.config, out / "lora.gguf", name=f"Majlis LoRA for {settings.base}")]
    merged = adapted.merge_and_unload()
    merged.save_pretrained(out / "merged")
    tokenizer.save_pretrained(out / "merged")
    if converter is None:
        say(
            f"merged model in {out / 'merged'}; give llama.cpp's converter with --converter to have it as GGUF. {written[0]} serves with the stock GGUF."
        )
        return written
    whole = convert(out / "merged", out / "merged-f16.gguf", converter)
    written += [quantise(whole, out / f"merged-{kind.lower()}.gguf", kind) for kind in settings.quantisations]
    whole.unlink()
    return written

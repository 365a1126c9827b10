"""What each method of the encoder's trainer adds: short runs, each method alone over the plain recipe, then all together and as shipped.

Examples are read, tokenised and taught once for all runs, because that takes longer than a short run does. Every run starts from the same
seed. A killed ablation goes on with the first run that it had not finished.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from index_builder.digest import file_sha256
from index_builder.evaluate.files import digests
from index_builder.evaluate.measure import Task
from index_builder.evaluate.runs import Row, Table
from index_builder.train.data import Example, training_files
from index_builder.train.encoder import (
    Sampler,
    StaticModel,
    evaluate,
    new_model,
    read_dev,
    read_examples,
    taught_vectors,
    tokenizer_of,
    train_step,
)
from index_builder.train.recipe import Config
from index_builder.vocabulary import MajlisError

SUITE = "encoder-ablation"
_SHORT = 64  # dimensions that Matryoshka training is for
_MINED_PARTS = 4  # neighbours are looked up again after each quarter of a run

_NGRAMS, _SOUNDS = {"ngram_features": True}, {"sound_features": True}
_TEACHER, _CLASS = {"teacher_weight": 1.0}, {"class_weight": 1.0}
_MINED, _CLOZE, _MATRYOSHKA = {"mined_share": 0.3}, {"cloze_share": 0.1}, {"matryoshka": (_SHORT,)}
_QUESTIONS, _ROMANISED = {"question_share": 0.15}, {"romanised_share": 0.12}
_EVERYTHING = _NGRAMS | _SOUNDS | _TEACHER | _CLASS | _MINED | _CLOZE | _MATRYOSHKA | _QUESTIONS | _ROMANISED
_OFF = {
    "ngram_features": False, "sound_features": False, "teacher_weight": 0.0, "class_weight": 0.0, "mined_share": 0.0, "cloze_share": 0.0,
    "matryoshka": (), "question_share": 0.0, "romanised_share": 0.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Variant:
    """One run: what differs from the configuration that ships."""

    name: str
    changes: Mapping[str, Any]
    english_pairs: bool = False  # one side of every parallel pair is English, instead of any two languages (X-Y)


VARIANTS = (
    Variant("plain, one side always English", _OFF, english_pairs=True),
    Variant("plain: any two languages (X-Y)", _OFF),
    Variant("plain + character n-grams", _OFF | _NGRAMS),
    Variant("plain + consonant sounds", _OFF | _SOUNDS),
    Variant("plain + n-grams and sounds", _OFF | _NGRAMS | _SOUNDS),
    Variant("plain + teacher's vectors", _OFF | _TEACHER),
    Variant("plain + CLASS KL", _OFF | _CLASS),
    Variant("plain + mined negatives", _OFF | _MINED),
    Variant("plain + cloze", _OFF | _CLOZE),
    Variant("plain + questions", _OFF | _QUESTIONS),
    Variant("plain + romanised", _OFF | _ROMANISED),
    Variant("plain + Matryoshka", _OFF | _MATRYOSHKA),
    Variant("all together", _EVERYTHING),
    Variant("as shipped", {}),
)


class EnglishPairs(Sampler):
    """Pairs that meet in English alone, as most parallel text is used; over the tokenised examples of another sampler."""

    def __init__(self, sampler: Sampler, examples: list[Example], config: Config):
        self.sides = sampler.sides
        self.configure(examples, config)

    def pair(self, sides: Collection[str]) -> list[str]:
        others = sorted(set(sides) - {"en"})
        if "en" not in sides or not others:
            return super().pair(sides)
        found = ["en", self.python_random.choice(others)]
        self.python_random.shuffle(found)
        return found


@dataclass(frozen=True, slots=True)
class Shared:
    """What all runs have in common."""

    examples: list[Example]
    held_out: list[Example]
    tokenizer: Tokenizer
    sampler: Sampler
    teacher: torch.Tensor  # (examples, dimension) float16
    dev: dict[str, list[str]]


def prepare(config: Config, data: Path, teacher: Path, work: Path, say=print) -> Shared:
    """With the examples of every method, so that all runs have one vocabulary."""
    work.mkdir(parents=True, exist_ok=True)
    everything = replace(config, **_EVERYTHING)
    examples, held_out = read_examples(everything, data)
    tokenizer = tokenizer_of(everything, examples, work)
    say(f"{len(examples):,} examples, vocabulary of {tokenizer.get_vocab_size():,} pieces")
    taught = taught_vectors(examples, teacher, work, say)
    sampler = Sampler(examples, tokenizer, everything)
    dev = read_dev(data)
    return Shared(examples, held_out, tokenizer, sampler, taught, dev)


def config_of(variant: Variant, config: Config, steps: int) -> Config:
    return replace(config, **variant.changes, steps=steps, mined_every=max(1, steps // _MINED_PARTS))


def run_variant(variant: Variant, shared: Shared, config: Config) -> Row:
    """Train it from the seed and measure it. The row holds shares in [0, 1] and the processor time of a step on this machine."""
    torch.manual_seed(config.seed)
    sampler = shared.sampler
    if variant.english_pairs:
        sampler = EnglishPairs(sampler, shared.examples, config)
    else:
        sampler.configure(shared.examples, config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = new_model(config, shared.tokenizer, shared.teacher.shape[1]).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    began = time.process_time()
    for step in range(config.steps):
        loss = train_step(model, optimiser, sampler, shared.teacher if config.needs_teacher else None, config, step)
    milliseconds = (time.process_time() - began) / config.steps * 1e3
    figures = evaluate(model, shared.tokenizer, shared.dev, shared.held_out)
    short = evaluate(first_dimensions(model), shared.tokenizer, shared.dev, [])
    to_english = [value for name, value in figures.items() if name.endswith("-en")]
    scores = {
        "X to en": round(sum(to_english) / len(to_english), 4), "42 pairs": figures["mean of 42"], "worst of 42": figures["worst of 42"],
        "question success@10": figures.get("question success@10"), f"42 pairs, {_SHORT} dimensions": short["mean of 42"],
    }  # fmt: skip
    known = {name: value for name, value in scores.items() if value is not None}
    return {
        "id": variant.name,
        "set": "ablation",
        "scores": known,
        "loss": round(loss, 4),
        "ms_per_step": round(milliseconds, 1),
        "figures": figures,
    }


def first_dimensions(model: StaticModel) -> Callable[[list[list[int]]], torch.Tensor]:
    """The model with its first dimensions alone."""
    return lambda rows: F.normalize(model(rows)[:, :_SHORT], dim=1)


def ablation_task(config: Config, data: Path, teacher: Path, work: Path, steps: int, say=print) -> Task:
    """For `evaluate.measure.measure`. Raises MajlisError for a number of steps that trains nothing, or a teacher that is not there."""
    if steps < 1:
        raise MajlisError(f"--steps is {steps}, expected 1 or more; some thousand tell methods apart.")
    weights = teacher / "model.safetensors"
    if not weights.is_file():
        raise MajlisError(f"{teacher} holds no model.safetensors. Give an English sentence-transformers folder with --teacher.")

    def rows(done: frozenset[str]) -> Iterator[Row]:
        left = [variant for variant in VARIANTS if variant.name not in done]
        shared = prepare(config, data, teacher, work, say) if left else None
        for variant in left:
            assert shared
            row = run_variant(variant, shared, config_of(variant, config, steps))
            say(f"{variant.name}: {row['scores']}, {row['ms_per_step']:.0f} ms a step")
            yield row

    configuration = {"config": asdict(config), "steps": steps, "data": digests(training_files(data)), "teacher": file_sha256(weights)[:16]}
    note = (
        f"Runs of {steps:,} steps from one seed and one vocabulary, so that a difference of a point or so may be chance, and what is slow to learn is not seen. FLORES dev P@1 "
        "(997 sentences) and success@10 of the held-out questions among all their answers."
    )
    return Task(SUITE, "The encoder's methods, each alone", configuration, rows, tables, note)


def tables(rows: Sequence[Row]) -> list[Table]:
    metrics = list(dict.fromkeys(metric for row in rows for metric in row["scores"]))
    lines = [(row["id"], *(row["scores"].get(metric) for metric in metrics)) for row in rows]
    return [Table("each method alone, and together", ("run", *metrics), lines)]

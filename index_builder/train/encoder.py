"""Train the bundled static encoder: token vectors whose weighted mean is a sentence, so that translations, romanisations and answers meet.

Loss: symmetric in-batch cross-entropy over cosine similarities (InfoNCE) between two sides of each example, drawn at random
among the languages that the example has; LAReQA's X-Y training (METHODS section 6) is the case of two different languages,
which is every case here. Token weights are learned beside the vectors and folded into them at the end.
"""

import json
import random
import time
import tomllib
from collections import Counter
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from index_builder.train.data import Example, read_parallel, read_questions, read_romanised, read_rows
from index_builder.train.tokenizer import train_tokenizer
from index_builder.vocabulary import LANGUAGES, MajlisError

MAX_TOKENS = 96


@dataclass(frozen=True, slots=True)
class Config:
    """All that decides the result, beside the data; kept with the weights."""

    seed: int = 0
    vocabulary: int = 50_000
    dimension: int = 256
    steps: int = 2_500
    batch: int = 1_024
    scale: float = 20.0
    learning_rate: float = 5e-3
    romanised_share: float = 0.0  # of each batch
    question_share: float = 0.0
    scripture_weight: float = 1.0  # scripture is old in style and over half of the Assamese rows
    token_dropout: float = 0.0  # share of pieces left out of each training text, so that no sentence leans on one rare piece
    checkpoint_every: int = 500

    @classmethod
    def read(cls, path: Path) -> "Config":
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        unknown = sorted(values.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            raise MajlisError(f"{path}: unknown setting {unknown[0]!r}; known are {', '.join(cls.__dataclass_fields__)}.")
        return cls(**values)


class StaticModel(torch.nn.Module):
    def __init__(self, vocabulary: int, dimension: int):
        super().__init__()
        self.vectors = torch.nn.EmbeddingBag(vocabulary, dimension, mode="sum")
        torch.nn.init.normal_(self.vectors.weight, std=0.1)
        self.weight = torch.nn.Embedding(vocabulary, 1)
        torch.nn.init.zeros_(self.weight.weight)

    def forward(self, rows: list[list[int]]) -> torch.Tensor:
        device = self.weight.weight.device
        flat = torch.tensor([token for row in rows for token in row], device=device)
        starts = torch.tensor(np.cumsum([0] + [len(row) for row in rows[:-1]]), device=device)
        return F.normalize(self.vectors(flat, starts, per_sample_weights=torch.sigmoid(self.weight(flat).squeeze(1))), dim=1)

    def folded(self) -> np.ndarray:
        """(vocabulary, dimension) float32: vectors with their weights in them, so that a plain mean is enough at run time."""
        with torch.no_grad():
            return (self.vectors.weight * torch.sigmoid(self.weight.weight)).cpu().numpy()


def token_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoding.ids[:MAX_TOKENS] or [0] for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]


class Sampler:
    """Draws batches of (left, right) token rows; the share of each family is fixed, and within one a large source does not drown the rest."""

    def __init__(self, examples: list[Example], tokenizer: Tokenizer, config: Config):
        self.random = np.random.default_rng(config.seed)
        self.python_random = random.Random(config.seed)
        self.sides = [{side: token_ids(tokenizer, texts[:4]) for side, texts in example.sides.items()} for example in examples]
        shares = {"romanised": config.romanised_share, "question": config.question_share}
        shares["parallel"] = 1 - sum(shares.values())
        self.token_dropout = config.token_dropout
        self.pools: list[tuple[int, np.ndarray, np.ndarray]] = []
        sizes = Counter(example.source for example in examples)
        for family, share in shares.items():
            rows = np.array([i for i, example in enumerate(examples) if example.family == family])
            if share <= 0 or not len(rows):
                continue
            weights = np.array(
                [
                    sizes[examples[i].source] ** -0.5 * (config.scripture_weight if examples[i].source.startswith("bible") else 1)
                    for i in rows
                ]
            )
            self.pools.append((round(config.batch * share), rows, np.cumsum(weights / weights.sum())))

    def batch(self) -> tuple[list[list[int]], list[list[int]]]:
        left, right = [], []
        for count, rows, cumulative in self.pools:
            chosen = np.unique(np.searchsorted(cumulative, self.random.random(count)))
            for i in rows[np.minimum(chosen, len(rows) - 1)]:
                sides = self.sides[i]
                a, b = self.python_random.sample(sorted(sides), 2)
                left.append(self._thinned(self.python_random.choice(sides[a])))
                right.append(self._thinned(self.python_random.choice(sides[b])))
        return left, right

    def _thinned(self, row: list[int]) -> list[int]:
        if not self.token_dropout or len(row) < 3:
            return row
        return [token for token, lot in zip(row, self.random.random(len(row)), strict=True) if lot >= self.token_dropout] or row


def evaluate(model: StaticModel, tokenizer: Tokenizer, dev: dict[str, list[str]], questions: list[Example]) -> dict[str, float]:
    """FLORES dev P@1 per direction pair, and success@10 of held-out questions among all held-out answer sentences. Percentages are shares in [0, 1]."""
    with torch.no_grad():
        vectors = {lang: model(token_ids(tokenizer, texts)) for lang, texts in dev.items()}
        gold = torch.arange(len(dev["en"]), device=vectors["en"].device)
        p_at_1 = {f"{a}-{b}": ((vectors[a] @ vectors[b].T).argmax(1) == gold).float().mean().item() for a in dev for b in dev if a != b}
        figures = {f"{lang}-en": p_at_1[f"{lang}-en"] for lang in dev if lang != "en"}
        figures |= {"mean of 42": float(np.mean(list(p_at_1.values()))), "worst of 42": min(p_at_1.values())}
        if questions:
            asked = model(token_ids(tokenizer, [example.sides["question"][0] for example in questions]))
            answers = model(token_ids(tokenizer, [example.sides["answer"][-1] for example in questions]))
            best = (asked @ answers.T).topk(min(10, len(questions)), dim=1).indices
            figures["question success@10"] = (
                (best == torch.arange(len(questions), device=best.device)[:, None]).any(1).float().mean().item()
            )
    return {name: round(value, 3) for name, value in figures.items()}


def train(config: Config, data: Path, work: Path, say=print) -> tuple[StaticModel, Tokenizer, dict[str, float], list[Example]]:
    """Train, or go on from the checkpoint in `work`. Deterministic for one machine, thread count and set of versions."""
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    examples = read_parallel(data)
    if config.romanised_share:
        examples += read_romanised(data)
    asked, held_out = read_questions(data)
    if config.question_share:
        examples += asked
    say(f"{len(examples):,} examples from {len({e.source for e in examples})} sources; {len(held_out):,} questions held out")

    tokenizer_file = work / f"tokenizer-{config.vocabulary}-{_digest(config)}.json"
    if tokenizer_file.exists():
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    else:
        # a word list says nothing about running text, so romanised words do not take part in the vocabulary
        texts = (
            text for e in examples if e.family != "romanised" or "sentences" in e.source for side in e.sides.values() for text in side[:1]
        )
        tokenizer = train_tokenizer(texts, config.vocabulary)
        partial = tokenizer_file.with_suffix(".partial")
        tokenizer.save(str(partial))
        partial.replace(tokenizer_file)
    say(f"vocabulary of {tokenizer.get_vocab_size():,} pieces")

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = StaticModel(tokenizer.get_vocab_size(), config.dimension).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    sampler = Sampler(examples, tokenizer, config)
    dev = {lang: list(read_rows(data / "dev" / f"flores.{lang}.txt.xz")) for lang in LANGUAGES}

    checkpoint = work / f"checkpoint-{_digest(config)}.pt"
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
        sampler.random = np.random.default_rng((config.seed, first))
        sampler.python_random = random.Random(f"{config.seed} {first}")
        say(f"going on from step {first:,}")

    began = time.monotonic()
    for step in range(first, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / 50) * (1 - step / config.steps) + 1e-5
        left, right = (model(rows) for rows in sampler.batch())
        scores = left @ right.T * config.scale
        gold = torch.arange(len(scores), device=device)
        loss = (F.cross_entropy(scores, gold) + F.cross_entropy(scores.T, gold)) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        done = step + 1
        if done % config.checkpoint_every == 0 or done == config.steps:
            per_step = (time.monotonic() - began) / (done - first)
            say(
                f"step {done:,}/{config.steps:,}  loss {loss.item():.3f}  {per_step * (config.steps - done) / 60:.0f} min left  {evaluate(model, tokenizer, dev, held_out)}"
            )
            partial = checkpoint.with_suffix(".partial")
            torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": done}, partial)
            partial.replace(checkpoint)
    return model, tokenizer, evaluate(model, tokenizer, dev, held_out), examples


def save(model: StaticModel, tokenizer: Tokenizer, figures: dict[str, float], examples: list[Example], config: Config, out: Path) -> None:
    """A sentence-transformers folder (StaticEmbedding, Normalize) with float16 weights, and what it was made from in `training.json`."""
    out.mkdir(parents=True, exist_ok=True)
    save_file({"embedding.weight": model.folded().astype(np.float16)}, out / "model.safetensors")
    tokenizer.no_truncation()
    tokenizer.save(str(out / "tokenizer.json"))
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"},
        {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    (out / "1_Normalize").mkdir(exist_ok=True)
    (out / "1_Normalize" / "config.json").write_text("{}\n", encoding="utf-8")
    (out / "modules.json").write_text(json.dumps(modules, indent=2) + "\n", encoding="utf-8")
    settings = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    (out / "config_sentence_transformers.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    sources = Counter((example.source, example.licence) for example in examples)
    record = {
        "config": asdict(config),
        "figures": figures,
        "sources": [{"source": source, "licence": licence, "rows": rows} for (source, licence), rows in sources.most_common()],
    }
    (out / "training.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _digest(config: Config) -> str:
    return sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()[:8]

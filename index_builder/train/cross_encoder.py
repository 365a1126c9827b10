"""Train the cross-encoder that says how far an entry answers a question (index_builder/cross_encoder.py), over the encoder's vectors, which stay fixed.

What it sees is in cross_encoder_rows.py. One entry in five takes no part (`judging.held_out`), and one article in ten of the published passages.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from index_builder.cross_encoder import (
    HEADS,
    OF_QUESTION,
    QUESTION,
    SIGNALS,
    SPREAD,
    TEXT,
    CrossEncoder,
    entry_ids,
    log_odds,
    pieces,
    save_cross_encoder,
    signals,
)  # fmt: skip
from index_builder.encode import StaticEncoder
from index_builder.evaluate.files import digests
from index_builder.evaluate.statistics import area_under_curve
from index_builder.judging import held_out, read_judging
from index_builder.search import SENTENCE_WEIGHT, Index
from index_builder.train.cross_encoder_rows import Material, Pair, Passage, find_judged, find_queries, read_passages
from index_builder.train.settings import checked, read_toml
from index_builder.vocabulary import Entry, MajlisError

_WARM = 100  # steps
_SOFT = 0.05  # of each label, given to the other
_GROUPS = 4


@dataclass(frozen=True, slots=True)
class Config:
    """All that decides a trained model, beside the data and the encoder."""

    seed: int = 0
    steps: int = 4_000
    batch: int = 64
    width: int = 128
    layers: int = 2
    dropout: float = 0.15
    piece_dropout: float = 0.08  # of the question's pieces
    learning_rate: float = 1e-3
    turn: float = 0.35  # of the steps
    passages_before: float = 0.5  # of a batch, until the turn
    queries_before: float = 0.25
    passages: float = 0.15  # after it; the rest are judging questions
    queries: float = 0.3
    most_queries: int = 9_000  # generated queries and native questions that are looked at
    checkpoint_every: int = 500

    @classmethod
    def read(cls, path: Path) -> "Config":
        """Raises MajlisError for a setting that is unknown or of another type, or for shares that leave nothing for judging questions."""
        config = cls(**checked(cls, read_toml(path), str(path)))
        for shares in ((config.passages_before, config.queries_before), (config.passages, config.queries)):
            if min(shares) < 0 or sum(shares) >= 1:
                raise MajlisError(
                    f"{path}: passages and queries take {shares} of a batch. Give shares of 0 or more that add up to less than 1."
                )
        return config


class Attention(torch.nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.query, self.key, self.value, self.out = (torch.nn.Linear(width, width) for _ in range(4))

    def forward(self, asking: torch.Tensor, asked: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """asking (rows, n, width), asked (rows, m, width), there (rows, m) bool -> (rows, n, width)."""
        query, key, value = (
            part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part, x in ((self.query, asking), (self.key, asked), (self.value, asked))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=there[:, None, None, :])
        return self.out(mixed.transpose(1, 2).flatten(-2))


class Layer(torch.nn.Module):
    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.across, self.within = Attention(width), Attention(width)
        self.wide, self.narrow = torch.nn.Linear(width, 2 * width), torch.nn.Linear(2 * width, width)
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(width) for _ in range(3))
        self.drop = torch.nn.Dropout(dropout)

    def forward(self, q: torch.Tensor, asked: torch.Tensor, e: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        q = self.norms[0](q + self.drop(self.across(q, e, read)))
        q = self.norms[1](q + self.drop(self.within(q, q, asked)))
        return self.norms[2](q + self.drop(self.narrow(F.relu(self.wide(q)))))


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded sides: vectors (rows, pieces, dimension), signals (rows, pieces, SIGNALS), parts (rows, pieces), there (rows, pieces) bool."""

    asked: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    read: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
    answered: torch.Tensor


class Network(torch.nn.Module):
    """As CrossEncoder in numpy, for many pairs at once; its `state_dict` is what that takes."""

    def __init__(self, dimension: int, width: int, layers: int, dropout: float):
        super().__init__()
        self.project = torch.nn.Linear(dimension, width)
        self.part = torch.nn.Embedding(OF_QUESTION + 1, width)
        torch.nn.init.normal_(self.part.weight, std=0.02)
        self.signals = torch.nn.Linear(SIGNALS, width, bias=False)
        self.convolutions = torch.nn.ModuleList(torch.nn.Conv1d(width, width, 3, padding=1) for _ in range(2))
        self.convolution_norms = torch.nn.ModuleList(torch.nn.LayerNorm(width) for _ in range(2))
        self.layers = torch.nn.ModuleList(Layer(width, dropout) for _ in range(layers))
        self.pool = torch.nn.Linear(width, 1)
        self.out_norm = torch.nn.LayerNorm(2 * width)
        self.hidden, self.out = torch.nn.Linear(2 * width, width), torch.nn.Linear(width, 1)
        self.drop = torch.nn.Dropout(dropout)

    def forward(self, batch: Batch) -> torch.Tensor:
        """(rows,) log-odds."""
        vectors, signals_, asked = batch.asked
        q = self.in_context(self.project(vectors) + self.part.weight[OF_QUESTION] + self.signals(signals_), asked)
        vectors, signals_, parts, read = batch.read
        e = self.in_context(self.project(vectors) + self.part(parts) + self.signals(signals_), read)
        for layer in self.layers:
            q = layer(q, asked, e, read)
        share = self.pool(q).squeeze(-1).masked_fill(~asked, -torch.inf).softmax(1)
        highest = q.masked_fill(~asked[..., None], -torch.inf).max(1).values
        pooled = self.out_norm(torch.cat([(share[..., None] * q).sum(1), highest], 1))
        return self.out(self.drop(F.relu(self.hidden(pooled)))).squeeze(-1)

    def in_context(self, x: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        for convolution, norm in zip(self.convolutions, self.convolution_norms, strict=True):
            mixed = convolution((x * there[..., None]).transpose(1, 2)).transpose(1, 2)
            x = norm(x + self.drop(F.relu(mixed)))
        return x


class Batches:
    """Pairs -> what the network takes. Pieces are looked up in numpy as at run time; a text is tokenised once."""

    def __init__(self, encoder: StaticEncoder):
        self.encoder = encoder
        self.known: dict[str, list[int]] = {}

    def of(self, pairs: Sequence[Pair], dropped: float = 0.0, choice: random.Random | None = None) -> Batch:
        """`dropped`: the share of each question's pieces that is left out."""
        rows = []
        for pair in pairs:
            asked = self._ids(pair.question)[:QUESTION]
            if choice:
                asked = [piece for piece in asked if choice.random() >= dropped] or asked
            read, parts = entry_ids(self._ids, pair.parts)
            one, other = pieces(self.encoder, asked or [0]), pieces(self.encoder, read or [0])
            rows.append((one.vectors, other.vectors, *signals(one, other), np.array(parts or [TEXT])))
        questions, entries, of_question, of_entry, parts = zip(*rows, strict=True)
        asked, read = _there(questions), _there(entries)
        answered = torch.tensor([float(pair.answered) for pair in pairs])
        return Batch(
            (_padded(questions) * SPREAD, _padded(of_question), asked),
            (_padded(entries) * SPREAD, _padded(of_entry), _padded(parts), read),
            answered,
        )

    def _ids(self, text: str) -> list[int]:
        if text not in self.known:
            self.known[text] = self.encoder.piece_ids(text)
        return self.known[text]


def _of_a_length(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """`pairs` in _GROUPS groups of about one length: half of a batch would be padding otherwise."""
    ordered = sorted(pairs, key=lambda pair: sum(len(text) for _, text in pair.parts))
    size = -(-len(ordered) // _GROUPS)
    return [ordered[first : first + size] for first in range(0, len(ordered), size)]


def _padded(rows: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)


def _there(rows: Sequence[np.ndarray]) -> torch.Tensor:
    return _padded([np.ones(len(row), dtype=bool) for row in rows])


def train(config: Config, material: Material, encoder: StaticEncoder, work: Path, say: Callable[[str], None] = print) -> Network:
    """Train, or go on from the checkpoint in `work` of the same settings, vectors and material. Raises MajlisError where one kind of judging question is missing."""
    if len({pair.answered for pair in material.judged}) < 2:
        raise MajlisError(
            "No judging questions of both kinds for the entries of this index. Give their folder with --judging and an index of their corpus with --index."
        )
    torch.manual_seed(config.seed)
    network = Network(encoder.dimension, config.width, config.layers, config.dropout)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.02)
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = work / f"cross-encoder-{_digest(config, encoder, material)}.pt"
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
        say(f"going on from step {first:,}")
    batches, began, losses = Batches(encoder), time.monotonic(), []
    network.train()
    for step in range(first, config.steps):
        if step % config.checkpoint_every == 0 or step == first:
            choice = random.Random(f"{config.seed} {step}")  # so that a resumed run draws what it would have drawn
            torch.manual_seed(config.seed + step)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / _WARM) * (1 - step / config.steps) + 1e-6
        before = step < config.turn * config.steps
        shares = (config.passages_before, config.queries_before) if before else (config.passages, config.queries)
        optimiser.zero_grad()
        loss = 0.0
        for pairs in _of_a_length(material.draw(config.batch, shares, choice)):
            batch = batches.of(pairs, config.piece_dropout, choice)
            part = (
                F.binary_cross_entropy_with_logits(network(batch), batch.answered * (1 - 2 * _SOFT) + _SOFT, reduction="sum") / config.batch
            )
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(loss)
        done = step + 1
        if done % config.checkpoint_every == 0 or done == config.steps:
            left = (time.monotonic() - began) / (done - first) * (config.steps - done) / 60
            say(f"step {done:,}/{config.steps:,}  loss {np.mean(losses[-config.checkpoint_every :]):.3f}  {left:.0f} min left")
            partial = checkpoint.with_suffix(".partial")
            torch.save({"network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": done}, partial)
            partial.replace(checkpoint)
    return network.eval()


def train_and_save(config: Config, index: Index, data: Path, judging: Path, work: Path, say: Callable[[str], None] = print) -> Path:
    """Beside the encoder of `index`. Raises MajlisError for an encoder that has no vectors of pieces."""
    encoder = index.encoder
    if not isinstance(encoder, StaticEncoder):
        raise MajlisError(
            f"{encoder.name} is no static encoder: a cross-encoder is trained over vectors of pieces. Give one with --encoder."
        )
    passages, measured = read_passages(data)
    material = Material(passages, find_queries(index, config.most_queries, config.seed), find_judged(index, judging))
    say(f"{len(material.passages):,} passages, {len(material.queries):,} queries, {len(material.judged):,} judged pairs")
    network = train(config, material, encoder, work, say)
    weights = {name: weight.numpy() for name, weight in network.state_dict().items()}
    figures = figures_of(CrossEncoder(encoder, weights), index, measured, judging)
    say(", ".join(f"{name} {value}" for name, value in figures.items()))
    about = {
        "encoder": encoder.fingerprint,
        "config": asdict(config),
        "rows": {"passages": len(material.passages), "queries": len(material.queries), "judged": len(material.judged)},
        "figures": figures,
        "data": digests([data / "qa" / "qa.jsonl.xz", *sorted(judging.glob("*.jsonl.xz"))]),
    }
    return save_cross_encoder(weights, about, encoder.folder)


def figures_of(cross: CrossEncoder, index: Index, passages: Sequence[Passage], judging: Path) -> dict[str, float | None]:
    """On what it has not seen: AUC of judging questions that an entry answers against near misses; share of passages whose best sentence answers,
    by the encoder alone, by `cross` alone, and by both as a search weighs them."""
    entries = {entry.entry_id: entry for entry in index.entries() if held_out(entry.entry_id)}
    judged = [one for one in read_judging(judging) if one.entry_id in entries and one.answered is not None]
    said = [(float(cross.probabilities(one.question, [entries[one.entry_id]])[0]), bool(one.answered)) for one in judged]
    right = []
    for passage in passages:
        vectors = cross.encoder.encode([passage.question, *passage.sentences], "query")
        near = vectors[1:] @ vectors[0]
        odds = log_odds(
            cross.probabilities(passage.question, [Entry("", "passage", "", text, title=passage.title) for text in passage.sentences])
        )
        right.append([int(np.argmax(scores)) in passage.answering for scores in (near, odds, near + SENTENCE_WEIGHT * odds)])
    shares = np.mean(right, axis=0).round(3).tolist() if right else [None] * 3
    names = ("sentence by the encoder", "sentence by the cross-encoder", "sentence by both")
    return {"AUC, held-out entries": area_under_curve(said), **dict(zip(names, shares, strict=True))}


def _digest(config: Config, encoder: StaticEncoder, material: Material) -> str:
    return sha256(repr((config, encoder.fingerprint, material)).encode()).hexdigest()[:8]

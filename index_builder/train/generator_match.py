"""Learning which piece of evidence a question means, before the nano Llama is built: a late-interaction model (Khattab and Zaharia 2020, ColBERT)
of static token vectors, small enough to see a hundred thousand rows in minutes on one core.

It computes exactly what three attention heads and two lookups of the circuit (generator_circuit) compute, so what it learns becomes weights of the Llama:
each token of the question spreads one vote over the tokens of the evidence, tokens that say much weigh more, and the votes of each piece are counted.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from index_builder.train.generator_rows import MOST_EVIDENCE, Pair

MEANING = 112  # dimensions of a token's meaning
VOTERS, COMPARED = 3, 64  # heads that vote, and the dimensions in which each of them compares
REST = 16.0  # about the squared length of a token in the stream beside its meaning, by which the Llama's norm divides
_FIRST_STRENGTH, _FIRST_SINK = 14.0, 5.0
_OUT_OF_REACH = -1e9


@dataclass(frozen=True, slots=True)
class Matching:
    """What was learned, as the circuit takes it up."""

    meaning: np.ndarray  # (vocabulary, MEANING)
    weight: np.ndarray  # (vocabulary,): how much a token of a question says
    query: np.ndarray  # (VOTERS, COMPARED, MEANING)
    key: np.ndarray  # the same
    sink: np.ndarray  # (VOTERS,): the score of agreeing with no token
    share: np.ndarray  # (VOTERS,): what a vote counts
    certainty: float  # by how much a token weighs more per vote that it gives
    prior: np.ndarray  # (MOST_EVIDENCE,): of the places of the evidence
    refusal: float  # the score of the refusal beside those of the pieces

    def leaning(self, first: float, refusal: float) -> "Matching":
        """With so many nats more for the piece that retrieval put first, and for the refusal: what retrieval's order is worth is known from
        measuring the app, not from the training rows."""
        return replace(self, prior=self.prior + first * np.eye(1, len(self.prior))[0], refusal=self.refusal + refusal)


class Matcher(nn.Module):
    def __init__(self, meaning: np.ndarray, weight: np.ndarray, seed: int = 0):
        """meaning (vocabulary, MEANING) and weight (vocabulary,): of the static encoder, to begin from."""
        super().__init__()
        chooser = torch.Generator().manual_seed(seed)
        places = [range(COMPARED), range(MEANING - COMPARED, MEANING)]
        views = [torch.eye(MEANING)[list(place)] for place in places]
        views += [torch.linalg.qr(torch.randn(MEANING, COMPARED, generator=chooser))[0].T for _ in range(VOTERS - len(views))]
        self.meaning = nn.Embedding.from_pretrained(torch.tensor(meaning).float(), freeze=False)
        self.weight = nn.Parameter(torch.tensor(4.0 * weight).float())
        self.query = nn.Parameter(_FIRST_STRENGTH * torch.stack(views))
        self.key = nn.Parameter(torch.stack(views).clone())
        self.sink = nn.Parameter(torch.full((VOTERS,), _FIRST_SINK))
        self.share = nn.Parameter(torch.full((VOTERS,), 5.0))
        self.certainty = nn.Parameter(torch.tensor(0.1))
        self.prior = nn.Parameter(torch.zeros(MOST_EVIDENCE))
        self.refusal = nn.Parameter(torch.tensor(1.0))

    def forward(self, asked: torch.Tensor, evidence: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """(rows, 1 + MOST_EVIDENCE) scores, of the refusal and of the pieces.

        asked (rows, tokens) with -1 for padding; evidence (rows, tokens) of all pieces on end; source, of the same shape: the place of each token's piece, or -1.
        """
        mine, theirs = self._meaning(asked), self._meaning(evidence)
        of_piece = F.one_hot(source.clamp(min=0), MOST_EVIDENCE).float() * (source >= 0)[..., None]
        votes = 0
        for voter in range(VOTERS):
            scores = torch.einsum("rqc,rec->rqe", mine @ self.query[voter].T, theirs @ self.key[voter].T)
            scores = scores.masked_fill((source < 0)[:, None], _OUT_OF_REACH)
            none = self.sink[voter].expand(*scores.shape[:2], 1)
            votes = votes + self.share[voter] * (torch.cat([scores, none], 2).softmax(2)[..., :-1] @ of_piece)
        told = self.weight[asked.clamp(min=0)].masked_fill(asked < 0, _OUT_OF_REACH)
        attention = (told + self.certainty * votes.sum(2)).softmax(1)
        counted = torch.einsum("rq,rqn->rn", attention, votes) + self.prior
        present = of_piece.sum(1) > 0
        return torch.cat([self.refusal.expand(len(asked), 1), counted.masked_fill(~present, _OUT_OF_REACH)], 1)

    def _meaning(self, tokens: torch.Tensor) -> torch.Tensor:
        meaning = self.meaning(tokens.clamp(min=0))
        return meaning * torch.rsqrt((meaning.pow(2).sum(-1, keepdim=True) + REST) / (1 + REST))

    def result(self) -> Matching:
        plain = {name: parameter.detach().cpu().numpy().astype(np.float64) for name, parameter in self.named_parameters()}
        return Matching(
            plain["meaning.weight"], plain["weight"], plain["query"], plain["key"], plain["sink"], plain["share"],
            float(plain["certainty"]), plain["prior"], float(plain["refusal"]),
        )  # fmt: skip


def collate(pairs: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(asked, evidence, source, gold): what Matcher takes, and the column of its answer."""
    asked = torch.full((len(pairs), max(len(pair.question) for pair in pairs)), -1)
    evidence = torch.zeros(len(pairs), max(sum(map(len, pair.evidence)) for pair in pairs), dtype=torch.long)
    source = torch.full_like(evidence, -1)
    for row, pair in enumerate(pairs):
        asked[row, : len(pair.question)] = torch.tensor(pair.question)
        tokens = [token for piece in pair.evidence for token in piece]
        evidence[row, : len(tokens)] = torch.tensor(tokens)
        source[row, : len(tokens)] = torch.tensor([place for place, piece in enumerate(pair.evidence) for _ in piece])
    return asked, evidence, source, torch.tensor([pair.right + 1 for pair in pairs])


@torch.no_grad()
def share_right(matcher: Matcher, pairs: Sequence[Pair]) -> dict[str, float]:
    """language, and "all" -> share of the answerable pairs whose best piece (the refusal aside) is the right one."""
    answerable = [pair for pair in pairs if pair.right >= 0]
    right: dict[str, list[bool]] = {"all": []}
    for first in range(0, len(answerable), 64):
        part = answerable[first : first + 64]
        asked, evidence, source, gold = collate(part)
        for pair, hit in zip(part, (matcher(asked, evidence, source)[:, 1:].argmax(1) + 1 == gold).tolist(), strict=True):
            right["all"].append(hit)
            right.setdefault(pair.lang, []).append(hit)
    return {lang: round(sum(hits) / len(hits), 3) for lang, hits in sorted(right.items()) if hits}


def fit_matcher(
    matcher: Matcher, pairs: Iterator[Pair], held_out: Sequence[Pair], steps: int, learning_rate: float, say: Callable[[str], None], rows: int = 64
) -> dict[str, float]:  # fmt: skip
    """Train on `rows` pairs a step; share_right of `held_out` in the end."""
    small = [parameter for name, parameter in matcher.named_parameters() if parameter.ndim < 2 and name != "weight"]
    large = [parameter for parameter in matcher.parameters() if all(parameter is not one for one in small)]
    groups = [{"params": large, "lr": learning_rate}, {"params": small, "lr": 20 * learning_rate}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)
    rates = [group["lr"] for group in optimiser.param_groups]
    losses = []
    for step in range(steps):
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * min(1.0, (step + 1) / 30) * (1 - step / steps)
        asked, evidence, source, gold = collate([next(pairs) for _ in range(rows)])
        loss = F.cross_entropy(matcher(asked, evidence, source), gold)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % max(1, steps // 10) == 0:
            say(f"matching {step + 1:,}/{steps:,}  loss {sum(losses) / len(losses):.3f}  {share_right(matcher, held_out)}")
            losses.clear()
    return share_right(matcher, held_out)


def shuffled(numbers: Sequence[int], seed: str) -> Iterator[int]:
    """`numbers` without end, each round in another order."""
    chooser = random.Random(seed)
    while True:
        yield from chooser.sample(numbers, len(numbers))

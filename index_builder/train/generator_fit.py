"""The training loop that the nano Llama and the LoRAs of larger ones share: rows -> batches -> loss on the answer -> checkpoints, figures, an estimate."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from transformers import DynamicCache

from index_builder.train.generator_rows import Row, RowMaker

_SCORED = 32  # answer positions of a row that are scored: the first, and others at random; the output layer is the dearest


class Speaker(Protocol):
    """Text -> token ids, as the model's own chat template and tokenizer have them."""

    end: int  # ends an answer

    def prompt(self, messages: Sequence[dict]) -> list[int]: ...

    def answer(self, text: str) -> list[int]:
        """Tokens of what the assistant says, as they follow `prompt`, without the end."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the loop needs to know of a configuration."""

    seed: int
    steps: int
    batch_tokens: int  # of a step, padding included
    learning_rate: float
    warmup: int
    refuse: float  # share of rows whose right evidence is missing
    checkpoint_every: int
    evaluate_rows: int


@dataclass(frozen=True, slots=True)
class Example:
    prompt: list[int]
    answer: list[int]  # with the end


def examples(rows: Iterator[Row], speaker: Speaker, longest: int) -> Iterator[Example]:
    for row in rows:
        example = Example(speaker.prompt(row.messages), [*speaker.answer(row.target), speaker.end])
        if len(example.prompt) + len(example.answer) <= longest:
            yield example


def batches(stream: Iterator[Example], batch_tokens: int) -> Iterator[list[Example]]:
    """Rows of similar length together, about `batch_tokens` with padding. Looks 64 rows ahead."""
    while True:
        ahead = sorted((next(stream) for _ in range(64)), key=lambda example: len(example.prompt) + len(example.answer))
        cut, parts = [], []
        for example in ahead:
            if cut and (len(cut) + 1) * (len(example.prompt) + len(example.answer)) > batch_tokens:
                parts.append(cut)
                cut = []
            cut.append(example)
        parts.append(cut)
        random.Random(len(ahead[0].prompt)).shuffle(parts)
        yield from parts


def answer_loss(model, batch: Sequence[Example], chooser: random.Random) -> torch.Tensor:
    """Cross-entropy of the answers: of their first tokens (which choose the evidence) plus of the others (which copy it), each a mean."""
    device = next(model.parameters()).device
    longest = max(len(example.prompt) + len(example.answer) for example in batch) - 1
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    places, gold, first = [], [], []
    for row, example in enumerate(batch):
        text = [*example.prompt, *example.answer][:-1]
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
        count = len(example.answer)
        scored = [0, *sorted(chooser.sample(range(1, count), min(count - 1, _SCORED - 1)))]
        places += [row * longest + len(example.prompt) - 1 + place for place in scored]
        gold += [example.answer[place] for place in scored]
        first += [place == 0 for place in scored]
    backbone = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = backbone.model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
    logits = backbone.lm_head(hidden.reshape(-1, hidden.shape[-1])[torch.tensor(places, device=device)])
    losses = F.cross_entropy(logits.float(), torch.tensor(gold, device=device), reduction="none")
    chosen = torch.tensor(first, device=device)
    return losses[chosen].mean() + losses[~chosen].mean()


@torch.no_grad()
def measure(model, rows: Sequence[Row], speaker: Speaker) -> dict[str, float]:
    """Shares in [0, 1] of held-out rows: `right evidence` (the app's verbatim decoding quotes the right piece), `wrongly refused`, `refused` (of those
    without an answer), and `copied` (after the first token of the answer, every token of it is the most probable one)."""
    from demo.languages import strings
    from demo.quote import candidates

    model.eval()
    right, refused, wrongly, copied = [], [], [], []
    device = next(model.parameters()).device
    for row in rows:
        prompt, answer = speaker.prompt(row.messages), [*speaker.answer(row.target), speaker.end]
        refusal = strings(row.lang)["unknown"]
        said = choose(model, prompt, candidates(row.given, refusal), speaker)
        if row.right:
            right.append(said.endswith(f"[{row.right}]"))
            wrongly.append(said == refusal)
            ids = torch.tensor([[*prompt, *answer[:-1]]], device=device)
            logits = model(input_ids=ids, logits_to_keep=len(answer) - 1).logits[0]
            copied.append(bool((logits.argmax(1) == torch.tensor(answer[1:], device=device)).all()))
        else:
            refused.append(said == refusal)
    model.train()
    named = {"right evidence": right, "refused": refused, "wrongly refused": wrongly, "copied": copied}
    return {name: round(sum(values) / len(values), 3) for name, values in named.items() if values}


@torch.no_grad()
def choose(model, prompt: Sequence[int], texts: Sequence[str], speaker: Speaker) -> str:
    """Which of `texts` the model writes after `prompt`, decoded as the app's worker does in verbatim mode."""
    from demo.generate.confine import OneOf, trie_of

    steering = OneOf(trie_of([speaker.answer(text) for text in texts]), [speaker.end])
    held, unread, ended = DynamicCache(), list(prompt), False
    device = next(model.parameters()).device
    while not ended:
        unread += steering.forced()
        if steering.over:
            break
        logits = model(input_ids=torch.tensor([unread], device=device), past_key_values=held, logits_to_keep=1).logits[0, -1]
        unread = [steering.pick(logits.float().cpu().numpy())]
        ended = steering.over or unread == [speaker.end]
    return texts[steering.choice]


def fit(
    model, maker: RowMaker, numbers: Sequence[int], held_out: Sequence[Row], speaker: Speaker, schedule: Schedule, checkpoint: Path,
    longest: int, say: Callable[[str], None],
) -> dict[str, float]:  # fmt: skip
    """Train the parameters of `model` that want it, or go on from `checkpoint`. `numbers`: the rows of `maker` to train on."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=trained[0].device)
        for parameter, value in zip(trained, state["parameters"], strict=True):
            parameter.data.copy_(value)
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
        say(f"going on from step {first:,}")
    else:
        say(f"step 0/{schedule.steps:,}  {measure(model, held_out, speaker)}")
    chooser = random.Random(f"{schedule.seed} {first}")
    maker.restart(f"{schedule.seed} {first}")
    done_rows, began, losses = 0, time.monotonic(), []

    def rows() -> Iterator[Row]:
        while True:
            # the first tenth of the run has fewer pieces of evidence
            early = min(1.0, (step + 1) / (0.1 * schedule.steps))
            yield maker.row(chooser.choice(numbers), most_evidence=max(2, round(5 * early)), refuse=schedule.refuse)

    step = first
    stream = batches(examples(rows(), speaker, longest), schedule.batch_tokens)
    model.train()
    while step < schedule.steps:
        rate = schedule.learning_rate * min(1.0, (step + 1) / schedule.warmup) * (0.5 + 0.5 * math.cos(math.pi * step / schedule.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        batch = next(stream)
        loss = answer_loss(model, batch, chooser)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        losses.append(loss.item())
        done_rows += len(batch)
        step += 1
        if step % schedule.checkpoint_every == 0 or step == schedule.steps:
            left = (time.monotonic() - began) / (step - first) * (schedule.steps - step) / 60
            say(
                f"step {step:,}/{schedule.steps:,}  loss {sum(losses) / len(losses):.3f}  {done_rows:,} rows  {left:.0f} min left  {measure(model, held_out, speaker)}"
            )
            losses.clear()
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            partial = checkpoint.with_suffix(".partial")
            torch.save(
                {"parameters": [parameter.data for parameter in trained], "optimiser": optimiser.state_dict(), "step": step}, partial
            )
            partial.replace(checkpoint)
    return measure(model, held_out, speaker)

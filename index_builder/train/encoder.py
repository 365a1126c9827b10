"""Train the bundled static encoder: token vectors whose weighted mean is a sentence, so that translations, romanisations and answers meet.

Every example draws two of its sides at random (LAReQA's X-Y training, METHODS section 6: the positive is in another language than the
query, in one mixed pool). What pulls them together, each switched by its setting and measured alone in docs/results.md:

* InfoNCE, symmetric, over cosine similarities in the batch; on prefixes of the vectors too (Matryoshka, `matryoshka`);
* negatives mined with the current encoder: part of each batch is made of nearest neighbours (`mined_share`);
* an English teacher's vectors, which a projection of both sides must meet (`teacher_weight`);
* CLASS stage 1 (METHODS section 2): KL from the teacher's distribution over the batch, and from the student's own English one (`class_weight`);
* question -> answer sentence pairs (`question_share`), romanised -> native (`romanised_share`), cloze: a side loses half of its
  pieces (`cloze_share`);
* what a piece is made of: character n-grams and consonant sounds (features.py).

What ships is made of several such models over one vocabulary (a recipe's members): their vectors stand side by side, and a linear map
(directions.py) finds the few directions in them in which translations lie nearest.
"""

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from index_builder.encode import normalised
from index_builder.train.data import Example, read_parallel, read_questions, read_romanised, read_rows, split_names
from index_builder.train.directions import directions, of_length
from index_builder.train.features import feature_table
from index_builder.train.recipe import Config, Recipe
from index_builder.train.teacher import teacher_vectors
from index_builder.train.tokenizer import train_tokenizer
from index_builder.vocabulary import LANGUAGES, MajlisError

MAX_TOKENS = 96
_NEIGHBOURS = 32  # of one anchor in a mined part of a batch
_POOL = 40_000  # examples among which neighbours are looked for
_SAME = 0.95  # nearer than this is taken for the same sentence, not for a negative
_MANTISSA_BITS = 4
_RUNNING, _RUNNING_WORDS = 40_000, 6  # sentences, and their least number of English words, by which the directions are found
_SHORT, _SHORT_WORDS = 20_000, 4  # names and single words, at most so long, that have a say in which directions are kept
_TEACHER_SCALE = 20.0  # temperature of the teacher's distribution over the batch


class StaticModel(torch.nn.Module):
    """A vector and a weight per piece; a text is the normalised weighted sum. With features, a piece's vector is its own plus theirs."""

    def __init__(self, pieces: list[str], dimension: int, ngrams: bool = False, sounds: bool = False, teacher: int = 0):
        super().__init__()
        starts, features, count = feature_table(pieces, ngrams, sounds)
        self.register_buffer("starts", torch.tensor(starts), persistent=False)
        self.register_buffer("features", torch.tensor(features), persistent=False)
        self.vectors = torch.nn.Embedding(len(pieces), dimension)
        torch.nn.init.normal_(self.vectors.weight, std=0.1)
        self.feature_vectors = torch.nn.Embedding(max(count, 1), dimension)
        torch.nn.init.normal_(self.feature_vectors.weight, std=0.1)
        self.weight = torch.nn.Embedding(len(pieces), 1)
        torch.nn.init.zeros_(self.weight.weight)
        self.to_teacher = torch.nn.Linear(dimension, teacher) if teacher else None

    def piece_vectors(self, pieces: torch.Tensor) -> torch.Tensor:
        """(pieces, dimension): own vector plus the mean of the features', times the learned weight."""
        vectors = self.vectors(pieces)
        if len(self.features):
            first, count = self.starts[pieces], self.starts[pieces + 1] - self.starts[pieces]
            offsets = torch.cumsum(count, 0) - count
            inside = torch.arange(int(count.sum()), device=pieces.device) - torch.repeat_interleave(offsets, count)
            features = self.features[torch.repeat_interleave(first, count) + inside]
            vectors = vectors + F.embedding_bag(features, self.feature_vectors.weight, offsets, mode="mean")
        return vectors * torch.sigmoid(self.weight(pieces))

    def forward(self, rows: list[list[int]]) -> torch.Tensor:
        """(rows, dimension) unit vectors of texts given as piece numbers."""
        device = self.weight.weight.device
        flat = torch.tensor([token for row in rows for token in row], device=device)
        starts = torch.tensor(np.cumsum([0] + [len(row) for row in rows[:-1]]), device=device)
        pieces, place = flat.unique(return_inverse=True)
        return F.normalize(F.embedding_bag(place, self.piece_vectors(pieces), starts, mode="sum"), dim=1)

    def folded(self) -> np.ndarray:
        """(vocabulary, dimension) float32: vectors with features and weights in them, so that a plain mean is enough at run time."""
        with torch.no_grad():
            everything = torch.arange(len(self.vectors.weight), device=self.weight.weight.device)
            return torch.cat([self.piece_vectors(chunk) for chunk in everything.split(8_192)]).cpu().numpy()


def token_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoding.ids[:MAX_TOKENS] or [0] for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]


@dataclass(frozen=True, slots=True)
class Batch:
    examples: list[int]  # numbers of the examples, in order
    left: list[list[int]]
    right: list[list[int]]


class Sampler:
    """Draws batches; the share of each family is fixed, and within one a large source does not drown the rest."""

    def __init__(self, examples: list[Example], tokenizer: Tokenizer, config: Config):
        self.sides = [{side: token_ids(tokenizer, texts[:4]) for side, texts in example.sides.items()} for example in examples]
        self.configure(examples, config)

    def configure(self, examples: list[Example], config: Config) -> None:
        """Shares, weights and seed of another configuration over the same examples, which take longer to tokenise than a short run does."""
        self.config = config
        self.pools: list[tuple[int, np.ndarray, np.ndarray]] = []
        sizes = Counter(example.source for example in examples)
        for family, share in config.shares().items():
            rows = np.array([i for i, example in enumerate(examples) if example.family == family])
            if share <= 0 or not len(rows):
                continue
            weights = np.array([sizes[examples[i].source] ** -0.5 * _style(examples[i], config) for i in rows])
            self.pools.append((round(config.batch * share), rows, np.cumsum(weights / weights.sum())))
        self.mined: tuple[np.ndarray, torch.Tensor] | None = None
        self.start_at(0)

    def start_at(self, step: int) -> None:
        """So that a resumed run draws what it would have drawn, whatever came before."""
        self.random = np.random.default_rng((self.config.seed, step))
        self.python_random = random.Random(f"{self.config.seed} {step}")

    def mine(self, model: StaticModel) -> None:
        """Look at a sample of the parallel examples with the encoder of the moment; `batch` takes neighbours from it."""
        rows = self.pools[0][1]
        chosen = self.random.choice(rows, min(_POOL, len(rows)), replace=False)
        with torch.no_grad():
            vectors = [model([self.sides[i]["en"][0] for i in chosen[start : start + 4_096]]) for start in range(0, len(chosen), 4_096)]
        self.mined = chosen, torch.cat(vectors)

    def batch(self) -> Batch:
        numbers: list[int] = []
        for place, (count, rows, cumulative) in enumerate(self.pools):
            if place == 0 and self.mined and self.config.mined_share:
                neighbours = self._neighbours(round(count * self.config.mined_share))
                numbers += neighbours
                count -= len(neighbours)
            found = np.unique(np.searchsorted(cumulative, self.random.random(count)))
            numbers += [int(i) for i in rows[np.minimum(found, len(rows) - 1)]]
        numbers = list(dict.fromkeys(numbers))
        left, right = [], []
        for i in numbers:
            sides = self.sides[i]
            a, b = self.pair(sides)
            cloze = self.config.cloze_share and self.python_random.random() < self.config.cloze_share and "question" not in sides
            left.append(self._thinned(self.python_random.choice(sides[a]), 0.5 if cloze else self.config.token_dropout))
            right.append(self._thinned(self.python_random.choice(sides[b]), self.config.token_dropout))
        return Batch(numbers, left, right)

    def pair(self, sides: Collection[str]) -> list[str]:
        """Any two sides, so that Assamese meets Arabic as often as English (X-Y)."""
        return self.python_random.sample(sorted(sides), 2)

    def _neighbours(self, count: int) -> list[int]:
        assert self.mined is not None
        chosen, vectors = self.mined
        anchors = torch.tensor(self.random.choice(len(chosen), max(count // _NEIGHBOURS, 1), replace=False), device=vectors.device)
        scores = vectors[anchors] @ vectors.T
        scores[scores > _SAME] = -1
        near = scores.topk(min(_NEIGHBOURS - 1, len(chosen) - 1), dim=1).indices
        return [int(chosen[i]) for i in dict.fromkeys(torch.cat([anchors[:, None], near], 1).flatten().tolist())]

    def _thinned(self, row: list[int], share: float) -> list[int]:
        if not share or len(row) < 3:
            return row
        return [token for token, lot in zip(row, self.random.random(len(row)), strict=True) if lot >= share] or row


def _style(example: Example, config: Config) -> float:
    return config.scripture_weight if _scripture(example) else 1.0


def _scripture(example: Example) -> bool:
    return example.source.startswith("bible")


def contrastive_loss(left: torch.Tensor, right: torch.Tensor, scale: float) -> torch.Tensor:
    """InfoNCE in both directions over (n, d) unit rows; row i of one side belongs to row i of the other."""
    scores = left @ right.T * scale
    gold = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, gold) + F.cross_entropy(scores.T, gold)) / 2


def class_loss(teacher: torch.Tensor, english: torch.Tensor, other: torch.Tensor, passages: torch.Tensor, scale: float) -> torch.Tensor:
    """CLASS stage 1, KL(P_T || P_en) + KL(P_T || P_x) + KL(sg(P_en) || P_x) over the passages of the batch (METHODS section 2).

    All (n, ·) unit rows; the teacher ranks the English side of row j for the English side of row i, the students the passage of row j.
    """
    p_teacher = F.softmax(teacher @ teacher.T * _TEACHER_SCALE, dim=1)
    log_english = F.log_softmax(english @ passages.T * scale, dim=1)
    log_other = F.log_softmax(other @ passages.T * scale, dim=1)
    divergence = lambda log_q, p: F.kl_div(log_q, p, reduction="batchmean")
    return divergence(log_english, p_teacher) + divergence(log_other, p_teacher) + divergence(log_other, log_english.detach().exp())


def step_loss(model: StaticModel, batch: Batch, sampler: Sampler, teacher: torch.Tensor | None, config: Config) -> torch.Tensor:
    both = model(batch.left + batch.right)
    left, right = both[: len(batch.left)], both[len(batch.left) :]
    loss = contrastive_loss(left, right, config.scale)
    for dimension in config.matryoshka:
        shorter = (F.normalize(side[:, :dimension], dim=1) for side in (left, right))
        loss = loss + contrastive_loss(*shorter, config.scale) / len(config.matryoshka) / 2
    if teacher is not None:
        target = teacher[torch.tensor(batch.examples)].to(left.device).float()
        known = target.any(1).nonzero().squeeze(1)
        if config.teacher_weight and len(known):
            assert model.to_teacher is not None
            wanted = target[known]
            apart = sum((1 - F.cosine_similarity(model.to_teacher(side[known]), wanted)).mean() for side in (left, right))
            loss = loss + config.teacher_weight * apart
        known = known[:256]  # a distribution over 256 sentences says enough, at a sixteenth of the cost
        if config.class_weight and len(known) > 1:
            english = model([sampler.sides[batch.examples[i]]["en"][0] for i in known.tolist()])
            loss = loss + config.class_weight * class_loss(target[known], english, left[known], right[known], config.scale)
    return loss


def evaluate(
    model: Callable[[list[list[int]]], torch.Tensor], tokenizer: Tokenizer, dev: dict[str, list[str]], questions: list[Example]
) -> dict[str, float]:
    """FLORES dev P@1 per direction pair, and success@10 of held-out questions among all held-out answer sentences. Shares in [0, 1]."""
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


def train(
    config: Config, data: Path, work: Path, say=print, teacher_folder: Path | None = None
) -> tuple[StaticModel, Tokenizer, dict[str, float], list[Example]]:
    """Train, or go on from the checkpoint in `work`. Deterministic for one machine, thread count, set of versions and vocabulary.

    The vocabulary in `work` is used again where there is one: the tokenizers library sums its counts in no fixed order, so that two
    vocabularies of the same text hold the same pieces with scores that differ in the fourth decimal.
    """
    if config.needs_teacher and not teacher_folder:
        raise MajlisError(
            "teacher_weight or class_weight is set, and no teacher given. Give an English sentence-transformers folder with --teacher."
        )
    if config.mined_share and config.checkpoint_every % config.mined_every:
        raise MajlisError(
            f"checkpoint_every is {config.checkpoint_every}, expected a multiple of mined_every ({config.mined_every}): "
            "what was mined is not kept, and a resumed run mines again where it goes on."
        )
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    examples, held_out = read_examples(config, data)
    say(f"{len(examples):,} examples from {len({e.source for e in examples})} sources; {len(held_out):,} questions held out")
    tokenizer = tokenizer_of(config, examples, work)
    say(f"vocabulary of {tokenizer.get_vocab_size():,} pieces")
    teacher = None
    if config.needs_teacher:
        assert teacher_folder is not None
        teacher = taught_vectors(examples, teacher_folder, work, say)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = new_model(config, tokenizer, teacher.shape[1] if teacher is not None else 0).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    dev = read_dev(data)

    checkpoint = work / f"checkpoint-{_digest(config)}.pt"
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
        say(f"going on from step {first:,}")

    if first < config.steps:  # a finished run needs none, and it takes minutes to tokenise everything
        sampler = Sampler(examples, tokenizer, config)
    began = time.monotonic()
    for step in range(first, config.steps):
        if step % config.checkpoint_every == 0 or step == first:
            sampler.start_at(step)
        loss = train_step(model, optimiser, sampler, teacher, config, step)
        done = step + 1
        if done % config.checkpoint_every == 0 or done == config.steps:
            left = (time.monotonic() - began) / (done - first) * (config.steps - done) / 60
            figures = evaluate(model, tokenizer, dev, held_out)
            say(f"step {done:,}/{config.steps:,}  loss {loss:.3f}  {left:.0f} min left  {figures}")
            partial = checkpoint.with_suffix(".partial")
            torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": done}, partial)
            partial.replace(checkpoint)
    return model, tokenizer, evaluate(model, tokenizer, dev, held_out), examples


@dataclass(frozen=True, slots=True)
class Trained:
    """What a recipe gives, ready to be saved."""

    table: np.ndarray  # (vocabulary, dimension) float32
    tokenizer: Tokenizer
    figures: dict[str, float]
    examples: list[Example]


def train_recipe(recipe: Recipe, data: Path, work: Path, say=print, teacher_folder: Path | None = None) -> Trained:
    """Train each member, or go on with what `work` holds of them, and put them together.

    The vectors are written to `work` before they are rounded (`vectors.safetensors`), so that what rounding costs can be measured.
    """
    tables = []
    for number, member in enumerate(recipe.members, 1):
        say(f"member {number} of {len(recipe.members)}: {member.dimension} dimensions, {member.steps:,} steps")
        model, tokenizer, figures, examples = train(member, data, work, say, teacher_folder)
        tables.append(model.folded())
    table = tables[0]
    if recipe.kept:
        table = joined(tables, examples, tokenizer, recipe)
        dev = read_dev(data)
        figures = evaluate(looked_up(table), tokenizer, dev, read_questions(data)[1])
    partial = work / "vectors.partial"
    save_file({"embedding.weight": table}, partial)
    partial.replace(work / "vectors.safetensors")
    return Trained(table, tokenizer, figures, examples)


def joined(tables: Sequence[np.ndarray], examples: list[Example], tokenizer: Tokenizer, recipe: Recipe) -> np.ndarray:
    """(vocabulary, kept) float32 from the members' (vocabulary, ·) vectors: side by side, then the directions of running parallel text, names and questions.

    Raises MajlisError where there is too little text to find directions.
    """
    table = np.concatenate([table / np.linalg.norm(table, axis=1).mean() for table in tables], axis=1)
    parallel = [example for example in examples if example.family == "parallel" and not _scripture(example)]
    english = [example.sides["en"][0] for example in parallel]
    seed = recipe.members[0].seed

    def vectors(chosen: Sequence[Example], side: str) -> np.ndarray:
        return _rows(table, token_ids(tokenizer, [example.sides[side][0] for example in chosen]))

    running = [parallel[i] for i in of_length(english, _RUNNING_WORDS, sys.maxsize, _RUNNING, seed)]
    short = [parallel[i] for i in of_length(english, 1, _SHORT_WORDS, _SHORT, seed)]
    questions = [example for example in examples if example.family == "question"]
    aligned, names = {}, []
    for lang in LANGUAGES:
        if numbers := [number for number, example in enumerate(running) if lang in example.sides]:
            aligned[lang] = np.array(numbers), vectors([running[number] for number in numbers], lang)
        if held := [example for example in short if lang in example.sides]:
            names.append(vectors(held, lang))
    others = [np.concatenate(names)] if names else []
    others += [vectors(questions, "question")] if questions else []
    try:
        return table @ directions(aligned, recipe.within_power, recipe.kept, others)
    except ValueError as error:
        raise MajlisError(
            f"`kept` is set, and {error} of {_RUNNING_WORDS} or more words, by which directions are chosen. Add parallel text, or leave `kept` out."
        ) from error


def looked_up(table: np.ndarray) -> Callable[[list[list[int]]], torch.Tensor]:
    """A function from texts, as piece numbers, to (rows, dimension) unit vectors by these vectors of pieces."""
    return lambda rows: torch.tensor(_rows(table, rows))


def _rows(table: np.ndarray, rows: list[list[int]]) -> np.ndarray:
    starts = np.cumsum([0] + [len(row) for row in rows[:-1]])
    return normalised(np.add.reduceat(table[np.concatenate(rows)], starts, axis=0))


def read_dev(data: Path) -> dict[str, list[str]]:
    """language -> the aligned sentences of FLORES dev."""
    return {lang: list(read_rows(data / "dev" / f"flores.{lang}.txt.xz")) for lang in LANGUAGES}


def read_examples(config: Config, data: Path) -> tuple[list[Example], list[Example]]:
    """(what is trained on, questions held out); names that are held out are in neither."""
    examples, _ = split_names(read_parallel(data))
    if config.romanised_share:
        examples += read_romanised(data)
    asked, held_out = read_questions(data)
    if config.question_share:
        examples += asked
    return examples, held_out


def taught_vectors(examples: list[Example], folder: Path, work: Path, say=print) -> torch.Tensor:
    """(examples, dimension of the teacher) float16: of the English sides of running text, zeros elsewhere."""
    taught = [e.sides["en"][0] if e.family == "parallel" and not e.source.startswith("bible") else "" for e in examples]
    return torch.tensor(teacher_vectors(taught, folder, work, say))


def new_model(config: Config, tokenizer: Tokenizer, teacher: int = 0) -> StaticModel:
    """`teacher`: dimension of its vectors, 0 without one."""
    pieces = [tokenizer.id_to_token(i) or "" for i in range(tokenizer.get_vocab_size())]
    return StaticModel(pieces, config.dimension, config.ngram_features, config.sound_features, teacher if config.teacher_weight else 0)


def train_step(
    model: StaticModel, optimiser: torch.optim.Optimizer, sampler: Sampler, teacher: torch.Tensor | None, config: Config, step: int
) -> float:
    """One update; returns the loss. Every `mined_every` steps neighbours are looked up first."""
    if config.mined_share and step and step % config.mined_every == 0:
        sampler.mine(model)
    for group in optimiser.param_groups:
        group["lr"] = config.learning_rate * min(1.0, (step + 1) / 50) * (1 - step / config.steps) + 1e-5
    loss = step_loss(model, sampler.batch(), sampler, teacher, config)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def tokenizer_of(config: Config, examples: list[Example], work: Path) -> Tokenizer:
    file = work / f"tokenizer-{config.vocabulary}.json"
    if not file.exists():
        # a word list says nothing about running text, so romanised words do not take part in the vocabulary
        texts = (
            text for e in examples if e.family != "romanised" or "sentences" in e.source for side in e.sides.values() for text in side[:1]
        )
        partial = file.with_suffix(".partial")
        train_tokenizer(texts, config.vocabulary).save(str(partial))
        partial.replace(file)
    return Tokenizer.from_file(str(file))


def shortened(weights: np.ndarray) -> np.ndarray:
    """float16 with _MANTISSA_BITS of its ten: nothing that can be measured is lost, and the file packs to two thirds in a repository that keeps every version."""
    bits, drop = weights.astype(np.float16).view(np.uint16).astype(np.uint32), 10 - _MANTISSA_BITS
    return ((bits + (1 << (drop - 1))) >> drop << drop).astype(np.uint16).view(np.float16)


def save(trained: Trained, recipe: Recipe, out: Path, data: Mapping[str, str]) -> None:
    """A sentence-transformers folder (StaticEmbedding, Normalize) with float16 weights, and what it was made from in `training.json`.

    `data`: file name -> digest of what it was trained on. Files take their places when all are written; others in `out` stay.
    """
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"},
        {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    settings = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    sources = Counter((example.source, example.licence) for example in trained.examples)
    record = {
        "recipe": asdict(recipe),
        "figures": trained.figures,
        "data": dict(data),
        "sources": [{"source": source, "licence": licence, "rows": rows} for (source, licence), rows in sources.most_common()],
    }
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as partial:
        written = Path(partial)
        (written / "1_Normalize").mkdir()
        (written / "1_Normalize" / "config.json").write_text("{}\n", encoding="utf-8")
        (written / "modules.json").write_text(json.dumps(modules, indent=2) + "\n", encoding="utf-8")
        (written / "config_sentence_transformers.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        (written / "training.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        trained.tokenizer.no_truncation()
        trained.tokenizer.save(str(written / "tokenizer.json"))
        save_file({"embedding.weight": shortened(trained.table)}, written / "model.safetensors")
        (out / "1_Normalize").mkdir(exist_ok=True)
        for path in sorted(path for path in written.rglob("*") if path.is_file()):
            path.replace(out / path.relative_to(written))


def _digest(config: Config) -> str:
    return sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()[:8]

"""Train a sequence-to-sequence model of our own: one small Transformer (M2M-100's form) that translates and asks questions.

What makes the most of an hour on one core: the embeddings start from the bundled encoder, where translations already
lie together; the first cross-attention starts as "look at about the same place and copy the meaning", a word-by-word translator;
its attention is shown what renders what; only a sample of the vocabulary is scored at each step; and matrix products run in bfloat16.
An hour of one core is too little all the same (docs/results.md), which is why no such model ships. It runs on a GPU where there is one.
"""

import copy
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F
from ctranslate2.converters import Converter
from ctranslate2.converters.transformers import M2M100Loader
from ctranslate2.specs import TransformerSpec
from transformers import M2M100Config, M2M100ForConditionalGeneration

from index_builder.digest import file_sha256
from index_builder.encode import BUNDLED, open_encoder
from index_builder.querygen.families import TASKS, Family, wanted, write_family
from index_builder.querygen.model import open_seq2seq
from index_builder.train.data import read_rows
from index_builder.train.seq2seq_data import (
    BOS,
    EOS,
    PAD,
    UNKNOWN,
    Batch,
    Row,
    Sampler,
    corpus_rows,
    parallel_rows,
    question_rows,
    row_weights,
    sources_of,
    train_vocabulary,
)
from index_builder.train.settings import checked, read_toml
from index_builder.vocabulary import LANGUAGES, Entry, MajlisError

_LANGUAGE_STRENGTH = 0.5  # of a language's own direction in a piece's first vector, beside its meaning of length 1


@dataclass(frozen=True, slots=True)
class Config:
    """All that decides the result, beside the data and the encoder that the embeddings start from; kept with the weights."""

    seed: int = 0
    vocabulary: int = 16_000
    width: int = 256  # that of the encoder
    heads: int = 4
    feed_forward: int = 1_024
    encoder_layers: int = 4
    decoder_layers: int = 2
    steps: int = 5_000
    batch_tokens: int = 4_096  # source and target, with padding
    most_tokens: int = 64  # of a source or target text
    candidates: int = 4_096  # pieces scored at each step: those of the batch and a random sample of the others; 0 scores all
    learning_rate: float = 2e-3
    embedding_learning_rate: float = 1e-3  # lower, so that words the data hardly has stay where the encoder put them
    warm_up: int = 200
    label_smoothing: float = 0.1
    alignment: float = 0.5  # weight of the loss that shows half of the heads where in the source a piece comes from; 0 leaves them free
    dropout: float = 0.0
    source_weights: Mapping[str, float] = field(default_factory=dict)  # of sources that begin so; 1 for the others
    question_share: float = 0.15  # of the rows of a batch: questions about a passage in its own language
    corpus_share: float = 0.1  # questions about the given corpus in every language, when it has any
    crossed_share: float = 0.05  # from `cross_at` on: questions that the model has translated itself
    cross_at: int = 0  # step at which the model translates the questions and goes on with those too; 0: never
    crossed: int = 2  # languages that each question is translated into
    refill: int = 16_384  # rows drawn at a time
    report_every: int = 50
    checkpoint_every: int = 500

    @classmethod
    def read(cls, path: Path) -> "Config":
        return cls(**checked(cls, read_toml(path), str(path)))


def new_model(config: Config, vectors: np.ndarray) -> M2M100ForConditionalGeneration:
    """A model whose embeddings are `vectors` (pieces, width), unit rows, and whose first cross-attention copies meanings from about the same place."""
    torch.manual_seed(config.seed)
    model = M2M100ForConditionalGeneration(
        M2M100Config(
            vocab_size=len(vectors), d_model=config.width, encoder_layers=config.encoder_layers, decoder_layers=config.decoder_layers,
            encoder_attention_heads=config.heads, decoder_attention_heads=config.heads, encoder_ffn_dim=config.feed_forward,
            decoder_ffn_dim=config.feed_forward, dropout=config.dropout, attention_dropout=0.0, activation_dropout=0.0,
            encoder_layerdrop=0.0, decoder_layerdrop=0.0, max_position_embeddings=256, scale_embedding=True, activation_function="relu",
            bos_token_id=BOS, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=EOS, init_std=config.width**-0.5,
            tie_word_embeddings=True, attn_implementation="eager",
        )
    )  # fmt: skip
    depth = 2 * (config.encoder_layers + config.decoder_layers)
    with torch.no_grad():
        model.model.shared.weight.copy_(torch.from_numpy(vectors))
        for name, weight in model.named_parameters():
            if name.endswith(("out_proj.weight", "fc2.weight")):
                weight.mul_(depth**-0.5)  # so that the sum over all layers stays the size of what goes in
        _copy_from_the_same_place(model.model.decoder.layers[0].encoder_attn)
    return model


def _copy_from_the_same_place(attention: torch.nn.Module) -> None:
    """Queries and keys read only the fast sines and cosines of the positions, so that their product is highest at equal places; values pass unchanged."""
    width, heads = attention.embed_dim, attention.num_heads
    size = width // heads
    # transformers writes a position as width/2 sines, then width/2 cosines, the fastest first
    read = [*range(size // 2), *range(width // 2, width // 2 + size // 2)]
    place = torch.zeros(size, width)
    place[range(size), read] = 1.0
    attention.q_proj.weight.copy_(place.repeat(heads, 1))
    attention.k_proj.weight.copy_(place.repeat(heads, 1))
    attention.v_proj.weight.copy_(torch.eye(width))
    attention.out_proj.weight.copy_(torch.eye(width))


def first_vectors(words: sentencepiece.SentencePieceProcessor, counts: np.ndarray, width: int, seed: int) -> np.ndarray:
    """(pieces, width) float32 unit rows: the bundled encoder's vector of each piece, and a direction for each language that uses it.

    counts  (languages, pieces)  how often each language uses each piece; pieces that none uses get random directions
    Without the second part, the words of two languages for one thing would be the same word to the output layer.
    """
    rng = np.random.default_rng(seed)
    random = rng.standard_normal((words.vocab_size(), width))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    encoder = open_encoder(BUNDLED)
    if encoder.dimension != width:
        raise MajlisError(f"The encoder has {encoder.dimension} dimensions, the configuration a width of {width}. They must be equal.")
    texts = [words.id_to_piece(i).replace("▁", " ").strip() for i in range(words.vocab_size())]
    special = np.array([words.is_control(i) or words.is_byte(i) or words.is_unknown(i) or not texts[i] for i in range(len(texts))])
    meaning = np.where(special[:, None], random, encoder.encode(texts, "passage"))
    directions = np.linalg.qr(rng.standard_normal((width, len(LANGUAGES))))[0].T
    share = (counts + 0.1) / (counts + 0.1).sum(0)
    vectors = meaning + _LANGUAGE_STRENGTH * np.where(special, 0, share).T @ directions
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def loss_of(model: M2M100ForConditionalGeneration, batch: Batch, config: Config, random: torch.Generator) -> tuple[torch.Tensor, int]:
    """(mean cross-entropy over the target pieces, with that of the alignment as `config` weighs it; the number of pieces)."""
    device = model.device
    source, target, places = (torch.from_numpy(part).to(device) for part in (batch.source, batch.target, batch.places))
    given = torch.cat([torch.full_like(target[:, :1], EOS), target[:, :-1]], dim=1)
    with torch.autocast(device.type, torch.bfloat16):
        out = model.model(
            input_ids=source, attention_mask=(source != PAD).long(), decoder_input_ids=given, output_attentions=config.alignment > 0
        )
        hidden = out.last_hidden_state
        asked = target != PAD
        asked[:, 0] = False  # the language is given, not written
        loss = _loss_of_words(hidden[asked], target[asked], model.lm_head.weight, config, random)
        if config.alignment > 0 and (known := places >= 0).any():
            at = places[known]
            for weights in out.cross_attentions:  # (n, heads, t, s)
                shown = weights[:, : weights.shape[1] // 2].mean(1)[known].gather(1, at[:, None])
                loss = loss - config.alignment / len(out.cross_attentions) * (shown.float() + 1e-6).log().mean()
    return loss, int(asked.sum())


def _loss_of_words(hidden: torch.Tensor, gold: torch.Tensor, table: torch.Tensor, config: Config, random: torch.Generator) -> torch.Tensor:
    if not config.candidates or config.candidates >= len(table):
        return F.cross_entropy((hidden @ table.T).float(), gold, label_smoothing=config.label_smoothing)
    inside, place = torch.unique(gold, return_inverse=True)
    others = torch.ones(len(table), dtype=torch.bool, device=table.device)
    others[inside] = False
    outside = others.nonzero().squeeze(1)
    drawn = outside[torch.randperm(len(outside), generator=random)[: config.candidates].to(table.device)]
    scores = (hidden @ table[torch.cat([inside, drawn])].T).float()
    # each drawn piece stands for several that were not
    scores[:, len(inside) :] += math.log(len(outside) / len(drawn))
    return F.cross_entropy(scores, place, label_smoothing=config.label_smoothing)


@dataclass(frozen=True, slots=True)
class Trained:
    model: M2M100ForConditionalGeneration
    words: sentencepiece.SentencePieceProcessor
    vocabulary: Path
    rows: tuple[Row, ...]  # all that was trained on
    seconds: float  # of training, in all its runs


def train(config: Config, data: Path, work: Path, entries: Sequence[Entry] = (), say: Callable[[str], None] = print) -> Trained:
    """Train, or go on from the checkpoint in `work`. Deterministic for one machine, thread count and set of versions.

    entries  of a corpus with queries attached, half of which are trained on
    """
    work.mkdir(parents=True, exist_ok=True)
    name = _digest(config)
    parallel = parallel_rows(data)
    asking, held_out = question_rows(data)
    about_corpus, parallel_questions = corpus_rows(entries)
    parallel += parallel_questions
    say(
        f"{len(parallel):,} sentences in two languages or more, {len(asking):,} questions about a passage, {len(held_out):,} held out, {len(about_corpus):,} about the corpus"
    )
    vocabulary = work / f"vocabulary-{config.vocabulary}-{config.seed}.model"
    if not vocabulary.exists():
        train_vocabulary([*parallel, *asking, *about_corpus], config.vocabulary, config.seed, vocabulary)
    words = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
    say(f"vocabulary of {words.vocab_size():,} pieces")

    sampler = Sampler(words, config.seed, config.batch_tokens, config.most_tokens, config.refill)
    weights = np.array(row_weights(parallel, config.source_weights))
    sampler.add(parallel, list(weights * (1 - config.question_share - config.corpus_share - config.crossed_share) / weights.sum()))
    for rows, share in ((asking, config.question_share), (about_corpus, config.corpus_share)):
        sampler.add(rows, [share / max(1, len(rows))] * len(rows))
    if config.alignment:
        sampler.learn_lexicon()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = new_model(config, first_vectors(words, sampler.counts, config.width, config.seed)).to(device)
    embeddings = model.model.shared.weight
    others = [weight for weight in model.parameters() if weight is not embeddings]
    rates = (config.embedding_learning_rate, config.learning_rate)
    groups = [{"params": params, "lr": rate} for params, rate in zip(([embeddings], others), rates, strict=True)]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    say(f"{sum(weight.numel() for weight in model.parameters()) / 1e6:.1f} million weights")
    step = refill = place = 0
    seconds = 0.0
    checkpoint = work / f"checkpoint-{name}.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        step, refill, place, seconds = state["step"], state["refill"], state["place"], state["seconds"]
        say(f"going on from step {step:,}")

    def keep(done: int, refill: int, place: int, seconds: float) -> None:
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
        partial = checkpoint.with_suffix(".partial")
        torch.save(state | {"step": done, "refill": refill, "place": place, "seconds": seconds}, partial)
        partial.replace(checkpoint)

    crossed: list[Row] | None = None
    began, first = time.monotonic() - seconds, step
    started, losses = time.monotonic(), []
    while step < config.steps:
        if config.cross_at and step >= config.cross_at and crossed is None:
            crossed = _crossed_rows(model, words, vocabulary, asking, work / f"crossed-{name}.jsonl", config, say)
            sampler.add(crossed, [config.crossed_share / max(1, len(crossed))] * len(crossed))
            refill, place = (refill + 1, 0) if step == config.cross_at else (refill, place)
        batches = sampler.batches(refill)
        until = config.cross_at if step < config.cross_at else config.steps
        while place < len(batches) and step < until:
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, (step + 1) / config.warm_up) * (1 - step / config.steps)
            random = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
            loss, _ = loss_of(model, batches[place], config, random)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            losses.append(loss.item())
            step, place = step + 1, place + 1
            if step % config.report_every == 0:
                left = (time.monotonic() - started) / (step - first) * (config.steps - step) / 60
                say(f"step {step:,}/{config.steps:,}  loss {np.mean(losses):.3f}  {left:.0f} min left")
                losses.clear()
            if step % config.checkpoint_every == 0 or step == config.steps:
                keep(step, refill, place, time.monotonic() - began)
                with tempfile.TemporaryDirectory(dir=work) as probe:
                    export(model, words, vocabulary, Path(probe) / "model")
                    say(f"step {step:,}/{config.steps:,}  chrF {probe_chrf(Path(probe) / 'model', data)}")
        if place == len(batches):
            refill, place = refill + 1, 0
    return Trained(model, words, vocabulary, (*parallel, *asking, *about_corpus, *(crossed or ())), time.monotonic() - began)


def _crossed_rows(model, words, vocabulary: Path, asking: Sequence[Row], path: Path, config: Config, say) -> list[Row]:
    """The questions translated by the model itself into `config.crossed` other languages each: passage in one language, question in another.

    Made once and kept at `path`, so that a resumed run goes on with the same rows.
    """
    if not path.exists():
        say("translating the questions into the other languages")
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            export(model, words, vocabulary, Path(folder) / "model")
            translator = open_seq2seq(Path(folder) / "model")
            wishes: dict[tuple[str, str], list[Row]] = {}
            for number, row in enumerate(asking):
                others = [lang for lang in LANGUAGES if lang != row.lang]
                for k in range(config.crossed):
                    wishes.setdefault((row.lang, others[(number + k * len(others) // config.crossed) % len(others)]), []).append(row)
            lines = []
            for (source, target), rows in wishes.items():
                questions = [row.sides["question"][0] for row in rows]
                for row, question, written in zip(rows, questions, translator.translate(questions, source, target), strict=True):
                    if written and 0.3 < len(written) / len(question) < 3:
                        sides = {"passage": row.sides["passage"], "question": [written]}
                        lines.append(
                            json.dumps({"source": row.source, "licence": row.licence, "sides": sides, "lang": target}, ensure_ascii=False)
                        )
        partial = path.with_suffix(".partial")
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        partial.replace(path)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    say(f"{len(rows):,} questions in another language than their passage, translated by this model")
    return [Row(f"{row['source']}, question translated by this model", row["licence"], row["sides"], row["lang"]) for row in rows]


class _Exporter(Converter):
    """CTranslate2's converter of M2M-100 for a model in memory, whose vocabulary is a SentencePiece file."""

    def __init__(self, model: M2M100ForConditionalGeneration, words: sentencepiece.SentencePieceProcessor):
        self._model, self._words = model, words

    def _load(self) -> TransformerSpec:
        loader = M2M100Loader()
        with torch.no_grad():
            spec = loader.get_model_spec(self._model)
        loader.set_vocabulary(spec, [self._words.id_to_piece(i) for i in range(self._words.vocab_size())])
        spec.config.bos_token, spec.config.eos_token = self._words.id_to_piece(BOS), self._words.id_to_piece(EOS)
        spec.config.unk_token = self._words.id_to_piece(UNKNOWN)
        spec.config.decoder_start_token = self._words.id_to_piece(EOS)
        return spec


def export(model, words, vocabulary: Path, out: Path, name: str = "majlis-seq2seq", quantization: str = "int8") -> None:
    """The model in CTranslate2 format with its vocabulary and family, at `out`, whose old files are replaced."""
    # a copy, because the converter scales weights where they lie
    on_cpu = copy.deepcopy(model).to("cpu")
    out.mkdir(parents=True, exist_ok=True)
    scratch = out / ".converting"
    _Exporter(on_cpu, words).convert(str(scratch), quantization=quantization, force=True)
    shutil.copy(vocabulary, scratch / "vocabulary.model")
    codes = {lang: wanted(lang) for lang in LANGUAGES}
    write_family(
        scratch, Family("majlis", name, codes, TASKS, "vocabulary.model", "vocabulary.model", most_source_tokens=model.config.max_position_embeddings // 2)
    )  # fmt: skip
    for file in scratch.iterdir():
        file.replace(out / file.name)
    scratch.rmdir()


def probe_chrf(folder: Path, data: Path, sentences: int = 40) -> dict[str, float]:
    """chrF of a few FLORES dev sentences to and from English, while training."""
    translator = open_seq2seq(folder)
    dev = {lang: list(islice(read_rows(data / "dev" / f"flores.{lang}.txt.xz"), sentences)) for lang in LANGUAGES}
    pairs = [pair for lang in LANGUAGES if lang != "en" for pair in (("en", lang), (lang, "en"))]
    return {f"{a}-{b}": round(chrf(translator.translate(dev[a], a, b), dev[b]), 1) for a, b in pairs}


def chrf(written: Sequence[str], gold: Sequence[str]) -> float:
    """Corpus chrF (character 6-grams, beta 2) in [0, 100], as sacrebleu computes it."""
    from sacrebleu.metrics import CHRF

    return CHRF().corpus_score(list(written), [list(gold)]).score


def _digest(config: Config) -> str:
    return sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()[:8]


def save(trained: Trained, config: Config, out: Path) -> None:
    """The model folder, and what it was made from in `training.json`."""
    export(trained.model, trained.words, trained.vocabulary, out)
    record = {
        "config": asdict(config),
        "encoder_sha256": file_sha256(BUNDLED / "model.safetensors"),
        "minutes": round(trained.seconds / 60),
        "threads": torch.get_num_threads(),
        "sources": [{"source": source, "licence": licence, "rows": rows} for source, licence, rows in sources_of(trained.rows)],
    }
    (out / "training.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

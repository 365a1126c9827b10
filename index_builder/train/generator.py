"""Train the bundled nano Llama: vocabulary, rows (generator_rows), meanings (generator_match), first weights (generator_circuit), training (generator_fit),
GGUF (gguf_export)."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path

import sentencepiece
import torch
from transformers import LlamaForCausalLM

from index_builder.encode import BUNDLED, Encoder, open_encoder
from index_builder.search import Index
from index_builder.store import BuildSettings, build_index
from index_builder.train.data import read_parallel, read_rows
from index_builder.train.generator_circuit import build_model, nano_config
from index_builder.train.generator_fit import Schedule, fit
from index_builder.train.generator_match import Matcher, fit_matcher, shuffled
from index_builder.train.generator_rows import (
    MOST_EVIDENCE,
    Ask,
    RowMaker,
    asks_of_corpus,
    asks_of_mkqa,
    asks_of_nativqa,
    asks_of_qa,
    asks_of_sentences,
    retrieved,
)
from index_builder.train.generator_vocabulary import (
    CHAT_TEMPLATE,
    chat_tokens,
    load_vocabulary,
    piece_meanings,
    special_tokens,
    train_vocabulary,
)
from index_builder.train.gguf_export import QUANTISATIONS, export_llama, quantise
from index_builder.train.settings import checked, read_toml
from index_builder.vocabulary import LANGUAGES, Entry, MajlisError


@dataclass(frozen=True, slots=True)
class Config:
    """All that decides the result, beside the data; kept with the weights."""

    seed: int = 0
    vocabulary: int = 32_000
    vocabulary_bytes: int = 3_500_000  # of text per language
    context: int = 2_048
    longest: int = 1_000  # tokens of a training row
    sentences_per_language: int = 6_000
    source_weights: dict[str, float] = field(default_factory=dict)  # how often a row of a source is drawn, 1 where it is not named
    matching_steps: int = 1_000  # of 64 rows
    matching_rate: float = 2e-3
    steps: int = 2_000
    batch_tokens: int = 6_000
    learning_rate: float = 3e-4
    warmup: int = 50
    refuse: float = 0.12
    frozen_layers: int = 2  # the lowest, which say where a token stands: exact as they are, and a good part of the backward pass
    train_embeddings: bool = False  # `matching_steps` has trained them on many times more rows
    first_place: float = 0.0  # added to the score of the evidence that retrieval put first, in nats; chosen on dev questions
    refusal: float = 0.0  # added to the score of the refusal, likewise
    quantisation: str = "Q8_0"
    checkpoint_every: int = 200
    evaluate_rows: int = 200

    @classmethod
    def read(cls, path: Path) -> "Config":
        return cls(**checked(cls, read_toml(path), str(path)))

    def schedule(self) -> Schedule:
        return Schedule(**{known.name: getattr(self, known.name) for known in fields(Schedule)})


# Settings that neither the vocabulary nor the meanings depend on.
_LATE = {
    "first_place",
    "refusal",
    "steps",
    "batch_tokens",
    "learning_rate",
    "warmup",
    "longest",
    "frozen_layers",
    "train_embeddings",
    "quantisation",
    "checkpoint_every",
    "evaluate_rows",
}


@dataclass(frozen=True, slots=True)
class Nano:
    """How the nano reads and writes: SentencePiece and CHAT_TEMPLATE."""

    words: sentencepiece.SentencePieceProcessor
    end: int

    def prompt(self, messages: Sequence[dict]) -> list[int]:
        return chat_tokens(self.words, messages)

    def answer(self, text: str) -> list[int]:
        return self.words.encode(text)


def gather(data: Path, corpus: Iterable[Entry], nativqa: Iterable[Entry], per_language: int, seed: int) -> list[Ask]:
    """Everything that is trained on, and the held-out share of it."""
    return [
        *asks_of_corpus(corpus), *asks_of_nativqa(nativqa), *asks_of_qa(data), *asks_of_mkqa(data), *asks_of_sentences(data, per_language, seed),
    ]  # fmt: skip


def drawn(asks: Sequence[Ask], weights: dict[str, float]) -> list[int]:
    """Numbers of the asks to train on, each as often as its source and its language say: a language with few rows is not drowned."""
    usable = [number for number, ask in enumerate(asks) if not ask.held_out]
    sizes = Counter(asks[number].lang for number in usable)
    mean = sum(sizes.values()) / max(1, len(sizes))
    out: list[int] = []
    for number in usable:
        times = weights.get(asks[number].source, 1.0) * (mean / sizes[asks[number].lang]) ** 0.5
        whole = int(times)
        out += [number] * (whole + (random.Random(f"{number}").random() < times - whole))
    return out


def train(
    config: Config,
    data: Path,
    corpus: Sequence[Entry],
    work: Path,
    nativqa: Sequence[Entry] = (),
    encoder: Path = BUNDLED,
    say: Callable[[str], None] = print,
) -> tuple[LlamaForCausalLM, sentencepiece.SentencePieceProcessor, dict]:
    """The trained model, its vocabulary and the record of how it was made; or go on from the checkpoint in `work`."""
    work.mkdir(parents=True, exist_ok=True)
    vectors = open_encoder(encoder)
    asks = gather(data, corpus, nativqa, config.sentences_per_language, config.seed)
    said = asdict(config)
    early = _digest([{name: value for name, value in said.items() if name not in _LATE}, vectors.fingerprint, len(asks)])
    words_file = work / f"vocabulary-{early}.model"
    if not words_file.exists():
        partial = words_file.with_suffix(".partial")
        partial.write_bytes(train_vocabulary(_texts(data, asks, config), config.vocabulary))
        partial.replace(words_file)
    words = load_vocabulary(words_file)
    special = special_tokens(words)
    speaker = Nano(words, special.end_of_turn)
    maker = RowMaker(
        asks,
        vectors,
        lambda text: len(words.encode(text)),
        config.context,
        config.seed,
        own_retrieval(asks, corpus, vectors, work / "index", say),
    )
    numbers = drawn(asks, config.source_weights)
    held_out = held_out_numbers(asks, config.evaluate_rows, config.seed)
    rows = [maker.row(number, least_evidence=MOST_EVIDENCE) for number in held_out]
    say(f"{len(asks):,} questions of {len({ask.source for ask in asks})} sources, {words.vocab_size():,} pieces")

    matcher = Matcher(*piece_meanings(words, encoder), seed=config.seed)
    matcher_file = work / f"matching-{early}.pt"
    if matcher_file.exists():
        matcher.load_state_dict(torch.load(matcher_file, weights_only=True))
    else:
        maker.restart(f"{config.seed} matching")
        pairs = (maker.pair(number, words.encode, refuse=config.refuse) for number in shuffled(numbers, f"{config.seed}"))
        given = [maker.pair(number, words.encode, refuse=0.0, least_evidence=MOST_EVIDENCE) for number in held_out]
        fit_matcher(matcher, pairs, given, config.matching_steps, config.matching_rate, say)
        partial = matcher_file.with_suffix(".partial")
        torch.save(matcher.state_dict(), partial)
        partial.replace(matcher_file)

    sample = [speaker.prompt(row.messages) for row in rows[:8]]
    model = build_model(
        nano_config(words.vocab_size(), special, config.context),
        matcher.result().leaning(config.first_place, config.refusal),
        special,
        sample,
        config.seed,
    )
    model.model.embed_tokens.weight.requires_grad_(config.train_embeddings)
    for layer in model.model.layers[: config.frozen_layers]:
        layer.requires_grad_(False)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    say(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters")
    figures = fit(
        model,
        maker,
        numbers,
        rows,
        speaker,
        config.schedule(),
        work / f"checkpoint-{_digest([said, early])}.pt",
        config.longest,
        say,
    )
    return model, words, record_of(config, figures, asks)


def _digest(value: object) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def own_retrieval(
    asks: Sequence[Ask], corpus: Sequence[Entry], encoder: Encoder, folder: Path, say: Callable[[str], None]
) -> dict[int, list[Entry]]:
    """What our own retrieval finds for the questions about the corpus, in an index without generated queries: these are asked here, and would find themselves."""
    if not corpus:
        return {}
    bare = [replace(entry, queries=()) for entry in corpus]
    build_index(bare, encoder, folder, BuildSettings(), False, say)
    index = Index(folder, encoder)
    try:
        return retrieved(asks, index)
    finally:
        index.close()


def held_out_numbers(asks: Sequence[Ask], count: int, seed: int) -> list[int]:
    """Asks that are not trained on, as many of each language; questions about the corpus before others."""
    chooser = random.Random(seed)
    chosen = []
    for lang in LANGUAGES:
        numbers = [number for number, ask in enumerate(asks) if ask.held_out and ask.lang == lang]
        chooser.shuffle(numbers)
        numbers.sort(key=lambda number: asks[number].source != "corpus queries")
        chosen += numbers[: max(1, count // len(LANGUAGES))]
    return chosen


def record_of(config, figures: dict[str, float], asks: Sequence[Ask]) -> dict:
    """What goes into training.json."""
    sources = Counter((ask.source, ask.licence) for ask in asks if not ask.held_out)
    return {
        "config": asdict(config),
        "figures": figures,
        "languages": dict(sorted(Counter(ask.lang for ask in asks if not ask.held_out).items())),
        "sources": [{"source": source, "licence": licence, "rows": rows} for (source, licence), rows in sources.most_common()],
    }


def save(model: LlamaForCausalLM, words: sentencepiece.SentencePieceProcessor, record: dict, out: Path, quantisation: str) -> Path:
    """`majlis-nano-<quantisation>.gguf` and training.json in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"majlis-nano-{quantisation.lower()}.gguf"
    whole = out / "majlis-nano-f32.gguf"
    export_llama(model.float().cpu(), words, whole, name="Majlis nano", chat_template=CHAT_TEMPLATE, end_of_turn="<|end|>")
    if quantisation != "F32":
        quantise(whole, path, quantisation)
        whole.unlink()
    (out / "training.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def is_lora(config: Path) -> bool:
    """Whether a configuration names a model to begin from, instead of describing one to train from nothing."""
    return "base" in read_toml(config)


def train_and_save(
    config: Path,
    data: Path,
    corpus: Sequence[Entry],
    nativqa: Sequence[Entry],
    work: Path,
    out: Path,
    encoder: Path,
    say: Callable[[str], None],
) -> Path:
    """The `train-generator` command for a model from nothing."""
    settings = Config.read(config)
    if settings.quantisation not in QUANTISATIONS:  # better now than after an hour
        raise MajlisError(f"{config}: quantisation is {settings.quantisation!r}, expected one of {', '.join(QUANTISATIONS)}.")
    model, words, record = train(settings, data, corpus, work, nativqa, encoder, say)
    return save(model, words, record, out, settings.quantisation)


def _texts(data: Path, asks: Sequence[Ask], config: Config):
    """About as many bytes of each language, for the vocabulary."""
    chooser = random.Random(config.seed)
    by_lang: dict[str, list[str]] = {lang: [] for lang in LANGUAGES}
    for ask in asks:
        by_lang[ask.lang].append(ask.question)
        by_lang[ask.entry.lang] += [text for text in (ask.entry.text, ask.entry.question, ask.entry.title) if text]
    for example in read_parallel(data):
        for lang, side in example.sides.items():
            by_lang[lang] += side[:1]
    for path in sorted((data / "text").glob("*.txt.xz")):
        by_lang[path.name[:2]] += read_rows(path)
    for texts in by_lang.values():
        texts[:] = sorted(set(texts))
        chooser.shuffle(texts)
        size = 0
        for text in texts:
            size += len(text.encode())
            if size > config.vocabulary_bytes:
                break
            yield text

"""Query generation: CTranslate2 against transformers, our code against a bare loop, and how long a corpus takes.

The model has the form of index_builder/train/seq2seq.toml, a vocabulary made from the bundled corpus, and random weights: how fast it is
does not depend on what it learnt, and it never ends a text early, so that all write equally many tokens.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import ctranslate2
import sentencepiece
import torch
from transformers import M2M100ForConditionalGeneration

from index_builder.queries import attach, queries_files
from index_builder.querygen.generate import generate_queries
from index_builder.querygen.model import Decoding, Seq2Seq, open_seq2seq
from index_builder.querygen.writers import Job, Seq2SeqWriter
from index_builder.read import read_corpus
from index_builder.train.seq2seq import Config, export, new_model
from index_builder.train.seq2seq_data import EOS, PAD, Row, train_vocabulary
from index_builder.vocabulary import LANGUAGES, Entry

ROOT = Path(__file__).resolve().parent.parent
_CORES = 2
_TOKENS = 24  # written for each text
_BATCH = 32
_PER_LANGUAGE = 5


def seq2seq_rows(config: Path = ROOT / "index_builder/train/seq2seq.toml", count: int = 128, rounds: int = 5) -> Iterator[tuple[str, str]]:
    """(what was measured, result), each when it is known, on `count` entries of the bundled corpus. A few minutes on two cores."""
    entries = attach(read_corpus([ROOT / "assets/corpus"], say=lambda _: None), *queries_files([ROOT / "assets/queries"]))
    with tempfile.TemporaryDirectory() as folder:
        original, words = random_model(entries, Config.read(config), Path(folder))
        chosen = [replace(entry, queries=()) for entry in entries[:: len(entries) // count][:count]]
        size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
        yield "The model: weights, size as int8 with its vocabulary", f"{original.num_parameters() / 1e6:.1f} million, {size:.1f} MB"
        ours, theirs = against_transformers([entry.text for entry in chosen], original, words, Path(folder), rounds)
        yield (
            f"Greedy, {_TOKENS} tokens each, batches of {_BATCH}, {_CORES} cores: CTranslate2 int8 / transformers float32",
            f"{ours:,.0f} / {theirs:,.0f} tokens a second, {ours / theirs:.1f} times",
        )
        model = open_seq2seq(Path(folder), threads=_CORES)
        overhead = overhead_over_bare_loop(model, chosen, rounds)
        yield "generate-queries over a bare translate_batch loop of the same batches", f"{overhead:+.1%} time"
        rate = queries_per_second(model, chosen)
        yield (
            f"Queries of {_TOKENS} tokens sampled with it, {_PER_LANGUAGE} in each of {len(LANGUAGES)} languages",
            f"{rate:,.0f} a second; 100,000 passages take {100_000 * _PER_LANGUAGE * len(LANGUAGES) / rate / 3600:.1f} h",
        )


def random_model(
    entries: list[Entry], config: Config, folder: Path
) -> tuple[M2M100ForConditionalGeneration, sentencepiece.SentencePieceProcessor]:
    """The model in transformers' form and its vocabulary; `folder` then holds it in CTranslate2's, as int8."""
    sides: dict[str, list[str]] = {lang: [] for lang in LANGUAGES}
    for entry in entries:
        sides[entry.lang].append(entry.text)
        for query in entry.queries:
            sides[query.lang].append(query.text)
    vocabulary = folder / "words.model"
    train_vocabulary([Row("corpus", "", sides)], config.vocabulary, config.seed, vocabulary)
    words = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
    vectors = torch.nn.functional.normalize(torch.randn(words.vocab_size(), config.width, generator=torch.Generator().manual_seed(0)))
    model = new_model(config, vectors.numpy()).eval()
    export(model, words, vocabulary, folder)
    vocabulary.unlink()
    return model, words


def against_transformers(
    texts: list[str], model: M2M100ForConditionalGeneration, words: sentencepiece.SentencePieceProcessor, folder: Path, rounds: int
) -> tuple[float, float]:
    """Tokens a second of (CTranslate2 int8, transformers float32)."""
    rows = sorted((words.encode(text)[:64] for text in texts), key=len)
    batches = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    translator = ctranslate2.Translator(str(folder), inter_threads=_CORES, intra_threads=1, compute_type="int8")

    def converted() -> None:
        tokens = [[*words.id_to_piece(row), "</s>"] for row in rows]
        translator.translate_batch(tokens, max_batch_size=_BATCH, beam_size=1, min_decoding_length=_TOKENS, max_decoding_length=_TOKENS)

    def original() -> None:
        for batch in batches:
            width = max(map(len, batch)) + 1
            ids = torch.tensor([[*row, EOS, *[PAD] * (width - len(row) - 1)] for row in batch])
            asked = {"min_new_tokens": _TOKENS, "max_new_tokens": _TOKENS, "num_beams": 1, "do_sample": False}
            model.generate(ids, attention_mask=(ids != PAD).long(), **asked)

    model.set_attn_implementation("sdpa")  # what transformers takes where one does not ask for the weights
    before = torch.get_num_threads()
    torch.set_num_threads(_CORES)
    try:
        times = _in_turn(converted, original, rounds=rounds)
    finally:
        torch.set_num_threads(before)
    return len(rows) * _TOKENS / times[0], len(rows) * _TOKENS / times[1]


def overhead_over_bare_loop(model: Seq2Seq, entries: list[Entry], rounds: int) -> float:
    """Time that reading, cutting, choosing and writing add, as a share of that in the calls of translate_batch, which a bare loop would be.

    Both are taken from the same calls, because two runs one after the other differ by more than our share. The median of `rounds`.
    """
    # random weights would write one piece again and again, and a mark of the vocabulary is no text that our code must handle
    writer = Seq2SeqWriter(model, "ask", Decoding(most_tokens=_TOKENS, no_repeat=1))
    translator, inside = model.translator, 0.0

    class Timed:
        def translate_batch(self, *arguments, **options):
            nonlocal inside
            began = time.perf_counter()
            try:
                return translator.translate_batch(*arguments, **options)
            finally:
                inside += time.perf_counter() - began

    shares = []
    model.translator = Timed()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(rounds + 1):
                inside, began = 0.0, time.perf_counter()
                generate_queries(lambda: entries, writer, LANGUAGES, 1, Path(folder) / "q.jsonl", say=lambda _: None)
                shares.append((time.perf_counter() - began) / inside - 1)
    finally:
        model.translator = translator
    return statistics.median(shares[1:])  # the first warms up


def queries_per_second(model: Seq2Seq, entries: list[Entry]) -> float:
    writer = Seq2SeqWriter(model, "ask", Decoding(sampling_top_k=10, most_tokens=_TOKENS))
    jobs = [Job(entry, lang) for entry in entries for lang in LANGUAGES]
    began = time.perf_counter()
    writer.write(jobs, _PER_LANGUAGE)
    # as asked for, not as kept: random weights write many texts twice
    return len(jobs) * _PER_LANGUAGE / (time.perf_counter() - began)


def _in_turn(*calls, rounds: int) -> list[float]:
    """The shortest time of each over a few rounds in turn, after one to warm up: what else runs on the machine only ever adds."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(rounds):
        for call, found in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            found.append(time.perf_counter() - began)
    return [min(found) for found in times]

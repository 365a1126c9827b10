"""Query generation: CTranslate2 against transformers, our code against a bare loop, and how long a corpus takes."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import ctranslate2
import sentencepiece
import torch

from index_builder.querygen.generate import generate_queries
from index_builder.querygen.model import Decoding, Seq2Seq, open_seq2seq
from index_builder.querygen.writers import Job, Seq2SeqWriter
from index_builder.read import read_corpus
from index_builder.train.seq2seq import Config, export, new_model
from index_builder.train.seq2seq_data import EOS, PAD
from index_builder.vocabulary import LANGUAGES, Entry

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = ROOT / "assets/models/seq2seq"
_CORES = 2
_TOKENS = 24  # written for each text, by both
_BATCH = 32


def seq2seq_rows(
    corpus: Path = ROOT / "assets/corpus", config: Path = ROOT / "index_builder/train/seq2seq.toml"
) -> Iterator[tuple[str, str]]:
    """(what was measured, result), each when it is known. A minute or two on two cores."""
    entries = list(read_corpus([corpus], say=lambda _: None))[:96]
    ours, theirs = against_transformers([entry.text for entry in entries], Config.read(config))
    yield (
        f"Bundled seq2seq, greedy, {_TOKENS} tokens each, {_CORES} cores: CTranslate2 int8 / transformers float32",
        f"{ours:,.0f} / {theirs:,.0f} tokens a second, {ours / theirs:.1f} times",
    )
    model = open_seq2seq(BUNDLED, threads=_CORES)
    overhead = overhead_over_bare_loop(model, entries)
    yield "generate-queries over a bare translate_batch loop of the same batches", f"{overhead:+.1%} time"
    rate = queries_per_second(model, entries)
    yield (
        "Queries sampled with the bundled seq2seq, 5 in each of 7 languages",
        f"{rate:,.0f} a second; 100,000 passages take {100_000 * 5 * len(LANGUAGES) / rate / 3600:.1f} h",
    )


def against_transformers(texts: list[str], config: Config) -> tuple[float, float]:
    """Tokens a second of (CTranslate2 int8, transformers float32): the bundled form and vocabulary with random weights, which never end early."""
    words = sentencepiece.SentencePieceProcessor(model_file=str(BUNDLED / "vocabulary.model"))
    vectors = torch.nn.functional.normalize(torch.randn(words.vocab_size(), config.width, generator=torch.Generator().manual_seed(0)))
    model = new_model(config, vectors.numpy()).eval()
    rows = sorted((words.encode(text)[: config.most_tokens] for text in texts), key=len)
    batches = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    before = torch.get_num_threads()
    torch.set_num_threads(_CORES)
    try:
        with tempfile.TemporaryDirectory() as folder:
            export(model, words, BUNDLED / "vocabulary.model", Path(folder) / "model")
            translator = ctranslate2.Translator(str(Path(folder) / "model"), inter_threads=1, intra_threads=_CORES, compute_type="int8")

            def converted() -> None:
                for batch in batches:
                    tokens = [[*words.id_to_piece(row), "</s>"] for row in batch]
                    translator.translate_batch(tokens, beam_size=1, min_decoding_length=_TOKENS, max_decoding_length=_TOKENS)

            def original() -> None:
                for batch in batches:
                    width = max(map(len, batch)) + 1
                    ids = torch.tensor([[*row, EOS, *[PAD] * (width - len(row) - 1)] for row in batch])
                    model.generate(
                        ids,
                        attention_mask=(ids != PAD).long(),
                        min_new_tokens=_TOKENS,
                        max_new_tokens=_TOKENS,
                        num_beams=1,
                        do_sample=False,
                    )

            times = _in_turn(converted, original)
    finally:
        torch.set_num_threads(before)
    return tuple(len(rows) * _TOKENS / spent for spent in times)  # type: ignore[return-value]


def overhead_over_bare_loop(model: Seq2Seq, entries: list[Entry]) -> float:
    """Share of time that reading, cutting, choosing and writing add to CTranslate2's own, for a greedy query in each language."""
    decoding = Decoding()
    kept: list[tuple[list[list[str]], list[list[str]]]] = []

    def keeping(requests, asked):
        kept.append(([model.source_tokens(r) for r in requests], [model.family.tokens(r.task, r.source, r.target)[2] for r in requests]))
        return original(requests, asked)

    original, model.write = model.write, keeping  # type: ignore[method-assign]
    writer = Seq2SeqWriter(model, "ask", decoding)
    with tempfile.TemporaryDirectory() as folder:
        run = lambda: generate_queries(lambda: entries, writer, LANGUAGES, 1, Path(folder) / "q.jsonl", say=lambda _: None)
        run()
        model.write = original  # type: ignore[method-assign]

        def bare() -> None:
            for source, prefix in kept:
                model.translator.translate_batch(
                    source, target_prefix=prefix, max_batch_size=decoding.batch_tokens, batch_type="tokens", beam_size=1,
                    max_input_length=0, max_decoding_length=decoding.most_tokens, return_scores=True,
                )  # fmt: skip

        ours, theirs = _in_turn(run, bare)
    return ours / theirs - 1


def queries_per_second(model: Seq2Seq, entries: list[Entry]) -> float:
    writer = Seq2SeqWriter(model, "ask", Decoding(sampling_top_k=10))
    jobs = [Job(replace(entry, queries=()), lang) for entry in entries for lang in LANGUAGES]
    began = time.perf_counter()
    count = sum(len(found) for found in writer.write(jobs, 5))
    return count / (time.perf_counter() - began)


def _in_turn(*calls, rounds: int = 5) -> list[float]:
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

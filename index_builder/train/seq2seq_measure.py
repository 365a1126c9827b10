"""What our sequence-to-sequence model can do: chrF of every direction, and whether its questions find their own passages."""

import json
from collections.abc import Mapping, Sequence
from itertools import islice, permutations
from pathlib import Path

import numpy as np
from sacrebleu.metrics import CHRF

from index_builder.encode import BUNDLED, open_encoder
from index_builder.evaluate.runs import Cell, Row, Run, Table, keep
from index_builder.evaluate.statistics import mean_with_interval
from index_builder.querygen.model import Decoding, Seq2Seq, open_seq2seq
from index_builder.querygen.writers import Job, Seq2SeqWriter
from index_builder.train.data import read_rows
from index_builder.train.seq2seq_data import trained_on
from index_builder.vocabulary import LANGUAGES, Entry

THRESHOLD = 35.0  # chrF from which a translation may be shown: chosen by us before measuring, not tried with readers
_RESAMPLES = 1_000
_FOUND_WITHIN = 10
Figure = tuple[float, float, float]  # with its interval


def measure(
    folder: Path, data: Path, entries: Sequence[Entry], runs: Path | None = None, sentences: int = 200, asked: int = 300
) -> list[Table]:
    """Tables of chrF and, of a model that asks, of round trips; writes directions.json into `folder`, and with `runs` keeps a run of suite "seq2seq".

    sentences  of FLORES dev in each direction
    asked      entries that are asked about in each language
    """
    model = open_seq2seq(folder, threads=1)
    metric = CHRF()
    dev = {lang: list(islice(read_rows(data / "dev" / f"flores.{lang}.txt.xz"), sentences)) for lang in LANGUAGES}
    scores, sentence_rows = directions(model, dev, metric)
    usable = sorted(pair for pair, (score, _, _) in scores.items() if score >= THRESHOLD)
    record = {
        "measure": f"chrF, first {sentences} sentences of FLORES-200 dev, greedy",
        "threshold": THRESHOLD,
        "chrf": {pair: score for pair, (score, _, _) in scores.items()},
        "usable": usable,
    }
    partial = folder / "directions.json.partial"
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / "directions.json")

    tables = [
        Table(
            "chrF of every direction", ("from \\ to", *LANGUAGES), [(a, *(scores.get(f"{a}-{b}") for b in LANGUAGES)) for a in LANGUAGES],
            f"First {sentences} sentences of FLORES-200 dev, greedy search; 95 % bootstrap intervals. From {THRESHOLD:.0f} on a direction is on by default; "
            f"that is {', '.join(usable) if usable else 'none of them'}.",
        ),
        Table(
            "chrF of the text left untranslated", ("from \\ to", *LANGUAGES),
            [(a, *(None if a == b else round(metric.corpus_score(dev[a], [dev[b]]).score, 1) for b in LANGUAGES)) for a in LANGUAGES],
            "The same sentences. Related languages share letters, names and words: what does not beat this is no translation.",
        ),
    ]  # fmt: skip
    trip_rows: list[Row] = []
    if "ask" in model.family.tasks:
        trips, trip_rows = round_trips(model, entries, asked)
        note = (
            f"One question about each of {asked} entries of the corpus that were not trained on, in that language; share whose own entry is among "
            f"the first {_FOUND_WITHIN} of {len(entries):,} by the bundled encoder. Chance is {_FOUND_WITHIN / len(entries):.3f}."
        )
        columns = ("asked in", "same language", "other languages", "nothing written")
        tables.append(Table("Questions that find their own passage", columns, trips, note))
    if runs:
        path = folder / "training.json"
        training = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}  # a hub model has none
        configuration = {"model_sha256": model.fingerprint(), "config": training.get("config"), "sentences": sentences, "asked": asked}
        note = f"{len(usable)} of {len(scores)} directions are good enough to be on by default."
        if training:
            note = f"Trained in {training['minutes']} minutes; threads: {training['threads']}. {note}"
        keep(Run("seq2seq", f"Translation and questions by {model.name}", tables, note, configuration), [*sentence_rows, *trip_rows], runs)
    return tables


def directions(model: Seq2Seq, dev: Mapping[str, Sequence[str]], metric: CHRF) -> tuple[dict[str, Figure], list[Row]]:
    """({"en-hi": corpus chrF in [0, 100] with its 95 % bootstrap interval}, a row for each sentence) for every direction that the model has."""
    scores: dict[str, Figure] = {}
    rows = []
    for a, b in permutations(LANGUAGES, 2):
        if not model.family.can("translate", a, b):
            continue
        written = model.translate(dev[a], a, b)
        scores[f"{a}-{b}"] = _with_interval(metric, written, dev[b])
        for number, (text, gold) in enumerate(zip(written, dev[b], strict=True)):
            chrf = round(metric.sentence_score(text, [gold]).score, 1)
            rows.append({"id": f"{a}-{b}:{number}", "set": "translate", "lang": b, "evidence_lang": a, "scores": {"chrf": chrf}})
    return scores, rows


def _with_interval(metric: CHRF, written: Sequence[str], gold: Sequence[str]) -> Figure:
    """Corpus chrF with its 95 % percentile bootstrap interval over sentences; sacrebleu's own interval fails where a resample scores 0."""
    counts = np.array(metric._extract_corpus_statistics(written, [gold]), dtype=float)
    random = np.random.default_rng(0)
    resampled = [
        metric._compute_score_from_stats(counts[random.integers(0, len(counts), len(counts))].sum(0)).score for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(resampled, [2.5, 97.5])
    return round(metric.corpus_score(written, [gold]).score, 1), round(float(low), 1), round(float(high), 1)


def round_trips(model: Seq2Seq, entries: Sequence[Entry], asked: int) -> tuple[list[tuple[Cell, ...]], list[Row]]:
    """Rows (language, share found in the entry's own language, in another, share of entries nothing was written for), and one row for each question."""
    encoder = open_encoder(BUNDLED)
    vectors = encoder.encode([f"{entry.title}. {entry.text}" if entry.title else entry.text for entry in entries], "passage")
    chosen = [i for i in np.random.default_rng(0).permutation(len(entries)) if not trained_on(entries[i].entry_id)][:asked]
    writer = Seq2SeqWriter(model, "ask", Decoding(beam=2))
    table, rows = [], []
    for lang in LANGUAGES:
        found = writer.write([Job(entries[i], lang) for i in chosen], 1)
        written = [(int(i), queries[0].text) for i, queries in zip(chosen, found, strict=True) if queries]
        asked_vectors = encoder.encode([text for _, text in written], "query")
        outcomes: dict[bool, list[float]] = {True: [], False: []}
        for (i, text), vector in zip(written, asked_vectors, strict=True):
            similarity = vectors @ vector
            rank = int((similarity > similarity[i]).sum()) + 1
            outcomes[entries[i].lang == lang].append(float(rank <= _FOUND_WITHIN))
            rows.append({"id": f"{lang}:{entries[i].entry_id}", "set": "round trip", "lang": lang, "evidence_lang": entries[i].lang,
                         "question": text, "ranks": [rank]})  # fmt: skip
        table.append(
            (lang, mean_with_interval(outcomes[True]), mean_with_interval(outcomes[False]), round(1 - len(written) / len(chosen), 3))
        )
    return table, rows

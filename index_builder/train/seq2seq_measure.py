"""What the bundled sequence-to-sequence model can do: chrF of every direction, and whether its questions find their own passages."""

import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np

from index_builder.encode import BUNDLED, open_encoder
from index_builder.querygen.model import Decoding, Seq2Seq, open_seq2seq
from index_builder.querygen.writers import Job, Seq2SeqWriter
from index_builder.train.data import read_rows
from index_builder.train.seq2seq_data import trained_on
from index_builder.vocabulary import LANGUAGES, Entry

THRESHOLD = 35.0  # chrF from which a translation is worth showing: below, readers of our samples could not tell what the source said
_SENTENCES = 200
_ASKED = 300  # entries asked about in each language
_FOUND_WITHIN = 10


def measure(folder: Path, data: Path, entries: Sequence[Entry], runs: Path | None = None) -> list:
    """Tables of chrF and of round trips; writes directions.json into `folder`, and with `runs` keeps a run of suite "seq2seq"."""
    from index_builder.evaluate.runs import Run, Table, keep

    model = open_seq2seq(folder, threads=1)
    scores, sentence_rows = directions(model, data)
    usable = sorted(pair for pair, score in scores.items() if score >= THRESHOLD)
    record = {
        "measure": f"chrF, first {_SENTENCES} sentences of FLORES-200 dev, greedy",
        "threshold": THRESHOLD,
        "chrf": scores,
        "usable": usable,
    }
    partial = folder / "directions.json.partial"
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / "directions.json")

    trips, trip_rows = round_trips(model, entries)
    tables = [
        Table(
            "chrF of every direction", ("from \\ to", *LANGUAGES), [(a, *(scores.get(f"{a}-{b}") for b in LANGUAGES)) for a in LANGUAGES],
            f"First {_SENTENCES} sentences of FLORES-200 dev, greedy search. From {THRESHOLD:.0f} on a direction is on by default; "
            f"that is {', '.join(usable) if usable else 'none of them'}.",
        ),
        Table(
            "Questions that find their own passage", ("asked in", "same language", "other languages", "nothing written"), trips,
            f"One question about each of {_ASKED} entries of the corpus that were not trained on, in that language; share whose own entry is among the first "
            f"{_FOUND_WITHIN} of {len(entries):,} by the bundled encoder. Chance is {_FOUND_WITHIN / len(entries):.3f}.",
        ),
    ]  # fmt: skip
    if runs:
        training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        configuration = {"model_sha256": model.fingerprint(), "config": training["config"], "sentences": _SENTENCES, "asked": _ASKED}
        keep(
            Run("seq2seq", "The bundled translator and question writer", tables, configuration=configuration),
            [*sentence_rows, *trip_rows],
            runs,
        )
    return tables


def directions(model: Seq2Seq, data: Path, count: int = _SENTENCES) -> tuple[dict[str, float], list[dict]]:
    """({"en-hi": corpus chrF in [0, 100]}, a row for each sentence) for every direction that the model has."""
    from sacrebleu.metrics import CHRF

    metric = CHRF()
    dev = {lang: list(read_rows(data / "dev" / f"flores.{lang}.txt.xz"))[:count] for lang in LANGUAGES}
    scores: dict[str, float] = {}
    rows = []
    for a, b in permutations(LANGUAGES, 2):
        if not model.family.can("translate", a, b):
            continue
        written = model.translate(dev[a], a, b)
        scores[f"{a}-{b}"] = round(metric.corpus_score(written, [dev[b]]).score, 1)
        for number, (text, gold) in enumerate(zip(written, dev[b], strict=True)):
            chrf = round(metric.sentence_score(text, [gold]).score, 1)
            rows.append({"id": f"{a}-{b}:{number}", "set": "translate", "lang": b, "evidence_lang": a, "scores": {"chrf": chrf}})
    return scores, rows


def round_trips(model: Seq2Seq, entries: Sequence[Entry], asked: int = _ASKED) -> tuple[list[tuple], list[dict]]:
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
        shares = [round(float(np.mean(outcome)), 3) if outcome else None for outcome in (outcomes[True], outcomes[False])]
        table.append((lang, *shares, round(1 - len(written) / len(chosen), 3)))
    return table, rows

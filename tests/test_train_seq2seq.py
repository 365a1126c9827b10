"""A tiny training run of the sequence-to-sequence model, end to end: seven toy languages, a few steps, a folder that CTranslate2 runs."""

import json
import lzma

import numpy as np
import pytest
import torch

from benchmarks.seq2seq import seq2seq_rows
from index_builder.evaluate.runs import find_runs, read_rows, read_run
from index_builder.querygen.model import Decoding, Request, open_seq2seq
from index_builder.train import seq2seq_data
from index_builder.train.seq2seq import (
    Config,
    chrf,
    export,
    first_vectors,
    loss_of,
    new_model,
    save,
    train,
)
from index_builder.train.seq2seq_align import learn_lexicon
from index_builder.train.seq2seq_data import EOS, PAD, Sampler, around, cleaned, parallel_rows, question_rows, row_weights, trained_on
from index_builder.train.seq2seq_measure import THRESHOLD, measure
from index_builder.vocabulary import LANGUAGES, MajlisError
from tests.conftest import ROOT, small_corpus

WORDS = {  # water, rice, book, house, tree, fish, moon, salt
    "en": ["water", "rice", "book", "house", "tree", "fish", "moon", "salt"],
    "ar": ["ماء", "رز", "كتاب", "بيت", "شجرة", "سمك", "قمر", "ملح"],
    "as": ["পানী", "ভাত", "কিতাপ", "ঘৰ", "গছ", "মাছ", "জোন", "নিমখ"],
    "bn": ["জল", "চাল", "বই", "বাড়ি", "গাছ", "মৎস্য", "চাঁদ", "লবণ"],
    "hi": ["पानी", "चावल", "किताब", "मकान", "पेड़", "मछली", "चाँद", "नमक"],
    "ne": ["जल", "भात", "पुस्तक", "घर", "रूख", "माछा", "जून", "नुन"],
    "tr": ["su", "pirinç", "kitap", "ev", "ağaç", "balık", "ay", "tuz"],
}
PAIRS = [(a, b) for a in range(8) for b in range(8) if a != b]


def sentence(lang, pair):
    return " ".join(WORDS[lang][place] for place in pair)


def xz(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress("".join(row + "\n" for row in rows).encode()))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for lang in LANGUAGES:
        xz(folder / f"dev/flores.{lang}.txt.xz", *(sentence(lang, pair) for pair in PAIRS[::7]))
        if lang != "en":
            rows = (f"{sentence('en', pair)}\t{sentence(lang, pair)}\t{'bible' if pair[0] == 0 else 'toy'}:1\tCC0" for pair in PAIRS)
            xz(folder / f"parallel/en-{lang}.tsv.xz", *rows)
    questions = [
        {"lang": lang, "question": f"{WORDS[lang][n]}?", "answer": WORDS[lang][n], "passage": f"{sentence(lang, (1, 2))} {WORDS[lang][n]}.",
         "title": f"{n}", "source": "toy-qa", "licence": "CC0"}
        for lang in ("en", "tr") for n in range(8)
    ]  # fmt: skip
    xz(folder / "qa/qa.jsonl.xz", *map(json.dumps, [*questions, questions[0] | {"answer": "is in no sentence"}]))
    return folder


CONFIG = Config(
    vocabulary=420, feed_forward=64, encoder_layers=1, decoder_layers=1, heads=2, steps=240, batch_tokens=400, candidates=64, warm_up=5,
    learning_rate=3e-3, embedding_learning_rate=3e-3, label_smoothing=0.0, cross_at=160, crossed=1, refill=400, report_every=40,
    checkpoint_every=80,
)  # fmt: skip


class Killed(BaseException):
    """Stands for a kill: nothing in `train` handles it."""


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run that was killed after its second checkpoint and went on: (Trained, what it said, work folder)."""
    work, said = tmp_path_factory.mktemp("work"), []

    def kill_at_200(text):
        said.append(text)
        if text.startswith("step 200/240"):
            raise Killed

    with pytest.raises(Killed):
        train(CONFIG, data, work, say=kill_at_200)
    return train(CONFIG, data, work, say=said.append), said, work


# Data


def test_rows_are_joined_on_their_english_side_and_untranslated_strings_are_left_out(tmp_path):
    for lang in ("ar", "hi"):
        xz(tmp_path / f"parallel/en-{lang}.tsv.xz", f"salt\t{WORDS[lang][-1]}\ttoy:1\tCC0", "Wi-Fi\tWi-Fi\ttoy:2\tCC0")
    (row,) = parallel_rows(tmp_path)
    assert row.sides == {"en": ["salt"], "ar": ["ملح"], "hi": ["नमक"]} and (row.source, row.licence) == ("toy", "CC0")


def test_vocalised_scripture_is_trained_on_as_people_write():
    assert cleaned("فِي  ٱلْبَدْءِ\n") == "في ٱلبدء"
    assert cleaned("র‍্যাব  ক্ষ") == "র‍্যাব ক্ষ"  # the joiner belongs to the letters


def test_the_passage_is_cut_to_whole_sentences_around_the_answer():
    parts = ["aaaa.", "bbbb.", "cccc.", "dddd."]
    assert around(parts, 1, 5) == "bbbb."
    assert around(parts, 1, 12) == "bbbb. cccc."
    assert around(parts, 3, 12) == "cccc. dddd."


def test_questions_are_held_out_by_title(data):
    asking, held_out = question_rows(data)
    titles = [{row.sides["passage"][0].split(".")[0] for row in rows} for rows in (asking, held_out)]
    assert len(asking) + len(held_out) == 16 and not titles[0] & titles[1]


def test_scripture_weighs_less(data):
    rows = parallel_rows(data)
    weights = dict(zip((row.source for row in rows), row_weights(rows, {"bib": 0.15}), strict=True))
    assert weights["bible"] == pytest.approx(0.15 * weights["toy"])


def test_a_source_names_task_and_language_and_a_target_begins_with_its_language(trained, data):
    words = trained[0].words
    sampler = Sampler(words, 0, 400, 64, refill=200)
    sampler.add(parallel_rows(data), [1.0] * len(parallel_rows(data)))
    asking, _ = question_rows(data)
    sampler.add(asking, [4.0] * len(asking))
    texts = {text for row in asking for text in row.sides["question"]}
    asked = 0
    for batch in sampler.batches(0):
        assert batch.source.size + batch.target.size <= 400
        for source, target in zip(batch.source, batch.target, strict=True):
            pieces = [words.id_to_piece(int(i)) for i in source if i != PAD]
            ask = pieces[0] == "<ask>"
            lang = words.id_to_piece(int(target[0]))
            assert pieces[ask] == lang and lang.startswith("<2") and pieces[-1] == "</s>" and target[target != PAD][-1] == EOS
            asked += ask
            assert (words.decode([int(i) for i in target[1:] if i not in (PAD, EOS)]) in texts) == ask
    assert asked > 0


def test_a_refill_shows_every_row_as_often_as_its_weight_says_and_another_refill_others(data, trained):
    rows = parallel_rows(data)
    sampler = Sampler(trained[0].words, 0, 400, 64, refill=28)
    sampler.add(rows, [1.0] * len(rows))  # 56 rows: every second one in each refill

    def targets(refill):
        return sorted(tuple(row) for batch in sampler.batches(refill) for row in batch.source)

    assert targets(0) == targets(0) and targets(0) != targets(1)
    assert sum(len(batch.source) for batch in sampler.batches(0)) == 28


# Alignment


def pieces_of(*numbers):
    return np.array(numbers, dtype=np.int64)


def translations(rng, count, lang=0):
    """Pairs of 3 to 6 of ten words, each rendered by the piece ten higher, in another order; 29 is a word of no meaning."""
    out = []
    for _ in range(count):
        source = rng.permutation(10)[: rng.integers(3, 7)]
        order = rng.permutation(len(source))
        out.append((source, np.append(source[order] + 10, 29), lang))
    return out


def test_a_piece_is_traced_to_what_it_renders_wherever_that_stands():
    pairs = translations(np.random.default_rng(0), 400)
    lexicon = learn_lexicon(pairs[:300], 30)
    right = traced = 0
    for (source, target, _), found in zip(pairs[300:], lexicon.places(pairs[300:]), strict=True):
        known = [(source[place], piece) for place, piece in zip(found, target, strict=True) if place >= 0 and piece != 29]
        right += sum(given + 10 == piece for given, piece in known)
        traced += len(known)
    assert right == traced > 300


def test_a_lexicon_is_of_one_direction_and_says_nothing_of_pieces_it_never_saw():
    lexicon = learn_lexicon(translations(np.random.default_rng(0), 200), 30)
    (other, unseen, empty) = lexicon.places(
        [(pieces_of(1, 2), pieces_of(11), 1), (pieces_of(25), pieces_of(26), 0), (pieces_of(), pieces_of(11), 0)]
    )
    assert other.tolist() == unseen.tolist() == empty.tolist() == [-1]


def test_batches_say_where_pieces_come_from_counting_the_tokens_that_say_what_is_wanted(trained, data):
    words = trained[0].words
    sampler = Sampler(words, 0, 400, 64, refill=400)
    rows = parallel_rows(data)
    sampler.add(rows, [1.0] * len(rows))
    asking, _ = question_rows(data)
    sampler.add(asking, [4.0] * len(asking))
    sampler.learn_lexicon()
    copied = 0
    for batch in sampler.batches(0):
        assert batch.places.shape == batch.target.shape
        for source, target, places in zip(batch.source, batch.target, batch.places, strict=True):
            heads = 2 if words.id_to_piece(int(source[0])) == "<ask>" else 1
            assert all(place == -1 or place >= heads for place in places) and places[0] == -1
            assert source[places[list(target).index(EOS)]] == EOS
            if heads == 2:  # a question repeats words of its passage
                same = [source[place] == piece for place, piece in zip(places, target, strict=True) if place >= 0]
                copied += len(same) - 1
                assert all(same)
    assert copied > 0


# Model


def test_translations_start_near_each_other_and_languages_apart():
    pieces = ["▁water", "▁পানী", "▁পানি", "▁kitap"]

    class Words:
        def vocab_size(self):
            return len(pieces)

        def id_to_piece(self, i):
            return pieces[i]

        def is_control(self, i):
            return False

        is_byte = is_unknown = is_control

    counts = np.zeros((len(LANGUAGES), 4))
    for piece, lang in enumerate(("en", "as", "bn", "tr")):
        counts[LANGUAGES.index(lang), piece] = 100
    vectors = first_vectors(Words(), counts, 256, 0)
    near = vectors @ vectors.T
    assert vectors.dtype == np.float32 and np.allclose(np.diag(near), 1, atol=1e-5)
    assert near[0, 1] > near[0, 3] and near[0, 2] > near[0, 3]
    assert near[1, 2] < 0.95  # two words for water remain two words


def test_the_vectors_must_be_as_wide_as_the_encoder(trained):
    with pytest.raises(MajlisError, match="256 dimensions, the configuration a width of 64"):
        first_vectors(trained[0].words, np.zeros((7, trained[0].words.vocab_size())), 64, 0)


def test_the_sampled_loss_is_the_full_one_on_average():
    vectors = np.random.default_rng(0).standard_normal((300, 32)).astype(np.float32)
    config = Config(width=32, heads=2, feed_forward=32, encoder_layers=1, decoder_layers=1, label_smoothing=0.0, candidates=0)
    model = new_model(config, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).eval()
    rng = np.random.default_rng(1)
    batch = seq2seq_data.Batch(rng.integers(4, 300, (8, 6)), rng.integers(4, 300, (8, 6)), np.full((8, 6), -1))
    with torch.no_grad():
        full, count = loss_of(model, batch, config, torch.Generator())
        sampled = Config(**{**{f: getattr(config, f) for f in Config.__dataclass_fields__}, "candidates": 100})
        found = [loss_of(model, batch, sampled, torch.Generator().manual_seed(seed))[0].item() for seed in range(40)]
    assert count == 8 * 5  # the language token is given
    assert np.mean(found) == pytest.approx(full.item(), abs=0.1)


# Training


def test_a_killed_run_goes_on_from_its_last_checkpoint(trained):
    steps = [text.split("  ")[0] for text in trained[1] if text.startswith(("step", "going on")) and "chrF" not in text]
    assert steps == [*(f"step {n}/240" for n in (40, 80, 120, 160, 200)), "going on from step 160", "step 200/240", "step 240/240"]


def test_training_lowers_the_loss_and_measures_on_the_way(trained):
    losses = [float(text.split("loss ")[1].split()[0]) for text in trained[1] if "loss" in text]
    assert losses[-1] < losses[0] / 2
    assert sum("chrF {'en-ar'" in text for text in trained[1]) == 3


def test_questions_are_translated_by_the_model_itself_once(trained):
    said, work = trained[1], trained[2]
    assert said.count("translating the questions into the other languages") == 1
    (file,) = work.glob("crossed-*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    crossed = [row for row in trained[0].rows if "translated by this model" in row.source]
    assert len(rows) == len(crossed) > 0
    english = [row for row in rows if row["sides"]["passage"][0].split()[-1].rstrip(".") in WORDS["en"]]
    assert all(row["lang"] != "en" for row in english)


def test_half_of_the_heads_look_at_what_is_rendered(trained, data):
    model, words = trained[0].model.eval(), trained[0].words
    sampler = Sampler(words, 0, 400, 64, refill=200)
    sampler.add(parallel_rows(data), [1.0] * len(parallel_rows(data)))
    sampler.learn_lexicon()
    looked = []
    for batch in sampler.batches(3):
        source, target, places = map(torch.from_numpy, (batch.source, batch.target, batch.places))
        given = torch.cat([torch.full_like(target[:, :1], EOS), target[:, :-1]], dim=1)
        with torch.no_grad():
            out = model.model(input_ids=source, attention_mask=(source != PAD).long(), decoder_input_ids=given, output_attentions=True)
        shown = out.cross_attentions[0][:, :1].mean(1)[places >= 0]
        looked.append(shown.gather(1, places[places >= 0][:, None]))
    assert torch.cat(looked).mean() > 0.3  # one in about eight by chance


def test_a_finished_run_is_not_trained_again(trained, data):
    said = []
    again = train(CONFIG, data, trained[2], say=said.append)
    assert said[-1] == "going on from step 240" and not any("loss" in text for text in said)
    first = trained[0].model.state_dict()
    assert all(torch.equal(value, first[name]) for name, value in again.model.state_dict().items())


def test_converted_tokens_are_those_of_transformers(trained, tmp_path):
    model, words = trained[0].model.eval(), trained[0].words
    export(model, words, trained[0].vocabulary, tmp_path, quantization="float32")
    converted = open_seq2seq(tmp_path, compute_type="float32")
    texts = []
    for source, target in ((a, b) for a in ("en", "as", "tr") for b in LANGUAGES if a != b):
        request = Request("translate", source, target, sentence(source, (0, 3)))
        tokens = converted.source_tokens(request)
        out = model.generate(
            torch.tensor([[words.piece_to_id(token) for token in tokens]]), forced_bos_token_id=words.piece_to_id(f"<2{target}>"),
            max_new_tokens=20, do_sample=False, num_beams=1,
        )[0].tolist()  # fmt: skip
        theirs = words.decode([token for token in out[2:] if token not in (EOS, PAD)])
        texts.append(" ".join(theirs.split()))
        assert converted.translate([request.text], source, target, Decoding(most_tokens=20)) == [texts[-1]]
    assert len(set(texts) - {""}) > 5


def test_the_saved_folder_names_its_data_and_serves_every_pair(trained, tmp_path):
    save(trained[0], CONFIG, tmp_path / "out")
    record = json.loads((tmp_path / "out/training.json").read_text(encoding="utf-8"))
    assert record["config"]["steps"] == 240 and {"source": "toy", "licence": "CC0", "rows": 49} in record["sources"]
    model = open_seq2seq(tmp_path / "out")
    assert all(model.family.can("translate", a, b) for a in LANGUAGES for b in LANGUAGES if a != b)
    assert all(model.family.can("ask", a, b) for a in LANGUAGES for b in LANGUAGES)


def test_what_the_model_can_do_is_measured_kept_and_what_is_weak_is_off(trained, data, tmp_path):
    save(trained[0], CONFIG, tmp_path / "out")
    entries = small_corpus()
    chrf_table, untranslated, trips = measure(tmp_path / "out", data, entries, tmp_path / "runs", sentences=4, asked=3)
    record = json.loads((tmp_path / "out/directions.json").read_text(encoding="utf-8"))
    assert len(record["chrf"]) == 42 and record["usable"] == sorted(pair for pair, score in record["chrf"].items() if score >= THRESHOLD)
    for a, *cells in chrf_table.rows:
        for b, cell in zip(LANGUAGES, cells, strict=True):
            assert cell is None if a == b else cell[1] <= cell[2] and cell[0] == record["chrf"][f"{a}-{b}"]
    assert [row[0] for row in trips.rows] == list(LANGUAGES)
    (folder,) = find_runs([tmp_path / "runs"])
    assert [table.title for table in read_run(folder).tables] == [chrf_table.title, untranslated.title, trips.title]
    assert all((cell is None) == (row[0] == lang) for row in untranslated.rows for lang, cell in zip(LANGUAGES, row[1:], strict=True))
    asked_about = {row["id"].partition(":")[2] for row in read_rows(folder) if row["set"] == "round trip"}
    assert asked_about and not any(trained_on(entry_id) for entry_id in asked_about)  # what it learnt from says nothing


def test_the_benchmark_builds_its_model_and_measures_all_four_lines(tmp_path):
    small = "vocabulary = 600\nwidth = 32\nheads = 2\nfeed_forward = 32\nencoder_layers = 1\ndecoder_layers = 1\n"
    (tmp_path / "c.toml").write_text(small, encoding="utf-8")
    found = [result for _, result in seq2seq_rows(tmp_path / "c.toml", count=4, rounds=1)]
    assert [unit in text for unit, text in zip(("MB", "times", "% time", "a second"), found, strict=True)] == [True] * 4


def test_chrf_is_a_hundred_for_the_same_text():
    assert chrf(["পানী গছ"], ["পানী গছ"]) == pytest.approx(100) and chrf(["xyz"], ["পানী গছ"]) == 0


def test_a_setting_that_does_not_exist_is_refused(tmp_path):
    (tmp_path / "c.toml").write_text("steps = 10\nstep_size = 3\n", encoding="utf-8")
    with pytest.raises(MajlisError, match=r"c\.toml: unknown setting 'step_size'; known are seed, "):
        Config.read(tmp_path / "c.toml")
    assert Config.read(ROOT / "index_builder/train/seq2seq.toml").vocabulary == 16_000

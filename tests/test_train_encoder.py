"""A tiny training run, end to end: seven toy languages, a few steps, a folder that both loaders open; and each method of the trainer alone."""

import json
import lzma
import shutil
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from index_builder.encode import open_encoder
from index_builder.evaluate.files import digests
from index_builder.train.data import Example, read_parallel, read_questions, read_romanised, read_rows, split_names, training_files
from index_builder.train.features import feature_table, ngrams, sounds
from index_builder.vocabulary import LANGUAGES, MajlisError

WORDS = {  # water, rice, book, house, tree, fish, bird, moon, salt, tea, river, song
    "en": ["water", "rice", "book", "house", "tree", "fish", "bird", "moon", "salt", "tea", "river", "song"],
    "ar": ["ماء", "رز", "كتاب", "بيت", "شجرة", "سمك", "طير", "قمر", "ملح", "شاي", "نهر", "أغنية"],
    "as": ["পানী", "ভাত", "কিতাপ", "ঘৰ", "গছ", "মাছ", "চৰাই", "জোন", "নিমখ", "চাহ", "নৈ", "গীত"],
    "bn": ["জল", "চাল", "বই", "বাড়ি", "গাছ", "মৎস্য", "পাখি", "চাঁদ", "লবণ", "চা", "নদী", "গান"],
    "hi": ["पानी", "चावल", "किताब", "मकान", "पेड़", "मछली", "पक्षी", "चाँद", "नमक", "चाय", "दरिया", "गीत"],
    "ne": ["जल", "भात", "पुस्तक", "घर", "रूख", "माछा", "चरा", "जून", "नुन", "चिया", "नदी", "गाना"],
    "tr": ["su", "pirinç", "kitap", "ev", "ağaç", "balık", "kuş", "ay", "tuz", "çay", "nehir", "şarkı"],
}
PAIRS = [(a, b) for a in range(12) for b in range(12) if a != b]  # 132 two-word sentences, every eighth kept for measuring
TRAINING, DEV = [pair for n, pair in enumerate(PAIRS) if n % 8], PAIRS[::8]


def sentence(lang, places):
    return " ".join(WORDS[lang][place] for place in places)


def xz(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress("".join(row + "\n" for row in rows).encode()))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for lang in LANGUAGES:
        xz(folder / f"dev/flores.{lang}.txt.xz", *(sentence(lang, pair) for pair in DEV))
        if lang != "en":
            xz(
                folder / f"parallel/en-{lang}.tsv.xz",
                *(f"{sentence('en', pair)}\t{sentence(lang, pair)}\ttoy:{n}\tCC0" for n, pair in enumerate(TRAINING)),
            )
    questions = [
        {"question": f"Who sells {word}?", "answer": "Rahim", "passage": f"It is hot. Rahim sells {word}. He is old.", "title": f"Market {n}", "source": "toy-qa", "licence": "CC0"}
        for n, word in enumerate(WORDS["en"] * 5)
    ]  # fmt: skip
    questions.append(questions[0] | {"answer": "is in no sentence"})
    xz(folder / "qa/qa.jsonl.xz", *map(json.dumps, questions))
    xz(folder / "romanised/words.tsv.xz", "bn\tbari\tবাড়ি\tdakshina:train", "hi\tkitab\tकिताब\tdakshina:train")
    rows = [
        {"lang": "hi", "native": "मकान पेड़", "roman": "makan ped", "source": source, "licence": "CC0"} for source in ("toy", "FLORES-dev")
    ]
    xz(folder / "romanised/sentences.jsonl.xz", *map(json.dumps, rows))
    return folder


@pytest.fixture(scope="module")
def long_data(data, tmp_path_factory):
    """The same with sentences of four words, which a teacher is asked about, in four pairs of files."""
    folder = tmp_path_factory.mktemp("long")
    fours = [(a, (a + b) % 12, (a + 2 * b + 1) % 12, (a + 5) % 12) for a in range(12) for b in range(1, 6)]
    for lang in LANGUAGES:
        xz(folder / f"dev/flores.{lang}.txt.xz", *(sentence(lang, four) for four in fours[::6]))
        if lang in ("ar", "bn", "hi", "tr"):
            rows = (f"{sentence('en', four)}\t{sentence(lang, four)}\ttoy:{n}\tCC0" for n, four in enumerate(fours) if n % 6)
            xz(folder / f"parallel/en-{lang}.tsv.xz", *rows)
    for name in ("qa/qa.jsonl.xz", "romanised/words.tsv.xz", "romanised/sentences.jsonl.xz"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((data / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def config():
    from index_builder.train.recipe import Config

    return Config(vocabulary=300, dimension=24, steps=60, batch=64, learning_rate=0.05, romanised_share=0.05, question_share=0.1, token_dropout=0.1, checkpoint_every=20)  # fmt: skip


# Data


def test_parallel_files_are_joined_on_their_english_side(data):
    examples = read_parallel(data)
    assert len(examples) == len(TRAINING) == 115
    assert examples[0].sides == {lang: [sentence(lang, TRAINING[0])] for lang in sorted(LANGUAGES, key=lambda lang: (lang != "en", lang))}
    assert (examples[0].source, examples[0].licence, examples[0].family) == ("toy", "CC0", "parallel")


def test_what_is_measured_on_is_not_trained_on(data):
    romanised = read_romanised(data)
    assert [(example.source, example.sides) for example in romanised] == [
        ("dakshina-bn", {"bn": ["বাড়ি"], "roman": ["bari"]}),
        ("dakshina-hi", {"hi": ["किताब"], "roman": ["kitab"]}),
        ("toy-sentences", {"hi": ["मकान पेड़"], "roman": ["makan ped"]}),
    ]
    train, held_out = read_questions(data)
    titles = [{example.sides["answer"][0].split(".")[0] for example in part} for part in (train, held_out)]
    assert len(train) + len(held_out) == 60 and held_out and not titles[0] & titles[1]


def test_a_question_is_paired_with_the_sentence_that_holds_its_answer(data):
    train, _ = read_questions(data)
    example = next(example for example in train if example.sides["question"] == ["Who sells rice?"])
    title, bare = example.sides["answer"]
    assert bare == "Rahim sells rice." and title.startswith("Market ") and title.endswith(". Rahim sells rice.")


def name_row(source, english, **others):
    return Example(source, "CC0", "parallel", {"en": [english]} | {lang: [text] for lang, text in others.items()})


def test_a_place_name_is_held_out_of_every_source_that_has_it_as_a_row():
    places = [name_row("libmateweather-places", f"Town {n}", bn=f"শহর {n}") for n in range(200)]
    _, names = split_names(places)
    assert 5 < len(names) < 50 and all(example.source == "libmateweather-places" for example in names)
    name = names[0].sides["en"][0]
    again = [
        name_row("tatoeba", name, tr="Kasaba"), name_row("cldr-ter", name.upper(), hi="नगर"), name_row("tatoeba", f"{name} is far.", tr="Kasaba uzak."),
        name_row("tatoeba", "Tea", tr="Çay"),
    ]  # fmt: skip
    rest, names = split_names(places + again)
    held = {example.sides["en"][0].lower() for example in names}
    assert name.lower() in held and again[1] in names  # a name is a name in whatever letters
    assert not held & {example.sides["en"][0].lower() for example in rest}
    assert again[0] not in rest and again[0] not in names  # neither trained on nor measured: it is no source of names
    assert again[2] in rest and again[3] in rest


def test_which_names_are_held_out_does_not_depend_on_what_else_there_is():
    places = [name_row("cldr-ter", f"Land {n}", ar=f"بلد {n}") for n in range(100)]
    _, names = split_names(places)
    _, among_half = split_names(places[::2])
    assert {e.sides["en"][0] for e in among_half} == {e.sides["en"][0] for e in names} & {e.sides["en"][0] for e in places[::2]}


@pytest.mark.parametrize("read", [read_parallel, read_romanised, read_questions])
def test_a_folder_without_training_data_is_refused(tmp_path, read):
    with pytest.raises(MajlisError, match="--data"):
        read(tmp_path)


@pytest.mark.parametrize(
    "content, complaint",
    [
        (lzma.compress(b"tea\tcay\ttoy:1\tCC0\nrice\tpirinc\n"), r"en-tr.tsv.xz:2: 2 columns, expected 4"),
        (lzma.compress(b"tea\t\xe7ay\ttoy:1\tCC0\n"), r"en-tr.tsv.xz:1 is not UTF-8 \(byte 0xe7\)"),
        (lzma.compress(b"tea\tcay\ttoy:1\tCC0\n" * 99)[:-20], "en-tr.tsv.xz cannot be read after line"),
    ],
)
def test_a_damaged_training_file_is_refused_with_the_line(tmp_path, content, complaint):
    (tmp_path / "parallel").mkdir()
    (tmp_path / "parallel/en-tr.tsv.xz").write_bytes(content)
    with pytest.raises(MajlisError, match=complaint):
        read_parallel(tmp_path)


def test_rows_keep_what_looks_like_the_end_of_a_line_to_some(tmp_path):
    xz(tmp_path / "rows.xz", "one\u2028still one\u0085still one", "two")
    assert list(read_rows(tmp_path / "rows.xz")) == ["one\u2028still one\u0085still one", "two"]


def test_a_setting_that_does_not_exist_is_refused(tmp_path):
    from index_builder.train.recipe import Recipe
    from tests.conftest import ROOT

    (tmp_path / "c.toml").write_text("steps = 10\nstep_size = 3\n", encoding="utf-8")
    with pytest.raises(MajlisError, match=r"c\.toml: unknown setting 'step_size'; known are seed, "):
        Recipe.read(tmp_path / "c.toml")
    assert Recipe.read(ROOT / "index_builder/train/encoder.toml").kept == 256


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("steps = ", "cannot be read"),
        ("steps = 2.5", "steps is 2.5, expected something like 2500"),
        ("ngram_features = 1", "ngram_features is 1, expected something like False"),
        ("matryoshka = 64", r"matryoshka is 64, expected something like \(\)"),
        ("romanised_share = 0.5\nquestion_share = 0.5", "leave 0.00 of a batch for parallel text"),
        ("question_share = -0.1", "leave 1.10 of a batch"),
        ("kept = 300", "kept is 300, expected 1 to 256, the dimensions of all members"),
        ("kept = 2.5", "kept is 2.5, expected something like 0"),
        ("within_power = 0.25", "Say with kept how many of 256 to keep"),
        ("[[member]]\n[[member]]", "Say with kept how many of 512 to keep"),
        ("member = 2", r"member is 2, expected one or more tables \[\[member\]\]"),
        ("kept = 9\n[[member]]\n[[member]]\nvocabulary = 9", "differ in vocabulary"),
        ("kept = 9\n[[member]]\nstep_size = 9", "unknown setting 'step_size'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, text, complaint):
    from index_builder.train.recipe import Recipe

    (tmp_path / "c.toml").write_text(text, encoding="utf-8")
    with pytest.raises(MajlisError, match=complaint):
        Recipe.read(tmp_path / "c.toml")
    with pytest.raises(MajlisError, match="nowhere.toml cannot be read.*--config"):
        Recipe.read(tmp_path / "nowhere.toml")


def test_a_whole_number_will_do_for_a_share(tmp_path):
    from index_builder.train.recipe import Config, Recipe

    (tmp_path / "c.toml").write_text("teacher_weight = 1\nmatryoshka = [64, 128]\n", encoding="utf-8")
    assert Recipe.read(tmp_path / "c.toml") == Recipe((Config(teacher_weight=1, matryoshka=(64, 128)),))


def test_members_share_what_is_set_above_them(tmp_path):
    from index_builder.train.recipe import Config, Recipe

    text = "steps = 10\nwithin_power = 0.3\nkept = 40\n[[member]]\ndimension = 64\n[[member]]\ndimension = 32\nsteps = 20\n"
    (tmp_path / "c.toml").write_text(text, encoding="utf-8")
    members = Config(steps=10, dimension=64), Config(steps=20, dimension=32)
    assert Recipe.read(tmp_path / "c.toml") == Recipe(members, within_power=0.3, kept=40)


# What a piece is made of

PIECES = ["<unk>", "<pad>", "▁বাংলা", "▁বাংলার", "▁बांग्ला", "▁evde", "▁evlerde", "▁ev", "ler", "▁ঢাকা", "▁ढाका", "▁dhaka", "▁", "."]


def test_the_same_word_in_bengali_and_devanagari_letters_has_the_same_features():
    for one, other in (("▁ভারত", "▁भारत"), ("▁নমস্কাৰ", "▁नमस्कार"), ("সাগর", "सागर")):
        assert set(ngrams(one)) == set(ngrams(other)) and set(sounds(one)) == set(sounds(other))
    assert set(sounds("▁ঢাকা")) == set(sounds("▁ढाका")) == set(sounds("▁dhaka")) == {"s:<dk"}
    assert set(ngrams("▁ভারত")) != set(ngrams("ভারত"))  # the start of a word is a letter of its own


@settings(deadline=None, max_examples=50)
@given(st.text(st.sampled_from("कखगघचछजझटठडढणतथदधनपफबभमयरलशषसहािीुूेैोौ्ंः"), max_size=12))
def test_any_bengali_spelling_has_the_ngrams_of_its_devanagari_one(word):
    bengali = "".join(chr(ord(letter) + 0x80) for letter in word)
    assert list(ngrams(f"▁{bengali}")) == list(ngrams(f"▁{word}"))


def test_a_feature_of_one_piece_alone_is_left_out():
    starts, features, count = feature_table(["▁evde", "▁evler", "▁su"], True, False)
    assert set(ngrams("▁evde")) & set(ngrams("▁evler")) == {"n:<ev"} and count == 1
    assert starts.tolist() == [0, 1, 2, 2] and features.tolist() == [0, 0]


@pytest.mark.parametrize("with_ngrams, with_sounds", [(False, False), (True, False), (False, True), (True, True)])
def test_features_fold_into_vectors_exactly(with_ngrams, with_sounds):
    import torch

    from index_builder.train.encoder import StaticModel

    torch.manual_seed(1)
    model = StaticModel(PIECES, 8, with_ngrams, with_sounds)
    torch.nn.init.normal_(model.weight.weight)
    rows = [[2], [3, 4, 4], [5, 6, 7, 8, 13], [0], [9, 10, 11, 12]]
    with torch.no_grad():
        trained = model(rows).numpy()
    table = model.folded()
    sums = np.stack([table[row].mean(0) for row in rows])
    assert np.allclose(trained, sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-6)
    plain = StaticModel(PIECES, 8)
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if key != "feature_vectors.weight"}, strict=False)
    assert np.allclose(plain.folded(), table) != (with_ngrams or with_sounds)


# Losses


def unit(*shape, seed=0):
    import torch

    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_the_class_loss_is_zero_where_the_student_ranks_as_the_teacher_and_grows_as_it_departs():
    from index_builder.train.encoder import _TEACHER_SCALE, class_loss

    teacher, noise = unit(12, 16), unit(12, 16, seed=1)
    same = class_loss(teacher, teacher, teacher, teacher, _TEACHER_SCALE)
    assert abs(same.item()) < 1e-5
    apart = [class_loss(teacher, teacher, teacher + share * noise, teacher, _TEACHER_SCALE).item() for share in (0.5, 1.0, 2.0)]
    assert 1e-4 < apart[0] < apart[1] < apart[2]
    # the student's own English ranking is a teacher too, and learns nothing from the other language: its gradient is stopped
    english = unit(12, 16, seed=2).requires_grad_()
    other = unit(12, 16, seed=3).requires_grad_()
    class_loss(teacher, english, other, teacher, 20.0).backward()
    alone = english.detach().clone().requires_grad_()
    class_loss(teacher, alone, unit(12, 16, seed=4), teacher, 20.0).backward()
    assert np.allclose(english.grad, alone.grad, atol=1e-6) and other.grad.abs().sum() > 0


def test_matryoshka_adds_the_loss_of_the_first_dimensions_alone(data, config):
    import torch

    from index_builder.train.encoder import Sampler, contrastive_loss, new_model, step_loss, tokenizer_of

    examples = read_parallel(data)
    tokenizer = tokenizer_of(config, examples, data)
    config = replace(config, romanised_share=0.0, question_share=0.0)
    model = new_model(config, tokenizer)
    sampler = Sampler(examples, tokenizer, config)
    batch = sampler.batch()
    left, right = model(batch.left), model(batch.right)
    prefix = lambda side: torch.nn.functional.normalize(side[:, :4], dim=1)
    plain = step_loss(model, batch, sampler, None, config)
    both = step_loss(model, batch, sampler, None, replace(config, matryoshka=(4,)))
    assert both.item() - plain.item() == pytest.approx(contrastive_loss(prefix(left), prefix(right), config.scale).item() / 2, rel=1e-4)


def test_mined_examples_are_neighbours_but_never_the_same_sentence(data, config, monkeypatch):
    import torch

    from index_builder.train import encoder
    from index_builder.train.encoder import Sampler, tokenizer_of

    monkeypatch.setattr(encoder, "_NEIGHBOURS", 4)
    config = replace(config, romanised_share=0.0, question_share=0.0, mined_share=0.5, batch=16)
    examples = read_parallel(data)
    sampler = Sampler(examples, tokenizer_of(config, examples, data), config)
    # five groups of four near each other, and a copy of the first of each group
    centres = torch.eye(5).repeat_interleave(4, 0)
    grouped = torch.nn.functional.normalize(centres + 0.6 * unit(20, 5).abs(), dim=1)
    sampler.mined = np.arange(30, 55), torch.cat([grouped, grouped[::4]])
    for _ in range(5):
        found = sampler._neighbours(8)  # two anchors, and what lies nearest to each
        places = [number - 30 for number in found]
        vectors = sampler.mined[1][places]
        scores = sampler.mined[1] @ sampler.mined[1].T
        assert 4 <= len(found) <= 8
        anchor = places[0]
        nearest = {place for place in range(25) if scores[anchor, place] <= encoder._SAME}
        best = sorted(nearest, key=lambda place: -scores[anchor, place])[:3]
        assert set(best) <= set(places) and len(vectors) == len(set(places))
    batch = sampler.batch()
    assert len(batch.examples) == len(set(batch.examples)) == len(batch.left) == len(batch.right)
    assert sum(30 <= number < 55 for number in batch.examples) >= 4


def test_a_looked_up_pool_is_of_parallel_examples_with_the_vectors_of_the_moment(data, config):
    from index_builder.train.encoder import Sampler, new_model, tokenizer_of

    examples = read_parallel(data)
    tokenizer = tokenizer_of(config, examples, data)
    model = new_model(config, tokenizer)
    sampler = Sampler(examples, tokenizer, replace(config, romanised_share=0.0, question_share=0.0, mined_share=0.5))
    sampler.mine(model)
    chosen, vectors = sampler.mined
    assert len(chosen) == len(set(chosen.tolist())) == len(vectors) == len(examples)
    assert np.allclose(vectors[3].numpy(), model([sampler.sides[chosen[3]]["en"][0]]).detach().numpy()[0], atol=1e-6)


# The teacher


@pytest.fixture(scope="module")
def teacher(data, config, tmp_path_factory):
    """A folder that sentence-transformers opens: a static model with random vectors."""
    import torch

    from index_builder.train.encoder import Trained, new_model, save, tokenizer_of
    from index_builder.train.recipe import Recipe

    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("teacher")
    tokenizer = tokenizer_of(config, read_parallel(data), folder)
    table = new_model(replace(config, dimension=12), tokenizer).folded()
    save(Trained(table, tokenizer, {}, []), Recipe((config,)), folder / "model", {})
    return folder / "model"


TAUGHT = [*("water rice book " + word for word in WORDS["en"]), "too short", "", "water rice book water"]  # the last is also the first


def test_a_teachers_vectors_are_unit_rows_and_zeros_for_what_is_too_short(teacher, tmp_path):
    from index_builder.train.teacher import teacher_vectors

    found = teacher_vectors(TAUGHT, teacher, tmp_path, say=lambda _: None)
    assert found.shape == (15, 12) and found.dtype == np.float16
    lengths = np.linalg.norm(found.astype(np.float32), axis=1)
    assert np.allclose(lengths[:12], 1, atol=1e-2) and not found[12:14].any() and np.array_equal(found[14], found[0])


def test_a_killed_teacher_goes_on_with_what_is_missing(teacher, tmp_path, monkeypatch):
    from index_builder.train import teacher as module

    monkeypatch.setattr(module, "_CHUNK", 5)
    whole = module.teacher_vectors(TAUGHT, teacher, tmp_path / "whole", say=lambda _: None)

    def kill(text):
        raise Killed

    with pytest.raises(Killed):
        module.teacher_vectors(TAUGHT, teacher, tmp_path / "work", say=kill)
    [kept] = (tmp_path / "work").iterdir()
    (kept / "99999999.npy").write_bytes(b"half")  # vectors whose texts were not written yet do not count
    said = []
    again = module.teacher_vectors(TAUGHT, teacher, tmp_path / "work", say=said.append)
    assert [line.split(" sentences")[0] for line in said] == ["teacher: 5 of 7", "teacher: 7 of 7"]
    assert np.array_equal(again, whole)
    assert module.teacher_vectors(TAUGHT, teacher, tmp_path / "work", say=kill) is not None  # nothing is missing now, so nothing is said
    assert np.array_equal(module.teacher_vectors(TAUGHT[3:5], teacher, tmp_path / "work", say=kill), whole[3:5])


def test_settings_that_cannot_be_trained_are_refused_before_anything_is_read(config, tmp_path):
    from index_builder.train.encoder import train

    for setting in ({"teacher_weight": 1.0}, {"class_weight": 1.0}):
        with pytest.raises(MajlisError, match="no teacher given.*--teacher"):
            train(replace(config, **setting), tmp_path / "nowhere", tmp_path)
    with pytest.raises(MajlisError, match="checkpoint_every is 20, expected a multiple of mined_every"):
        train(replace(config, mined_share=0.5, mined_every=15), tmp_path / "nowhere", tmp_path)


def test_a_teacher_folder_without_weights_is_refused(tmp_path):
    from index_builder.train.teacher import teacher_vectors

    with pytest.raises(MajlisError, match=r"holds no model\.safetensors.*--teacher"):
        teacher_vectors(["one two three four"], tmp_path, tmp_path)


# Training


class Killed(BaseException):
    """Stands for a kill: nothing in `train` handles it."""


@pytest.fixture(scope="module")
def trained(data, config, tmp_path_factory):
    """A run that was killed at step 40 and went on: (model, tokenizer, figures, examples, what it said)."""
    from index_builder.train.encoder import train

    work, said = tmp_path_factory.mktemp("work"), []

    def kill_at_40(text):
        said.append(text)
        if text.startswith("step 40/60"):
            raise Killed

    with pytest.raises(Killed):
        train(config, data, work, say=kill_at_40)
    return *train(config, data, work, say=said.append), said


def as_recipe(trained, config):
    from index_builder.train.encoder import Trained
    from index_builder.train.recipe import Recipe

    model, tokenizer, figures, examples, _ = trained
    return Trained(model.folded(), tokenizer, figures, examples), Recipe((config,))


def test_a_killed_run_goes_on_from_its_last_checkpoint(trained):
    steps = [text.split("  ")[0] for text in trained[4] if text.startswith(("step", "going on"))]
    assert steps == ["step 20/60", "step 40/60", "going on from step 20", "step 40/60", "step 60/60"]


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(long_data, config, teacher, tmp_path):
    """With every method switched on: batches, mining, cloze and the teacher are all drawn again as they were."""
    from index_builder.train.encoder import train

    config = replace(
        config, steps=12, checkpoint_every=4, mined_every=2, mined_share=0.3, cloze_share=0.2, ngram_features=True, sound_features=True, matryoshka=(8,),
        teacher_weight=1.0, class_weight=1.0,
    )  # fmt: skip
    whole = train(config, long_data, tmp_path / "whole", say=lambda _: None, teacher_folder=teacher)

    # the vocabulary of a work folder is kept, because the library that makes it counts in no fixed order
    (tmp_path / "killed").mkdir()
    shutil.copy(tmp_path / "whole" / "tokenizer-300.json", tmp_path / "killed")

    def kill_at_8(text):
        if text.startswith("step 8/12"):
            raise Killed

    with pytest.raises(Killed):
        train(config, long_data, tmp_path / "killed", say=kill_at_8, teacher_folder=teacher)
    said = []
    again = train(config, long_data, tmp_path / "killed", say=said.append, teacher_folder=teacher)
    assert "going on from step 4" in said
    assert np.array_equal(again[0].folded(), whole[0].folded()) and again[2] == whole[2]


def test_training_lowers_the_loss(trained):
    losses = [float(text.split("loss ")[1].split()[0]) for text in trained[4] if text.startswith("step")]
    assert losses[-1] < losses[0]


def test_translations_that_were_held_out_are_ranked_first(trained):
    figures = trained[2]
    assert set(figures) == {*(f"{lang}-en" for lang in LANGUAGES if lang != "en"), "mean of 42", "worst of 42", "question success@10"}
    # word order is lost in a mean, so "water rice" and "rice water" tie where both are held out; chance is 1 in 17
    assert figures["mean of 42"] > 0.7


def test_a_finished_run_is_not_trained_again(data, config, trained, tmp_path):
    from index_builder.train.encoder import train

    first = train(config, data, tmp_path, say=lambda _: None)
    said = []
    again = train(config, data, tmp_path, say=said.append)
    assert said[-1] == "going on from step 60" and again[2] == first[2]
    assert np.array_equal(first[0].folded(), again[0].folded())


def test_the_saved_folder_is_opened_by_both_loaders(trained, config, tmp_path):
    from sentence_transformers import SentenceTransformer

    from index_builder.train.encoder import save

    result, recipe = as_recipe(trained, config)
    figures = result.figures
    save(result, recipe, tmp_path / "encoder", {})
    ours = open_encoder(tmp_path / "encoder")
    theirs = SentenceTransformer(str(tmp_path / "encoder"), local_files_only=True, device="cpu").float()
    texts = [sentence(lang, pair) for lang in LANGUAGES for pair in DEV]
    vectors = ours.encode(texts, "passage")
    assert vectors.shape == (len(texts), 24)
    assert np.abs(vectors - theirs.encode(texts)).max() < 1e-5
    # what was measured before saving is what the folder does, but for float16
    by_lang = dict(zip(LANGUAGES, vectors.reshape(len(LANGUAGES), len(DEV), 24), strict=True))
    p_at_1 = ((by_lang["tr"] @ by_lang["en"].T).argmax(1) == np.arange(len(DEV))).mean()
    assert p_at_1 == pytest.approx(figures["tr-en"], abs=0.1)


def test_the_record_names_data_licences_and_settings(trained, data, config, tmp_path):
    from index_builder.train.encoder import save

    result, recipe = as_recipe(trained, config)
    save(result, recipe, tmp_path, digests(training_files(data)))
    record = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert record["recipe"]["members"][0]["steps"] == 60 and record["figures"] == result.figures
    assert {"source": "toy", "licence": "CC0", "rows": 115} in record["sources"]
    assert (
        len(record["data"]) == 6 + 1 + 2 + 7
        and record["data"]["qa.jsonl.xz"] == sha256((data / "qa/qa.jsonl.xz").read_bytes()).hexdigest()[:16]
    )


def test_an_encoder_that_cannot_be_written_leaves_the_one_before_as_it_was(trained, config, tmp_path, monkeypatch):
    from index_builder.train import encoder

    result, recipe = as_recipe(trained, config)
    out = tmp_path / "encoder"
    encoder.save(result, recipe, out, {})
    (out / "README.md").write_text("its card", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def no_space(tensors, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoder, "save_file", no_space)
    with pytest.raises(OSError, match="No space"):
        encoder.save(result, recipe, out, {})
    assert {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20))
def test_weights_are_kept_with_four_bits_of_mantissa(numbers):
    from index_builder.train.encoder import shortened

    weights = np.array(numbers, np.float32)
    found = shortened(weights)
    assert found.dtype == np.float16 and not (found.view(np.uint16) & 0b111111).any()
    near = (
        np.abs(found.astype(np.float64) - weights.astype(np.float16))
        <= np.abs(weights.astype(np.float16)).astype(np.float64) * 2**-5 + 1e-5
    )
    assert near.all() and np.array_equal(shortened(found), found)


# What each method adds


def test_pairs_that_meet_in_english_alone_always_have_an_english_side(data, config):
    from index_builder.train.ablation import EnglishPairs
    from index_builder.train.encoder import Sampler, tokenizer_of

    examples = read_parallel(data)
    config = replace(config, romanised_share=0.0, question_share=0.0)
    any_two = Sampler(examples, tokenizer_of(config, examples, data), config)
    english = EnglishPairs(any_two, examples, config)
    drawn = [english.pair(LANGUAGES) for _ in range(200)]
    assert all("en" in pair and len(set(pair)) == 2 for pair in drawn)
    assert {pair[0] for pair in drawn} == set(LANGUAGES) and {pair[1] for pair in drawn} == set(LANGUAGES)
    assert sum("en" not in any_two.pair(LANGUAGES) for _ in range(200)) > 100
    assert english.pair(["bn", "roman"]) in (["bn", "roman"], ["roman", "bn"])


def test_a_sampler_takes_another_configuration_over_the_same_examples(data, config):
    from index_builder.train.encoder import Sampler, read_examples, tokenizer_of

    examples, _ = read_examples(config, data)
    tokenizer = tokenizer_of(config, examples, data)
    sampler = Sampler(examples, tokenizer, config)
    alone = replace(config, romanised_share=0.0, question_share=0.0, seed=3)
    sampler.configure(examples, alone)
    fresh = Sampler(examples, tokenizer, alone)
    for _ in range(3):
        assert sampler.batch() == fresh.batch()
    assert all(examples[number].family == "parallel" for number in sampler.batch().examples)


def test_a_killed_ablation_goes_on_and_keeps_one_row_a_method(long_data, config, teacher, tmp_path):
    from index_builder.evaluate.measure import measure
    from index_builder.train.ablation import VARIANTS, ablation_task, config_of

    def kill_at_the_third(text):
        if text.startswith(VARIANTS[2].name):
            raise Killed

    def run(say):
        return measure(ablation_task(config, long_data, teacher, tmp_path / "work", 2, say), tmp_path / "runs", resume=True)

    with pytest.raises(Killed):
        run(kill_at_the_third)
    said = []
    kept, rows, folder = run(said.append)
    assert [row["id"] for row in rows] == [variant.name for variant in VARIANTS]
    assert not any(line.startswith(tuple(variant.name + ":" for variant in VARIANTS[:2])) for line in said)
    assert folder.parent.name == kept.suite == "encoder-ablation"
    [table] = kept.tables
    assert table.columns[1:4] == ("X to en", "42 pairs", "worst of 42") and len(table.rows) == len(VARIANTS)
    assert all(0 <= row["scores"]["42 pairs"] <= 1 and row["ms_per_step"] > 0 for row in rows)
    # one method at a time
    plain = config_of(VARIANTS[1], config, 2)
    changed = [{name for name in ("ngram_features", "sound_features", "teacher_weight", "class_weight", "mined_share", "cloze_share", "matryoshka", "question_share", "romanised_share")
                if getattr(config_of(variant, config, 2), name) != getattr(plain, name)} for variant in VARIANTS]  # fmt: skip
    assert [len(one) for one in changed] == [0, 0, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 9, 2]


def test_an_ablation_that_could_not_run_is_refused(config, data, teacher, tmp_path):
    from index_builder.train.ablation import ablation_task

    with pytest.raises(MajlisError, match="--steps is 0"):
        ablation_task(config, data, teacher, tmp_path, 0)
    with pytest.raises(MajlisError, match=r"holds no model\.safetensors.*--teacher"):
        ablation_task(config, data, tmp_path, tmp_path, 5)


# Directions


def aligned_rows(noise, shared=200, seed=0):
    """Two languages that share sentences; `noise` (dimension,): how far a translation lies off in each direction."""
    random = np.random.default_rng(seed)
    meaning = random.normal(size=(shared, len(noise)))
    unit = lambda rows: (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return {lang: (np.arange(shared), unit(meaning + random.normal(size=meaning.shape) * noise)) for lang in ("bn", "tr")}


def found_first(aligned, to=None):
    (_, one), (_, other) = (aligned[lang] for lang in ("bn", "tr"))
    if to is not None:
        one, other = (rows @ to / np.linalg.norm(rows @ to, axis=1, keepdims=True) for rows in (one, other))
    return (np.argmax(one @ other.T, axis=1) == np.arange(len(one))).mean()


def test_directions_in_which_translations_differ_are_shrunk():
    from index_builder.train.directions import directions

    noise = np.array([3.0] * 4 + [0.3] * 12)
    to = directions(aligned_rows(noise), 0.25, 16)
    unseen = aligned_rows(noise, seed=1)
    assert found_first(unseen, to) > found_first(unseen) + 0.2
    length = np.linalg.norm(to, axis=1)
    assert length[:4].max() < length[4:].min()


def test_no_power_and_all_directions_change_no_cosine():
    from index_builder.train.directions import directions

    rows = aligned_rows(np.ones(8))
    to = directions(rows, 0.0, 8)
    before, after = (one @ one.T for one in (rows["bn"][1], rows["bn"][1] @ to))
    assert np.abs(before - after).max() < 1e-5


def test_the_beginning_of_a_vector_holds_its_widest_directions():
    from index_builder.train.directions import directions

    rows = {lang: (numbers, rows * np.linspace(0.1, 3, 12)) for lang, (numbers, rows) in aligned_rows(np.full(12, 0.1)).items()}
    widths = (rows["tr"][1] @ directions(rows, 0.0, 12)).var(axis=0)
    assert (np.diff(widths) < 0.1 * widths[:-1]).all() and widths[0] > 4 * widths[-1]
    assert directions(rows, 0.0, 5).shape == (12, 5)


def test_a_pair_of_languages_that_share_little_is_not_heard():
    from index_builder.train.directions import within_covariance

    rows = aligned_rows(np.ones(4))
    rows["ne"] = (np.arange(190, 400), np.full((210, 4), 50.0))  # ten sentences in common with the others, and far off
    assert np.array_equal(within_covariance(rows), within_covariance({lang: rows[lang] for lang in ("bn", "tr")}))
    with pytest.raises(ValueError, match="no two languages share 201 sentences"):
        within_covariance(rows, least_shared=201)


def test_texts_are_chosen_by_length_and_seed():
    from index_builder.train.directions import of_length

    english = ["Tea", "rice and fish and salt", "a house by the river", "Dhaka"] * 5
    assert of_length(english, 5, 9, 100, seed=0) == [n for n in range(20) if n % 4 in (1, 2)]
    assert of_length(english, 1, 4, 100, seed=0) == [n for n in range(20) if n % 4 in (0, 3)]
    few = of_length(english, 5, 9, 3, seed=0)
    assert len(few) == 3 and few == sorted(few) == of_length(english, 5, 9, 3, seed=0)


def test_a_direction_that_other_kinds_of_text_need_is_kept():
    from index_builder.train.directions import directions

    running = {lang: (numbers, rows * ([1.0] * 6 + [0.0] * 2)) for lang, (numbers, rows) in aligned_rows(np.full(8, 0.1)).items()}
    names = np.eye(8)[[6, 7] * 20] * np.where(np.arange(40) % 3, 1.0, -1.0)[:, None]
    without, with_names = (directions(running, 0.0, 4, others) for others in ((), (names,)))
    assert np.linalg.norm(names @ without, axis=1).max() < 0.01 < np.linalg.norm(names @ with_names, axis=1).min()


def test_members_side_by_side_are_saved_resumed_and_opened_as_they_were_measured(data, config, tmp_path, monkeypatch):
    from index_builder.train import encoder

    monkeypatch.setattr(encoder, "_RUNNING_WORDS", 2)  # the toy languages say no more
    recipe = encoder.Recipe((replace(config, steps=20), replace(config, steps=20, seed=1, dimension=16)), within_power=0.25, kept=20)
    said = []
    trained = encoder.train_recipe(recipe, data, tmp_path / "work", say=said.append)
    assert [text for text in said if text.startswith("member")] == ["member 1 of 2: 24 dimensions, 20 steps", "member 2 of 2: 16 dimensions, 20 steps"]
    again = encoder.train_recipe(recipe, data, tmp_path / "work", say=lambda _: None)
    assert np.array_equal(again.table, trained.table) and again.figures == trained.figures and trained.table.shape[1] == 20
    encoder.save(trained, recipe, tmp_path / "encoder", {})
    opened = open_encoder(tmp_path / "encoder")
    texts = [sentence("hi", pair) for pair in DEV]
    measured = encoder.looked_up(trained.table)(encoder.token_ids(trained.tokenizer, texts)).numpy()
    assert opened.dimension == 20 and np.abs(opened.encode(texts, "query") - measured).max() < 0.05
    # the work folder keeps what was rounded away
    assert np.array_equal(load_file(tmp_path / "work" / "vectors.safetensors")["embedding.weight"], trained.table)


def test_members_together_find_more_than_each_alone(data, config, tmp_path, monkeypatch):
    from index_builder.train import encoder

    monkeypatch.setattr(encoder, "_RUNNING_WORDS", 2)
    members = replace(config, steps=20), replace(config, steps=20, seed=1)
    alone = [encoder.train(member, data, tmp_path, say=lambda _: None)[2]["mean of 42"] for member in members]
    together = encoder.train_recipe(encoder.Recipe(members, within_power=0.25, kept=24), data, tmp_path, say=lambda _: None)
    assert together.figures["mean of 42"] > max(alone)


def test_too_little_running_text_for_directions_is_said(data, config, tmp_path):
    from index_builder.train.encoder import train_recipe
    from index_builder.train.recipe import Recipe

    with pytest.raises(MajlisError, match="`kept` is set, and no two languages share 100 sentences of 6 or more words"):
        train_recipe(Recipe((replace(config, steps=2, checkpoint_every=2),), kept=8), data, tmp_path, say=lambda _: None)

"""A tiny training run, end to end: seven toy languages, a few steps, a folder that both loaders open."""

import json
import lzma

import numpy as np
import pytest

from index_builder.encode import open_encoder
from index_builder.train.data import read_parallel, read_questions, read_romanised
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


def sentence(lang, pair):
    return " ".join(WORDS[lang][place] for place in pair)


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
def config():
    from index_builder.train.encoder import Config

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


@pytest.mark.parametrize("read", [read_parallel, read_romanised, read_questions])
def test_a_folder_without_training_data_is_refused(tmp_path, read):
    with pytest.raises(MajlisError, match="--data"):
        read(tmp_path)


def test_a_setting_that_does_not_exist_is_refused(tmp_path):
    from index_builder.train.encoder import Config
    from tests.conftest import ROOT

    (tmp_path / "c.toml").write_text("steps = 10\nstep_size = 3\n", encoding="utf-8")
    with pytest.raises(MajlisError, match=r"c\.toml: unknown setting 'step_size'; known are seed, "):
        Config.read(tmp_path / "c.toml")
    assert Config.read(ROOT / "index_builder/train/encoder.toml").dimension == 256


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


def test_a_killed_run_goes_on_from_its_last_checkpoint(trained):
    steps = [text.split("  ")[0] for text in trained[4] if text.startswith(("step", "going on"))]
    assert steps == ["step 20/60", "step 40/60", "going on from step 20", "step 40/60", "step 60/60"]


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

    model, tokenizer, figures, examples, _ = trained
    save(model, tokenizer, figures, examples, config, tmp_path / "encoder")
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


def test_the_record_names_data_licences_and_settings(trained, config, tmp_path):
    from index_builder.train.encoder import save

    model, tokenizer, figures, examples, _ = trained
    save(model, tokenizer, figures, examples, config, tmp_path)
    record = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert record["config"]["steps"] == 60 and record["figures"] == figures
    assert {"source": "toy", "licence": "CC0", "rows": 115} in record["sources"]

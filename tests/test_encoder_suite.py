"""The suite that measures an encoder alone: figures that can be worked out by hand, and the whole command on toy data."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from index_builder.__main__ import main
from index_builder.evaluate import encoder_closer, encoder_material, encoder_rows, encoder_speed, encoder_tables
from index_builder.evaluate.questions import Asked
from index_builder.evaluate.runs import read_rows, read_run
from index_builder.evaluate.suites import bitext
from index_builder.vocabulary import LANGUAGES, Entry, MajlisError
from tests.conftest import small_corpus
from tests.test_train_encoder import WORDS, sentence, xz

NAMES = {"en": "Town", "ar": "بلدة", "as": "নগৰ", "bn": "শহর", "hi": "नगर", "ne": "सहर", "tr": "Kasaba"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Development sentences of three words, held-out questions with their passages, and 400 place names."""
    folder = tmp_path_factory.mktemp("data")
    threes = [(a, (a + b) % 12, (a + 3 * b) % 12) for a in range(12) for b in (1, 2)]
    for lang in LANGUAGES:
        xz(folder / f"dev/flores.{lang}.txt.xz", *(sentence(lang, three) for three in threes))
        if lang != "en":
            xz(folder / f"parallel/en-{lang}.tsv.xz", *(f"Town {n}\t{NAMES[lang]} {n}\tlibmateweather-places:{n}\tGPL" for n in range(400)))
    rows = [
        {"lang": lang, "question": f"{WORDS[lang][0]} {n}?", "answer": f"{WORDS[lang][1]} {n}", "title": f"{lang} {n}", "source": "toy", "licence": "CC0",
         "passage": f"{WORDS[lang][2]} {n}! {WORDS[lang][1]} {n}! {WORDS[lang][3]}."}
        for lang in ("bn", "tr") for n in range(100, 200)
    ]  # fmt: skip
    xz(folder / "qa/qa.jsonl.xz", *map(json.dumps, rows))
    xz(folder / "romanised/words.tsv.xz", *(f"bn\ttown {n}\tটাউন {n}\ttoy" for n in range(0, 400, 4)))
    return folder


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """(folder of questions, folder of a corpus): the small corpus of all tests."""
    questions, corpus = tmp_path_factory.mktemp("questions"), tmp_path_factory.mktemp("corpus")
    with (corpus / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for entry in small_corpus():
            body = {"question": entry.question, "answer": entry.text} if entry.kind == "qa" else {"title": entry.title, "text": entry.text}
            row = {"id": entry.entry_id, "kind": entry.kind, "lang": entry.lang, "locale": entry.locale, "topic": entry.topic, "source": "toy", "reliability": "toy"} | body  # fmt: skip
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def question(number, lang, text, entry_id, evidence_lang, **more):
        return {"id": f"q{number}", "lang": lang, "split": "test", "question": text, "qrels": {entry_id: 1}, "evidence_lang": evidence_lang} | more  # fmt: skip

    cross = [
        question(1, "bn", "সুন্দরবনে কোন বাঘ থাকে?", "bangladesh.animal.en", "en", answer="বাঘ", answer_en="Bengal tiger"),
        question(2, "hi", "दोहा मेट्रो में कितनी लाइनें हैं?", "gulf.travel.en", "en", answer="तीन", answer_en="three"),
        question(3, "en", "Who drives the trains of Doha?", "gulf.travel.en", "en", answer="nobody", answer_en="nobody at all"),
    ]
    reworded = [
        question(4, "tr", "Aşure hangi zamanda pişirilir?", "tr-TR.food_drinks.01", "tr"),
        question(5, "ne", "गुन्द्रुक के बाट बन्छ?", "ne-NP.food_drinks.01", "ne"),
        question(6, "en", "When is ashura pudding cooked?", "tr-TR.food_drinks.01", "tr"),  # another language: no paraphrase
    ]
    for name, rows in (("cross_lingual", cross), ("paraphrase", reworded)):
        (questions / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return questions, corpus


@pytest.fixture(scope="module")
def tiny(data, tmp_path_factory):
    """(folder of an encoder that was hardly trained, its vectors before they were rounded)."""
    import torch
    from safetensors.numpy import save_file

    from index_builder.train.encoder import Trained, new_model, save
    from index_builder.train.recipe import Config, Recipe
    from index_builder.train.tokenizer import train_tokenizer

    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = train_tokenizer([word for words in WORDS.values() for word in words], 200)
    config = Config(vocabulary=200, dimension=80, ngram_features=True)
    model = new_model(config, tokenizer)
    table = model.folded()
    save(Trained(table, tokenizer, {}, []), Recipe((config,)), folder / "tiny", {})
    save_file({"embedding.weight": table}, folder / "vectors.safetensors")
    return folder / "tiny", folder / "vectors.safetensors"


def command(data, asked, out, *given):
    questions, corpus = asked
    fixed = ["--data", data, "--questions", questions, "--corpus", corpus, "--out", out]
    return main([str(one) for one in ("evaluate", "encoder", *fixed, *given)])


# Ranks


def test_a_rank_is_that_of_the_best_right_candidate_and_ties_count_against_it():
    scores = np.array([[0.9, 0.8, 0.1], [0.9, 0.9, 0.1], [0.2, 0.3, 0.4]])
    right = np.array([[True, False, False], [False, True, False], [True, True, False]])
    assert encoder_rows.ranks(scores, right).tolist() == [1, 2, 2]


def test_an_encoder_that_tells_nothing_apart_finds_nothing():
    nothing = {lang: np.zeros((5, 4), np.float32) for lang in ("ar", "en", "tr")}
    assert not any(hits.any() for hits in encoder_rows.flores_hits(nothing).values())
    assert all((share == 0).all() for share, _ in encoder_rows.pool_figures(nothing).values())


def test_a_perfect_encoder_finds_everything():
    perfect = {lang: np.eye(5, dtype=np.float32) for lang in ("ar", "en", "tr")}
    assert all(hits.all() for hits in encoder_rows.flores_hits(perfect).values())
    for share, precision in encoder_rows.pool_figures(perfect).values():
        assert (share == 1).all()
        assert np.allclose(
            precision, np.mean([1 / 2, 2 / 2])
        )  # equal vectors: both translations tie for the first rank, which counts as second


def test_the_share_and_precision_of_one_pool_can_be_worked_out_by_hand():
    angle = lambda degrees: [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]
    vectors = {"ar": np.array([angle(0), angle(90)]), "en": np.array([angle(10), angle(80)]), "tr": np.array([angle(60), angle(95)])}
    share, precision = encoder_rows.pool_figures(vectors)["ar"]
    # at 0 degrees: en 10 first, then tr 60; at 90: tr 95, then en 80
    assert share.tolist() == [1, 1] and precision.tolist() == [1, 1]
    share, precision = encoder_rows.pool_figures(vectors)["tr"]
    # at 60 degrees: 80 and 90 are nearer than 10 and 0, which come 4th and 5th (95 is 3rd)
    assert share.tolist() == [0, 1] and precision[0] == pytest.approx((1 / 4 + 2 / 5) / 2)


def test_means_over_pairs_are_means_of_each_sentence():
    hits = {("ar", "en"): np.array([1.0, 0.0]), ("en", "ar"): np.array([1.0, 1.0]), ("ar", "tr"): np.array([0.0, 0.0])}
    means = encoder_rows.flores_means(hits)
    assert means["to English"].tolist() == [1, 0] and means["from English"].tolist() == [1, 1]
    assert means["all pairs"].tolist() == [pytest.approx(2 / 3), pytest.approx(1 / 3)]


def test_taking_each_languages_mean_away_removes_what_only_says_the_language():
    random = np.random.default_rng(0)
    meaning = random.normal(size=(30, 8))
    accent = {"ar": 5 * random.normal(size=8), "en": 5 * random.normal(size=8)}
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pool = unit(np.concatenate([meaning + accent[lang] for lang in accent])).astype(np.float32)
    langs = ["ar"] * 30 + ["en"] * 30
    share = lambda rows: np.mean([one for one, _ in encoder_rows.pool_figures({"ar": rows[:30], "en": rows[30:]}).values()])
    cleaned = encoder_closer.centred(pool, langs)
    assert share(pool) < 0.5 < 0.9 < share(cleaned)
    assert np.allclose(np.linalg.norm(cleaned, axis=1), 1, atol=1e-5)


# What is asked


def test_a_held_out_question_looks_among_the_sentences_of_its_passage_and_others_of_its_language(data):
    questions, pools = encoder_material.held_out_questions(data)
    assert {one.lang for one in questions} == {"bn", "tr"} and 5 < len(questions) < 60
    for one in questions:
        number = one.question.removesuffix("?").split()[-1]
        assert pools[one.lang][one.answer] == f"{WORDS[one.lang][1]} {number}!"
        assert f"{WORDS[one.lang][2]} {number}!" in pools[one.lang]  # beside it in the passage
    assert all(len(pool) == len(set(pool)) == 201 for pool in pools.values())  # filled up from the other passages


def test_a_held_out_name_that_a_romanised_list_spells_out_is_not_measured(data):
    names = encoder_material.held_out_names(data)
    numbers = sorted(int(next(iter(name["en"])).split()[1]) for name in names.texts)
    assert len(numbers) >= 20 and names.left_out > 0 and all(number % 4 for number in numbers)
    assert all(set(name) == set(LANGUAGES) and len(name["bn"]) == 1 for name in names.texts) and not names.territories


def test_names_are_looked_for_across_scripts_and_territories_counted_apart():
    """An encoder that knows names in their own script alone: as and bn meet, en and bn do not."""
    kinds = {"as": 0, "bn": 0, "en": 1}
    numbers = range(encoder_rows.FEWEST)

    class OwnScript:
        def encode(self, texts, kind):
            rows = np.zeros((len(texts), 2 * len(numbers)), np.float32)
            for row, text in enumerate(texts):
                lang, number = text.split()
                rows[row, kinds[lang] * len(numbers) + int(number)] = 1
            return rows

    names = encoder_material.Names(
        [{lang: frozenset({f"{lang} {number}"}) for lang in kinds} for number in numbers], frozenset({0, 1, 2}), 0
    )
    found = {row["id"]: row for row in encoder_rows.name_rows(OwnScript(), names)}
    assert found["names/as-bn"]["scores"]["P@1"] == 1 and not found["names/as-bn"]["scripts"]
    assert found["names/bn-en"]["scores"]["P@1"] == 0 and found["names/bn-en"]["scripts"]
    territories = found["names/territories"]  # as-en, bn-en, en-as and en-bn, of three territories each
    assert territories["n"] == 12 and territories["scores"]["P@1"] == 0


def test_an_english_sentence_must_hold_every_word_of_the_answer(encoder):
    entries = small_corpus()
    ask = lambda number, answer: Asked(f"q{number}", "cross_lingual", "bn", "test", "বাঘ", "en", frozenset({"bangladesh.animal.en"}), ("বাঘ", answer))  # fmt: skip
    material = encoder_material.Material(
        {}, ((), {}), entries, [ask(1, "the Bengal TIGER"), ask(2, "in no sentence")], [], encoder_material.Names((), frozenset(), 0)
    )
    rows = list(encoder_rows.sentence_rows(encoder, material))
    assert [row["id"] for row in rows] == ["sentence/q1"]
    pool, of_entry = encoder_material.english_sentences(entries)
    assert rows[0]["pool"] == len(pool) == 7 and pool[of_entry["bangladesh.animal.en"][1]].startswith("The Bengal tiger")


def test_an_entry_scores_as_its_best_view():
    entries = [Entry("a", "passage", "en", "One thing. Another thing."), Entry("b", "qa", "tr", "Cevap.", question="Soru?"), Entry("c", "passage", "en", "Third.", title="T")]  # fmt: skip
    views = encoder_material.views_of(entries)
    assert views.texts == ["One thing. Another thing.", "One thing.", "Another thing.", "Cevap.", "Soru?", "T. Third."]
    assert views.starts.tolist() == [0, 3, 5] and views.langs == ["en"] * 3 + ["tr"] * 2 + ["en"]
    similarity = np.array([[0.1, 0.2, 0.7, 0.3, 0.8, 0.75]])
    one = Asked("q", "cross_lingual", "bn", "test", "?", "en", frozenset({"a"}))
    among_english, among_all = encoder_rows.passage_ranks(similarity, np.eye(6), views.starts, [one], entries)
    assert (among_english.tolist(), among_all.tolist()) == ([2], [3])


# The whole suite


@pytest.fixture(scope="module")
def kept(data, asked, tiny, tmp_path_factory):
    """(run, rows, worst sentences) of two encoders side by side."""
    out = tmp_path_factory.mktemp("runs")
    other = shutil.copytree(tiny[0], out / "LaBSE")
    given = ["--encoder", tiny[0], "--encoder", other, "--unrounded", tiny[1], "--worst", out / "worst.jsonl"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder_speed, "ROUNDS", 1)  # a process takes a while to start
        assert command(data, asked, out, *given) == 0
    [folder] = (out / "encoder").iterdir()
    worst = [json.loads(line) for line in (out / "worst.jsonl").read_text(encoding="utf-8").splitlines()]
    return read_run(folder), read_rows(folder), worst


def test_both_encoders_stand_side_by_side_and_what_was_not_given_is_empty(kept):
    overview = kept[0].tables[0]
    assert overview.columns == ("measure", "aim", "tiny", "LaBSE", *(name for name in encoder_tables.OTHERS if name != "LaBSE"))
    for line in overview.rows:
        assert line[2] == line[3] and line[4:] == (None, None, None)  # a copy of an encoder measures as the encoder
    reached = {line[0]: line[2] for line in overview.rows}
    assert (
        reached["FLORES dev P@1, 42 pairs, mean"][1]
        <= reached["FLORES dev P@1, 42 pairs, mean"][0]
        <= reached["FLORES dev P@1, 42 pairs, mean"][2]
    )
    assert all(figure is not None for name, figure in reached.items() if not name.startswith("territories"))


def test_every_figure_of_a_language_has_an_interval(kept):
    tables = {table.title: table for table in kept[0].tables}
    for title in ("tiny: aligned text and names", "tiny: questions"):
        figures = [cell for line in tables[title].rows for cell in line[1:] if cell is not None and not isinstance(cell, int)]
        assert figures and all(len(figure) == 3 and figure[1] <= figure[0] <= figure[2] for figure in figures)


def test_pairs_are_those_of_the_bitext_suite(kept, data, tiny):
    from index_builder.encode import open_encoder

    lines = bitext.read_aligned(bitext.aligned_files(data / "dev"))
    theirs = bitext.tables(list(bitext._rows(open_encoder(tiny[0]), lines, frozenset())))[0]
    [ours] = [table for table in kept[0].tables if table.title == "tiny: all pairs of FLORES dev, P@1"]
    assert ours.columns == theirs.columns[:-1]
    for one, other in zip(ours.rows, theirs.rows[:-1], strict=True):
        assert one == pytest.approx(other[:-1], abs=0.05)  # a tie is a miss here, and the first of them there


def test_shorter_centred_and_unrounded_vectors_are_compared(kept):
    [table] = [table for table in kept[0].tables if table.title == "shorter, centred and unrounded vectors"]
    assert [line[0] for line in table.rows] == [
        "as it is, 80 dimensions",
        "the first 64 dimensions",
        "each language's mean taken away",
        "float32 weights",
    ]
    assert table.rows[0][3][0] == pytest.approx(table.rows[3][3][0], abs=0.02)  # rounding costs next to nothing


def test_rows_hold_no_text_that_may_not_be_passed_on(kept, data):
    rows = json.dumps(kept[1], ensure_ascii=False)
    questions, pools = encoder_material.held_out_questions(data)
    development = [sentence(lang, (0, 1, 3)) for lang in LANGUAGES]
    assert not any(text in rows for text in [*development, *(one.question for one in questions), *pools["tr"], "Town"])
    assert len({row["id"] for row in kept[1]}) == len(kept[1])
    assert not any(row["id"].startswith("tiny") for row in kept[1])  # so that runs of different encoders compare


def test_the_worst_sentences_are_those_with_the_lowest_translations(kept, data, tiny):
    from index_builder.encode import open_encoder

    worst = kept[2]
    assert len(worst) == 7 * 24  # fewer sentences than are asked for
    encoder = open_encoder(tiny[0])
    lines = bitext.read_aligned(bitext.aligned_files(data / "dev"))
    vectors = {lang: encoder.encode(texts, "query") for lang, texts in lines.items()}
    for row in worst[::29]:
        place = row["line"] - 1
        assert row["text"] == lines[row["lang"]][place]
        for other, rank in row["ranks"].items():
            scores = vectors[other] @ vectors[row["lang"]][place]
            assert abs(rank - (scores >= scores[place]).sum()) <= 1
    of_turkish = [np.mean(np.log(list(row["ranks"].values()))) for row in worst if row["lang"] == "tr"]
    assert of_turkish == sorted(of_turkish, reverse=True)


def test_speed_is_measured_in_a_process_of_its_own(kept):
    [table] = [table for table in kept[0].tables if table.title == "speed"]
    assert [line[:2] for line in table.rows] == [("tiny", 80), ("LaBSE", 80)]
    assert all(figure > 0 for line in table.rows for figure in line[3:])


# What goes wrong


def test_two_encoders_of_one_name_are_refused(data, asked, tiny, tmp_path, capsys):
    again = shutil.copytree(tiny[0], tmp_path / "tiny")
    assert command(data, asked, tmp_path, "--encoder", tiny[0], "--encoder", again) == 1
    assert "Two encoders are called 'tiny'" in capsys.readouterr().err


def test_prefixes_are_of_each_encoder_or_of_none(data, asked, tiny, tmp_path, capsys):
    assert command(data, asked, tmp_path, "--encoder", tiny[0], "--encoder", tiny[0], "--query-prefix", "query: ") == 1
    assert "1 times --query-prefix for 2 encoders" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["missing", "no vectors", "another run"])
def test_vectors_of_something_else_are_refused(tiny, tmp_path, change):
    from safetensors.numpy import load_file, save_file

    from index_builder.encode import open_encoder

    file = tmp_path / "vectors.safetensors"
    if change == "no vectors":
        file.write_bytes(b"no weights")
    elif change == "another run":
        save_file({name: table + 1 for name, table in load_file(tiny[1]).items()}, file)
    with pytest.raises(MajlisError, match=r"Name the vectors\.safetensors that its training left in --work"):
        encoder_closer.float32_encoder(open_encoder(tiny[0]), file, tmp_path)


def test_a_data_folder_without_what_is_measured_is_refused(asked, tiny, tmp_path, capsys):
    assert command(tmp_path / "nowhere", asked, tmp_path, "--encoder", tiny[0]) == 1
    assert "holds 0 aligned files" in capsys.readouterr().err


def test_an_encoder_that_cannot_be_timed_says_why(encoder, tmp_path):
    gone = SimpleNamespace(folder=tmp_path / "gone", dimension=encoder.dimension)
    with pytest.raises(MajlisError, match=r"(?s)could not be timed.*modules\.json is missing"):
        encoder_speed.speed_row(gone, ["one question"])

"""The experiment on generated queries, on a small corpus: which indexes are compared, on which questions, and what the tables say."""

import json
import lzma
from dataclasses import replace

import numpy as np
import pytest

from index_builder.encode import open_encoder
from index_builder.evaluate.commands import suite_parser
from index_builder.evaluate.measure import measure
from index_builder.evaluate.suites import xqg
from index_builder.evaluate.suites.xqg import Pool, Remembering, System, compared, first_queries, held_out, systems, tables
from index_builder.queries import Header, corpus_digest, write_queries
from index_builder.querygen.convert import convert
from index_builder.read import row_of
from index_builder.train.seq2seq_data import question_rows
from index_builder.vocabulary import GeneratedQuery, MajlisError
from tests.conftest import ROOT, small_corpus
from tests.test_querygen import PROMPT, hub_model

ASKED = {
    "bangladesh.animal.en": {
        "tr": ("Sundarbans hangi ülkelerdedir?", "Sundarbans'ta hangi hayvan yaşar?"),
        "en": ("Where do tigers swim?",),
    },
    "gulf.travel.en": {"tr": ("Doha metrosu kaç hattır?", "Doha'da trenleri kim sürer?"), "hi": ("दोहा मेट्रो में कितनी लाइनें हैं?",)},
}


def lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def question(id, lang, text, relevant, evidence_lang, **extra):
    return {"id": id, "lang": lang, "question": text, "qrels": {relevant: 1}, "evidence_lang": evidence_lang, "split": "dev"} | extra


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Options that every run needs: a corpus, its queries, and questions."""
    base = tmp_path_factory.mktemp("given")
    entries = [replace(entry, queries=()) for entry in small_corpus()]
    lines(base / "corpus.jsonl", map(row_of, entries))
    rows = [(id, GeneratedQuery(lang, text, 0.0, "")) for id, asked in ASKED.items() for lang, texts in asked.items() for text in texts]
    write_queries(base / "queries.jsonl", Header(corpus_digest(entries), "a person at a desk", {}), rows)
    data = base / "questions"
    data.mkdir()
    lines(data / "cross_lingual.jsonl", [
        question("x1", "tr", "Sundarbans'ta hangi hayvan yaşıyor?", "bangladesh.animal.en", "en", answer="kaplan", answer_en="tiger"),
        question("x2", "hi", "दोहा मेट्रो में कितनी लाइनें चलती हैं?", "gulf.travel.en", "en", answer="तीन", answer_en="three"),
        question("x3", "en", "How many lines has the metro in Doha?", "gulf.travel.en", "en", answer="three", answer_en="three"),
    ])  # fmt: skip
    lines(data / "paraphrase.jsonl", [question("x1", "tr", "Aşure hangi ayda pişer?", "tr-TR.food_drinks.01", "tr")])
    lines(data / "romanised.jsonl", [question("r1", "bn", "pohela boishakhe manush ki khay", "bn-BD.events.01", "bn")])
    lines(data / "temporal.jsonl", [question("t1", "en", "When do honey gatherers enter?", "bangladesh.animal.en", "en", answer="spring")])
    return ["--corpus", base / "corpus.jsonl", "--queries", base / "queries.jsonl", "--data", data]


def task_of(given, work, *more):
    return xqg.open_task(suite_parser("xqg", "test").parse_args([str(one) for one in (*given, "--work", work, *more)]))


@pytest.fixture(scope="module")
def ran(given, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    run, rows, _ = measure(task_of(given, out / "work", "--variant", "sum=0.3", "--variant", "max+lexical"), out)
    return run, rows, out / "work"


def cells(table):
    return {row[0]: dict(zip(table.columns[1:], row[1:], strict=True)) for row in table.rows}


# What is compared


def pool(most):
    entries = [replace(entry, queries=tuple(GeneratedQuery("tr", f"{n}?", 0.0, "hand") for n in range(most))) for entry in small_corpus()]
    return Pool("p", tuple(entries), ())


def test_every_variant_is_asked_with_each_number_of_queries_that_there_is():
    found = systems(pool(4), ["sum", "max", "max+lexical"])
    assert [system.name for system in found] == [
        "none", "sum n=1", "sum n=2", "sum n=4", "max n=1", "max n=2", "max n=4", "max+lexical n=1", "max+lexical n=2", "max+lexical n=4",
        "sum n=4 filtered", "max n=4 filtered", "max+lexical n=4 filtered", "none (paper)", "sum n=1 (paper)", "sum n=2 (paper)", "sum n=4 (paper)",
    ]  # fmt: skip
    assert pool(9).numbers() == (1, 2, 4, 5, 8) and pool(3).numbers() == (1, 2) and systems(pool(0), ["max"])[0].name == "none"


def test_other_questions_are_asked_only_of_none_and_of_the_most_queries():
    everything = [system.name for system in systems(pool(2), ["sum"]) if system.everything]
    assert everything == ["none", "sum n=2", "sum n=2 filtered"]


def test_the_first_queries_of_each_language_are_taken_in_their_order():
    entry = replace(
        small_corpus()[0], queries=tuple(GeneratedQuery(lang, text, 0.0, "hand") for lang, text in (("tr", "b"), ("hi", "c"), ("tr", "a")))
    )
    assert [(query.lang, query.text) for query in first_queries(entry, 1).queries] == [("tr", "b"), ("hi", "c")]
    assert [query.text for query in first_queries(entry, 9).queries] == ["b", "a", "c"] and first_queries(entry, 0).queries == ()


def test_an_unknown_variant_is_refused_before_anything_is_measured(given, tmp_path):
    with pytest.raises(MajlisError, match="The augmentation is 'best', expected one of none, sum"):
        task_of(given, tmp_path, "--variant", "best")


def test_passages_are_encoded_once_and_questions_every_time(encoder):
    class Counting:
        def __init__(self):
            self.texts = []

        def __getattr__(self, name):
            return getattr(encoder, name)

        def encode(self, texts, kind):
            self.texts += texts
            return encoder.encode(texts, kind)

    counting = Counting()
    remembering = Remembering(counting)
    assert np.array_equal(remembering.encode(["a", "b", "a"], "passage"), encoder.encode(["a", "b", "a"], "passage"))
    assert np.array_equal(remembering.encode(["c", "b"], "passage"), encoder.encode(["c", "b"], "passage"))
    assert counting.texts == ["a", "b", "c"]
    for _ in range(2):
        remembering.encode(["q"], "query")
    assert counting.texts == ["a", "b", "c", "q", "q"]


# What comes of it


def test_a_query_in_its_language_brings_a_passage_nearer_to_the_question(ran):
    _, rows, _ = ran
    found = {(row["system"], row["set"], row["question_id"]): row for row in rows}
    assert found["max+lexical n=2", "cross_lingual", "x1"]["scores"]["success@1"] == 1.0
    assert found["none", "cross_lingual", "x3"]["scores"] == {"success@1": 1.0, "success@5": 1.0, "success@10": 1.0} | dict.fromkeys(
        ("R@200t", "R@500t", "R@2000t"), 1.0
    )
    assert "R@200t" not in found["none", "paraphrase", "x1"]["scores"]  # no answer is known
    assert ("max+lexical n=1", "cross_lingual", "x1") in found and ("max+lexical n=1", "paraphrase", "x1") not in found


def test_romanised_questions_are_asked_in_their_own_script(ran):
    _, rows, _ = ran
    assert next(row for row in rows if row["set"] == "romanised" and row["system"] == "none")["scores"]["success@5"] == 1.0


def test_no_index_is_left_behind(ran):
    _, _, work = ran
    assert [path.suffixes for path in work.iterdir()] == [[".jsonl", ".xz"]]  # the queries that passed, for the next run


def test_the_tables_hold_every_system_and_its_gain_over_none(ran):
    run, rows, _ = ran
    every, languages, gains, others, own = run.tables
    names = ["none", "sum=0.3 n=1", "sum=0.3 n=2", "max+lexical n=1", "max+lexical n=2", "sum=0.3 n=2 filtered", "max+lexical n=2 filtered",
             "none (paper)", "sum=0.3 n=1 (paper)", "sum=0.3 n=2 (paper)"]  # fmt: skip
    assert list(cells(every)) == list(cells(languages)) == names
    assert list(cells(gains)) == [name for name in names if not name.startswith("none")]
    assert gains.columns[:6] == ("augmentation", "all", "another language", "en", "hi", "tr")
    assert cells(every)["none"]["n"] == 3 and cells(every)["none"]["processor ms, median"] > 0
    assert list(cells(others)) == ["none", "sum=0.3 n=2", "max+lexical n=2", "sum=0.3 n=2 filtered", "max+lexical n=2 filtered"]
    assert "another language" not in own.columns and own.title.startswith("corpus, paraphrase, romanised, temporal in the language")
    assert [table.as_json() for table in tables(rows)] == [table.as_json() for table in run.tables]


def test_the_note_says_who_wrote_the_queries_and_how_many_there_are(ran):
    note = ran[0].note
    assert note.startswith("Queries by a person at a desk.") and "at most 2 for each entry and language; n up to 8" in note
    assert "round-trip=10,percentile=30" in note and "upper bounds" in note


def test_gains_are_paired_by_question():
    def rows(*values):
        return [{"set": "s", "question_id": str(n), "lang": "tr", "scores": {"success@5": value}} for n, value in enumerate(values)]

    before, after = [0.0] * 12 + [1.0], [1.0] * 11 + [0.0, 1.0]
    gain, p = found = compared(rows(*before), list(reversed(rows(*after))))
    assert gain == pytest.approx(11 / 13, abs=1e-4) and p < 0.01
    assert compared(list(reversed(rows(*before))), rows(*after)) == found  # whatever the order of the rows
    assert compared(rows(*before), rows(*before)) == (0.0, 1.0)


def test_an_interrupted_run_goes_on_and_is_the_same(given, tmp_path, ran):
    whole = {row["id"]: row["scores"] for row in ran[1]}
    out, work = tmp_path / "runs", tmp_path / "work"

    def begin():
        return task_of(given, work, "--variant", "sum=0.3", "--variant", "max+lexical")

    task, measured = begin(), []

    def dying(done):
        for row in task.rows(done):
            if len(measured) == 9:
                raise KeyboardInterrupt
            measured.append(row["id"])
            yield row

    with pytest.raises(KeyboardInterrupt):
        measure(replace(task, rows=dying), out)
    left = []

    def counted(done):
        for row in task.rows(done):
            left.append(row["id"])
            yield row

    _, rows, _ = measure(replace(begin(), rows=counted), out, resume=True)
    assert {row["id"]: row["scores"] for row in rows} == whole and not set(left) & set(measured)


# Passages of a question-answering data set


def qa_rows():
    titles = [title for title in map(str, range(400)) if held_out(title)]
    texts = [entry.text for entry in small_corpus() if entry.lang == "en"]
    assert len(titles) >= len(texts)
    return [
        {"lang": "en", "title": title, "passage": text, "question": "What is it?", "answer": text.split()[0]}
        for title, text in zip(titles, texts, strict=False)
    ]


def test_without_a_model_that_asks_the_part_is_left_out_and_the_run_says_so(given, tmp_path):
    path = lines(tmp_path / "qa.jsonl", qa_rows())
    task = task_of(given, tmp_path / "work", "--qa", path)
    assert "The passages of qa.jsonl are left out" in task.note and "--model" in task.note


def test_a_model_that_is_named_and_not_there_is_an_error(given, tmp_path):
    path = lines(tmp_path / "qa.jsonl", qa_rows())
    with pytest.raises(MajlisError, match=r"nothing holds no model in CTranslate2 format \(model\.bin\)"):
        task_of(given, tmp_path / "work", "--qa", path, "--model", tmp_path / "nothing")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny mT5 with random weights that asks in Arabic and Bangla."""
    folder = tmp_path_factory.mktemp("model")
    hub_model("t5", folder / "hub")
    convert(folder / "hub", folder / "ct2", "tiny/t5", quantization="float32", prompt=PROMPT, languages=("ar", "bn"))
    return folder / "ct2"


def test_held_out_passages_are_asked_about_by_the_model(given, tmp_path, model, monkeypatch):
    monkeypatch.setattr(xqg, "PER_LANGUAGE", (1, 2))
    rows = qa_rows()
    known = next(title for title in map(str, range(400)) if not held_out(title))
    rows.append({**rows[0], "title": known, "passage": "Not held out."})
    found = xqg.held_out_pool(lines(tmp_path / "qa.jsonl", rows), model, 2, tmp_path)
    assert found.name == "qa" and [entry.text for entry in found.entries] == [row["passage"] for row in rows[:2]]  # the first two
    assert {query.lang for entry in found.entries for query in entry.queries} <= {"ar", "bn"}
    assert [one.relevant for one in found.asked] == [frozenset([entry.entry_id]) for entry in found.entries]
    encoder = open_encoder(ROOT / "assets/models/encoder")
    with xqg._index(found, System("max", 2), encoder, tmp_path) as index:
        assert len(index) == 2
    assert xqg.held_out_pool(tmp_path / "qa.jsonl", model, 2, tmp_path).entries == found.entries  # made once


def test_a_file_without_a_held_out_row_is_refused(tmp_path, model):
    titles = [title for title in map(str, range(9)) if not held_out(title)]
    path = lines(tmp_path / "qa.jsonl", [{**qa_rows()[0], "title": title} for title in titles])
    with pytest.raises(MajlisError, match="no row in ar, as, .* whose title is held out"):
        xqg.held_out_pool(path, model, 2, tmp_path)
    lines(tmp_path / "bad.jsonl", [{"lang": "en", "title": "t"}])
    with pytest.raises(MajlisError, match=r"bad\.jsonl:1: expected 'passage'"):
        xqg.held_out_pool(tmp_path / "bad.jsonl", model, 2, tmp_path)


def test_held_out_titles_are_those_that_the_bundled_model_was_not_trained_on(tmp_path):
    folder = tmp_path / "qa"
    folder.mkdir()
    rows = [{"lang": "en", "title": str(n), "passage": f"A tree {n} stands here.", "question": f"What stands {n}?", "answer": "tree", "source": "toy",
             "licence": "CC0"} for n in range(200)]  # fmt: skip
    (folder / "qa.jsonl.xz").write_bytes(lzma.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    _, kept = question_rows(tmp_path, 400)
    assert {row.sides["question"][0] for row in kept} == {f"What stands {n}?" for n in range(200) if held_out(str(n))}

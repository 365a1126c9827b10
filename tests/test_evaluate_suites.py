"""Questions with known answers through every suite -> figures that can be worked out by hand; data in the form of its authors."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from demo.__main__ import main as demo
from index_builder.__main__ import main as builder
from index_builder.evaluate.commands import all_steps, suite_module, suite_parser
from index_builder.evaluate.measure import measure
from index_builder.evaluate.questions import Asked, read_questions
from index_builder.evaluate.report import page
from index_builder.evaluate.runs import find_runs, read_rows, read_run
from index_builder.evaluate.suites import SUITES, answering, language, lareqa, mkqa, nativqa, retrieval, xor
from index_builder.evaluate.suites.answering import Given, Item
from index_builder.evaluate.tokens import tokenizer
from index_builder.vocabulary import MajlisError

KNOWN = frozenset({"bn-BD.events.01", "tr-TR.food_drinks.01", "gulf.travel.en"})


def question(id, lang, text, relevant, evidence_lang="", split="dev", **extra):
    qrels = {relevant: 1, "bangladesh.animal.en": 0} if relevant else {}
    return {"id": id, "lang": lang, "question": text, "qrels": qrels, "evidence_lang": evidence_lang, "split": split} | extra


def write(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path):
    """Every set of assets/evaluation, over the small corpus of conftest."""
    folder = tmp_path / "questions"
    folder.mkdir()
    write(folder / "paraphrase.jsonl",
          question("p1", "bn", "পহেলা বৈশাখে কী খায়?", "bn-BD.events.01", "bn"),
          question("p2", "en", "What is eaten on Pohela Boishakh?", "bn-BD.events.01", "bn"),
          question("p3", "tr", "Aşure ne zaman pişer?", "tr-TR.food_drinks.01", "tr", split="test"))  # fmt: skip
    write(folder / "cross_lingual.jsonl",
          question("x1", "en", "Aşure is cooked when?", "tr-TR.food_drinks.01", "tr", answer="Muharrem", answer_en="muharrem"),
          question("x2", "tr", "Aşure ne zaman pişirilir?", "tr-TR.food_drinks.01", "tr", answer="yes"))  # fmt: skip
    write(folder / "romanised.jsonl", question("r1", "bn", "pohela boishakh", "bn-BD.events.01", "bn"))
    write(folder / "temporal.jsonl", question("t1", "en", "How many lines has the Doha metro?", "gulf.travel.en", "en", answer="three"))
    write(
        folder / "unanswerable.jsonl", question("u1", "en", "Who won the chess match in 1972?", ""), question("u2", "bn", "চাঁদ কত দূরে?", "")
    )
    write(folder / "free.jsonl",
          question("f1", "tr", "Qatar'da erkekler başına ne takar?", "en-QA.cloth.01", "en"),
          question("f2", "en", "Who keeps the keys of the mosque?", ""))  # fmt: skip
    return folder


def options(suite, *given):
    return suite_parser(suite, "test").parse_args([str(one) for one in given])


def run(suite, tmp_path, *given):
    """(run, rows) of a suite with these arguments."""
    found = measure(suite_module(suite).open_task(options(suite, *given, "--out", tmp_path / "runs")), tmp_path / "runs")
    return found[0], found[1]


def cells(table):
    """First cell of a row -> the others by column."""
    return {row[0]: dict(zip(table.columns[1:], row[1:], strict=True)) for row in table.rows}


# the bundled questions


def test_only_the_asked_split_and_the_positive_grades_are_read(data):
    assert [one.query_id for one in read_questions(data / "paraphrase.jsonl", "dev", KNOWN)] == ["p1", "p2"]
    [one] = read_questions(data / "paraphrase.jsonl", "test", KNOWN)
    assert one == Asked("p3", "paraphrase", "tr", "test", "Aşure ne zaman pişer?", "tr", frozenset({"tr-TR.food_drinks.01"}))


@pytest.mark.parametrize("line, complaint", [
    ('{"id": "q"', "not valid JSON"), ("[1]", "expected a JSON object, found list"),
    ('{"id": "q", "lang": "bn", "split": "dev", "question": "?"}', "expected id, lang, split, question and qrels"),
    ('{"id": "q", "lang": "bn", "split": "dev", "question": "?", "qrels": {"x": "1"}}', "expected id, lang, split, question and qrels"),
    ('{"id": "q", "lang": "bn", "split": "dev", "question": "?", "qrels": ["x"]}', "expected id, lang, split, question and qrels"),
    (json.dumps(question("q", "bn", "?", "gone.01")), "qrels name 'gone.01', which the index does not hold"),
    (json.dumps(question("t1", "bn", "?", "gulf.travel.en")), "the id 't1' was already used at .*temporal.jsonl:1"),
    (json.dumps(question("q", "bn", "?", "")), "question 'q' has no relevant entry"),
])  # fmt: skip
def test_a_bad_question_is_named_with_file_and_line(data, line, complaint):
    path = data / "temporal.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(MajlisError, match=rf"temporal\.jsonl:3: {complaint}"):
        read_questions(path, "dev", KNOWN)


def test_a_missing_or_foreign_file_is_named(data):
    with pytest.raises(MajlisError, match=r"none\.jsonl is not there.*--data"):
        read_questions(data / "none.jsonl", "dev", KNOWN)
    (data / "temporal.jsonl").write_bytes(b'{"id": "caf\xe9"}')
    with pytest.raises(MajlisError, match=r"temporal\.jsonl:1 is not UTF-8 \(byte 0xe9\)"):
        read_questions(data / "temporal.jsonl", "dev", KNOWN)


# retrieval


def test_retrieval_is_measured_per_set_language_and_side(index, data, tmp_path):
    found, rows = run("retrieval", tmp_path, "--index", index.folder, "--data", data)
    assert [table.title for table in found.tables[:4]] == ["cross_lingual", "paraphrase", "romanised", "temporal"]
    paraphrase = cells(found.tables[1])
    counts = {"bn": 1, "en": 1, "all": 2, "macro-average": 2, "own language": 1, "another language": 1}
    assert {name: line["n"] for name, line in paraphrase.items()} == counts
    assert paraphrase["bn"]["success@1"] == (1.0, 1.0, 1.0) and paraphrase["own language"]["MRR@10"] == 1.0
    assert paraphrase["all"]["MRR@10"] == pytest.approx((paraphrase["bn"]["MRR@10"] + paraphrase["en"]["MRR@10"]) / 2, abs=1e-4)
    first = next(row for row in rows if row["id"] == "temporal/t1")
    assert first["ranks"] == [1] and first["relevant"] == {"gulf.travel.en": 1} and first["found"][0][0] == "gulf.travel.en"


def test_token_budgets_are_counted_where_answers_are_known(index, data, tmp_path):
    found, rows = run("retrieval", tmp_path, "--index", index.folder, "--data", data)
    table = next(table for table in found.tables if table.title == "token budgets (R@Kt)")
    assert list(cells(table)) == ["cross_lingual en", "temporal en"]  # the Turkish question is answered by yes
    assert cells(table)["temporal en"] == {
        "n": 1, "R@200t": 1.0, "R@500t": 1.0, "R@2000t": 1.0, "tokens of 200": rows[-1]["tokens@200"],
        "tokens of 500": rows[-1]["tokens@500"], "tokens of 2000": rows[-1]["tokens@2000"],
    }  # fmt: skip
    assert 0 < rows[-1]["tokens@200"] <= 200  # the small corpus has no more


def test_romanised_questions_are_asked_in_their_own_script_where_a_transliterator_is_given(index):
    asked = Asked("q", "romanised", "bn", "dev", "zzz", "bn", frozenset({"bn-BD.events.01"}))
    hits = retrieval.first_hits(index, asked, native=lambda text: "পহেলা বৈশাখে মানুষ কী খায়?" if text == "zzz" else "")
    assert hits[0].entry.entry_id == "bn-BD.events.01"


BEIR = [
    {"_id": "d1", "title": "", "text": "Aşure muharrem ayında pişirilir.", "lang": "tr"},
    {"_id": "d2", "title": "Çay", "text": "Çay sıcak içilir.", "lang": "tr"},
]


def beir(folder):
    (folder / "qrels").mkdir(parents=True)
    write(folder / "corpus.jsonl", *BEIR)
    write(folder / "queries.jsonl", {"_id": "q1", "text": "Aşure ne zaman pişirilir?", "metadata": {"lang": "tr"}})
    (folder / "qrels/dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    return folder


def test_a_folder_of_beir_is_indexed_and_measured(tmp_path):
    found, rows = run("retrieval", tmp_path, "--data", beir(tmp_path / "tiny"))
    assert found.title == "Retrieval on tiny, dev" and cells(found.tables[0])["tr"]["success@1"] == (1.0, 1.0, 1.0)
    assert rows[0]["ranks"] == [1]


def test_a_folder_of_trec_files_is_measured_too(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "corpus.tsv").write_text("d1\tAşure muharrem ayında pişirilir.\nd2\tÇay sıcak içilir.\n", encoding="utf-8")
    (folder / "queries.tsv").write_text("q1\tÇay nasıl içilir?\n", encoding="utf-8")
    (folder / "qrels.txt").write_text("q1 0 d2 1\n")
    found, _ = run("retrieval", tmp_path, "--data", folder, "--lang", "tr")
    assert cells(found.tables[0])["tr"]["mAP"] == 1.0


@pytest.mark.parametrize("change, complaint", [
    (lambda f: write(f / "corpus.jsonl", *BEIR, BEIR[0]), r"corpus\.jsonl:3: the passage 'd1' was already used at .*:1"),
    (lambda f: write(f / "corpus.jsonl", BEIR[1]), r"dev\.tsv:2: passage 'd1' is judged, but the corpus holds none"),
    (lambda f: write(f / "queries.jsonl", {"_id": "q2", "text": "?", "lang": "tr"}), r"query 'q1' is judged, but queries.jsonl holds none"),
    (lambda f: write(f / "queries.jsonl", {"_id": "q1", "text": "?"}), r"queries\.jsonl:1: the language is '', expected one of ar.*--lang"),
    (lambda f: write(f / "corpus.jsonl", {"_id": "d1"}), r"corpus\.jsonl:1: expected _id and text"),
    (lambda f: (f / "queries.jsonl").unlink(), r"has corpus.jsonl, but no queries\. Expected queries.jsonl or queries.tsv"),
    (lambda f: (f / "qrels/dev.tsv").unlink(), r"no qrels of the split dev\. Expected .*qrels/dev.tsv"),
])  # fmt: skip
def test_a_broken_folder_is_named(tmp_path, change, complaint):
    change(beir(tmp_path / "tiny"))
    with pytest.raises(MajlisError, match=complaint):
        run("retrieval", tmp_path, "--data", tmp_path / "tiny")


def test_a_run_file_of_any_system_is_measured(tmp_path):
    (tmp_path / "a.run").write_text("q1 Q0 d1 1 1.0 x\nq1 Q0 d2 2 0.5 x\n")
    (tmp_path / "a.qrels").write_text("q1 0 d2 1\nq2 0 d1 1\n")
    found, rows = run("trec", tmp_path, "--run", tmp_path / "a.run", "--qrels", tmp_path / "a.qrels")
    assert cells(found.tables[0])["mAP"]["mean (95 % interval)"][0] == 0.25  # 1/2 for the first, 0 for the query without hits
    assert "<title>all: 2, 0.500</title>" in page([(found, rows)])  # recall over k of rows that name no language


# the engine


def engine_arguments(index, data):
    return "--index", index.folder, "--data", data, "--model", "none"


def test_answers_are_scored_with_their_language_and_citations(index, data, tmp_path):
    found, rows = run("answers", tmp_path, *engine_arguments(index, data))
    by_id = {row["id"]: row for row in rows}
    own = by_id["paraphrase/p1"]
    assert own["scores"] | {"right": 1.0, "line pass": 1.0, "citation validity": 1.0, "cites the right evidence": 1.0} == own["scores"]
    assert own["timings_ms"]["total"] > 0 and own["references"] == ["পহেলা বৈশাখে অনেকে পান্তা ভাত আর ইলিশ মাছ খান।"]
    assert by_id["cross_lingual/x1"]["references"] == ["Muharrem", "muharrem"]
    every = cells(found.tables[0])["all sets"]
    assert every["n"] == len(rows) and 0 < every["right, macro-average"] <= 1
    assert [table.title for table in found.tables] == ["answers", "nearness to the reference", "language and citations of answers"]
    assert found.title == "Answers, dev: quoted from the evidence"


def test_refusals_are_counted_per_language(index, data, tmp_path):
    found, rows = run("refusal", tmp_path, *engine_arguments(index, data))
    own_language = ["paraphrase/p1", "temporal/t1", "unanswerable/u1", "unanswerable/u2"]
    assert [row["id"] for row in rows] == [*own_language, "free/f1", "free/f2"]
    decisions, free = cells(found.tables[0]), cells(found.tables[1])
    assert {name: (line["unanswerable"], line["answerable"]) for name, line in decisions.items()} == {
        "bn": (1, 1),
        "en": (1, 1),
        "all": (2, 2),
    }
    refused = sum(row["refused"] for row in rows[2:4]) / 2
    assert decisions["all"]["refused (recall)"][0] == refused
    assert (free["all"]["answerable"], free["all"]["unanswerable"], free["all"]["answers given"]) == (1, 1, 2 - sum(row["refused"] for row in rows[4:]))
    assert free["tr"]["answered from the right evidence"][0] == 1.0 and free["tr"]["from the right evidence"][0] == 1.0
    assert all(0 <= row["confidence"] <= 1 for row in rows) and sum(line["n"] for line in cells(found.tables[3]).values()) == 4


def test_latency_is_told_per_language_with_the_tokens_of_a_question(index, data, tmp_path):
    found, rows = run("latency", tmp_path, *engine_arguments(index, data), "--sample", 1)
    assert [row["lang"] for row in rows] == ["en", "tr"]
    tax = cells(found.tables[1])
    assert tax["en"]["times English (encoder)"] == 1.0 and tax["tr"]["tokens (encoder)"] > 0
    assert all(0 < row["timings_ms"]["first"] <= row["timings_ms"]["total"] for row in rows)


ITEM = Item("q1", "paraphrase", "bn", "কী?", ("পান্তা ভাত ও ইলিশ",), relevant=frozenset({"e1"}))
SAYS_BANGLA = lambda text: "bn"


def test_an_answer_without_its_evidence_or_in_another_language_is_not_hidden():
    row = answering.answer_row(ITEM, Given("Rice and fish are eaten here. [7]", "en", unknown=1, first="e2"), lambda text: "en")
    assert row["scores"]["right"] == 0.0 and row["scores"]["line pass"] == 0.0 and row["scores"]["word pass"] == 0.0
    assert row["scores"]["citation validity"] == 0.0  # mark 7 names nothing that was given
    good = answering.answer_row(ITEM, Given("পান্তা ভাত ও ইলিশ। [1]", "bn", cited=("e1",), supported=1, first="e1"), SAYS_BANGLA)
    assert (
        good["scores"] | {"right": 1.0, "citation validity": 1.0, "citation support": 1.0, "cites the right evidence": 1.0}
        == good["scores"]
    )


def test_an_abstention_counts_as_no_answer():
    row = answering.answer_row(ITEM, Given("আমি জানি না।", "bn", abstained=True), SAYS_BANGLA)
    assert (row["scores"]["answered"], row["scores"]["right"], row["abstained"]) == (0.0, 0.0, True) and "line pass" not in row["scores"]


def test_somebody_elses_answers_are_scored(index, data, tmp_path):
    path = write(tmp_path / "answers.jsonl", {"id": "temporal/t1", "answer": "It has three lines.", "lang": "en"})
    found, rows = run("answers", tmp_path, *engine_arguments(index, data), "--answers", path)
    by_id = {row["id"]: row for row in rows}
    assert by_id["temporal/t1"]["scores"]["right"] == 1.0 and by_id["paraphrase/p1"]["failed"] == "not in the file"
    assert found.title == "Answers, dev: answers of answers.jsonl"


@pytest.mark.parametrize("rows, complaint", [
    ([{"id": "q1", "answer": "চা", "lang": "as"}], r":1: the answer is in 'as', question 'q1' was asked in 'bn'"),
    ([{"id": "q1", "answer": "x"}, {"id": "q1", "answer": "y"}], r":2: the id 'q1' was already used at"),
    ([{"id": "q9", "answer": "x"}], r":1: id 'q9' was not asked"), ([{"id": "q1"}], r":1: expected 'answer' \(str\)"), ([], r" holds no answer"),
])  # fmt: skip
def test_bad_answers_are_named_with_file_and_line(tmp_path, rows, complaint):
    with pytest.raises(MajlisError, match=rf"answers\.jsonl{complaint}"):
        answering.read_answers(write(tmp_path / "answers.jsonl", *rows), [ITEM])


def test_bertscore_without_an_encoder_is_refused_and_not_left_out(index, data, tmp_path):
    with pytest.raises(MajlisError, match=r"nowhere holds no folder ar, as, bn, en, hi, ne, tr.*or leave --bertscore out"):
        run("answers", tmp_path, *engine_arguments(index, data), "--bertscore", tmp_path / "nowhere")


class Writer:
    """A generator that answers everything with the same JSON, and remembers what it was asked."""

    name = "writer"

    def __init__(self, text):
        self.text, self.asked = text, []

    def start(self, cancel):
        return True

    def stream(self, messages, max_tokens, cancel):
        self.asked.append(messages)
        yield from self.text


def test_the_protocol_of_the_paper_leaks_the_length_and_reads_the_json():
    class WithModel:
        generator = Writer('{"answer": "পান্তা \\"ভাত\\"", "score": 9}')

    given = answering.ask_as_paper(WithModel)(ITEM)
    assert given.text == 'পান্তা "ভাত"'
    system, user = WithModel.generator.asked[0]
    assert (
        "Bangla AI assistant" in system["content"]
        and "less or equal to 4 words" in user["content"]
        and user["content"].endswith("Question: কী?")
    )


@pytest.mark.parametrize(
    "text, answer",
    [('{"answer": "Doha", "sc', "Doha"), (" Doha \n", "Doha"), ('{"answer": "a\nb"}', "a\nb"), ('{"answer": "cut', '{"answer": "cut')],
)
def test_answers_are_found_in_whatever_the_model_wrote(text, answer):
    assert answering.paper_answer(text) == answer


# published files


TURKISH = {"data_id": "a1", "category": "food_drinks", "input_query": "aşure", "question": "Aşure ne zaman pişirilir?",
           "answer": "Aşure muharrem ayında pişirilir ve komşulara dağıtılır.", "is_reliable": "very_reliable", "source_answer_url": "x"}  # fmt: skip


def test_multinativqa_is_read_as_published(index, tmp_path):
    (tmp_path / "data/turkish_tr").mkdir(parents=True)
    (tmp_path / "data/turkish_tr/NativQA_tr_NA_tr_test.json").write_text(json.dumps([TURKISH]), encoding="utf-8")
    found, rows = run("nativqa", tmp_path, "--data", tmp_path / "data", "--index", index.folder, "--model", "none")
    assert rows[0]["id"] == "turkish_tr/a1" and rows[0]["scores"]["right"] == 1.0
    [item] = nativqa.read_items("turkish_tr", tmp_path / "data/turkish_tr/NativQA_tr_NA_tr_test.json")
    assert (item.lang, item.locale, item.references) == ("tr", "tr-TR", (TURKISH["answer"],))
    with pytest.raises(MajlisError, match=r"hindi_in/NativQA_hi_NA_in_test.json, published at .*QCRI/MultiNativQA under CC BY-NC-SA 4.0"):
        nativqa.published_files(tmp_path / "data", "test", ("hindi_in",))
    with pytest.raises(MajlisError, match="asks a language model without evidence, and none is loaded"):
        run("nativqa", tmp_path, "--data", tmp_path / "data", "--index", index.folder, "--model", "none", "--protocol", "paper")


GOLD = [
    {"id": "1", "question": "দোহা কোথায়?", "lang": "bn", "answers": ["Qatar", "কাতার"]}, {"id": "2", "question": "?", "lang": "ar", "answers": ["yes"]},
    {"id": "3", "question": "؟", "lang": "ar", "answers": ["Paris, France"]}, {"id": "4", "question": "?", "lang": "ar", "answers": "No Answer"},
]  # fmt: skip


def test_xor_retrieve_follows_the_published_script(tmp_path):
    gold = write(tmp_path / "gold.jsonl", *GOLD)
    (tmp_path / "pred.json").write_text(json.dumps([
        {"id": "1", "lang": "bn", "ctxs": ["Doha is in Qatar."]}, {"id": "2", "lang": "ar", "ctxs": ["yes"]},
        {"id": "3", "lang": "ar", "ctxs": ["He lives in Paris, France."]}, {"id": "99", "lang": "fi", "ctxs": ["not in the gold file"]},
    ]))  # fmt: skip
    found, rows = run("xor", tmp_path, "--data", gold, "--predictions", tmp_path / "pred.json")
    assert [row["id"] for row in rows] == ["1", "3"]  # yes is not counted, nor what was not predicted or is not in the gold file
    table = cells(found.tables[0])
    assert table["bn"]["R@2kt"][0] == 1.0 and table["ar"]["R@5kt"][0] == 0.0 and table["average"]["R@2kt"] == 0.5


def test_xor_retrieve_searches_an_index_when_there_are_no_predictions(index, tmp_path):
    gold = write(tmp_path / "gold.jsonl", {"id": "1", "question": "Doha metrosu kaç hat?", "lang": "tr", "answers": ["three lines"]})
    found, rows = run("xor", tmp_path, "--data", gold, "--index", index.folder)
    assert rows[0]["scores"]["R@2kt"] == 1.0 and rows[0]["tokens"] < 2_000


def test_xor_full_follows_the_published_script(tmp_path):
    gold = write(tmp_path / "gold.jsonl", *GOLD)
    (tmp_path / "pred.json").write_text(json.dumps({"dev_1": "qatar.", "3": "Paris"}))
    found, rows = run("xor", tmp_path, "--task", "full", "--data", gold, "--predictions", tmp_path / "pred.json")
    table = cells(found.tables[0])
    assert table["bn"]["EM"][0] == 1.0 and table["ar"]["n"] == 2  # a missing prediction counts as 0, "No Answer" is not asked
    assert table["ar"]["F1"][0] == pytest.approx(1 / 3, abs=1e-4) and table["average"]["F1"] == pytest.approx((1 + 1 / 3) / 2, abs=1e-4)


@pytest.mark.parametrize("text, complaint", [
    ("[]", "with at least one prediction"), ('[{"id": "1", "lang": "tr", "ctxs": []}]', "item 1: the language is 'tr', question '1' is in 'bn'"),
    ('[{"id": "1", "lang": "bn"}]', r"item 1: expected 'ctxs' \(list\)"), ('[{"id": "9", "lang": "bn", "ctxs": []}]', "none of its 1 ids"),
    ('[{"id": "1", "lang": "bn", "ctxs": []}, {"id": "1", "lang": "bn", "ctxs": []}]', "item 2: the prediction for '1' was already used"),
    ("{", "not valid JSON"),
])  # fmt: skip
def test_bad_contexts_are_named(tmp_path, text, complaint):
    (tmp_path / "pred.json").write_text(text)
    with pytest.raises(MajlisError, match=rf"pred\.json.*{complaint}"):
        xor.read_contexts(tmp_path / "pred.json", {"1": xor.Gold("1", "bn", "?", ("x",))})


def test_gold_that_is_no_text_or_comes_twice_is_named_with_its_line(tmp_path):
    path = write(tmp_path / "gold.jsonl", GOLD[0], GOLD[2] | {"answers": [1914]})
    with pytest.raises(MajlisError, match=r"gold\.jsonl:2: expected texts in 'answers', found 1914"):
        xor.read_gold(path)
    with pytest.raises(MajlisError, match=r"gold\.jsonl:2: the question '1' was already used at .*gold\.jsonl:1"):
        xor.read_gold(write(path, GOLD[0], GOLD[0]))


MKQA = {
    "example_id": 5, "query": "capital of qatar", "queries": {"en": "capital of qatar", "tr": "katar başkenti"},
    "answers": {"en": [{"type": "entity", "text": "Doha", "aliases": ["Doha City"]}], "tr": [{"type": "long_answer", "text": None}]},
}  # fmt: skip


def test_mkqa_is_read_packed_and_questions_without_words_are_left_out(tmp_path):
    with gzip.open(tmp_path / "mkqa.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(MKQA) + "\n")
    assert mkqa.read_gold(tmp_path / "mkqa.jsonl.gz", ("en", "tr")) == [xor.Gold("en/5", "en", "capital of qatar", ("Doha", "Doha City"))]
    with pytest.raises(MajlisError, match=r"mkqa\.jsonl\.gz:1: nothing in 'fi', only en, tr"):
        mkqa.read_gold(tmp_path / "mkqa.jsonl.gz", ("fi",))
    write(tmp_path / "en.jsonl", {"example_id": 5, "prediction": "the doha city", "no_answer_prob": 0.1})
    found, _ = run("mkqa", tmp_path, "--data", tmp_path / "mkqa.jsonl.gz", "--lang", "en", "--predictions", tmp_path)
    assert cells(found.tables[0])["en"]["F1"][0] == pytest.approx(0.8)  # "the" is not removed
    write(tmp_path / "en.jsonl", {"example_id": 5, "prediction": "x", "language": "tr"})
    with pytest.raises(MajlisError, match=r"en\.jsonl:1: the prediction is in 'tr', the file is for 'en'"):
        mkqa.read_predictions(tmp_path / "en.jsonl", "en", [xor.Gold("en/5", "en", "?", ("x",))])


@pytest.mark.parametrize("answers, complaint", [
    ({"en": ["Doha"]}, "expected answers as objects with 'text', found 'Doha'"), ({"en": "Doha"}, r"expected 'en' \(list\), found 'Doha'"),
    ({"en": [{"text": 5}]}, "expected texts as answers in 'en', found 5"),
])  # fmt: skip
def test_answers_of_mkqa_in_another_form_are_named_with_their_line(tmp_path, answers, complaint):
    with pytest.raises(MajlisError, match=rf"mkqa\.jsonl:1: {complaint}"):
        mkqa.read_gold(write(tmp_path / "mkqa.jsonl", MKQA | {"answers": answers}), ("en",))


def xquad(sentences, *qas):
    context, breaks = "", []
    for sentence in sentences:
        start = len(context) + len(sentence) - len(sentence.lstrip())
        context += sentence
        breaks.append([start, len(context)])
    questions = [
        {"id": i, "question": text, "answers": [{"answer_start": context.index(answer), "text": answer}]} for i, text, answer in qas
    ]
    return {
        "data": [
            {"title": "", "paragraphs": [{"context": context, "sentences": list(sentences), "sentence_breaks": breaks, "qas": questions}]}
        ]
    }


def test_xquad_r_is_read_as_published_and_measured_in_a_mixed_pool(tmp_path):
    (tmp_path / "en.json").write_text(
        json.dumps(xquad(["Doha is the capital of Qatar.", " Tea is hot."], ("1", "What is the capital of Qatar?", "Doha")))
    )
    turkish = xquad(["\ufeffDoha Katar'ın başkentidir.", " Çay sıcaktır."], ("1", "Katar'ın başkenti neresidir?", "Doha"))
    (tmp_path / "tr.json").write_text(json.dumps(turkish), encoding="utf-8")
    pool, asked, answers = lareqa.read_xquad_r([tmp_path / "en.json", tmp_path / "tr.json"], ("en", "tr"))
    assert [one.text for one in pool] == ["Doha is the capital of Qatar.", "Tea is hot.", "Doha Katar'ın başkentidir.", "Çay sıcaktır."]
    assert answers == {"1": [0, 2]} and [one.lang for one in asked] == ["en", "tr"]
    found, _ = run("lareqa", tmp_path, "--data", tmp_path, "--lang", "en", "--lang", "tr")
    assert cells(found.tables[0])["macro-average"]["mAP"] == 1.0 and cells(found.tables[1])["en"] == {"en": 1.0, "tr": 1.0}


def test_strong_alignment_is_lost_to_the_own_language():
    """Two right sentences, rows 0 (en) and 2 (tr); an irrelevant English one is put before the Turkish one."""
    order, langs = np.array([0, 1, 2, 3]), np.array(["en", "en", "tr", "tr"])
    row = lareqa.ranked(lareqa.Asked("1", "en", "?"), order, langs, [0, 2], {"en": 2, "tr": 2})
    assert row["scores"]["mAP"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-4) and row["by_lang"] == {"en": 1.0, "tr": 1.0}


def test_an_answer_in_no_sentence_is_named(tmp_path):
    broken = xquad(["Doha.", " Tea."], ("1", "?", "Tea"))
    broken["data"][0]["paragraphs"][0]["sentence_breaks"] = [[0, 5], [5, 5]]
    (tmp_path / "en.json").write_text(json.dumps(broken))
    with pytest.raises(MajlisError, match=r"en\.json: paragraph 1: the answer of question '1' starts at 6, in no sentence"):
        lareqa.read_xquad_r([tmp_path / "en.json"], ("en",))


@pytest.mark.parametrize("qas, complaint", [
    ([{"id": "1", "question": "?", "answers": []}], "a question without an answer"), (["?"], "a question without an answer"),
    ([{"question": "?", "answers": [{"answer_start": 0}]}], r"expected 'id' \(str or int\)"),
    ([{"id": "1", "question": "?", "answers": ["Doha"]}], "question '1': expected an object with 'answer_start', found 'Doha'"),
    ([{"id": "1", "question": "?", "answers": [{"answer_start": 0}]}] * 2, "the question 'en 1' was already used"),
])  # fmt: skip
def test_questions_of_xquad_r_in_another_form_are_named(tmp_path, qas, complaint):
    broken = xquad(["Doha."])
    broken["data"][0]["paragraphs"][0]["qas"] = qas
    (tmp_path / "en.json").write_text(json.dumps(broken))
    with pytest.raises(MajlisError, match=rf"en\.json: paragraph 1.*{complaint}"):
        lareqa.read_xquad_r([tmp_path / "en.json"], ("en",))


def test_aligned_files_are_searched_in_both_directions(tmp_path):
    (tmp_path / "flores.en.txt").write_text("Tea is hot.\nDoha is the capital of Qatar.\n")
    (tmp_path / "ben_Beng.dev").write_text("চা গরম।\nদোহা কাতারের রাজধানী।\n", encoding="utf-8")
    found, rows = run("bitext", tmp_path, "--data", tmp_path)
    assert cells(found.tables[0])["en"] == {"to bn": 1.0, "to en": None, "mean": 1.0}
    assert "question language (rows) against evidence language" in page([(found, rows)])
    (tmp_path / "ben_Beng.dev").write_text("চা গরম।\n", encoding="utf-8")
    with pytest.raises(MajlisError, match=r"has 2 lines, .* has 1: they are not aligned"):
        run("bitext", tmp_path, "--data", tmp_path)
    (tmp_path / "ntrex.en.txt").write_text("x\n")
    with pytest.raises(MajlisError, match="holds two files in en: flores.en.txt and ntrex.en.txt"):
        run("bitext", tmp_path, "--data", tmp_path)


@pytest.mark.parametrize("suite, given, complaint", [
    ("lareqa", ["--data", "nowhere"], r"nowhere/ar\.json is not there\. Expected xquad-r/.* github.com/google-research-datasets/lareqa under CC BY-SA 4.0"),
    ("mkqa", ["--data", "nowhere"], r"Expected mkqa\.jsonl\.gz, published at github.com/apple/ml-mkqa under CC BY-SA 3.0"),
    ("xor", ["--data", "nowhere"], r"Expected xor_dev_retrieve_eng_span_v1_1\.jsonl, published at nlp.cs.washington.edu/xorqa under CC BY-SA 4.0"),
    ("xor", ["--task", "full", "--data", "nowhere"], r"Expected xor_dev_full_v1_1\.jsonl"),
    ("nativqa", ["--data", "nowhere"], r"Expected any of arabic_qa/NativQA_ar_msa_qa_test\.json.* under CC BY-NC-SA 4.0"),
    ("bitext", ["--data", "nowhere"], r"holds 0 aligned files.*github.com/openlanguagedata/flores under CC BY-SA 4.0"),
    ("language", ["--data", "nowhere"], r"nowhere has no folder dev"),
    ("retrieval", ["--data", "nowhere"], r"cross_lingual\.jsonl is not there"),
])  # fmt: skip
def test_missing_data_says_which_file_from_where_and_under_which_licence(suite, given, complaint):
    with pytest.raises(MajlisError, match=complaint):
        suite_module(suite).open_task(options(suite, *given))


# language


def test_a_text_is_judged_at_every_length_it_reaches():
    says = {"ami": "as", "ami bhat": "bn", "ami bhat khai": "bn"}
    detect = lambda text: language.Guess(says[text], 0.5, True)
    row = language.detected_row("d/romanised/0", "d", language.Text("romanised", "bn-Latn", "ami bhat khai"), detect)
    assert row["guesses"] == {"1": ["as", 0.5, True], "2": ["bn", 0.5, True], "3": ["bn", 0.5, True], "0": ["bn", 0.5, True]}
    assert (row["lang"], row["latin"], row["right"], row["guess"]) == ("bn", True, True, "bn")


def test_neighbours_are_right_when_they_are_named_as_none_of_ours():
    def row(label, guessed):
        return language.detected_row(
            f"d/{label}/{guessed}", "d", language.Text("neighbours", label, "x"), lambda text: language.Guess(guessed, 0.9)
        )

    assert row("ur", "ur")["right"] and row("ur", "und")["right"] and not row("ur", "ar")["right"] and row("ary", "ar")["right"]
    rows = [row("ur", "ur"), row("ur", "hi"), row("ary", "ar")]
    titles = {table.title: cells(table) for table in language.tables(rows, "d")}
    assert titles["neighbours, recognised as none of ours"]["ur"]["whole"][0] == 0.5
    assert titles["Arabic dialects, recognised as Arabic"]["ary"]["whole"][0] == 1.0


def test_the_calibration_of_detection_is_told_by_language_and_for_all_but_not_of_single_words():
    texts = (("bn", "ami bhat", "bn"), ("en", "a storm", "bn"))
    rows = [
        language.detected_row(f"d/questions/{i}", "d", language.Text("questions", lang, text), lambda text, says=says: language.Guess(says, 0.8), (1, 0))
        for i, (lang, text, says) in enumerate(texts)
    ]  # fmt: skip
    table = next(table for table in language.tables(rows, "d") if table.title.startswith("calibration"))
    assert {name: tuple(line.values()) for name, line in cells(table).items()} == {"bn": (1, 0.2), "en": (1, 0.8), "all": (2, 0.3)}


def test_the_bundled_detector_is_measured_on_what_ships(tmp_path, monkeypatch):
    few = [one for i, one in enumerate(language.read_shipped(options("language").corpus)) if i % 60 == 0]
    assert {one.set for one in few} == {"questions", "corpus", "romanised"}
    monkeypatch.setattr(language, "read_shipped", lambda corpus: few)
    found, rows = run("language", tmp_path, "--picture", tmp_path / "confusion.svg")
    assert len(rows) == len(few) and sum(row["right"] for row in rows) > 0.9 * len(rows)
    assert (tmp_path / "confusion.svg").read_text().startswith("<svg xmlns")


# commands


def test_every_suite_says_what_it_is_and_all_runs_them(capsys):
    with pytest.raises(SystemExit):
        builder(["evaluate", "--help"])
    printed = capsys.readouterr().out
    assert all(f"{suite} " in printed and suite_module(suite).SUMMARY[:30] in printed for suite in SUITES)
    assert {suite for suite, _ in all_steps("none", 5, None)} == {"retrieval", "refusal", "answers", "latency", "language"}
    steps = all_steps("some.gguf", 5, Path("development"))
    assert ("answers", ["--split", "test", "--model", "some.gguf", "--sample", "5"]) in steps
    assert [suite for suite, _ in steps][-2:] == ["bitext", "encoder"]
    for suite, given in steps:
        suite_parser(suite, "test").parse_args(given)  # every option is known


def test_all_measures_each_step_once_and_goes_on_after_the_last_that_was_finished(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.run").write_text("q1 Q0 d1 1 1.0 x\n")
    (tmp_path / "a.qrels").write_text("q1 0 d1 1\n")
    (tmp_path / "b.qrels").write_text("q1 0 d2 1\n")
    steps = [("trec", ["--run", str(tmp_path / "a.run"), "--qrels", str(tmp_path / name)]) for name in ("a.qrels", "b.qrels")]
    # sources that are edited meanwhile would be another configuration
    monkeypatch.setattr("index_builder.evaluate.measure.code_digest", lambda: "0")
    for known in (1, 2, 2):
        monkeypatch.setattr("index_builder.evaluate.commands.all_steps", lambda *chosen, known=known: steps[:known])
        assert builder(["evaluate", "all", "--out", str(tmp_path / "runs")]) == 0
    assert len(find_runs([tmp_path / "runs"])) == 2
    assert [capsys.readouterr().err.count("measured already")] == [0 + 1 + 2]
    builder(["evaluate", "all", "--out", str(tmp_path / "again"), "--again"])
    assert [read_run(folder).command for folder in find_runs([tmp_path / "again"])] == [
        f"python -m index_builder evaluate trec --run a.run --qrels {name}" for name in ("a.qrels", "b.qrels")
    ]


def test_the_command_prints_tables_and_keeps_the_run(index, data, tmp_path, capsys):
    arguments = ["evaluate", "retrieval", "--index", str(index.folder), "--data", str(data), "--out", str(tmp_path / "runs"), "--json"]
    assert builder([*arguments, "--report", str(tmp_path / "report.html")]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert printed[3]["title"] == "temporal" and printed[3]["rows"][0]["success@1"] == [1.0, 1.0, 1.0]
    [folder] = find_runs([tmp_path / "runs"])
    assert read_run(folder).suite == "retrieval" and len(read_rows(folder)) == 6
    assert "<h2>Retrieval, dev" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert builder(["evaluate", "compare", str(folder), str(folder)]) == 0 and "| all: success@1 | 6 |" in capsys.readouterr().out
    assert builder(["evaluate", "export", str(folder), "--out", str(tmp_path / "trec")]) == 0
    assert (tmp_path / "trec/run.trec").read_text().startswith("cross_lingual/x1 Q0 ")
    assert (
        builder(["evaluate", "report", str(tmp_path / "runs"), "--out", str(tmp_path / "again.html")]) == 0
        and (tmp_path / "again.html").is_file()
    )


def test_the_app_measures_retrieval_and_refusal_as_it_answers(index, data, tmp_path, capsys):
    assert demo(["evaluate", "--index", str(index.folder), "--data", str(data), "--out", str(tmp_path / "runs")]) == 0
    assert "### romanised" in (printed := capsys.readouterr().out) and "### refusals" in printed
    kept = [read_run(folder) for folder in find_runs([tmp_path / "runs"])]
    assert [run.suite for run in kept] == ["refusal", "retrieval"] and kept[1].configuration["native"] is True


def test_errors_are_told_without_a_traceback(capsys):
    assert builder(["evaluate", "retrieval", "--data", "nowhere"]) == 1
    assert capsys.readouterr().err.startswith("error: ") and builder(["evaluate", "compare", "nowhere", "nowhere"]) == 1
    with pytest.raises(SystemExit):
        builder(["evaluate", "unknown"])
    assert "invalid choice: 'unknown'" in capsys.readouterr().err


def test_tokens_are_those_of_nltk():
    name, cut = tokenizer()
    assert cut("He's in Paris, France.") == ["He", "'s", "in", "Paris", ",", "France", "."] and name.startswith("nltk")

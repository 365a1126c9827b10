"""Questions with known answers -> figures that can be worked out by hand."""

import json

import pytest

from index_builder.evaluate import (
    Asked,
    calibrate,
    evaluate_refusal,
    evaluate_retrieval,
    figures,
    first_hits,
    first_rank,
    read_questions,
)
from index_builder.relevance import Relevance
from index_builder.vocabulary import MajlisError

KNOWN = frozenset({"bn-BD.events.01", "tr-TR.food_drinks.01", "gulf.travel.en"})


def question(id, lang, text, relevant, evidence_lang="", split="dev"):
    qrels = {relevant: 1, "bangladesh.animal.en": 0} if relevant else {}
    return {"id": id, "lang": lang, "question": text, "qrels": qrels, "evidence_lang": evidence_lang, "split": split}


def write(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path):
    """Every suite, over the small corpus of conftest."""
    write(tmp_path / "paraphrase.jsonl",
          question("p1", "bn", "পহেলা বৈশাখে কী খায়?", "bn-BD.events.01", "bn"),
          question("p2", "en", "What is eaten on Pohela Boishakh?", "bn-BD.events.01", "bn"),
          question("p3", "tr", "Aşure ne zaman pişer?", "tr-TR.food_drinks.01", "tr", split="test"))  # fmt: skip
    write(tmp_path / "cross_lingual.jsonl", question("x1", "en", "Aşure is cooked when?", "tr-TR.food_drinks.01", "tr"))
    write(tmp_path / "romanised.jsonl", question("r1", "bn", "pohela boishakh", "bn-BD.events.01", "bn"))
    write(tmp_path / "temporal.jsonl", question("t1", "en", "How many lines has the Doha metro?", "gulf.travel.en", "en"))
    write(
        tmp_path / "unanswerable.jsonl",
        question("u1", "en", "Who won the chess match in 1972?", ""),
        question("u2", "bn", "চাঁদ কত দূরে?", ""),
    )
    return tmp_path


def test_figures_of_four_questions():
    found = figures("bn", [1, 2, 0, 8])
    assert (found.group, found.questions) == ("bn", 4)
    assert found.success_at_1 == 0.25  # one of four is first
    assert found.success_at_5 == 0.5
    assert found.mrr == 0.4062  # (1 + 1/2 + 0 + 1/8) / 4, rounded
    assert 0 <= found.low <= 0.25 <= found.high <= 1


def test_the_interval_is_narrow_where_all_agree_and_narrower_with_more_questions():
    assert (figures("all", [1] * 50).low, figures("all", [1] * 50).high) == (1.0, 1.0)
    few, many = figures("few", [1, 0] * 10), figures("many", [1, 0] * 1_000)
    assert few.high - few.low > many.high - many.low > 0
    assert figures("few", [1, 0] * 10) == few  # the resampling is seeded


def test_only_the_asked_split_and_the_positive_grades_are_read(data):
    assert [one.query_id for one in read_questions(data / "paraphrase.jsonl", "dev", KNOWN)] == ["p1", "p2"]
    [one] = read_questions(data / "paraphrase.jsonl", "test", KNOWN)
    assert one == Asked("p3", "paraphrase", "tr", "test", "Aşure ne zaman pişer?", "tr", frozenset({"tr-TR.food_drinks.01"}))


@pytest.mark.parametrize(
    "line, complaint",
    [
        ('{"id": "q"', "expected id, lang, split, question and qrels"),
        ('{"id": "q", "lang": "bn", "split": "dev", "question": "?"}', "expected id, lang, split, question and qrels"),
        ("[1]", "expected id, lang, split, question and qrels"),
        ('{"id": "q", "lang": "bn", "split": "dev", "question": "?", "qrels": {"x": "1"}}', "expected id, lang, split, question and qrels"),
        ('{"id": "q", "lang": "bn", "split": "dev", "question": "?", "qrels": ["x"]}', "expected id, lang, split, question and qrels"),
        (json.dumps(question("q", "bn", "?", "gone.01")), "qrels name 'gone.01', which the index does not hold"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(data, line, complaint):
    path = data / "temporal.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(MajlisError, match=rf"temporal\.jsonl:3: {complaint}"):
        read_questions(path, "dev", KNOWN)


def test_a_missing_or_foreign_file_is_named(data, tmp_path):
    with pytest.raises(MajlisError, match=r"none\.jsonl is not there.*--data"):
        read_questions(data / "none.jsonl", "dev", KNOWN)
    (data / "temporal.jsonl").write_bytes(b'{"id": "caf\xe9"}')
    with pytest.raises(MajlisError, match=r"temporal\.jsonl is not UTF-8 \(byte 0xe9\)"):
        read_questions(data / "temporal.jsonl", "dev", KNOWN)


def test_the_first_rank_is_that_of_the_first_relevant_entry(index):
    asked = Asked("q", "paraphrase", "bn", "dev", "পহেলা বৈশাখে মানুষ কী খায়?", "bn", frozenset({"bn-BD.events.01", "gulf.travel.en"}))
    assert first_rank(index, asked) == 1
    assert first_rank(index, Asked("q", "paraphrase", "bn", "dev", "পহেলা বৈশাখ", "bn", frozenset({"not in the index"}))) == 0


def test_romanised_questions_are_asked_in_their_own_script_where_a_transliterator_is_given(index):
    asked = Asked("q", "romanised", "bn", "dev", "zzz", "bn", frozenset({"bn-BD.events.01"}))
    assert first_rank(index, asked, native=lambda text: "পহেলা বৈশাখে মানুষ কী খায়?" if text == "zzz" else "") == 1


def test_retrieval_is_measured_per_suite_language_and_side(index, data):
    tables = evaluate_retrieval(index, data, "dev")
    assert [table.title for table in tables] == ["cross_lingual, dev", "paraphrase, dev", "romanised, dev", "temporal, dev"]
    paraphrase = {row.group: row for row in tables[1].rows}
    assert {group: row.questions for group, row in paraphrase.items()} == {
        "bn": 1,
        "en": 1,
        "all": 2,
        "own language": 1,
        "another language": 1,
    }
    assert paraphrase["bn"].success_at_1 == paraphrase["own language"].mrr == 1.0
    assert paraphrase["all"].mrr == pytest.approx((paraphrase["bn"].mrr + paraphrase["en"].mrr) / 2, abs=1e-4)


def test_a_table_is_json_and_markdown(index, data):
    table = evaluate_retrieval(index, data, "dev")[3]
    row = table.as_json()["rows"][0]
    assert table.as_json()["title"] == "temporal, dev" and (row["group"], row["questions"], row["success_at_1"]) == ("en", 1, 1.0)
    assert table.as_markdown().splitlines()[-1] == "| all | 1 | 1.000 (1.000 to 1.000) | 1.000 | 1.000 |"


def test_refusals_are_counted_per_language(index, data):
    answered, unanswered = first_hits(index, data, "dev")
    assert [lang for lang, _ in answered] == ["bn", "en"]  # the questions in the language of their evidence
    assert [lang for lang, _ in unanswered] == ["en", "bn"]
    never, always = Relevance(1.0, 0.0, 0.0, threshold=0.0), Relevance(1.0, 0.0, 0.0, threshold=1.1)
    for relevance, refused in ((never, 0.0), (always, 1.0)):
        rows = evaluate_refusal(index, data, "dev", relevance).rows
        assert [(row.lang, row.unanswerable, row.answerable) for row in rows] == [("bn", 1, 1), ("en", 1, 1), ("all", 2, 2)]
        assert all(row.refused == refused == row.wrongly_refused for row in rows)


def test_calibration_tells_answerable_from_unanswerable_questions(index, data):
    [row] = [row for row in evaluate_refusal(index, data, "dev", calibrate(index, data)).rows if row.lang == "all"]
    assert row.wrongly_refused == 0.0 and row.refused == 1.0
    assert "| all | 2 | 1.000 | 2 | 0.000 |" in evaluate_refusal(index, data, "dev", calibrate(index, data)).as_markdown()

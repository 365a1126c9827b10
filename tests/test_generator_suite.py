"""The suite that measures a language model's choice: with the Llama that ships, on a small corpus, and what counts as copied."""

import json

import pytest

from index_builder.evaluate.commands import suite_parser
from index_builder.evaluate.measure import measure
from index_builder.evaluate.suites import generator
from index_builder.vocabulary import Evidence, Hit, MajlisError
from tests.conftest import small_corpus


def numbered(*entries):
    return tuple(Evidence(n, Hit(entry, n, 0.0, 0.0, 0.0, 0.0, "text"), 0, 0) for n, entry in enumerate(entries, 1))


@pytest.fixture
def options(index, tmp_path):
    questions = [
        {
            "id": f"q{number}",
            "lang": entry.lang,
            "split": "dev",
            "question": entry.question,
            "qrels": {entry.entry_id: 1},
            "evidence_lang": entry.lang,
        }
        for number, entry in enumerate(small_corpus())
        if entry.question
    ]
    for name in generator.ASKED:
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in questions if name == "paraphrase"), encoding="utf-8"
        )

    def parsed(*more):
        return suite_parser("generator", "test").parse_args(
            ["--index", str(index.folder), "--data", str(tmp_path), "--out", str(tmp_path), *more]
        )

    return parsed


def test_the_llama_that_ships_quotes_the_right_evidence_of_a_small_corpus(options, tmp_path):
    run, rows, _ = measure(generator.open_task(options("--model", "majlis-nano", "--free")), tmp_path)
    assert len(rows) == 7
    assert sum(row["scores"]["right"] for row in rows) >= 6
    assert all(row["scores"]["citation holds"] == 1.0 for row in rows if "citation holds" in row["scores"])
    assert all(0 < row["timings_ms"]["first_token"] <= row["timings_ms"]["total"] for row in rows)
    assert [table.title for table in run.tables] == [
        "right evidence among five",
        "citations, language, copying",
        "milliseconds, middle of all",
    ]
    (everything,) = [line for line in run.tables[0].rows if line[0] == "paraphrase all"]
    assert everything[1] == 7


def test_without_a_model_there_is_nothing_to_measure(options):
    with pytest.raises(MajlisError, match="--model"):
        generator.open_task(options("--model", "none"))


@pytest.mark.parametrize("answer, copied", [
    ("{0} [1]", True), ("{0} [1] {1} [2]", True), ("{0} [2]", False), ("{0}", False), ("So {0} [1]", False), ("{0} [1] and more", False), ("", False),
])  # fmt: skip
def test_copied_means_whole_sentences_with_the_number_of_their_source(answer, copied):
    first, second = small_corpus()[3], small_corpus()[6]
    assert generator._copied(answer.format(first.text, second.text), numbered(first, second)) is copied

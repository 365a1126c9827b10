"""`python -m index_builder build | search | encode`: what they print, write and refuse."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from index_builder.__main__ import main
from index_builder.read import row_of
from index_builder.store import read_manifest
from tests.conftest import ROOT, small_corpus


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "corpus").mkdir()
    rows = "".join(json.dumps(row_of(entry), ensure_ascii=False) + "\n" for entry in small_corpus())
    (tmp_path / "corpus" / "rows.jsonl").write_text(rows, encoding="utf-8")
    return tmp_path / "corpus"


def run(*arguments):
    return main([str(argument) for argument in arguments])


def feed(monkeypatch, data: bytes):
    """Standard input as it comes where the locale is not UTF-8, which must not matter."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="latin-1"))


# build


def test_build_writes_an_index_and_says_what_is_in_it(corpus, tmp_path, capsys):
    assert run("build", "--corpus", corpus, "--out", tmp_path / "index") == 0
    out, err = capsys.readouterr()
    assert "9 entries {'ar': 1, 'as': 1, 'bn': 1, 'en': 3, 'hi': 1, 'ne': 1, 'tr': 1}" in out
    assert "encoded 9 of 9 entries" in err


def test_build_prints_its_manifest_as_json_and_its_progress_elsewhere(corpus, tmp_path, capsys):
    assert run("build", "--corpus", corpus, "--out", tmp_path / "index", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == read_manifest(tmp_path / "index") and "encoded 9 of 9 entries" in err


def test_two_builds_give_the_same_files(corpus, tmp_path):
    run("build", "--corpus", corpus, "--out", tmp_path / "one")
    run("build", "--corpus", corpus / "rows.jsonl", "--out", tmp_path / "two")
    assert read_manifest(tmp_path / "one") == read_manifest(tmp_path / "two")


def test_build_stops_at_a_bad_row_and_leaves_it_out_when_asked(corpus, tmp_path, capsys):
    (corpus / "more.jsonl").write_text(
        '{"id": "x", "lang": "en", "question": "no answer?"}\n{"id": "y", "lang": "en", "text": "fine"}\n{oops\n', encoding="utf-8"
    )
    assert run("build", "--corpus", corpus, "--out", tmp_path / "index") == 1
    assert "more.jsonl:1: a qa row needs a non-empty 'answer'" in capsys.readouterr().err
    assert not (tmp_path / "index").exists()
    assert run("build", "--corpus", corpus, "--out", tmp_path / "index", "--skip-bad") == 0
    out, err = capsys.readouterr()
    assert "10 entries" in out and err.count("left out: ") == 2 and "more.jsonl:3: not valid JSON" in err


def test_build_reads_text_files_in_the_language_that_is_given(tmp_path, capsys):
    (tmp_path / "bihu.md").write_text("# বিহু\n\nমাঘ মাহত ভোগালী বিহু।\n", encoding="utf-8")
    assert run("build", "--corpus", tmp_path / "bihu.md", "--out", tmp_path / "index") == 1
    assert "--lang" in capsys.readouterr().err
    assert run("build", "--corpus", tmp_path / "bihu.md", "--out", tmp_path / "index", "--lang", "as") == 0
    assert "1 entries {'as': 1}" in capsys.readouterr().out


def test_build_takes_settings_and_writes_them_to_the_manifest(corpus, tmp_path):
    assert run("build", "--corpus", corpus, "--out", tmp_path / "index", "--views", "entry,sentence", "--question-weight", "0.3") == 0
    settings = read_manifest(tmp_path / "index")["settings"]
    assert settings["views"] == ["entry", "sentence"] and settings["question_weight"] == 0.3


@pytest.mark.parametrize(
    "options, complaint",
    [
        (["--views", "sentence"], "--views is 'sentence', expected 'entry' and any of"),
        (["--views", "entry,picture"], "--views is 'entry,picture'"),
        (["--question-weight", "1.5"], "--question-weight is 1.5, expected a share between 0 and 1"),
        (["--encoder", "nowhere"], "No encoder in nowhere: modules.json is missing"),
        (["--corpus", "nowhere.jsonl"], "nowhere.jsonl is not there"),
    ],
)
def test_build_refuses_what_it_cannot_use(corpus, tmp_path, capsys, options, complaint):
    assert run("build", "--corpus", corpus, "--out", tmp_path / "index", *options) == 1
    assert capsys.readouterr().err.startswith(f"error: {complaint}")
    assert not (tmp_path / "index").exists()


# search


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("search")
    (base / "rows.jsonl").write_text("".join(json.dumps(row_of(entry)) + "\n" for entry in small_corpus()), encoding="utf-8")
    assert run("build", "--corpus", base / "rows.jsonl", "--out", base / "index", "--augment", "max") == 0
    return base / "index"


def rows(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_search_prints_one_json_row_per_hit_with_scores_and_why(folder, capsys):
    capsys.readouterr()
    assert run("search", "সুন্দরবনে কোন বাঘ থাকে?", "--index", folder, "--k", "3", "--json") == 0
    found = rows(capsys)
    assert [row["rank"] for row in found] == [1, 2, 3]
    first = found[0]
    assert set(first) == {
        "rank",
        "entry_id",
        "kind",
        "lang",
        "locale",
        "topic",
        "title",
        "question",
        "text",
        "source",
        "reliability",
        "scores",
        "matched_by",
    }
    assert (first["entry_id"], first["kind"], first["lang"], first["title"]) == ("bangladesh.animal.en", "passage", "en", "The Sundarbans")
    assert first["matched_by"] == {"kind": "query", "query": "সুন্দরবনে কোন বাঘ থাকে?", "lang": "bn"}
    assert set(first["scores"]) == {"fused", "dense", "lexical", "coverage", "answers"} and first["scores"]["dense"] >= 0.999


def test_search_prints_the_same_hits_for_people(folder, capsys):
    capsys.readouterr()
    assert run("search", "Aşure ne zaman pişirilir?", "--index", folder, "--k", "1") == 0
    out = capsys.readouterr().out
    assert " 1. [tr-TR food_drinks] Aşure ne zaman pişirilir?" in out and "Aşure muharrem ayında pişirilir" in out
    assert "matched by question: Aşure ne zaman pişirilir?  (tr-TR.food_drinks.01)" in out


def test_search_keeps_languages_and_locales(folder, capsys):
    capsys.readouterr()
    run("search", "food", "--index", folder, "--json", "--lang", "tr", "--lang", "hi")
    assert {row["lang"] for row in rows(capsys)} == {"tr", "hi"}
    run("search", "food", "--index", folder, "--json", "--locale", "en-QA")
    assert {row["locale"] for row in rows(capsys)} == {"en-QA"}


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["  "], "The question is empty"),
        (["x", "--k", "0"], "--k is 0, expected 1 or more"),
        (["caf\udce9"], "The question is not UTF-8"),
        (["x", "--index", "nowhere"], "nowhere is not a whole index: manifest.json is missing"),
    ],
)
def test_search_refuses_what_it_cannot_answer(folder, capsys, arguments, complaint):
    capsys.readouterr()
    assert run("search", "--index", folder, *arguments) == 1
    assert capsys.readouterr().err.startswith(f"error: {complaint}")


def test_a_language_that_is_not_spoken_is_refused_with_those_that_are(folder, capsys):
    with pytest.raises(SystemExit):
        run("search", "bonjour", "--index", folder, "--lang", "fr")
    assert "ar" in capsys.readouterr().err


# encode


@pytest.mark.parametrize("count", [0, 1, 3_000])
def test_encode_writes_a_unit_row_per_line(encoder, monkeypatch, tmp_path, count):
    lines = [f"পান্তা ভাত {n}" for n in range(count)]
    feed(monkeypatch, "".join(line + "\n" for line in lines).encode())
    assert run("encode", "--kind", "query", "--out", tmp_path / "x.npy") == 0
    found = np.load(tmp_path / "x.npy", mmap_mode="r" if count else None)
    assert found.shape == (count, 256) and found.dtype == np.float32
    if count:
        assert np.array_equal(found, encoder.encode(lines, "query"))
        assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_encode_counts_lines_by_line_feeds_alone(encoder, monkeypatch, tmp_path):
    feed(monkeypatch, "one\r\n\ntwo\u2028three\x0bfour\nfive\rsix".encode())  # an empty line is a row of zeros; the last needs no end
    run("encode", "--kind", "passage", "--out", tmp_path / "x.npy")
    assert np.array_equal(np.load(tmp_path / "x.npy"), encoder.encode(["one", "", "two\u2028three\x0bfour", "five\rsix"], "passage"))


def test_encode_refuses_what_is_not_utf8_and_leaves_no_file(monkeypatch, tmp_path, capsys):
    feed(monkeypatch, b"fine\ncaf\xe9\n")
    assert run("encode", "--kind", "query", "--out", tmp_path / "x.npy") == 1
    assert "Standard input is not UTF-8" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_encode_says_when_its_file_cannot_be_written(monkeypatch, tmp_path, capsys):
    feed(monkeypatch, b"fine\n")
    assert run("encode", "--kind", "query", "--out", tmp_path / "no" / "x.npy") == 1
    assert "could not be written" in capsys.readouterr().err


def test_output_is_utf8_whatever_the_code_page(folder):
    command = [sys.executable, "-m", "index_builder", "search", "পহেলা বৈশাখ", "--index", str(folder), "--k", "1"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"})
    assert ran.returncode == 0, ran.stderr
    assert "পহেলা বৈশাখে মানুষ কী খায়?" in ran.stdout.decode("utf-8")


def test_the_command_runs_as_a_program(tmp_path, folder):
    command = [sys.executable, "-m", "index_builder"]
    ran = subprocess.run(
        [*command, "encode", "--kind", "query", "--out", str(tmp_path / "x.npy")], input="चाय\n".encode(), cwd=ROOT, capture_output=True
    )
    assert (ran.returncode, ran.stdout) == (0, b"") and np.load(tmp_path / "x.npy").shape == (1, 256)
    ran = subprocess.run([*command, "search", "Aşure", "--index", str(folder), "--json", "--k", "1"], cwd=ROOT, capture_output=True)
    assert json.loads(ran.stdout)["entry_id"] == "tr-TR.food_drinks.01"


# evaluate and calibrate


def test_evaluate_prints_a_table_per_suite(folder, tmp_path, capsys):
    question = {
        "id": "q",
        "lang": "tr",
        "question": "Aşure ne zaman?",
        "qrels": {"tr-TR.food_drinks.01": 1},
        "evidence_lang": "tr",
        "split": "dev",
    }
    for suite in ("cross_lingual", "paraphrase", "romanised", "temporal"):
        (tmp_path / f"{suite}.jsonl").write_text(json.dumps(question) + "\n", encoding="utf-8")
    capsys.readouterr()
    assert run("evaluate", "retrieval", "--index", folder, "--data", tmp_path, "--out", tmp_path / "runs", "--json") == 0
    found = rows(capsys)
    assert [table["title"] for table in found][:4] == ["cross_lingual", "paraphrase", "romanised", "temporal"]
    assert found[0]["rows"][0]["success@1"] == [1.0, 1.0, 1.0]  # the figure and its interval
    assert run("evaluate", "retrieval", "--index", folder, "--data", tmp_path / "nowhere") == 1
    assert "cross_lingual.jsonl is not there" in capsys.readouterr().err

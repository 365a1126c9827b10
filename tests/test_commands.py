"""python -m demo: the command contract, printed as JSON that others can script, with messages that say what to do."""

import io
import json
import os
import subprocess
import sys

import pytest

from demo.__main__ import main
from demo.engine import Question, open_engine
from demo.languages import strings
from demo.settings import ROOT, load_settings
from index_builder.__main__ import main as index_builder
from index_builder.vocabulary import LANGUAGES


def keys(names: str) -> set[str]:
    """Of the contract, and after the bar what Majlis adds."""
    return set(names.split()) - {"|"}


ASK = keys(
    "question language answer answer_language mode abstained citations evidence timings_ms model | searched unsupported stopped relevance notices"
)
LANGUAGE = keys("lang script romanised confidence ranking | why native answer_lang corrected")
CITATION = keys("n entry_id quote supported")
EVIDENCE = keys("n entry_id kind lang locale topic text question source reliability scores matched_by | title marked")
SCORES = keys("dense lexical fused | coverage answers")
DETECT = keys("text lang script romanised confidence ranking | why native")
HEAD = "What do men in Qatar wear on the head?"


@pytest.fixture
def run(index, monkeypatch, capsys):
    """Runs a command on the small index; gives (exit status, what it printed, what it complained of)."""
    monkeypatch.setenv("MAJLIS_INDEX", str(index.folder))
    monkeypatch.delenv("MAJLIS_OFFLINE", raising=False)

    def run_command(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        status = main(arguments)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run_command


@pytest.fixture(scope="module")
def bundled_index(tmp_path_factory):
    """The index of assets/corpus: the one that ships, or, where it is not there yet, one built here."""
    shipped = ROOT / "assets" / "index"
    if (shipped / "manifest.json").is_file():
        return shipped
    folder = tmp_path_factory.mktemp("bundled") / "index"
    assert index_builder(["build", "--corpus", str(ROOT / "assets" / "corpus"), "--out", str(folder)]) == 0
    return folder


# --- ask


def test_ask_prints_one_object_with_the_keys_of_the_contract(run):
    status, out, _ = run("ask", HEAD, "--json")
    assert status == 0 and out.count("\n") == 1
    found = json.loads(out)
    assert found.keys() == ASK and found["language"].keys() == LANGUAGE
    assert all(item.keys() == CITATION for item in found["citations"]) and len(found["citations"]) == 1
    assert all(item.keys() == EVIDENCE and item["scores"].keys() == SCORES for item in found["evidence"]) and len(found["evidence"]) == 5
    assert found["timings_ms"].keys() == {"detect", "retrieve", "generate", "total"} and found["model"] == {"encoder": "majlis-static"}


def test_ask_answers_from_its_evidence(run):
    found = json.loads(run("ask", HEAD, "--json")[1])
    assert (found["question"], found["language"]["lang"], found["answer_language"], found["mode"]) == (HEAD, "en", "en", "verbatim")
    assert found["citations"] == [{"n": 1, "entry_id": "en-QA.cloth.01", "quote": found["evidence"][0]["text"], "supported": True}]
    assert [item["n"] for item in found["evidence"]] == [1, 2, 3, 4, 5]
    assert found["answer"] == f"{found['evidence'][0]['text']} [1]" and not found["abstained"] and not found["stopped"]


def test_ask_keeps_every_script_readable_in_its_json(run):
    _, out, _ = run("ask", "পহেলা বৈশাখে মানুষ কী খায়?", "--json")
    assert "পান্তা ভাত" in out and "\\u" not in out


def test_ask_without_json_prints_the_answer_the_evidence_and_the_times(run):
    status, out, _ = run("ask", HEAD)
    assert status == 0 and "ghutra" in out and "[5]" in out and "English (" in out and "search" in out


def test_ask_reads_a_follow_up_with_the_questions_before_it(run):
    found = json.loads(run("ask", "And when?", "--after", "Aşure nedir?", "--after", HEAD, "--json")[1])
    assert (found["question"], found["searched"]) == ("And when?", "men Qatar wear head: when?")
    assert found["evidence"][0]["entry_id"] == "en-QA.cloth.01"
    assert "Searched for: men Qatar wear head: when?" in run("ask", "And when?", "--after", HEAD)[1]
    assert json.loads(run("ask", HEAD, "--json")[1])["searched"] == HEAD


def test_ask_takes_a_corrected_language(run):
    found = json.loads(run("ask", HEAD, "--json", "--lang", "tr")[1])
    assert found["language"]["corrected"] and found["language"]["answer_lang"] == "tr" and "other_language" in found["notices"]


@pytest.mark.parametrize(
    "question, key", [("", "empty_question"), (" \u202e ", "empty_question"), ("🙂", "no_words"), ("ক" * 20_000, "too_long")]
)
def test_ask_that_fails_says_why_and_exits_1(run, question, key):
    status, out, _ = run("ask", question, "--json")
    found = json.loads(out)
    assert status == 1 and found.keys() == {"question", "error", "message"} and found["error"] == key and "{" not in found["message"]


def test_ask_that_fails_without_json_keeps_its_output_clean(run):
    assert run("ask", "") == (1, "", "Please type a question.\n")


def test_ask_for_a_written_answer_without_a_model_says_that_none_is_loaded(run):
    status, _, complaint = run("ask", HEAD, "--mode", "generate")
    assert status == 1 and "no language model is loaded" in complaint


def test_ask_with_a_model_that_is_not_there_names_the_command_that_gets_it(run, monkeypatch, tmp_path):
    monkeypatch.setenv("MAJLIS_MODELS", str(tmp_path))
    status, _, complaint = run("ask", HEAD, "--model", "llama-3.2-1b")
    assert status == 1 and "python -m demo models fetch llama-3.2-1b" in complaint
    status, _, complaint = run("ask", HEAD, "--model", str(tmp_path / "none.gguf"))
    assert status == 1 and "none.gguf is not there" in complaint


def test_ask_without_an_index_names_the_command_that_builds_it(run, monkeypatch, tmp_path):
    monkeypatch.setenv("MAJLIS_INDEX", str(tmp_path))
    status, out, complaint = run("ask", HEAD)
    assert (status, out) == (1, "") and f"python -m index_builder build --corpus PATH --out {tmp_path}" in complaint


@pytest.fixture(scope="module")
def bundled_engine(bundled_index):
    engine = open_engine(load_settings(environment={"MAJLIS_INDEX": str(bundled_index)}))
    yield engine
    engine.close()


@pytest.mark.parametrize("lang, question", [(lang, question) for lang in LANGUAGES for question in strings(lang)["example_questions"]])
def test_every_example_question_of_the_page_is_answered_in_its_language_from_the_bundled_index(bundled_engine, lang, question):
    detected, *_, done = bundled_engine.ask(Question(question))
    assert (detected.detection.lang, done.answer_lang, done.abstained, done.notices) == (lang, lang, False, ())
    assert done.citations and all(citation.supported for citation in done.citations)


# --- detect


def test_detect_prints_one_object_a_line_in_order(run):
    lines = ["অসমৰ ৰাজধানী কি?", "বাংলাদেশের জাতীয় ফুল কী?", "", "Kına gecesi nedir?", "1971"]
    status, out, _ = run("detect", "--json", stdin="\n".join(lines).encode())
    found = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and [row["text"] for row in found] == lines and all(row.keys() == DETECT for row in found)
    assert [row["lang"] for row in found] == ["as", "bn", "und", "tr", "und"]
    assert found[0]["ranking"][0] == ["as", found[0]["confidence"]]
    for row in found:
        shares = [share for _, share in row["ranking"]]
        assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=0.01)


def test_detect_survives_bytes_that_are_no_text(run):
    status, out, _ = run("detect", "--json", stdin=b"\xff\xfe kahve\r\n\x00\n")
    assert status == 0 and [json.loads(line)["text"] for line in out.split("\n")[:-1]] == ["\ufffd\ufffd kahve", "\x00"]


def test_detect_without_json_prints_columns(run):
    _, out, _ = run("detect", stdin="ماذا يُقدَّم مع القهوة؟\n".encode())
    lang, confidence, script, romanised, _, text = out.rstrip("\n").split("\t")
    assert (lang, script, romanised, text) == ("ar", "Arab", "", "ماذا يُقدَّم مع القهوة؟") and 0 < float(confidence) <= 1


# --- doctor


def test_doctor_finds_the_checkout_well(run, monkeypatch, bundled_index):
    monkeypatch.setenv("MAJLIS_INDEX", str(bundled_index))
    status, out, _ = run("doctor", "--offline")
    assert status == 0, out
    assert "Majlis can answer." in out and "a question was answered" in out and "FAIL" not in out
    assert "ok    llama-cpp-python" in out and "ok    gradio 6" in out and "বাংলা" in out


def test_doctor_exits_1_without_an_index_and_says_what_to_do(run, monkeypatch, tmp_path):
    monkeypatch.setenv("MAJLIS_INDEX", str(tmp_path))
    status, out, _ = run("doctor")
    assert status == 1 and "Majlis cannot answer" in out
    assert f"MISS  {tmp_path / 'manifest.json'}" in out and f"python -m index_builder build --corpus PATH --out {tmp_path}" in out


def test_doctor_exits_1_for_an_index_with_a_flipped_byte(run, monkeypatch, tmp_path, index):
    for file in index.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    graph = bytearray((tmp_path / "graph.bn.hnsw").read_bytes())
    graph[len(graph) // 2] ^= 1
    (tmp_path / "graph.bn.hnsw").write_bytes(graph)
    monkeypatch.setenv("MAJLIS_INDEX", str(tmp_path))
    status, out, _ = run("doctor")
    assert status == 1 and "graph.bn.hnsw is damaged" in out


# --- models


def test_models_list_prints_the_registry_one_object_a_line(run, monkeypatch, tmp_path):
    monkeypatch.setenv("MAJLIS_MODELS", str(tmp_path))
    status, out, _ = run("models", "list", "--json")
    rows = {row["name"]: row for row in map(json.loads, out.splitlines())}
    assert status == 0 and rows.keys() == load_settings(environment={}).models.keys()
    assert all(
        row.keys() == {"name", "role", "title", "licence", "languages", "bytes", "fits", "on_disk", "in_use", "repo"}
        for row in rows.values()
    )
    assert rows["majlis-static"]["on_disk"] and rows["majlis-static"]["in_use"]
    assert not rows["llama-3.2-1b"]["on_disk"] and rows["llama-3.2-1b"]["bytes"] == 808_000_000


def test_models_alone_lists_them_with_sizes_licences_and_what_to_do_next(run, monkeypatch, tmp_path):
    monkeypatch.setenv("MAJLIS_MODELS", str(tmp_path))
    _, out, _ = run("models")
    assert "0.81 GB to fetch" in out and "Llama 3.2 Community License" in out and "python -m demo models fetch" in out


def test_models_verify_finds_the_bundled_ones_whole(run, monkeypatch, tmp_path):
    monkeypatch.setenv("MAJLIS_MODELS", str(tmp_path))
    status, out, _ = run("models", "verify")
    assert status == 0 and "majlis-static: whole" in out


@pytest.mark.parametrize("arguments, said", [
    (("fetch",), "Which model? python -m demo models fetch NAME, where NAME is one of multilingual-e5-small"),
    (("fetch", "nonsense"), "No model called 'nonsense' in models.toml"),
    (("fetch", "llama-3.2-1b", "--offline"), "started with --offline, so llama-3.2-1b was not fetched"),
])  # fmt: skip
def test_models_fetch_says_why_it_did_not(run, monkeypatch, tmp_path, arguments, said):
    monkeypatch.setenv("MAJLIS_MODELS", str(tmp_path))
    status, _, complaint = run("models", *arguments)
    assert status == 1 and said in complaint and list(tmp_path.iterdir()) == []


# --- as a program


def test_the_commands_run_as_a_program_and_print_unicode_whatever_the_locale(index):
    environment = {**os.environ, "MAJLIS_INDEX": str(index.folder), "LC_ALL": "C", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "demo", "ask", "पहला सवाल: लू से बचने के लिए क्या पीते हैं?", "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout.decode())["evidence"][0]["entry_id"] == "hi-IN.weather.01"


def test_a_command_that_does_not_exist_is_refused_with_usage():
    done = subprocess.run([sys.executable, "-m", "demo", "sing"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "usage: python -m demo" in done.stderr


def test_doctor_as_json_says_whether_it_can_answer_and_what_it_looked_at(capsys):
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["can_answer"] is True
    assert {check["status"] for check in told["checks"]} == {"ok"}

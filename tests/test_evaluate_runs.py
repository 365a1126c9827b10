"""Runs are kept whole, resumed after a kill, compared, shown on a page, and exchanged with TREC tools."""

import gzip
import json
import lzma
import re

import pytest

from index_builder.evaluate import trec
from index_builder.evaluate.charts import confusion_matrix, heat_map, standalone
from index_builder.evaluate.compare import compare
from index_builder.evaluate.files import json_lines, text_lines
from index_builder.evaluate.measure import Task, finished, measure
from index_builder.evaluate.report import page
from index_builder.evaluate.runs import Run, Table, find_runs, keep, portable, read_rows, read_run, shown
from index_builder.vocabulary import MajlisError

TABLE = Table("shares", ("questions in", "n", "success@1"), [("bn", 1_190, (0.5, 0.25, 0.75)), ("as", 0, None)], "higher is better")


def a_run(title="one", **changed):
    return Run(
        "retrieval",
        title,
        [TABLE],
        **({"command": "python -m x", "time": "2026-01-02T03:04:05Z", "configuration": {"split": "dev"}} | changed),
    )


# keeping


def test_a_kept_run_is_read_back_as_it_was(tmp_path):
    run = a_run(note="said")
    rows = [{"id": "q1", "lang": "bn", "question": "কী?", "scores": {"success@1": 1.0}}, {"id": "q2"}]
    folder = keep(run, rows, tmp_path)
    assert folder == tmp_path / "retrieval" / f"20260102T030405-{run.digest}"
    found = read_run(folder)
    assert (found.title, found.note, found.machine, found.versions) == ("one", "said", run.machine, run.versions)
    assert found.tables[0].as_markdown() == TABLE.as_markdown()
    assert read_rows(folder) == rows and find_runs([tmp_path]) == [folder]


def test_another_configuration_has_another_digest_and_another_time_has_not():
    assert a_run().digest == a_run(time="2027-01-01T00:00:00Z").digest
    assert a_run().digest != a_run(configuration={"split": "test"}).digest


def test_a_table_is_markdown_with_figures_that_can_be_read():
    assert TABLE.as_markdown().splitlines()[-2:] == ["| bn | 1,190 | 0.500 (0.250 to 0.750) |", "| as | 0 |  |"]
    assert [shown(cell) for cell in (0.85714, 12.345, 1234.5, 7, "2 s", None)] == ["0.857", "12.3", "1,234", "7", "2 s", ""]


def test_a_row_that_does_not_fit_its_columns_is_refused(tmp_path):
    with pytest.raises(MajlisError, match="'t' has 2 columns and a row of 1 cells"):
        keep(Run("s", "x", [Table("t", ("a", "b"), [("only",)])]), (), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_could_not_be_finished_leaves_nothing_behind(tmp_path):
    def rows():
        yield {"id": "q1"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(a_run(), rows(), tmp_path)
    assert find_runs([tmp_path]) == [] and list((tmp_path / "retrieval").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "retrieval").write_text("a file where a folder should be")
    with pytest.raises(MajlisError, match="could not be written.*--out"):
        keep(a_run(), (), tmp_path)


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(MajlisError, match="is no kept run"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text('{"suite": "x"}')
    with pytest.raises(MajlisError, match=r"run\.json is no run of this version"):
        read_run(tmp_path)


def test_damaged_rows_are_named(tmp_path):
    folder = keep(a_run(), [{"id": str(n), "text": "x" * 50} for n in range(50)], tmp_path)
    whole = (folder / "rows.jsonl.xz").read_bytes()
    (folder / "rows.jsonl.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MajlisError, match=r"rows\.jsonl\.xz:\d+: the rows of this run are damaged"):
        read_rows(folder)


def test_commands_name_no_folder_of_this_machine(tmp_path):
    assert portable(str(tmp_path / "data")) == "data" and portable("--split") == "--split"


# measuring and resuming


def a_task(asked, stop_after=None, **configuration):
    """Ten rows; `asked` collects which of them were measured."""

    def rows(done):
        for n in range(10):
            if str(n) not in done:
                if stop_after is not None and n >= stop_after:
                    raise KeyboardInterrupt
                asked.append(n)
                yield {"id": str(n), "scores": {"success@1": n / 10}}

    return Task("retrieval", "ten", configuration, rows, lambda found: [Table("t", ("n",), [(len(found),)])])


def test_a_killed_measurement_goes_on_where_it_was(tmp_path):
    asked = []
    with pytest.raises(KeyboardInterrupt):
        measure(a_task(asked, stop_after=4), tmp_path)
    [journal] = (tmp_path / "retrieval").glob(".*.jsonl")
    with journal.open("a") as file:
        file.write('{"id": "4", "sc')  # the kill came in the middle of a line
    assert find_runs([tmp_path]) == []
    run, rows, folder = measure(a_task(asked), tmp_path, resume=True)
    assert asked == list(range(10)) and [row["id"] for row in rows] == [str(n) for n in range(10)]
    assert run.tables[0].rows == [(10,)] and read_rows(folder) == rows and not journal.exists()


def test_without_resume_and_with_another_configuration_everything_is_measured(tmp_path):
    asked = []
    with pytest.raises(KeyboardInterrupt):
        measure(a_task(asked, stop_after=4), tmp_path)
    measure(a_task(asked, split="dev"), tmp_path, resume=True)
    assert len(asked) == 14
    measure(a_task(asked), tmp_path)
    assert len(asked) == 24


def test_what_is_finished_is_found_again(tmp_path):
    _, _, folder = measure(a_task([], split="dev"), tmp_path)
    assert finished(a_task([], split="dev"), tmp_path) == folder
    assert finished(a_task([], split="test"), tmp_path) is None and finished(a_task([]), tmp_path / "nowhere") is None


def test_a_suite_without_a_question_says_so_and_is_closed(tmp_path):
    closed = []
    with pytest.raises(MajlisError, match="retrieval: nothing to measure"):
        measure(Task("retrieval", "none", {}, lambda done: iter(()), lambda rows: [], close=lambda: closed.append(True)), tmp_path)
    assert closed == [True] and find_runs([tmp_path]) == []


# comparing


def rows_of(*scores, name="bn"):
    return [{"id": f"{name}{n}", "set": "paraphrase", "lang": name, "scores": {"success@1": score}} for n, score in enumerate(scores)]


def test_two_runs_are_compared_question_by_question():
    first, second = a_run("A", configuration={"k": {"a": 1, "b": 2}}), a_run("B", configuration={"k": {"a": 1, "b": 3}})
    differences, configurations = compare(first, rows_of(*[0.0] * 12), second, rows_of(*[1.0] * 12, 0.0))
    lines = {line[0]: line[1:] for line in differences.rows}
    assert lines["all: success@1"][:4] == (12, 0.0, 1.0, 1.0) and lines["all: success@1"][4] < 0.01
    assert lines["all: success@1"] == lines["bn: success@1"] == lines["paraphrase: success@1"]
    assert "0 questions are in A alone and 1 in B alone" in differences.note
    assert configurations.rows == [("k.b", "2", "3")]


def test_runs_that_cannot_be_compared_are_refused():
    with pytest.raises(MajlisError, match="share no scored question"):
        compare(a_run(), rows_of(1.0), a_run(), rows_of(1.0, name="tr"))
    with pytest.raises(MajlisError, match="different suites, retrieval and answers"):
        compare(a_run(), rows_of(1.0), Run("answers", "x", ()), rows_of(1.0))


# the page


ROWS = [
    {"id": "q1", "lang": "bn", "evidence_lang": "en", "question": "<b>কী?</b>", "scores": {"success@1": 0.0}, "ranks": [3], "relevant": {"p1": 1},
     "evidence": [{"id": "p9", "lang": "en", "text": "A & B"}], "confidence": 0.7, "right": False, "timings_ms": {"total": 12.0}},
    {"id": "q2", "lang": "ar", "evidence_lang": "ar", "question": "ما؟", "scores": {"success@1": 1.0}, "ranks": [1], "relevant": {"p2": 1}, "guess": "ar",
     "confidence": 0.9, "right": True, "timings_ms": {"total": 30.0}},
]  # fmt: skip


def test_the_page_needs_nothing_but_itself_and_escapes_what_it_shows():
    html = page([(a_run("<i>title</i>"), ROWS)])
    assert not re.search(r"https?:|//|<script|<link|@import|url\(|src=", html)
    assert "<b>কী?" not in html and "&lt;b&gt;কী?&lt;/b&gt;" in html and "A &amp; B" in html and "<i>" not in html
    assert '<p dir="auto" lang="bn">' in html and "prefers-color-scheme: dark" in html and "width=device-width" in html
    for chart in ("against evidence language", "recall over k", "stated confidence", "rows: true, columns: recognised", "whole answer"):
        assert f'aria-label="{chart}' in html or chart in html
    assert "Worst questions, 1 of 1" in html and "found at rank 3" in html


def test_a_run_without_rows_is_a_page_of_tables():
    html = page([(a_run(), ())])
    assert "<svg" not in html and "0.500 (0.250 to 0.750)" in html


def test_a_confusion_matrix_is_a_picture_of_its_own():
    svg = standalone(confusion_matrix({("bn", "bn"): 3, ("bn", "as"): 1, ("hi*", "hi*"): 2}, ("as", "bn", "hi")))
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"') and ">0.75<" in svg and ">0.25<" in svg and ">hi*<" in svg


def test_a_pair_of_languages_that_never_found_anything_is_not_left_blank():
    svg = heat_map("t", ["bn"], ["en", "tr"], {("bn", "en"): 0.0, ("bn", "tr"): 0.001})
    assert svg.count(">0.00<") == 1 and svg.count("<rect") == 2


# TREC


def test_runs_and_qrels_survive_being_written_and_read(tmp_path):
    run, qrels = {"q1": {"p1": 0.5, "p2": 0.25}, "q2": {"p3": -1.0}}, {"q1": {"p1": 2, "p9": 0}, "q2": {"p3": 1}}
    trec.write_run(run, tmp_path / "a.run")
    trec.write_qrels(qrels, tmp_path / "a.qrels")
    assert (tmp_path / "a.run").read_text().splitlines()[0] == "q1 Q0 p1 1 0.500000 majlis"
    assert trec.read_run(tmp_path / "a.run", qrels) == run and trec.read_qrels(tmp_path / "a.qrels") == qrels


def test_a_kept_run_is_exported_for_trec_eval(tmp_path):
    rows = [{"id": "q1", "found": [["p1", 0.5]], "relevant": {"p1": 1}}, {"id": "q2", "scores": {}}]
    trec.export(rows, tmp_path / "out")
    assert trec.read_run(tmp_path / "out/run.trec") == {"q1": {"p1": 0.5}} and trec.read_qrels(tmp_path / "out/qrels.trec") == {
        "q1": {"p1": 1}
    }
    with pytest.raises(MajlisError, match="ranks nothing"):
        trec.export([{"id": "q2"}], tmp_path / "out")


def test_an_id_with_white_space_would_part_a_line_and_is_refused(tmp_path):
    with pytest.raises(MajlisError, match="'p 1' holds white space"):
        trec.write_run({"q1": {"p 1": 1.0}}, tmp_path / "a.run")
    with pytest.raises(MajlisError, match="holds white space"):
        trec.write_qrels({"q\u20281": {"p1": 1}}, tmp_path / "a.qrels")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text, complaint", [
    ("q1 0 p1 1\nq1 0 gone 1\n", r":2: passage 'gone' is judged, but the corpus holds none"),
    ("q1 0 p1 1\nq1 0 p1 0\n", r":2: the pair of query and passage 'q1 p1' was already used at .*:1"),
    ("q1 0 p1 1\nq2 0 p1 0\n", r":2: query 'q2' has no relevant passage"),
    ("q1 0 p1 yes\n", r":1: expected 'query 0 passage grade', found 'q1 0 p1 yes'"), ("q1 p1\n", r":1: expected"), ("\n", r"holds no judgement"),
])  # fmt: skip
def test_bad_qrels_are_named_with_file_and_line(tmp_path, text, complaint):
    (tmp_path / "bad.qrels").write_text(text)
    with pytest.raises(MajlisError, match=rf"bad\.qrels.*{complaint}" if complaint[0] != ":" else rf"bad\.qrels{complaint}"):
        trec.read_qrels(tmp_path / "bad.qrels", known={"p1"})


@pytest.mark.parametrize("text, complaint", [
    ("q1 Q0 p1 1 nan t\n", r":1: the score is nan, expected a finite number"), ("q1 Q0 p1 1 inf t\n", r":1: the score is inf"),
    ("q1 Q0 p1 1 1.0 t\nq1 Q0 p1 2 0.5 t\n", r":2: the pair of query and passage 'q1 p1' was already used"),
    ("q9 Q0 p1 1 1.0 t\n", r":1: query 'q9' is not in the qrels"), ("q1 Q0 p1 1\n", r":1: expected 'query Q0"), ("", r" is empty: no query found anything"),
])  # fmt: skip
def test_a_bad_run_is_named_with_file_and_line(tmp_path, text, complaint):
    (tmp_path / "bad.run").write_text(text)
    with pytest.raises(MajlisError, match=rf"bad\.run{complaint}"):
        trec.read_run(tmp_path / "bad.run", {"q1"})


def test_the_table_of_beir_is_read_too(tmp_path):
    (tmp_path / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tp1\t1\n")
    assert trec.read_qrels(tmp_path / "test.tsv") == {"q1": {"p1": 1}}


# files


@pytest.mark.parametrize("name, opener", [("a.txt", open), ("a.txt.gz", gzip.open), ("a.txt.xz", lzma.open)])
def test_files_are_read_plain_and_packed_and_without_their_byte_order_mark(tmp_path, name, opener):
    with opener(tmp_path / name, "wb") as file:
        file.write("\ufeffএক\r\nদুই\u2028তিন\n".encode())
    assert [line for _, line in text_lines(tmp_path / name)] == ["এক", "দুই\u2028তিন"]


@pytest.mark.parametrize("raw, complaint", [
    (b'{"a": 1}\n\nnot json\n', r"rows\.jsonl:3: not valid JSON"), (b"[1]\n", r"rows\.jsonl:1: expected a JSON object, found list"),
    (b'{"a": 1}\n{"b": "caf\xe9"}\n', r"rows\.jsonl:2 is not UTF-8 \(byte 0xe9\)"),
])  # fmt: skip
def test_a_bad_line_is_named(tmp_path, raw, complaint):
    (tmp_path / "rows.jsonl").write_bytes(raw)
    with pytest.raises(MajlisError, match=complaint):
        list(json_lines(tmp_path / "rows.jsonl"))


def test_a_truncated_download_is_named(tmp_path):
    packed = gzip.compress(json.dumps({"a": 1}).encode() * 5_000)
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(MajlisError, match=r"cut\.jsonl\.gz cannot be read after line 0 .*Download it again"):
        list(text_lines(tmp_path / "cut.jsonl.gz"))

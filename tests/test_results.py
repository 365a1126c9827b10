"""docs/results.md says what the kept runs say, and nothing else."""

import json
from pathlib import Path

import pytest

from index_builder.__main__ import main as builder
from index_builder.evaluate.results import newest, overview, results_page, superseded
from index_builder.evaluate.runs import Run, Table, find_runs, keep, read_run
from index_builder.vocabulary import LANGUAGES, MajlisError

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "docs" / "runs"


def test_the_results_page_is_that_of_its_runs():
    """When this fails: python -m index_builder evaluate results docs/runs --out docs/results.md --prune"""
    assert (ROOT / "docs/results.md").read_text(encoding="utf-8") == results_page([RUNS])


def test_no_kept_run_is_replaced_by_a_newer_one():
    assert superseded(find_runs([RUNS])) == []


@pytest.mark.parametrize("folder", find_runs([RUNS]), ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_kept_runs_can_be_measured_again_by_anybody(folder):
    run = read_run(folder)
    assert run.command.startswith("python -m ") and run.machine and run.versions and run.tables
    assert "/tmp/" not in json.dumps([run.command, dict(run.configuration)]) and folder.name.endswith(run.digest)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000


# the page of runs made here


def a_run(suite, title, time="2026-01-01T00:00:00Z", split="test", **configuration):
    return Run(
        suite, title, [Table("t", ("a", "b"), [("x", 1)])], "said", configuration | {"split": split}, "python -m x", {}, "a machine", time
    )


def own(lang, **scores):
    return {"id": lang, "set": "paraphrase", "lang": lang, "evidence_lang": lang, "scores": scores}


def test_the_first_table_says_per_language_what_a_user_wants_to_know():
    other = {"id": "o", "set": "cross_lingual", "lang": "bn", "evidence_lang": "en", "scores": {"success@1": 0.0, "right": 0.0}}
    runs = [
        (a_run("retrieval", "Retrieval, test"), [own("bn", **{"success@1": 1.0}), other]),
        (a_run("retrieval", "Retrieval, dev", split="dev"), [own("bn", **{"success@1": 0.0})]),
        (a_run("answers", "Answers", engine={"generator": "none"}), [own("bn", right=1.0, **{"line pass": 0.5}), other]),
        (a_run("refusal", "Refusal"), [
            {"id": "1", "set": "unanswerable", "lang": "bn", "answerable": False, "refused": True},
            {"id": "2", "set": "temporal", "lang": "bn", "answerable": True, "refused": False},
            {"id": "3", "set": "free", "lang": "bn", "answerable": False, "refused": False}]),
        (a_run("latency", "Latency"), [{"id": "1", "lang": "bn", "timings_ms": {"total": 1_500.0}}, {"id": "2", "lang": "tr", "timings_ms": {"total": 8.2}}]),
    ]  # fmt: skip
    lines = overview(runs)
    assert lines[0] == (
        "| | right evidence first | answer right | answer in the language asked | refused what it nearly knows | refused what it cannot know, asked freely | wrongly refused | median time to an answer |"
    )
    bangla = next(line for line in lines if line.startswith("| বাংলা"))
    assert (
        bangla
        == "| বাংলা | 1.000 (1.000 to 1.000) | 1.000 (1.000 to 1.000) | 0.500 | 1.000 (0.206 to 1.000) | 0.000 (0.000 to 0.793) | 0.000 (0.000 to 0.793) | 1.5 s |"
    )
    assert len(lines) == 2 + len(LANGUAGES) + 2 and "| 8 ms |" in next(line for line in lines if "Türkçe" in line)
    assert "quoted from the evidence" in lines[-1] and "Measured on a machine." in lines[-1]


def test_answers_of_a_language_model_are_summed_up_before_quotes():
    runs = [
        (a_run("answers", "quoted", engine={"generator": "none"}), [own("bn", right=0.0)]),
        (a_run("answers", "written", engine={"generator": "nano"}), [own("bn", right=1.0)]),
    ]
    assert "| বাংলা | 1.000 (1.000 to 1.000) |" in "\n".join(overview(runs)) and "Answers by nano." in overview(runs)[-1]


def test_suites_stand_in_a_fixed_order_and_only_the_newest_run_of_a_title(tmp_path):
    for run in (
        a_run("zebra", "Zebra"), a_run("benchmarks", "Speed"), a_run("retrieval", "Retrieval, dev", split="dev"), a_run("retrieval", "Retrieval, test"),
        a_run("encoder", "Encoder", "2026-01-01T00:00:00Z", old=True), a_run("encoder", "Encoder", "2026-02-01T00:00:00Z"),
    ):  # fmt: skip
        keep(run, (), tmp_path)
    titles = [run.title for run, _ in newest(find_runs([tmp_path]))]
    assert titles == ["Retrieval, test", "Retrieval, dev", "Encoder", "Speed", "Zebra"]
    page = results_page([tmp_path])
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == titles
    assert "    python -m x\n\n2026-02-01, a machine; kept in" in page and "| x | 1 |" in page and "said" in page
    [old] = superseded(find_runs([tmp_path]))
    assert old.name.startswith("20260101") and old.parent.name == "encoder"


def test_the_command_writes_the_page_and_prunes(tmp_path, capsys):
    keep(a_run("encoder", "Encoder", "2026-01-01T00:00:00Z"), (), tmp_path / "runs")
    keep(a_run("encoder", "Encoder", "2026-02-01T00:00:00Z"), (), tmp_path / "runs")
    assert builder(["evaluate", "results", str(tmp_path / "runs"), "--out", str(tmp_path / "results.md"), "--prune"]) == 0
    assert [folder.name[:8] for folder in find_runs([tmp_path / "runs"])] == ["20260201"]
    assert (tmp_path / "results.md").read_text(encoding="utf-8").startswith("# Results\n")


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(MajlisError, match="No kept run in .*evaluate all --out"):
        results_page([tmp_path])

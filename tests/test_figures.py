"""The seven-language figures hold for what is loaded, or are not shown."""

from dataclasses import replace
from typing import Any

import pytest

from demo.figures import COMMAND, MEASURED, MISSING, OTHER, Figure, Figures, Loaded, as_table, figures, read_figures
from index_builder.evaluate.runs import Row, Run, keep
from index_builder.vocabulary import LANGUAGES, MajlisError

INDEX = {
    "folder": "assets/index",
    "entries": 9,
    "files": {"graph.bn.hnsw": "aa"},
    "encoder": {"name": "static", "fingerprint": "ff", "prefixes": ["", ""]},
}
ENGINE = {"index": INDEX, "generator": "none", "detector": "langid", "relevance": "fit 1"}
LOADED = Loaded(ENGINE, "verbatim")
CONFIGURATION: dict[str, dict[str, Any]] = {
    "retrieval": {"split": "test", "index": INDEX, "native": True},
    "refusal": {"split": "test", "engine": ENGINE},
    "answers": {"split": "test", "engine": ENGINE, "mode": "verbatim", "protocol": "honest", "sample": 0},
    "latency": {"split": "test", "engine": ENGINE, "mode": "verbatim", "sample": 0},
}


def run(suite: str, time: str = "2026-11-21T10:00:00Z", **changed: Any) -> Run:
    return Run(suite, suite, (), configuration=CONFIGURATION[suite] | changed, versions={}, machine="two cores", command="c", time=time)


def asked(lang: str, name: str = "paraphrase", evidence: str = "", **scores: float) -> Row:
    return {"id": f"{name}/{lang}", "set": name, "lang": lang, "evidence_lang": evidence or lang, "scores": scores}


ROWS: dict[str, list[Row]] = {
    "retrieval": [
        asked("bn", **{"success@1": 1.0}),
        asked("bn", "temporal", **{"success@1": 0.0}),
        asked("bn", evidence="en", **{"success@1": 0.0}),  # a question in another language than its evidence is another question
        asked("bn", "romanised", **{"success@1": 0.0}),
    ],
    "answers": [asked("bn", right=1.0, **{"line pass": 1.0}), asked("bn", "temporal", right=0.0)],  # no line long enough to tell
    "refusal": [
        {"set": name, "lang": "bn", "answerable": yes, "refused": said}
        for name, yes, said in (("unanswerable", False, True), ("unanswerable", False, False), ("temporal", True, False), ("free", False, False))
    ],
    "latency": [{"lang": "bn", "timings_ms": {"total": ms}} for ms in (10.0, 30.0, 500.0)],
}


def found(*runs: Run, loaded: Loaded = LOADED, rows: dict[str, list[Row]] = ROWS) -> Figures:
    return figures(loaded, [(one, lambda suite=one.suite: rows[suite]) for one in runs])


def status(table: Figures) -> dict[str, str]:
    return {column.key: column.status for column in table.columns}


def value(table: Figures, key: str, lang: str = "bn") -> Figure:
    return next(column for column in table.columns if column.key == key).cells[lang]


def test_every_column_comes_from_the_run_of_its_suite():
    table = found(*map(run, CONFIGURATION))
    assert set(status(table).values()) == {MEASURED}
    assert (value(table, "found").value, value(table, "found").questions) == (0.5, 2)
    assert (value(table, "right").value, value(table, "right").questions) == (0.5, 2)
    assert (value(table, "in_language").value, value(table, "in_language").questions) == (1.0, 1)
    assert (value(table, "refused").value, value(table, "refused").questions) == (0.5, 2)
    assert (value(table, "wrongly_refused").value, value(table, "wrongly_refused").questions) == (0.0, 1)
    assert value(table, "time") == Figure(0.03, None, None, 3)
    assert table.measured_on == (("two cores", "2026-11-21"),)


def test_a_language_without_questions_has_no_figure():
    table = found(run("retrieval"))
    assert [column.cells.keys() for column in table.of_status(MEASURED)] == [{"bn"}]


def test_shares_carry_the_interval_in_which_they_lie():
    figure = value(found(run("refusal")), "refused")
    assert figure.low is not None and figure.high is not None and 0 <= figure.low < figure.value < figure.high <= 1


def test_without_runs_nothing_is_measured_and_no_figure_is_made_up():
    table = found()
    assert set(status(table).values()) == {MISSING} and table.measured_on == ()
    assert all(not column.cells for column in table.columns)


@pytest.mark.parametrize(
    "changed",
    [
        {"files": {"graph.bn.hnsw": "bb"}},
        {"encoder": INDEX["encoder"] | {"fingerprint": "00"}},
        {"encoder": INDEX["encoder"] | {"prefixes": ["query: ", ""]}},
    ],
)
def test_figures_of_another_index_or_encoder_are_not_shown(changed):
    other = INDEX | changed
    table = found(run("retrieval", index=other), run("refusal", engine=ENGINE | {"index": other}))
    assert status(table) | {"right": "", "in_language": "", "time": ""} == {
        "found": OTHER, "refused": OTHER, "wrongly_refused": OTHER, "right": "", "in_language": "", "time": "",
    }  # fmt: skip
    assert status(table)["right"] == MISSING


def test_the_same_index_and_encoder_are_the_same_in_another_folder_and_by_another_name():
    """A suite opens the encoder by its folder and the app by its name in models.toml."""
    renamed = INDEX | {"folder": "elsewhere", "encoder": INDEX["encoder"] | {"name": "encoder"}}
    assert status(found(run("retrieval", index=renamed)))["found"] == MEASURED


def test_another_language_model_leaves_retrieval_and_refusals_as_they_are():
    nano = replace(LOADED, engine=ENGINE | {"generator": "nano"})
    assert status(found(*map(run, CONFIGURATION), loaded=nano)) == {
        "found": MEASURED, "right": OTHER, "in_language": OTHER, "refused": MEASURED, "wrongly_refused": MEASURED, "time": OTHER,
    }  # fmt: skip


def test_another_mode_of_the_same_model_is_another_measurement():
    assert status(found(run("answers"), loaded=replace(LOADED, mode="generate")))["right"] == OTHER


def test_another_judge_of_relevance_makes_other_answers_but_finds_the_same_evidence():
    judged = replace(LOADED, engine=ENGINE | {"relevance": "fit 2"})
    table = status(found(*map(run, CONFIGURATION), loaded=judged))
    assert (table["found"], table["right"], table["refused"]) == (MEASURED, OTHER, OTHER)


@pytest.mark.parametrize("changed", [{"split": "dev"}, {"folder": "scifact"}, {"answers": {"a.jsonl": "00"}}, {"protocol": "paper"}])
def test_runs_that_do_not_ask_the_app_its_test_questions_do_not_count(changed):
    assert set(status(found(run("answers", **changed))).values()) == {MISSING}


def test_of_several_fitting_runs_the_newest_counts_whatever_their_order():
    old, new = run("latency", "2026-11-20T10:00:00Z"), run("latency", "2026-11-21T10:00:00Z")
    table = figures(LOADED, [(new, lambda: ROWS["latency"]), (old, lambda: [{"lang": "bn", "timings_ms": {"total": 9_000.0}}])])
    assert value(table, "time").value == 0.03 and table.measured_on == (("two cores", "2026-11-21"),)


def test_rows_are_read_only_of_runs_that_are_shown():
    def never():
        raise AssertionError("rows of a run that does not fit were read")

    figures(LOADED, [(run("latency", mode="generate"), never)])


def test_kept_runs_are_found_in_their_folders(tmp_path):
    keep(run("refusal"), ROWS["refusal"], tmp_path / "shipped")
    keep(run("latency"), ROWS["latency"], tmp_path / "own")
    table = read_figures(LOADED, (tmp_path / "shipped", tmp_path / "own", tmp_path / "not there"))
    assert {column.key for column in table.of_status(MEASURED)} == {"refused", "wrongly_refused", "time"}


def test_a_damaged_run_is_named(tmp_path):
    folder = keep(run("refusal"), ROWS["refusal"], tmp_path)
    (folder / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(MajlisError, match=r"run\.json is no run"):
        read_figures(LOADED, (tmp_path,))


def test_what_an_engine_is_loaded_with_is_described_as_the_suites_describe_it(index):
    """Kept runs are JSON: what was written must equal what is loaded after it was read back."""
    import json

    from demo.detect import Detector
    from demo.engine import Engine
    from index_builder.evaluate.suites.opening import described_engine
    from index_builder.relevance import UNCALIBRATED

    engine = Engine(Detector.open(), index, UNCALIBRATED)
    written = json.loads(json.dumps(described_engine(engine)))
    assert status(found(run("answers", engine=written), loaded=Loaded.of(engine)))["right"] == MEASURED


def test_the_command_line_says_what_is_measured_and_how_to_measure_the_rest():
    table = as_table(found(run("latency"), run("answers", mode="generate")))
    assert table.columns == ("language", "time") and list(table.rows) == [("bn", "0.03 s")]
    assert "right, in_language: measured only with another index or model." in table.note
    assert COMMAND in table.note and "found, refused, wrongly_refused: not measured yet" in table.note
    assert set(LANGUAGES) >= {row[0] for row in table.rows}

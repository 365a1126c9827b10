"""The machinery of the benchmarks on tiny sizes. What they measure is not asserted: a machine is as fast as it is."""

import math
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import __main__ as command
from benchmarks import generator, hnsw, index_build
from benchmarks.growth import chart, power_law
from benchmarks.measure import COLUMNS, Options, line, quantile_lines
from index_builder.evaluate.runs import find_runs, read_run
from index_builder.vocabulary import MajlisError
from tests.conftest import brute_force, small_corpus
from tests.tiny_gguf import tiny_llama, write_gguf

SIZES = (200, 400)


@pytest.fixture(scope="module")
def found() -> list[hnsw.Measured]:
    return [one for size in SIZES for one in hnsw.measure(size, runs=1, dimension=16, count=20)]


# growth


@given(st.floats(-1, 3), st.floats(1e-6, 1e6))
def test_a_power_law_is_found_again_whatever_its_exponent(exponent, factor):
    found_exponent, found_factor = power_law([(n, factor * n**exponent) for n in (10, 100, 1_000)])
    assert found_exponent == pytest.approx(exponent, abs=1e-6) and found_factor == pytest.approx(factor, rel=1e-4)


def test_a_line_needs_two_sizes():
    with pytest.raises(ValueError, match="two sizes"):
        power_law([(10, 1.0), (10, 2.0)])


def test_the_chart_draws_every_point_and_names_every_exponent_and_is_a_picture_of_its_own():
    series = {"linear": [(10, 1.0), (100, 10.0)], "a <quick> one": [(10, 1.0), (100, 1.0)]}
    svg = chart("Cost & size", {"time, s": series, "one point": {"linear": [(10, 5.0)]}}, "vectors")
    root = ElementTree.fromstring(svg)  # well formed, so nothing was left unescaped
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["linear: 10, 1", "linear: 100, 10", "a <quick> one: 10, 1", "a <quick> one: 100, 1", "linear: 10, 5"]
    assert "n^1.00" in svg and "n^0.00" in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


# HNSW


def test_numpy_brute_force_finds_what_the_oracle_of_the_index_finds():
    vectors, queries = hnsw.clustered(300, 16, 10)
    for query in queries:
        assert list(hnsw.nearest(vectors, query, 10)) == [row for row, _ in brute_force(vectors, query, 10)]


def test_vectors_have_unit_length_and_are_the_same_at_every_call():
    vectors, queries = hnsw.clustered(300, 16, 10)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5) and np.allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    again, _ = hnsw.clustered(300, 16, 10)
    assert np.array_equal(vectors, again)


class Needs:
    """A library that finds everything from one ef on, and nothing below."""

    name = "needs"

    def __init__(self, least: int):
        self._least, self._ef = least, 0

    def aim(self, ef: int) -> None:
        self._ef = ef

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        return np.arange(k) if self._ef >= self._least else np.arange(k) + 1_000


@given(st.integers(1, hnsw.MOST_EF))
def test_the_smallest_ef_that_reaches_the_recall_is_found(least):
    queries = np.zeros((2, 4), dtype=np.float32)
    assert hnsw.least_ef(Needs(least), queries, [set(range(hnsw.K))] * 2) == (max(hnsw.K, least), 1.0)


def test_a_library_that_never_reaches_the_recall_is_reported_with_what_it_reached():
    queries = np.zeros((1, 4), dtype=np.float32)
    assert hnsw.least_ef(Needs(hnsw.MOST_EF + 1), queries, [set(range(hnsw.K))]) == (hnsw.MOST_EF, 0.0)


def test_every_library_is_brought_to_the_same_recall_and_measured_at_every_size(found):
    ways = [hnsw.BRUTE, "hnswlib", "FAISS", "usearch", f"hnswlib, ef {hnsw.APP_EF} as in the app"]
    assert [(one.size, one.way) for one in found] == [(size, way) for size in SIZES for way in ways]
    assert all(one.recall >= hnsw.RECALL for one in found)
    assert all(one.search_ms > 0 for one in found)
    assert all(one.file > one.size * 16 * 4 for one in found if one.ef)  # a graph holds its vectors and its links


def test_growth_is_told_for_every_cost_and_way(found):
    rows = {row[0]: row[1] for row in hnsw.growth(found).rows}
    assert {f"search: {way}" for way in (hnsw.BRUTE, "hnswlib", "FAISS", "usearch")} <= rows.keys()
    assert rows["file: hnswlib"] == pytest.approx(1, abs=0.3)  # a file twice as long for twice the vectors


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MajlisError, match=r"faiss-cpu is not installed.*tests/requirements.txt"):
        hnsw.Faiss()


def test_more_vectors_than_memory_holds_are_refused_before_anything_is_built():
    with pytest.raises(MajlisError, match="need about .* GB of memory"):
        hnsw.measure(10**9, runs=1)


# the other parts, and the command


def test_an_index_build_is_measured_for_a_quarter_a_half_and_all_of_a_corpus():
    table = index_build.measured(small_corpus(), runs=1)
    assert [row[0] for row in table.rows] == ["3 entries", "5 entries", "9 entries"]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert "Time grows as n^" in table.note


def test_a_line_holds_the_median_and_the_extremes_of_its_runs():
    assert dict(zip(COLUMNS, line("start", "s", [3.0, 1.0, 2.5]), strict=True)) == {
        "measured": "start", "unit": "s", "median": 2.5, "lowest": 1.0, "highest": 3.0, "runs": 3,
    }  # fmt: skip
    p50, p99 = quantile_lines("one call", [[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])
    assert p50[:4] == ("one call, p50", "ms", 2.5, 2.0) and math.isclose(p99[4], 3.98)


@pytest.mark.parametrize("name", command.PARTS)
def test_every_part_says_what_it_measures(name):
    part = command.part_module(name)
    assert part.TITLE and part.NOTE and callable(part.tables) and part.__doc__


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_gguf(tiny_llama(context=1024), tmp_path_factory.mktemp("model") / "tiny.gguf")


def test_a_language_model_is_measured_beside_a_bare_loop_that_reads_the_same_prompts(tiny, monkeypatch):
    monkeypatch.setattr(generator, "ANSWER_TOKENS", 20)
    monkeypatch.setattr(generator, "LANGUAGES", ("bn", "en"))
    speed, words = generator.tables(Options(runs=1, model=str(tiny)))
    figures = {row[0]: row[2] for row in speed.rows}
    assert figures["app against bare"] == pytest.approx(figures["app"] / figures["bare llama_cpp"], rel=1e-3)
    assert all(value > 0 for value in figures.values())
    assert [row[0] for row in words.rows] == ["bn", "en"]
    assert all(read < of < 1024 for _, _, _, of, read, *_ in words.rows)  # the instructions were in the cache


def test_prompts_that_differ_are_not_compared(tiny):
    class Other:
        prompt = staticmethod(lambda messages: [1, 2, 3])

    opened = generator._opened(generator.load_settings(model=str(tiny)))
    try:
        with pytest.raises(MajlisError, match="their prompts differ"):
            generator._rates(opened, Other(), [generator.Asked("en", [{"role": "user", "content": "tea?"}])])
    finally:
        opened.close()


def test_a_part_without_its_model_is_left_out_unless_it_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "PARTS", ("generator",))
    assert command.main(["--model", "none", "--out", str(tmp_path)]) == 0
    assert "left out generator: no language model is chosen" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert command.main(["--only", "generator", "--model", "none", "--out", str(tmp_path)]) == 1
    assert (
        "error: generator: no language model is chosen in models.toml: name one, or a .gguf file, with --model." in capsys.readouterr().err
    )


def test_the_command_prints_its_tables_keeps_one_run_a_part_and_draws_the_chart(tmp_path, capsys, monkeypatch):
    measure = hnsw.measure
    monkeypatch.setattr(hnsw, "measure", lambda size, runs: measure(size, runs, dimension=16, count=20))
    arguments = ["--only", "hnsw", "--sizes", "200,100", "--runs", "1", "--out", str(tmp_path / "runs"), "--chart", str(tmp_path / "c.svg")]
    assert command.main(arguments) == 0
    assert "| 100: hnswlib |" in capsys.readouterr().out
    [folder] = find_runs([tmp_path / "runs"])
    run = read_run(folder)
    assert run.suite == "benchmarks" and run.configuration == {"part": "hnsw", "runs": 1, "sizes": [100, 200]} and run.machine
    assert ElementTree.parse(tmp_path / "c.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize("text, problem", [("", "expected numbers"), ("ten", "expected numbers"), ("5", "fewer than 100")])
def test_sizes_that_mean_nothing_are_refused(text, problem, capsys):
    assert command.main(["--only", "hnsw", "--sizes", text]) == 1
    assert problem in capsys.readouterr().err


def test_sizes_are_ascending_and_large_adds_a_million():
    assert command.sizes("400,100,100") == (100, 400)
    assert command.sizes("100", large=True) == (100, command.LARGE)
    assert Options().sizes == command.sizes(command._parser().get_default("sizes"))

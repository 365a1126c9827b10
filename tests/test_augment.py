"""Generated queries in an index: what each variant does to vectors, who is found by them, and which queries are left out."""

import json
from dataclasses import replace
from html import escape

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import augment as benchmark
from demo.events import Retrieved
from demo.languages import endonym, strings
from demo.page import render
from demo.page.turn import Turn
from demo.retrieve import retrieve
from index_builder import filter_queries, store
from index_builder.__main__ import main as builder
from index_builder.augment import DENSE, Augmentation, augmented
from index_builder.filter_queries import QueryFilter, filtered
from index_builder.queries import Header, corpus_digest, write_queries
from index_builder.read import row_of
from index_builder.relevance import UNCALIBRATED
from index_builder.search import Index, Reader
from index_builder.store import BuildSettings, IndexFolderError, build_index
from index_builder.vocabulary import LANGUAGES, GeneratedQuery, MajlisError
from tests.conftest import small_corpus

BIHU = "as-IN.events.01"
HINDI = "असम में भोगाली बिहू कब मनाते हैं?"
TURKISH = "Bhogali Bihu hangi ayda kutlanır?"


def query(lang, text):
    return GeneratedQuery(lang, text, 0.5, "hand")


def corpus():
    """The small corpus, in which an Assamese pair also has a Hindi and a Turkish query."""
    queries = (query("hi", HINDI), query("tr", TURKISH))
    return [replace(entry, queries=queries) if entry.entry_id == BIHU else entry for entry in small_corpus()]


def built(encoder, folder, augment, entries=None):
    build_index(entries or corpus(), encoder, folder, BuildSettings(augment=Augmentation.parse(augment)), say=lambda _: None)
    return Index(folder, encoder)


@pytest.fixture(scope="module")
def asked_in_hindi(encoder, tmp_path_factory):
    index = built(encoder, tmp_path_factory.mktemp("hindi") / "index", "max+lexical")
    return retrieve(index, HINDI, "hi", UNCALIBRATED)


def dense_of(index, question, entry_id, lang):
    hits = index.search(question, len(index), reader=Reader(lang))
    return next(hit.dense for hit in hits if hit.entry.entry_id == entry_id)


# The setting


@given(st.sampled_from(DENSE), st.floats(0.001, 1), st.booleans())
def test_a_setting_reads_as_it_is_written(dense, weight, lexical):
    weight = float(f"{weight:g}") if dense in ("sum", "mean", "language") else 0.0
    chosen = Augmentation(dense, weight, lexical)
    assert Augmentation.parse(str(chosen)) == chosen


def test_settings_have_short_forms_and_the_weight_of_the_paper():
    assert Augmentation.parse("sum") == Augmentation("sum", 0.01)
    assert Augmentation.parse("lexical") == Augmentation("none", 0.0, True) and str(Augmentation.parse("lexical")) == "lexical"
    assert str(Augmentation.parse("mean=0.3+lexical")) == "mean=0.3+lexical"
    # 35 queries of weight .01 beside .99 of the passage: the paper's sum is this mean
    assert Augmentation.parse("mean").weight == pytest.approx(0.35 / (0.35 + 0.99), abs=0.005)


@pytest.mark.parametrize("text", ["", "summe", "sum=", "sum=0", "sum=1.5", "sum=x", "max=0.3", "lexical=1", "max+max", "max+lexical+lexical", "lexical+max",
                                  "none=", "sum=nan"])  # fmt: skip
def test_any_other_setting_is_refused_with_what_is_expected(text):
    with pytest.raises(MajlisError, match="The augmentation is .*, expected one of none, sum, mean, language, max or lexical"):
        Augmentation.parse(text)


# The vectors


def by_hand(own, queries, owner, chosen):
    rows = []
    for number, vector in enumerate(own):
        mine = queries[owner == number]
        if len(mine):
            vector = (1 - chosen.weight) * vector + chosen.weight * (mine.sum(0) if chosen.dense == "sum" else mine.mean(0))
        rows.append(vector / np.linalg.norm(vector))
    return np.array(rows)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=8),
    st.sampled_from(["sum", "mean", "language"]),
    st.floats(0.01, 0.99),
    st.integers(0, 99),
)
def test_vectors_are_the_formula_of_each_variant(counts, dense, weight, seed):
    random = np.random.default_rng(seed)

    def unit(rows):
        vectors = random.standard_normal((rows, 6)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    own, queries, owner = unit(len(counts)), unit(sum(counts)), np.repeat(np.arange(len(counts)), counts)
    chosen = Augmentation(dense, weight)
    found = augmented(own, queries, owner, chosen)
    assert found.dtype == np.float32 and found == pytest.approx(by_hand(own, queries, owner, chosen), abs=1e-5)


def test_the_sum_grows_with_the_number_of_queries_and_the_mean_does_not():
    own, one = np.array([[1, 0]], dtype=np.float32), np.array([[0, 1]], dtype=np.float32)
    few, many = (np.repeat(one, number, axis=0) for number in (1, 28))
    paper, mean = Augmentation("sum", 0.01), Augmentation("mean", 0.3)
    assert augmented(own, many, np.zeros(28, int), paper)[0, 1] > 10 * augmented(own, few, np.zeros(1, int), paper)[0, 1]
    assert augmented(own, many, np.zeros(28, int), mean) == pytest.approx(augmented(own, few, np.zeros(1, int), mean))


@pytest.mark.parametrize("augment", ["sum=0.1", "mean", "language", "max+lexical"])
def test_an_index_is_the_same_however_many_entries_are_encoded_at_a_time(encoder, tmp_path, monkeypatch, augment):
    whole = built(encoder, tmp_path / "whole", augment).manifest
    monkeypatch.setattr(store, "_CHUNK", 2)
    pieces = built(encoder, tmp_path / "pieces", augment).manifest
    assert pieces["files"] == whole["files"] and pieces["settings"]["augment"] == str(Augmentation.parse(augment))


def test_memory_does_not_grow_with_the_number_of_vectors():
    few, many = (benchmark.stream(size, Augmentation.parse("sum"))[2] for size in (4 * benchmark.CHUNK, 80 * benchmark.CHUNK))
    whole = 80 * benchmark.CHUNK * benchmark.DIMENSION * 4  # of what is written alone
    assert many < few + whole / 4
    rows = benchmark.measured((700,), runs=1).rows
    assert [row[:2] for row in rows] == [(f"700 entries, {variant}", 5_600) for variant in benchmark.VARIANTS]


# Who is found by them


@pytest.mark.parametrize("augment", ["sum=0.2", "mean", "language", "max", "max+lexical"])
def test_an_entry_comes_nearer_to_a_question_like_its_query(encoder, tmp_path, augment):
    before = dense_of(built(encoder, tmp_path / "none", "none"), HINDI, BIHU, "hi")
    assert dense_of(built(encoder, tmp_path / "with", augment), HINDI, BIHU, "hi") > before + 0.01


@pytest.mark.parametrize("lang", ["hi", ""])
def test_a_question_finds_an_entry_in_another_language_by_the_query_in_its_own(encoder, tmp_path, lang):
    first = built(encoder, tmp_path / "index", "max").search(HINDI, reader=Reader(lang))[0]
    assert first.entry.entry_id == BIHU and first.dense > 0.999
    assert (first.matched_by, first.matched_query, first.matched_query_lang) == ("query", HINDI, "hi")


@pytest.mark.parametrize("page_lang", LANGUAGES)
def test_the_card_says_which_query_matched_and_in_which_language(asked_in_hindi, page_lang):
    html = render.evidence_panel([Turn(HINDI, page_lang, retrieved=Retrieved(asked_in_hindi.evidence, 0.9, False))], page_lang)
    words = strings(page_lang)
    assert f'<q dir="auto" lang="hi">{HINDI}</q>' in html
    assert escape(f"{words['matched_by']}: {words['matched_query'].format(language=endonym('hi'))}") in html


def test_the_sum_of_one_language_is_met_by_questions_in_that_language_alone(encoder, tmp_path):
    index, plain = built(encoder, tmp_path / "index", "language"), built(encoder, tmp_path / "none", "none")
    assert dense_of(index, HINDI, BIHU, "bn") == dense_of(plain, HINDI, BIHU, "bn") < dense_of(index, HINDI, BIHU, "hi")
    assert index.manifest["views_by_question_language"] == {"bn": 1, "hi": 1, "tr": 1}


def test_the_words_of_queries_find_an_entry_only_when_they_are_indexed(encoder, tmp_path):
    lexical = {name: built(encoder, tmp_path / name, name).search("kutlanır", 20) for name in ("max", "lexical")}
    found = {name: [hit.entry.entry_id for hit in hits if hit.lexical > 0] for name, hits in lexical.items()}
    assert found == {"max": [], "lexical": [BIHU]}


def test_the_languages_and_places_that_are_asked_for_are_those_of_the_entry(encoder, tmp_path):
    index = built(encoder, tmp_path / "index", "max+lexical")
    assert BIHU in [hit.entry.entry_id for hit in index.search(HINDI, 9, langs=["as"], reader=Reader("hi"))]
    assert BIHU not in [hit.entry.entry_id for hit in index.search(HINDI, 9, langs=["hi"], reader=Reader("hi"))]
    assert BIHU not in [hit.entry.entry_id for hit in index.search(HINDI, 9, locales=["bn-BD"], reader=Reader("hi"))]


def test_nothing_of_the_queries_is_in_an_index_without_augmentation(encoder, tmp_path):
    with_queries, without = (
        built(encoder, tmp_path / "a", "none"),
        built(encoder, tmp_path / "b", "none", [replace(e, queries=()) for e in corpus()]),
    )
    graphs = [name for name in without.manifest["files"] if name.endswith(".hnsw")]
    assert all(with_queries.manifest["files"][name] == without.manifest["files"][name] for name in graphs)
    assert with_queries.manifest["views_by_question_language"] == {}


# Which queries are left out


@pytest.mark.parametrize("text, chosen", [
    ("round-trip=10,percentile=30", QueryFilter(10, 30.0)), ("percentile=12.5", QueryFilter(0, 12.5)), ("round-trip=1", QueryFilter(1, 0.0)),
])  # fmt: skip
def test_a_filter_reads_as_it_is_written(text, chosen):
    assert QueryFilter.parse(text) == chosen and QueryFilter.parse(str(chosen)) == chosen


@pytest.mark.parametrize(
    "text", ["", "10", "round-trip=ten", "round-trip=-1", "percentile=100", "percentile=-1", "nearest=3", "percentile=nan"]
)
def test_any_other_filter_is_refused_with_what_is_expected(text):
    with pytest.raises(MajlisError, match="expected round-trip=10,percentile=30"):
        QueryFilter.parse(text)


def asked_corpus():
    """Every entry asks its own question; one also asks what has nothing to do with it."""
    lost = query("en", "What do men in Qatar wear on the head?")
    entries = []
    for entry in small_corpus():
        good = query(entry.lang, entry.question or entry.text)
        entries.append(replace(entry, queries=(good, lost) if entry.entry_id == "gulf.travel.en" else (good,)))
    return entries


def passing(entries, encoder, work, chosen, resume=False):
    with filtered(lambda: entries, encoder, BuildSettings(), chosen, work, resume, say=lambda _: None) as found:
        return list(found.entries), found.as_json(chosen)


def test_a_query_that_does_not_find_its_own_entry_is_left_out(encoder, tmp_path):
    entries, counts = passing(asked_corpus(), encoder, tmp_path / "work", QueryFilter(round_trip=1))
    assert [len(entry.queries) for entry in entries] == [1] * len(entries)
    assert counts == {"filter": "round-trip=1,percentile=0", "generated": 10, "without_round_trip": 1, "below_percentile": 0, "kept": 9}
    assert not (tmp_path / "work").exists()


def test_the_queries_least_like_their_entry_are_left_out(encoder, tmp_path):
    entries, counts = passing(asked_corpus(), encoder, tmp_path / "work", QueryFilter(percentile=15))
    assert counts["without_round_trip"] == 0 and counts["below_percentile"] == 1 and counts["kept"] == 9
    assert all(
        asked.text != "What do men in Qatar wear on the head?"
        for entry in entries
        if entry.entry_id == "gulf.travel.en"
        for asked in entry.queries
    )


def test_entries_without_queries_pass_as_they_are(encoder, tmp_path):
    bare = [replace(entry, queries=()) for entry in small_corpus()]
    entries, counts = passing(bare, encoder, tmp_path / "work", QueryFilter(10, 30))
    assert entries == bare and counts["generated"] == counts["kept"] == 0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=200), st.floats(0, 99))
def test_the_percentile_needs_no_memory_for_every_query_and_is_right_to_a_bin(values, percentile):
    values = np.array(values, dtype=np.float32)
    least, share = filter_queries._percentile(values, percentile), percentile / 100 * len(values)
    assert (values < least - 1e-6).sum() <= share <= (values < least + 2 / filter_queries._BINS + 1e-6).sum() or not percentile
    assert percentile or least < -1


class Dying:
    """An encoder that is interrupted after so many calls."""

    def __init__(self, encoder, calls):
        self._encoder, self._left = encoder, calls

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode(self, texts, kind):
        if kind == "query":
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
        return self._encoder.encode(texts, kind)


def test_filtering_goes_on_where_it_was_interrupted(encoder, tmp_path):
    entries, chosen = asked_corpus(), QueryFilter(1, 10)
    with pytest.raises(KeyboardInterrupt):
        passing(entries, Dying(encoder, 4), tmp_path / "work", chosen)
    counting = Dying(encoder, len(entries) - 4)  # dies if a single one of the first four is asked again
    assert passing(entries, counting, tmp_path / "work", chosen, resume=True) == passing(entries, encoder, tmp_path / "other", chosen)


def test_what_was_asked_of_another_corpus_is_not_gone_on_with(encoder, tmp_path):
    chosen = QueryFilter(1)
    with pytest.raises(KeyboardInterrupt):
        passing(asked_corpus(), Dying(encoder, 4), tmp_path / "work", chosen)
    fewer = asked_corpus()[1:]
    assert passing(fewer, encoder, tmp_path / "work", chosen, resume=True) == passing(fewer, encoder, tmp_path / "other", chosen)


def test_a_disk_that_cannot_take_the_work_is_told(encoder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(filter_queries, "_ask_all", full)
    with pytest.raises(IndexFolderError, match="No space left on device.*--resume"):
        passing(asked_corpus(), encoder, tmp_path / "work", QueryFilter(1))


def test_the_build_filters_and_says_so_in_the_manifest(encoder, tmp_path, capsys):
    entries = [replace(entry, queries=()) for entry in asked_corpus()]
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps(row_of(entry), ensure_ascii=False) + "\n" for entry in entries), encoding="utf-8"
    )
    rows = [(entry.entry_id, one) for entry in asked_corpus() for one in entry.queries]
    write_queries(tmp_path / "queries.jsonl", Header(corpus_digest(entries), "hand", {}), rows)
    given = ["build", "--corpus", tmp_path / "corpus.jsonl", "--queries", tmp_path / "queries.jsonl", "--out", tmp_path / "index"]
    assert builder([*map(str, given), "--augment", "max", "--filter-queries", "round-trip=1"]) == 0
    manifest = Index(tmp_path / "index", encoder).manifest
    assert sum(manifest["queries_by_language"].values()) == 9 and manifest["settings"]["augment"] == "max"
    assert "without_round_trip" in str(manifest)
    assert builder([*map(str, given), "--filter-queries", "best"]) == 1 and "--filter-queries is 'best'" in capsys.readouterr().err

"""Questions find entries: the graphs against brute force, filters, the reader's preference, and why a hit was found."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.augment import Augmentation
from index_builder.encode import normalised
from index_builder.queries import attach, queries_files
from index_builder.read import read_corpus
from index_builder.search import _QUERY_WEIGHT, Index, Reader, coverage
from index_builder.store import BuildSettings, build_index
from index_builder.text import words
from index_builder.vocabulary import LANGUAGES, Entry
from tests.conftest import ROOT, brute_force
from tests.texts import any_text


def ids(hits):
    return [hit.entry.entry_id for hit in hits]


@pytest.fixture(scope="module")
def bundled(encoder, tmp_path_factory) -> Index:
    """The corpus and the generated queries that ship, indexed as they ship."""
    folder = tmp_path_factory.mktemp("bundled") / "index"
    corpus = attach(read_corpus([ROOT / "assets/corpus"]), *queries_files([ROOT / "assets/queries"]))
    build_index(corpus, encoder, folder, BuildSettings(augment=Augmentation.parse("max+lexical")), say=lambda _: None)
    return Index(folder, encoder)


# Against brute force


class NumberedVectors:
    """An encoder whose texts are the numbers of the rows of a matrix."""

    name, folder, fingerprint, query_prefix, passage_prefix = "numbered", Path("numbered"), "0" * 64, "", ""

    def __init__(self, rows):
        self.rows, self.dimension = rows, rows.shape[1]

    def encode(self, texts, kind):
        return self.rows[[int(text) for text in texts]]


def test_brute_force_finds_the_most_similar_rows_and_keeps_row_order_among_equals():
    rows = np.array([[0, 1], [1, 0], [0.6, 0.8], [1, 0]], dtype=np.float32)
    assert brute_force(rows, np.array([1, 0], dtype=np.float32), k=3) == [(1, 1.0), (3, 1.0), (2, pytest.approx(0.6))]
    assert brute_force(rows[:1], np.array([1, 0], dtype=np.float32), k=3) == [(0, 0.0)]


def test_the_graphs_find_what_brute_force_finds_among_random_vectors(tmp_path):
    random = np.random.default_rng(7)
    vectors = normalised(random.normal(size=(4_000, 32)).astype(np.float32))
    entries = [Entry(str(row), "passage", LANGUAGES[row % 2], str(row)) for row in range(4_000)]
    build_index(entries, NumberedVectors(vectors), tmp_path / "index", BuildSettings(views=("entry",)), say=lambda _: None)
    index = Index(tmp_path / "index", NumberedVectors(vectors))
    found = 0
    for query in normalised(random.normal(size=(200, 32)).astype(np.float32)):
        expected = brute_force(vectors, query, k=10)
        hits = index.search_vector("", query, k=10)
        assert [hit.rank for hit in hits] == list(range(1, 11))
        found += len({str(row) for row, _ in expected} & set(ids(hits)))
        assert hits[0].dense <= expected[0][1] + 1e-3  # the graph keeps vectors with a short mantissa
    assert found / 2_000 >= 0.99  # recall@10


def test_the_graphs_find_what_brute_force_finds_among_the_entries_that_ship(bundled, encoder):
    rows = [json.loads(line) for line in (ROOT / "assets/evaluation/paraphrase.jsonl").read_text(encoding="utf-8").splitlines()[::15]]
    assert len(rows) >= 20
    graphs = [("", graph) for graph in bundled._graphs.values()] + [("query", graph) for graph in bundled._questions.values()]
    views = np.concatenate([sorted(graph.get_ids_list()) for _, graph in graphs])
    vectors = np.concatenate([np.array(graph.get_items(sorted(graph.get_ids_list())), dtype=np.float32) for _, graph in graphs])
    weights = np.concatenate([np.full(graph.get_current_count(), _QUERY_WEIGHT if kind else 1.0) for kind, graph in graphs])
    entries = [entry for entry in bundled.entries()]
    found = asked = 0
    for query in encoder.encode([row["question"] for row in rows], "query"):
        for lang in LANGUAGES:
            rows_of_views = bundled._view_row[views]
            mine = np.array([entries[row].lang == lang for row in rows_of_views])
            counts = np.where(mine, vectors @ query * weights, -np.inf)
            ranked = (entries[rows_of_views[place]].entry_id for place in np.argsort(-counts, kind="stable")[:200])
            expected = list(dict.fromkeys(ranked))[:10]
            hits = bundled.search_vector("", query, k=len(expected), langs=[lang])
            found += len(set(expected) & set(ids(hits)))
            asked += len(expected)
    assert found / asked >= 0.99


def test_the_index_that_ships_answers_as_one_rebuilt_from_the_corpus_that_ships(bundled, encoder):
    shipped = Index(ROOT / "assets/index", encoder)
    assert shipped.manifest["corpus_sha256"] == bundled.manifest["corpus_sha256"], "assets/corpus was changed: run `make index`"
    for question in ("পহেলা বৈশাখে মানুষ কী খায়?", "ما هي القهوة العربية؟", "What do people eat at Dashain?", "Aşure nedir?", "bihu ketiya hoy"):
        ours, theirs = (index.search(question, 5) for index in (bundled, shipped))
        assert ids(ours) == ids(theirs)
        assert [hit.fused for hit in ours] == pytest.approx([hit.fused for hit in theirs], abs=1e-3)


def test_many_entries_with_one_text_do_not_break_the_search(encoder, tmp_path):
    entries = [
        Entry(f"e{n}", "passage", "en", "Salt." if n < 900 else f"Pepper {n}.", locale="en-QA" if n % 50 else "en-BD") for n in range(1_000)
    ]
    build_index(entries, encoder, tmp_path / "index", BuildSettings(), say=lambda _: None)
    index = Index(tmp_path / "index", encoder)
    assert {hit.entry.text for hit in index.search("salt", 10)} == {"Salt."}
    found = index.search("salt", 30, locales=["en-BD"])
    assert len(found) == len({hit.entry.entry_id for hit in found}) == 20  # every fiftieth of 1,000


# What is found, and why


def test_the_native_question_finds_its_pair(index):
    first = index.search("পহেলা বৈশাখে মানুষ কী খায়?")[0]
    assert first.entry.entry_id == "bn-BD.events.01" and first.rank == 1
    assert (first.matched_by, first.matched_query, first.matched_query_lang) == ("question", "পহেলা বৈশাখে মানুষ কী খায়?", "bn")
    assert first.dense > 0.999 and first.lexical > 0 and first.coverage == 1.0


def test_a_generated_query_in_another_language_finds_its_passage(index):
    first = index.search("সুন্দরবনে কোন বাঘ থাকে?")[0]
    assert first.entry.entry_id == "bangladesh.animal.en"
    assert (first.matched_by, first.matched_query, first.matched_query_lang) == ("query", "সুন্দরবনে কোন বাঘ থাকে?", "bn")


def test_the_text_finds_its_passage(index):
    first = index.search("Trains run without drivers")[0]
    assert first.entry.entry_id == "gulf.travel.en"
    assert (first.matched_by, first.matched_query, first.matched_query_lang) == ("text", "", "")


def test_a_question_in_other_words_or_another_language_finds_its_pair(index):
    assert index.search("ভোগালী বিহু কেতিয়া হয়?")[0].entry.entry_id == "as-IN.events.01"
    assert index.search("When is aşure cooked?")[0].entry.entry_id == "tr-TR.food_drinks.01"
    assert index.search("gundruk")[0].entry.entry_id == "ne-NP.food_drinks.01"  # by its sound alone


def test_scores_fall_from_rank_to_rank(index):
    hits = index.search("What do people drink?", 9)
    assert [hit.rank for hit in hits] == list(range(1, 10))
    assert [hit.fused for hit in hits] == sorted((hit.fused for hit in hits), reverse=True)
    assert all(-1.001 <= hit.dense <= 1.001 and hit.lexical >= 0 and 0 <= hit.coverage <= 1 for hit in hits)


def test_k_is_the_most_that_is_returned(index):
    assert [len(index.search("coffee", k)) for k in (0, 1, 9, 100)] == [0, 1, 9, 9]


def test_the_marked_sentence_is_the_nearest_to_the_question(index, encoder):
    question = "Which animal swims between islands?"
    hit = next(hit for hit in index.search(question) if hit.entry.entry_id == "bangladesh.animal.en")
    start, end = index.span(hit, question, encoder.encode([question], "query")[0])
    assert hit.entry.text[start:end] == "The Bengal tiger lives there and swims between the islands."


def test_a_text_of_one_sentence_is_marked_whole(index, encoder):
    hit = index.search("ghutra", langs=["en"])[0]
    assert index.span(hit, "ghutra", encoder.encode(["ghutra"], "query")[0]) == (0, len(hit.entry.text))


def test_coverage_is_the_share_of_telling_words_that_an_entry_holds():
    entry = Entry("e", "qa", "bn", "বাংলাদেশের ফুল", question="কোন ফুল?")
    assert coverage(["বাংলাদেশ", "নদী"], {"বাংলাদেশ": 3.0, "নদী": 1.0}, entry) == 0.75  # a form of one, not the other
    assert coverage([], {}, entry) == 0.0
    assert coverage(words("😀"), {}, entry) == 0.0


# Filters and the reader


def test_language_and_locale_filters_keep_only_theirs(index):
    assert {hit.entry.lang for hit in index.search("আমি কী খাব", langs=["tr", "ne"])} == {"tr", "ne"}
    assert {hit.entry.locale for hit in index.search("আমি কী খাব", locales=["en-QA"])} == {"en-QA"}
    assert len(index.search("পহেলা বৈশাখ", locales=["en-QA"])) == 2
    assert ids(index.search("পহেলা বৈশাখ", langs=["en"], locales=["en-BD"])) == ["bangladesh.animal.en"]
    assert index.search("পহেলা বৈশাখ", langs=["tr"], locales=["en-BD"]) == []
    assert index.search("coffee", langs=["fr"]) == [] == index.search("coffee", locales=["fr-FR"])


@settings(deadline=None, max_examples=60)
@given(any_text, st.sets(st.sampled_from(LANGUAGES)), st.sets(st.sampled_from(["ar-QA", "as-IN", "en-QA", "en-BD", "xx-XX"])))
def test_filters_hold_for_any_question(index, question, langs, locales):
    for hit in index.search(question, 9, langs, locales):
        assert not langs or hit.entry.lang in langs
        assert not locales or hit.entry.locale in locales


def test_the_reader_is_preferred_and_nobody_is_excluded(encoder, tmp_path):
    same = "Tea is drunk with milk."
    entries = [Entry(locale, "passage", locale[:2], same, locale=locale) for locale in ("en-QA", "bn-BD", "bn-IN", "en-BD", "hi-IN")]
    build_index(entries, encoder, tmp_path / "index", BuildSettings(), say=lambda _: None)
    index = Index(tmp_path / "index", encoder)
    assert ids(index.search("tea")) == ["en-QA", "bn-BD", "bn-IN", "en-BD", "hi-IN"]  # equals in corpus order
    assert ids(index.search("tea", reader=Reader("bn"))) == ["bn-BD", "bn-IN", "en-QA", "en-BD", "hi-IN"]
    assert ids(index.search("tea", reader=Reader("bn", "bn-IN"))) == ["bn-IN", "bn-BD", "en-QA", "en-BD", "hi-IN"]
    assert ids(index.search("tea", reader=Reader("bn", "bn-BD"))) == ["bn-BD", "bn-IN", "en-QA", "en-BD", "hi-IN"]


def test_passages_about_the_readers_region_come_first_in_any_language(encoder, tmp_path):
    places = [("en-IN", "north_india"), ("en-IN", "assam"), ("as-IN", "assam"), ("bn-IN", "west_bengal"), ("en-IN", "west_bengal")]
    entries = [
        Entry(f"{region}.{locale[:2]}", "passage", locale[:2], "Tea is drunk with milk.", locale=locale, region=region)
        for locale, region in places
    ]
    build_index(entries, encoder, tmp_path / "index", BuildSettings(), say=lambda _: None)
    index = Index(tmp_path / "index", encoder)
    assert ids(index.search("tea", reader=Reader("as", "as-IN", "assam")))[:2] == ["assam.as", "assam.en"]
    assert ids(index.search("tea", reader=Reader("en", region="west_bengal")))[:2] == ["west_bengal.en", "west_bengal.bn"]


@pytest.mark.parametrize("reader, locale, region, near", [
    (Reader("bn", "bn-IN", "west_bengal"), "bn-IN", "west_bengal", True),
    (Reader("bn", "bn-IN", "west_bengal"), "en-IN", "west_bengal", True),
    (Reader("bn", "bn-IN", "west_bengal"), "en-IN", "assam", False),
    (Reader("bn", "bn-IN", "west_bengal"), "hi-IN", "north_india", False),
    (Reader("ar", "ar-QA", "gulf"), "ar-QA", "", True),
    (Reader("ar", "ar-QA", "gulf"), "en-QA", "", False),
    (Reader("ar", "ar-QA"), "ar-QA", "gulf", False),
    (Reader("en", region="gulf"), "ar-QA", "gulf", True),
    (Reader("en"), "en-QA", "gulf", False),
    (Reader("en"), "", "", False),
])  # fmt: skip
def test_near_is_what_is_about_the_readers_region_or_where_none_is_named_of_the_readers_locale(reader, locale, region, near):
    assert reader.is_near(locale, region) is near


# Any text


@pytest.mark.parametrize(
    "question",
    [
        "", " ", '"', '""', "'", "*", "tiger*", "NEAR(tiger, honey)", "tiger NEAR/2 honey", "tiger AND NOT honey OR", "(tiger", ")))", "text:tiger",
        "lexical MATCH 'x'", "^tiger", "{title text} : tiger", "tiger -honey", "tiger + honey", "'; DROP TABLE entries; --", "\x00tiger\x00", "😀😀😀",
        "\u202e\u200f\u200b", "<script>alert(1)</script>", "it’s the tiger's", "ꟓ𞤀𑄀", "%s %d {}", "tiger\ttiger\ntiger",
    ],
)  # fmt: skip
def test_operators_and_odd_characters_are_only_text(index, question):
    hits = index.search(question, 9)
    assert len(hits) == 9
    assert index.search("Bengal tiger honey", 1)[0].entry.entry_id == "bangladesh.animal.en"


@settings(deadline=None, max_examples=200)
@given(
    st.lists(any_text | st.sampled_from(["NEAR(", "AND", "OR", "NOT", "*", '"', "'", "(", ")", ":", "^", "tiger", "বাঘ"]), max_size=8).map(
        " ".join
    )
)
def test_no_question_makes_the_search_fail(index, question):
    assert len(index.search(question, 3)) == 3


def test_a_question_of_100_000_characters_is_answered(index):
    assert index.search("Bengal tiger " * 8_000, 1)[0].entry.entry_id == "bangladesh.animal.en"
    assert len(index.search(" ".join(f"w{n}" for n in range(17_000)), 3)) == 3


def test_several_threads_search_one_index(index):
    questions = ["পহেলা বৈশাখে কী খায়?", "What do men in Qatar wear?", "Aşure nedir?"] * 20
    alone = [ids(index.search(question, 3)) for question in questions]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda question: ids(index.search(question, 3)), questions)) == alone

"""Question -> evidence, on the small corpus of conftest."""

import pytest

from demo.retrieve import SHOWN, retrieve
from index_builder.relevance import UNCALIBRATED, Fit, Relevance
from index_builder.search import Index
from index_builder.store import BuildSettings, build_index
from index_builder.vocabulary import Entry

NEVER = Fit({"dense": 3.0, "coverage": 2.0}, bias=-2.0, threshold=1.1)
NEVER_ENOUGH = Relevance(NEVER, NEVER)


@pytest.mark.parametrize("question, lang, entry_id", [
    ("ماذا يقدم مع القهوة؟", "ar", "ar-QA.food_drinks.01"),
    ("ভোগালী বিহু কেতিয়া হয়?", "as", "as-IN.events.01"),
    ("পহেলা বৈশাখে কী খাওয়া হয়?", "bn", "bn-BD.events.01"),
    ("What do Qatari men wear on the head?", "en", "en-QA.cloth.01"),
    ("लू से कैसे बचें?", "hi", "hi-IN.weather.01"),
    ("गुन्द्रुक कसरी बनाइन्छ?", "ne", "ne-NP.food_drinks.01"),
    ("aşure ne zaman pişer?", "tr", "tr-TR.food_drinks.01"),
])  # fmt: skip
def test_the_entry_that_answers_comes_first_in_every_language(index, question, lang, entry_id):
    found = retrieve(index, question, lang, UNCALIBRATED)
    assert found.evidence[0].hit.entry.entry_id == entry_id


def test_evidence_is_numbered_from_one_in_rank_order_with_falling_scores(index):
    found = retrieve(index, "When is Bihu?", "en", UNCALIBRATED).evidence
    assert [(item.n, item.hit.rank) for item in found] == [(n, n) for n in range(1, SHOWN + 1)]
    assert [item.hit.fused for item in found] == sorted((item.hit.fused for item in found), reverse=True)
    assert len({item.hit.entry.entry_id for item in found}) == SHOWN


def test_the_marked_part_of_a_passage_is_the_sentence_that_answers(index):
    best = retrieve(index, "Does the Bengal tiger swim between islands?", "en", UNCALIBRATED).evidence[0]
    assert best.hit.entry.entry_id == "bangladesh.animal.en"
    assert best.hit.entry.text[best.start : best.end] == "The Bengal tiger lives there and swims between the islands."


def test_a_generated_query_in_another_language_finds_the_passage_and_says_so(index):
    best = retrieve(index, "সুন্দরবনে কোন বাঘ থাকে?", "bn", UNCALIBRATED).evidence[0]
    assert (best.hit.entry.entry_id, best.hit.matched_by, best.hit.matched_query_lang) == ("bangladesh.animal.en", "query", "bn")


def test_a_romanised_question_is_searched_for_in_its_own_script(index):
    typed, native = "bhogali bihu ketiya hoy", "ভোগালী বিহু কেতিয়া হয়"
    assert retrieve(index, typed, "as", UNCALIBRATED, native=native) == retrieve(index, native, "as", UNCALIBRATED)


def test_the_language_of_the_reader_prefers_and_never_excludes(index):
    def scores(lang: str) -> dict[str, float]:
        return {item.hit.entry.entry_id: item.hit.fused for item in retrieve(index, "Aşure and tea", lang, UNCALIBRATED).evidence}

    turkish, english = scores("tr"), scores("en")
    assert turkish["tr-TR.food_drinks.01"] > english["tr-TR.food_drinks.01"]
    assert {entry_id[:2] for entry_id in turkish} != {"tr"}


def test_the_place_of_the_reader_prefers_and_never_excludes(index):
    there = retrieve(index, "food", "en", UNCALIBRATED, locale="tr-TR").evidence
    nowhere = retrieve(index, "food", "en", UNCALIBRATED).evidence
    gain = {item.hit.entry.entry_id: item.hit.fused for item in nowhere}
    for item in there:
        if item.hit.entry.entry_id in gain:
            assert (item.hit.fused > gain[item.hit.entry.entry_id]) == (item.hit.entry.locale == "tr-TR")
    assert {item.hit.entry.lang for item in there} != {"tr"}


def test_english_about_the_region_of_the_reader_is_preferred_to_english_about_the_rest_of_the_country(encoder, tmp_path):
    entries = [
        Entry(region, "passage", "en", "Tea is drunk with milk.", locale="en-IN", region=region)
        for region in ("north_india", "west_bengal", "assam")
    ]
    build_index(entries, encoder, tmp_path / "index", BuildSettings(), say=lambda _: None)
    india = Index(tmp_path / "index", encoder)

    def first(**place) -> str:
        return retrieve(india, "tea", "en", UNCALIBRATED, **place).evidence[0].hit.entry.region

    assert first() == "north_india"  # equals in corpus order
    assert [first(locale=locale) for locale in ("as-IN", "bn-IN", "hi-IN")] == ["assam", "west_bengal", "north_india"]
    assert first(region="assam") == first(locale="bn-IN", region="assam") == "assam"


def test_the_relevance_is_that_of_the_best_evidence_and_decides_weakness(index):
    question = "What do men in Qatar wear on the head?"
    found = retrieve(index, question, "en", UNCALIBRATED)
    hits = [item.hit for item in found.evidence]
    assert found.relevance == UNCALIBRATED.judge(question, "en", hits, index).relevance and not found.weak
    weak = retrieve(index, question, "en", NEVER_ENOUGH)
    assert weak.weak and [item.hit.entry for item in weak.evidence] == [item.hit.entry for item in found.evidence]


@pytest.mark.parametrize(
    "question", ['" OR *', "NEAR(a b)", "'; DROP TABLE entries; --", "title:x", "-", "\u0981", "🙂", "x" * 2000, "একটি " * 400]
)
def test_search_syntax_and_noise_are_only_words(index, question):
    assert len(retrieve(index, question, "en", UNCALIBRATED).evidence) in range(SHOWN + 1)
    assert len(index) == 9

"""Follow-ups become questions that stand alone, in seven languages; complete questions are never touched."""

import json
import random

import pytest
from hypothesis import given

from demo import followup
from demo.followup import region_in, standalone
from demo.languages import REGIONS
from demo.settings import ROOT
from index_builder.vocabulary import MajlisError
from tests.texts import any_text


@pytest.mark.parametrize("before, question, alone", [
    ("How is Pohela Boishakh celebrated in Dhaka?", "and in Kolkata?", "How is Pohela Boishakh celebrated in Kolkata?"),
    ("পহেলা বৈশাখে মানুষ কী খায়?", "ঢাকায়?", "পহেলা বৈশাখে মানুষ কী খায় ঢাকায়?"),
    ("কলকাতায় বিয়ে কীভাবে হয়?", "আর ঢাকায়?", "ঢাকায় বিয়ে কীভাবে হয়?"),
    ("Ankara'da düğünler nasıl yapılır?", "peki ya İstanbul'da?", "İstanbul'da düğünler nasıl yapılır?"),
    ("ماذا يأكل الناس في رمضان في قطر؟", "وفي تركيا؟", "ماذا يأكل الناس في رمضان في تركيا؟"),
    ("दिवाली कैसे मनाई जाती है?", "और नेपाल में?", "दिवाली कैसे मनाई जाती है नेपाल में?"),
    ("काठमाडौंमा तिहार कसरी मनाइन्छ?", "अनि पोखरामा?", "पोखरामा तिहार कसरी मनाइन्छ?"),
    ("বিহু কেনেকৈ পালন কৰে?", "আৰু মাজুলীত?", "বিহু কেনেকৈ পালন কৰে মাজুলীত?"),
    ("How do weddings in Delhi differ from others in Delhi?", "and in Lucknow?", "How do weddings in Lucknow differ from others in Lucknow?"),
])  # fmt: skip
def test_the_same_question_about_another_place(before, question, alone):
    assert standalone(question, (before,)) == alone


@pytest.mark.parametrize("before, question, alone", [
    ("What is gundruk?", "How is it made?", "gundruk: How is it made?"),
    ("What is gundruk?", "why?", "gundruk: why?"),
    ("Who was Lachit Borphukan?", "When did he die?", "Lachit Borphukan: When did he die?"),
    ("What do men in Qatar wear?", "and women?", "men Qatar wear: women?"),
    ("গুন্দ্রুক কী?", "এটা কীভাবে বানায়?", "গুন্দ্রুক: এটা কীভাবে বানায়?"),
    ("তিহাৰ কি?", "তাত কি খায়?", "তিহাৰ: তাত কি খায়?"),
    ("गुन्द्रुक के हो?", "यो कसरी बनाइन्छ?", "गुन्द्रुक: यो कसरी बनाइन्छ?"),
    ("छठ क्या है?", "इसे कब मनाते हैं?", "छठ: इसे कब मनाते हैं?"),
    ("Aşure nedir?", "Ne zaman yenir?", "Aşure: Ne zaman yenir?"),
    ("Aşure nedir?", "O nasıl yapılır?", "Aşure: O nasıl yapılır?"),
    ("ما هو المجبوس؟", "كيف يطبخ؟", "المجبوس: كيف يطبخ؟"),
    ("ما هو المجلس؟", "ومتى يفتح؟", "المجلس: متى يفتح؟"),
])  # fmt: skip
def test_a_question_that_points_back_carries_what_it_points_to(before, question, alone):
    assert standalone(question, (before,)) == alone


def test_a_follow_up_to_a_follow_up_goes_back_to_the_question_that_was_complete():
    history = ("How is Pohela Boishakh celebrated in Dhaka?", "and in Kolkata?")
    assert standalone("and what do they eat?", history) == "Pohela Boishakh celebrated Kolkata: what do they eat?"


def test_a_conversation_may_change_its_language():
    assert standalone("আর ঢাকায়?", ("How is Eid celebrated in Doha?",)) == "How is Eid celebrated in ঢাকায়?"


def test_the_first_question_stands_alone():
    assert standalone("and in Dhaka?", ()) == ""


def test_a_new_topic_is_not_mixed_with_the_old_one():
    for question in ("Gundruk", "What is aşure?", "মেজবান কী?", "मिथिला पेंटिंग क्या है?", "How is biryani made in Kolkata?"):
        assert standalone(question, ("How is Eid celebrated in Doha?",)) == "", question


def test_complete_questions_stay_as_they_are_whatever_was_asked_before():
    """Every question of the development half after a random other one: at most one in a hundred may change."""
    lines = [
        line for path in sorted((ROOT / "assets/evaluation").glob("*.jsonl")) for line in path.read_text(encoding="utf-8").splitlines()
    ]
    asked = [row["question"] for row in map(json.loads, lines) if row["split"] == "dev"]
    before = random.Random(0).choices(asked, k=len(asked))
    changed = [question for question, earlier in zip(asked, before, strict=True) if standalone(question, (earlier,))]
    assert len(asked) > 900 and len(changed) <= len(asked) / 100, changed


@given(any_text, any_text)
def test_any_text_is_taken(question, before):
    alone = standalone(question, (before,))
    assert alone == "" or alone.strip()
    assert region_in(question) in ("", *REGIONS) and followup.is_elsewhere(question, "nepal") in (True, False)


def test_every_place_is_found_as_it_is_written():
    places = json.loads(followup.FILE.read_text(encoding="utf-8"))["places"]
    assert [name for region, names in places.items() for name in names if region_in(name) != region] == []


@pytest.mark.parametrize("question, region", [
    ("ঢাকায়?", "bangladesh"), ("وفي قطر؟", "gulf"), ("in West Bengal?", "west_bengal"), ("peki Ankara'da?", "turkiye"), ("मधेश र काठमाडौंमा?", "nepal"),
    ("from Dhaka to Delhi?", "north_india"), ("where?", ""), ("", ""),
])  # fmt: skip
def test_the_region_is_that_of_the_place_named_last(question, region):
    assert region_in(question) == region


@pytest.mark.parametrize("question, region, elsewhere", [
    ("What is eaten in Dhaka?", "nepal", True), ("What is eaten in Dhaka?", "bangladesh", False), ("What is eaten?", "nepal", False),
    ("What is eaten in Dhaka?", "", False), ("ঢাকা আর কাঠমান্ডুতে কী খায়?", "nepal", False), ("भारत में क्या खाते हैं?", "assam", False),
    ("कोलकाता में क्या खाते हैं?", "gulf", True), ("ماذا يؤكل في قطر؟", "turkiye", True),
    ("অসমত কি খায়?", "north_india", True),
])  # fmt: skip
def test_evidence_about_another_place_than_those_named_is_elsewhere(question, region, elsewhere):
    assert followup.is_elsewhere(question, region) == elsewhere


def test_every_place_belongs_to_a_region_that_the_page_knows():
    assert set(followup._lists().region.values()) == set(REGIONS)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"begin": {}}'])
def test_broken_word_lists_say_what_to_restore(tmp_path, monkeypatch, text):
    (tmp_path / "followups.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr(followup, "FILE", tmp_path / "followups.json")
    followup._lists.cache_clear()
    try:
        with pytest.raises(MajlisError, match=r"followups\.json cannot be read .*Restore it"):
            standalone("why?", ("What is gundruk?",))
    finally:
        monkeypatch.undo()
        followup._lists.cache_clear()

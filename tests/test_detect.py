"""The language that is shown beside every answer: the examples of its users, and every bad input that a text box can hold."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.detect import Detector
from demo.detect.classifier import Classifier
from demo.settings import load_settings
from index_builder.evaluate.statistics import Share, expected_calibration_error
from index_builder.language import build_automaton, build_trie, words_by_script
from index_builder.train.romanise import romanise
from index_builder.transliteration import edits, skeleton
from index_builder.vocabulary import LANGUAGES, MajlisError


@pytest.fixture(scope="module")
def detector():
    return Detector.open()


@pytest.mark.parametrize("text, lang", [
    ("অসমৰ ৰাজধানী কি?", "as"), ("বিহু কেতিয়া হয়?", "as"), ("আপোনাৰ নাম কি", "as"), ("বাংলাদেশের জাতীয় ফুল কী?", "bn"), ("আপনার নাম কি", "bn"),
    ("तिहारमा कुकुरलाई किन पुजिन्छ?", "ne"), ("दशैं कहिले हो?", "ne"), ("दीवाली में दीये क्यों जलाते हैं?", "hi"), ("भारत की राजधानी क्या है?", "hi"),
    ("شنو الفرق بين المجبوس والكبسة؟", "ar"), ("كيف تُصنع القهوة العربية؟", "ar"), ("Türk kahvesi nasıl yapılır?", "tr"), ("turk kahvesi nasil yapilir", "tr"),
    ("What do people eat during Ramadan in Qatar?", "en"), ("Who won the match yesterday?", "en"),
])  # fmt: skip
def test_a_question_is_in_the_language_it_is_written_in(detector, text, lang):
    found = detector.detect(text)
    assert (found.lang, found.romanised, found.native) == (lang, False, "")


@pytest.mark.parametrize("text, lang", [
    ("آپ کا نام کیا ہے اور آپ کہاں رہتے ہیں؟", "ur"), ("پایتخت ایران کجاست و چه جاهایی دارد؟", "fa"), ("महाराष्ट्राची राजधानी कोणती आहे?", "mr"),
    ("Wie heißt die Hauptstadt von Deutschland?", "de"), ("ગુજરાતની રાજધાની કઈ છે?", "gu"), ("தமிழ்நாட்டின் தலைநகரம் எது?", "ta"),
    ("Azərbaycanın paytaxtı haradır?", "az"),
])  # fmt: skip
def test_a_language_we_do_not_speak_is_named_and_not_taken_for_one_of_ours(detector, text, lang):
    assert detector.detect(text).lang == lang


@pytest.mark.parametrize("text, lang, script", [
    ("bangladesher jatiyo phul ki", "bn", "Beng"), ("bharat ki rajdhani kya hai", "hi", "Deva"), ("dashain ma kina tika lagaincha", "ne", "Deva"),
    ("bihut manuhe ki khai", "as", "Beng"), ("leish el nas bye7tiflo bil 3eed", "ar", "Arab"),
])  # fmt: skip
def test_romanised_text_is_recognised_and_written_in_its_own_script_for_the_search(detector, text, lang, script):
    found = detector.detect(text)
    assert (found.lang, found.romanised, found.script) == (lang, True, "Latn")
    assert set(words_by_script(found.native).by_script) == {script}
    assert len(found.native.split()) >= len(text.split()) - 2


def test_a_common_romanised_question_is_transliterated_word_for_word(detector):
    assert detector.detect("bharat ki rajdhani kya hai").native == "भारत की राजधानी क्या है"


@pytest.mark.parametrize("text, lang", [
    ("Durga puja কবে শুরু হয়?", "bn"), ("iPhone এর price কত?", "bn"), ("What does মজলিস mean?", "en"), ("“The Lord of the Rings” কে লিখেছেন?", "bn"),
    ("Who wrote “পথের পাঁচালী”?", "en"), ("Facebook में account कैसे बनाते हैं?", "hi"), ("মজলিস ne demek?", "tr"),
])  # fmt: skip
def test_mixed_text_is_in_the_language_of_its_grammar(detector, text, lang):
    assert detector.detect(text).lang == lang


def test_assamese_typed_with_the_bengali_ra_is_still_assamese(detector):
    assert detector.detect("অসমর রাজধানী কি আরু তাত কিমান মানুহ থাকে?").lang == "as"


def test_the_turn_before_decides_for_what_is_too_short_to_tell(detector):
    assert {prior: detector.detect("কি?", prior).lang for prior in ("as", "bn")} == {"as": "as", "bn": "bn"}
    assert detector.detect("আর?", "bn").lang == "bn"


@pytest.mark.parametrize(
    "text, lang", [("অসমৰ ৰাজধানী কি?", "as"), ("What is the capital of Assam?", "en"), ("तिम्रो नाम के हो भन्न सक्छौ?", "ne")]
)
def test_the_turn_before_never_overrules_a_clear_switch(detector, text, lang):
    assert {detector.detect(text, prior).lang for prior in ("", *LANGUAGES)} == {lang}


def test_the_reason_names_a_letter_or_a_word_of_the_text(detector):
    assert detector.detect("অসমৰ ৰাজধানী কি?").why == "ৰ occurs only in Assamese"
    assert detector.detect("আপনার নাম কি").why.startswith("“")


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t", "?", "12345", "২০২৪", "١٢٣", "😀🎉", "👩‍👩‍👧", "…!؟।", "\u200d\u200b", "\u202e\u2066", "\x00\x01", "\ud800"]
)
def test_nothing_to_go_by_is_not_a_confident_answer(detector, text):
    found = detector.detect(text)
    assert (found.lang, found.script, found.romanised, found.confidence) == ("und", "Zyyy", False, 0.0)
    assert dict(found.ranking) == {lang: pytest.approx(1 / 7) for lang in LANGUAGES}


@pytest.mark.parametrize("text", ["a", "Ö", "क", "ক", "ع", "Ronaldo"])
def test_one_letter_or_one_name_is_never_certain(detector, text):
    assert detector.detect(text).confidence < 0.97


def test_twenty_thousand_characters_are_answered_like_their_beginning(detector):
    assert detector.detect("আপনার নাম কি? " * 1_500).lang == "bn"


def test_invisible_characters_change_nothing(detector):
    bare = detector.detect("दीवाली में दीये क्यों जलाते हैं?")
    assert detector.detect("\u202aदी\u200dवाली में दी\u200cये क्यों\ufeff जलाते हैं?\u202c").ranking == bare.ranking


_LETTERS = st.sampled_from("abcçğışöü3Zঅআকতৰৱয়্িাअकतहैंमेشنةيپچگёяกあ한கગ 😀\u200d\u202e\ud800'’“\"12৩٣")
_TEXTS = st.one_of(st.text(), st.text(_LETTERS, max_size=60), st.text(st.characters(), max_size=30))


@settings(max_examples=300, deadline=None)
@given(text=_TEXTS, prior=st.sampled_from(["", *LANGUAGES, "xx"]))
def test_any_string_has_a_ranking_that_sums_to_one(detector, text, prior):
    found = detector.detect(text, prior)
    assert 0 <= found.confidence <= 1
    assert sum(share for _, share in found.ranking) == pytest.approx(1, abs=1e-4)
    assert list(found.ranking) == sorted(found.ranking, key=lambda pair: -pair[1])
    assert "\n" not in found.why and len(found.why) < 700
    assert found.romanised or not found.native
    assert found == detector.detect(text, prior)


def test_the_automaton_counts_overlapping_features():
    rows, output = build_automaton(build_trie([b"he", b"she", b"his", b"hers"]))
    state, found = 0, []
    for byte in b"ushers":
        state = int(rows[state * 256 + byte])
        found += output.get(state)
    assert sorted(found) == [0, 1, 3]


def test_a_missing_model_says_what_to_do(tmp_path):
    with pytest.raises(MajlisError, match="train-language"):
        Classifier.open(tmp_path)


def test_the_default_settings_open_the_bundled_model():
    assert Detector.open(load_settings()).detect("অসমৰ ৰাজধানী কি?").lang == "as"


def test_langid_as_it_comes_can_be_chosen_and_knows_only_our_seven():
    stock = Detector.open(replace(load_settings(), language="langid-stock"))
    assert stock.name == "langid-stock"
    assert stock.detect("What is the capital of Assam?").lang == "en"
    for text in ("Wie heißt die Hauptstadt von Deutschland?", "bharat ki rajdhani kya hai", "অসমৰ ৰাজধানী কি?", "क\ud800"):
        found = stock.detect(text)
        assert (found.lang, found.romanised, found.native) == (found.ranking[0][0], False, "")
        assert {lang for lang, _ in found.ranking} == set(LANGUAGES)
        assert sum(share for _, share in found.ranking) == pytest.approx(1, abs=1e-4)
    assert stock.detect("12345").lang == "und"


def test_skeletons_and_edits_bring_spellings_of_one_word_together():
    assert skeleton("chhath") == skeleton("chath") == skeleton("chat")
    assert edits("mishti", "mishthi") == 1


def test_romanising_is_reproducible_and_leaves_no_native_letter():
    import random

    assert romanise("कुकुरलाई", "ne", random.Random(1)) == romanise("कुकुरलाई", "ne", random.Random(1))
    assert romanise("অসমৰ", "as", random.Random(0)).isascii()


def test_calibration_error_is_the_gap_between_stated_and_reached():
    assert expected_calibration_error([(0.9, True)] * 9 + [(0.9, False)]) == pytest.approx(0)
    assert expected_calibration_error([(1.0, True), (1.0, False)]) == pytest.approx(0.5)


def test_a_share_has_wilsons_interval():
    assert Share(95, 100).interval() == (pytest.approx(0.888, abs=1e-3), pytest.approx(0.978, abs=1e-3))

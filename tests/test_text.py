"""Folding, words and sentences in every script."""

import pytest
from hypothesis import given, settings

from index_builder.text import DIGITS, fold, same_word, sentence_spans, sentences, stem, words
from index_builder.train.tokenizer import folding_normalizer
from tests.texts import any_text

NORMALIZER = folding_normalizer()


@settings(deadline=None, max_examples=400)
@given(any_text)
def test_folding_is_what_the_tokenizer_does(text):
    assert fold(text) == NORMALIZER.normalize_str(text)


@pytest.mark.parametrize(
    "written, folded",
    [
        ("القَهْوَةُ العربيّة", "القهوه العربيه"),
        ("إلى أحمـــد", "الي احمد"),
        ("ভোগালী বিহু কৰা", "ভোগালী বিহু করা"),
        ("ज़रूरत हँसी", "जरूरत हंसी"),
        ("İstanbul'da IŞIK ışık", "istanbul'da işik işik"),
        ("१२३ ৪৫৬ ٧٨٩ ۰", "123 456 789 0"),
        ("নেপাল\u200d\u202e", "নেপাল"),
        ("ＱＡＴＡＲ", "qatar"),
        ("ΟΔΟΣ", "οδοσ"),  # letter by letter, as the tokenizer does it: no final sigma
        ("", ""),
    ],
)
def test_folding_removes_what_does_not_change_a_word(written, folded):
    assert fold(written) == folded == NORMALIZER.normalize_str(written)


def test_every_digit_is_folded_to_its_ascii_one_in_the_table_of_the_tokenizer_too():
    assert DIGITS[0] == ("[٠۰०০]", "0") and DIGITS[9] == ("[٩۹९৯]", "9") and len(DIGITS) == 10
    assert all(fold(letters.strip("[]")) == digit * 4 for letters, digit in DIGITS)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("বাংলাদেশের জাতীয় ফুল?", ["বাংলাদেশের", fold("জাতীয়"), "ফুল"]),
        ("गुन्द्रुक, कसरी बनाइन्छ।", ["गुन्द्रुक", "कसरी", "बनाइन्छ"]),
        ("İstanbul'un 3 köprüsü", ["istanbul'un", "3", "köprüsü"]),
        ("ما هي «القهوة»؟", ["ما", "هي", "القهوه"]),
        ("😀 … ()", []),
    ],
)
def test_vowel_signs_and_apostrophes_stay_inside_their_word(text, expected):
    assert words(text) == expected


@settings(deadline=None, max_examples=300)
@given(any_text)
def test_sentences_lose_no_character_but_spaces(text):
    end = 0
    for start, stop in sentence_spans(text):
        assert text[end:start].strip() == ""
        assert text[start:stop] and text[start:stop] == text[start:stop].strip()
        end = stop
    assert text[end:].strip() == ""


@pytest.mark.parametrize(
    "text, expected",
    [
        ("ताज आगरा में है। यह सफ़ेद है।", ["ताज आगरा में है।", "यह सफ़ेद है।"]),
        ("পান্তা ভাত কী? এটি ভেজা ভাত।", ["পান্তা ভাত কী?", "এটি ভেজা ভাত।"]),
        ("ما القهوة؟ مشروب ساخن! نعم.", ["ما القهوة؟", "مشروب ساخن!", "نعم."]),
        ("Aşure pişirilir. Komşulara dağıtılır.", ["Aşure pişirilir.", "Komşulara dağıtılır."]),
        ("It costs 3.50 riyals, e.g. in Doha. Cheap.", ["It costs 3.50 riyals, e.g. in Doha.", "Cheap."]),
        ("He said “come.” Then he left.", ["He said “come.”", "Then he left."]),
        ("one line\n\ntwo lines\n", ["one line", "two lines"]),
        ("A tail with no stop", ["A tail with no stop"]),
        (" \n ", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text, expected):
    assert sentences(text) == expected


@pytest.mark.parametrize(
    "a, b, same",
    [
        ("বাংলাদেশ", "বাংলাদেশের", True),
        ("pişir", "pişirilir", False),  # five of nine letters: less than two thirds
        ("köprü", "köprüsü", True),
        ("القهوه", "قهوه", True),
        ("والقهوه", "بالقهوه", True),
        ("rice", "rich", False),
        ("tea", "tea", True),
        ("", "tea", False),
    ],
)
def test_two_words_are_one_when_they_share_a_long_enough_beginning(a, b, same):
    assert same_word(a, b) is same is same_word(b, a)


def test_the_stem_is_the_first_four_letters_without_an_arabic_article():
    assert stem("القهوه") == "قهوه"
    assert stem("bangladesh") == "bang"

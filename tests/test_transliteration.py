"""Latin letters -> native script: words of one letter. test_detect.py holds whole questions."""

import pytest

from demo.detect.transliterate import Transliterator
from index_builder.transliteration import WordList, transliterate
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def shipped():
    return {lang: WordList.read(ROOT / f"assets/models/language/{lang}.words.txt.xz", lang) for lang in ("ar", "as", "bn", "hi", "ne")}


def test_a_romanised_question_with_a_word_of_one_letter_keeps_its_meaning(shipped):
    assert transliterate("pohela boishakh e panta bhat keno khay", shipped["bn"]) == "পহেলা বৈশাখ এ পান্তা ভাত কেন খায়"


def test_a_word_of_one_letter_is_not_looked_up_in_the_word_list():
    words = WordList("bn", {"e": "ইংরেজরা", "ebong": "এবং"})
    assert (words.native("e"), words.native("E"), words.native("ebong")) == ("এ", "এ", "এবং")


@pytest.mark.parametrize("lang, roman, native", [
    ("ar", "b w l u", "ب و ل و"),
    ("as", "r t o e", "ৰ ত ও এ"),
    ("bn", "e o k r y", "এ ও কে র য়"),
    ("hi", "h k m", "है के में"),
    ("ne", "k r m x", "के र म छ"),
])  # fmt: skip
def test_words_of_one_letter_are_what_people_mean_by_them(shipped, lang, roman, native):
    assert transliterate(roman, shipped[lang]) == native


@pytest.mark.parametrize("lang", ["ar", "as", "bn", "hi", "ne"])
def test_every_letter_alone_gives_at_most_one_short_word(lang):
    for letter in "abcdefghijklmnopqrstuvwxyz":
        assert 1 <= len(WordList(lang, {}).native(letter)) <= 3


def test_a_missing_word_list_costs_the_transliteration_and_is_told_to_the_operator(tmp_path, caplog):
    assert Transliterator(tmp_path).native("ami bhat khai", "bn") == ""
    assert "bn.words.txt.xz" in caplog.text

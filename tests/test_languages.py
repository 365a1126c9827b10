"""Seven interfaces that say the same: same keys, same placeholders, each in its own script."""

import json
import string
from collections.abc import Iterator

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from demo.languages import (
    LANGUAGE,
    REGION,
    REGIONS,
    STRINGS,
    all_endonyms,
    direction,
    endonym,
    number,
    preferred_language,
    region_of,
    strings,
)
from index_builder.vocabulary import LANGUAGES, TOPICS

FORMATTER = string.Formatter()
LETTERS = {
    "ar": r"\p{Arabic}",
    "as": r"\p{Bengali}",
    "bn": r"\p{Bengali}",
    "en": r"\p{Latin}",
    "hi": r"\p{Devanagari}",
    "ne": r"\p{Devanagari}",
    "tr": r"\p{Latin}",
}
OWN_NAMES = regex.compile(r"\{\w*\}|\bms\b")  # placeholders and the unit


def texts(node, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, text) of every text in a string file."""
    if isinstance(node, str):
        yield path, node
        return
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield from texts(value, f"{path}.{key}" if path else str(key))


def read(lang: str) -> dict:
    return json.loads((STRINGS / f"{lang}.json").read_text(encoding="utf-8"))


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in FORMATTER.parse(text) if name is not None}


def test_there_is_one_file_for_each_language_and_no_other():
    assert sorted(path.stem for path in STRINGS.glob("*.json")) == sorted(LANGUAGES) == sorted(LANGUAGE)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_language_has_the_keys_of_english_at_every_level(lang):
    assert {path for path, _ in texts(read(lang))} == {path for path, _ in texts(read("en"))}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_text_has_the_placeholders_of_its_english_one(lang):
    english = dict(texts(read("en")))
    for path, text in texts(read(lang)):
        assert placeholders(text) == placeholders(english[path]), path


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_text_is_empty_and_none_begins_or_ends_with_space(lang):
    for path, text in texts(read(lang)):
        assert text and text == text.strip(), path


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_text_is_in_the_script_of_its_language(lang):
    for path, text in texts(read(lang)):
        letters = regex.findall(r"\p{L}", OWN_NAMES.sub("", text))
        own = [letter for letter in letters if regex.match(LETTERS[lang], letter)]
        assert letters and len(own) == len(letters), (path, text)


@pytest.mark.parametrize("lang", [lang for lang in LANGUAGES if lang != "en"])
def test_every_sentence_is_translated(lang):
    english = dict(texts(read("en")))
    assert [path for path, text in texts(read(lang)) if text == english[path] and " " in text] == []


def test_assamese_is_written_with_assamese_letters_and_bangla_without_them():
    assert [path for path, text in texts(read("as")) if "র" in text] == []
    assert [path for path, text in texts(read("bn")) if "ৰ" in text or "ৱ" in text] == []


def test_arabic_is_written_with_arabic_letters_not_persian_ones_and_with_arabic_marks():
    for path, text in texts(read("ar")):
        assert not regex.search("[کیگپچژ?,;]", text), path


@pytest.mark.parametrize("lang", ["as", "bn", "hi", "ne"])
def test_indic_sentences_end_with_a_danda(lang):
    for path, text in texts(read(lang) | {"timeline": "the abbreviation of milliseconds has dots"}):
        assert not regex.search(r"[\p{Bengali}\p{Devanagari}]\.($|\s)", text), path


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_text_carries_markup_or_invisible_controls(lang):
    for path, text in texts(read(lang)):
        assert not regex.search(r"[<>&]|[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]", text), path


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_topic_and_every_region_has_a_name(lang):
    words = strings(lang)
    assert set(words["topics"]) == set(TOPICS) and set(words["regions"]) == set(REGIONS) == set(REGION.values())
    assert set(words["scripts"]) >= {language.script for language in LANGUAGE.values()}
    assert len(words["example_questions"]) == 3


@pytest.mark.parametrize(
    "lang, shown", [("ar", "2026"), ("as", "২০২৬"), ("bn", "২০২৬"), ("en", "2026"), ("hi", "2026"), ("ne", "२०२६"), ("tr", "2026")]
)
def test_numbers_are_written_in_the_digits_of_the_language(lang, shown):
    assert number(2026, lang) == shown


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(LANGUAGES))
def test_a_number_can_be_read_back_whatever_its_digits(value, lang):
    assert float(number(f"{value:.3f}", lang)) == float(f"{value:.3f}")


@pytest.mark.parametrize("header, lang", [
    ("bn-BD,en;q=0.8", "bn"), ("en;q=0.8,bn-BD", "bn"), ("de-DE,de;q=0.9,tr;q=0.5,en;q=0.4", "tr"), ("AS-in", "as"), ("fr,es", "en"), ("", "en"),
    ("ne;q=nonsense,hi", "hi"), ("*", "en"), ("en-US,en;q=0.9", "en"), ("ar;q=0.7, ne;q=0.7", "ar"),
])  # fmt: skip
def test_the_first_language_is_the_browsers_best_that_we_speak(header, lang):
    assert preferred_language(header) == lang


@given(st.text(max_size=60))
def test_any_header_gives_a_language_that_we_speak(header):
    assert preferred_language(header) in LANGUAGES


def test_only_arabic_runs_from_the_right_and_unknown_languages_choose_for_themselves():
    assert [lang for lang in LANGUAGES if direction(lang) == "rtl"] == ["ar"]
    assert direction("xx") == "auto" and endonym("xx") == "xx"


def test_endonyms_are_in_their_own_script():
    assert all_endonyms() == "العربية, অসমীয়া, বাংলা, English, हिन्दी, नेपाली, Türkçe"


def test_a_row_with_a_region_of_its_own_keeps_it_and_others_get_that_of_their_locale():
    assert region_of("bn-BD", "west_bengal") == "west_bengal"
    assert region_of("bn-IN", "") == "west_bengal" and region_of("xx-XX", "") == ""

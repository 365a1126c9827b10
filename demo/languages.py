"""The seven languages and nine locales, and the words of the interface in each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from index_builder.vocabulary import LANGUAGES, MajlisError

STRINGS = Path(__file__).resolve().parent.parent / "assets" / "strings"


@dataclass(frozen=True, slots=True)
class Language:
    code: str
    endonym: str
    script: str  # ISO 15924
    direction: str  # "ltr" or "rtl"
    digits: str  # the ten digits, as numbers in running text are written


_ASCII = "0123456789"
_BENGALI = "০১২৩৪৫৬৭৮৯"
_DEVANAGARI = "०१२३४५६७८९"

LANGUAGE: Mapping[str, Language] = {
    language.code: language
    for language in (
        Language("ar", "العربية", "Arab", "rtl", _ASCII),
        Language("as", "অসমীয়া", "Beng", "ltr", _BENGALI),
        Language("bn", "বাংলা", "Beng", "ltr", _BENGALI),
        Language("en", "English", "Latn", "ltr", _ASCII),
        Language("hi", "हिन्दी", "Deva", "ltr", _ASCII),
        Language("ne", "नेपाली", "Deva", "ltr", _DEVANAGARI),
        Language("tr", "Türkçe", "Latn", "ltr", _ASCII),
    )
}
# Languages that we do not speak but tell apart from ours, for the panel and for saying so
_NEIGHBOURS: Mapping[str, str] = {
    "ur": "اردو", "fa": "فارسی", "ku": "Kurdî", "ckb": "کوردی", "ps": "پښتو", "sd": "سنڌي", "mr": "मराठी", "sa": "संस्कृतम्", "mai": "मैथिली", "bho": "भोजपुरी",
    "gu": "ગુજરાતી", "pa": "ਪੰਜਾਬੀ", "ta": "தமிழ்", "te": "తెలుగు", "az": "Azərbaycanca", "uz": "Oʻzbekcha", "id": "Bahasa Indonesia", "ms": "Bahasa Melayu",
    "de": "Deutsch", "fr": "Français", "es": "Español", "it": "Italiano", "pt": "Português", "nl": "Nederlands", "ru": "Русский", "zh": "中文", "ja": "日本語",
    "ko": "한국어", "el": "Ελληνικά", "he": "עברית", "th": "ไทย",
}  # fmt: skip
# locale -> the place its rows are about (a key of the strings' "regions")
REGION: Mapping[str, str] = {
    "ar-QA": "gulf", "en-QA": "gulf", "as-IN": "assam", "bn-BD": "bangladesh", "en-BD": "bangladesh", "bn-IN": "west_bengal",
    "hi-IN": "north_india", "ne-NP": "nepal", "en-NP": "nepal", "tr-TR": "turkiye", "en-TR": "turkiye",
}  # fmt: skip
REGIONS = ("gulf", "assam", "bangladesh", "west_bengal", "north_india", "nepal", "turkiye")


@cache
def strings(lang: str) -> Mapping[str, Any]:
    """The interface in one language. Raises MajlisError when the file is missing, broken, or lacks a key that English has."""
    path = STRINGS / f"{lang}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MajlisError(f"The interface text {path} cannot be read ({error}). Restore it from the repository.") from error
    if lang != "en":
        missing = strings("en").keys() - found.keys()
        if missing:
            raise MajlisError(
                f"{path} lacks {', '.join(sorted(missing))}, which assets/strings/en.json has. Restore it from the repository."
            )
    return found


def endonym(code: str) -> str:
    return LANGUAGE[code].endonym if code in LANGUAGE else _NEIGHBOURS.get(code, code)


def all_endonyms(separator: str = ", ") -> str:
    return separator.join(LANGUAGE[code].endonym for code in LANGUAGES)


def direction(code: str) -> str:
    return LANGUAGE[code].direction if code in LANGUAGE else "auto"


def number(value: object, lang: str) -> str:
    """A number in the digits of `lang`."""
    return str(value).translate(str.maketrans(_ASCII, LANGUAGE[lang].digits))


def preferred_language(accept_language: str) -> str:
    """The first of the browser's languages that we speak: "bn-BD,en;q=0.8" -> "bn"; English when there is none."""
    ranked = []
    for position, part in enumerate(accept_language.split(",")):
        tag, _, quality = part.strip().partition(";q=")
        try:
            ranked.append((-float(quality or 1), position, tag.split("-")[0].lower()))
        except ValueError:
            continue
    return next((code for _, _, code in sorted(ranked) if code in LANGUAGE), "en")


def region_of(entry_locale: str, entry_region: str) -> str:
    return entry_region or REGION.get(entry_locale, "")

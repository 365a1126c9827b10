"""Latin letters -> native script, word by word: known spellings first, then the nearest known word by its consonants, then letter rules.

The word list of a language is a text file, one native word a line with the ways it is spelled in Latin letters, the commonest word first.
"""

import lzma
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from index_builder.vocabulary import MajlisError

_SAME = (("7'", "kh"), ("3'", "gh"), ("chh", "ch"), ("sh", "s"), ("x", "s"), ("ph", "f"), ("q", "k"), ("5", "k"), ("z", "j"),
         ("w", "v"), ("7", "h"), ("6", "t"), ("9", "s"), ("8", "g"))  # fmt: skip
_ASPIRATED = re.compile("(?<=[bcdfgjklprstv])h")
_VOWELS = re.compile("[aeiouy'23]+")
_DOUBLED = re.compile(r"(.)\1+")
_WORD = re.compile(r"[a-z0-9'’]+", re.I)
# One letter is a word or an ending of its own, and in a word list mostly the abbreviation of another: "e" was ইংরেজরা there. Here is what
# people mean by it; the rule spells the others: Bangla "e" এ, "r" র, Assamese "t" ত, Nepali "m" म, Arabic "w" و.
_ONE_LETTER = {
    "ar": {"o": "و", "u": "و", "y": "يا"},
    "as": {"o": "ও"},
    "bn": {"k": "কে", "o": "ও"},
    "hi": {"h": "है", "k": "के", "m": "में"},
    "ne": {"k": "के", "u": "ऊ", "x": "छ"},
}
_NEAR = 0.34  # edits per letter that still make the same word: "mishthi" and "mishti"


def skeleton(roman: str) -> str:
    """The consonants, with spellings of one sound made equal: "chhath", "chat" and "chath" share "ct"."""
    for old, new in _SAME:
        roman = roman.replace(old, new)
    first = "a" if roman[:1] in "aeiou23" else ""
    return first + _DOUBLED.sub(r"\1", _VOWELS.sub("", _ASPIRATED.sub("", roman)))


def edits(a: str, b: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


@dataclass(frozen=True)
class WordList:
    """Of one language. `exact` maps a Latin spelling to its commonest native word."""

    lang: str
    exact: dict[str, str]

    @classmethod
    def read(cls, path: Path, lang: str) -> "WordList":
        try:
            text = lzma.decompress(path.read_bytes()).decode("utf-8")
        except (OSError, lzma.LZMAError, UnicodeDecodeError) as error:
            raise MajlisError(f"{path} cannot be read ({error}). Restore it from the repository.") from error
        rows = [line.partition("\t") for line in text.splitlines()]
        # a word's first spelling is its usual one: "ki" is की, although the commoner के is sometimes spelled so
        exact: dict[str, str] = {}
        for native, _, spellings in rows:
            exact.setdefault(spellings.partition(" ")[0], native)
        for native, _, spellings in rows:
            for roman in spellings.split(" ")[1:]:
                exact.setdefault(roman, native)
        return cls(lang, exact)

    @cached_property
    def by_skeleton(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for roman in list(self.exact)[:60_000]:
            found[skeleton(roman)].append(roman)
        return dict(found)

    def native(self, roman: str) -> str:
        """One word. Arabic's article and the little words written onto a word are tried apart."""
        roman = roman.lower().replace("’", "'").strip("'")
        if len(roman) == 1:
            return _ONE_LETTER.get(self.lang, {}).get(roman) or by_rule(roman, self.lang)
        return self.exact.get(roman) or self._near(roman) or by_rule(roman, self.lang)

    def _near(self, roman: str) -> str:
        candidates = self.by_skeleton.get(skeleton(roman), ())[:60]
        if not candidates:
            return ""
        best = min(candidates, key=lambda spelling: edits(roman, spelling))  # the first of equals is the commonest
        return self.exact[best] if edits(roman, best) <= max(1, _NEAR * len(roman)) else ""


def transliterate(text: str, words: WordList) -> str:
    """`text` with every Latin word in the native script of `words`; the rest as it is."""
    if words.lang == "ar":
        # the article is written onto its noun: "el 2ahwe", "al-qahwa", "elqahwa"
        text = re.sub(r"\b([bwl]?)(al|el|il)[-\s]+(?=[a-z0-9])", lambda match: _ARTICLE[match.group(1)], text, flags=re.I)
        return re.sub(
            r"(ال|بال|وال|لل)?([a-z0-9'’]*[a-z][a-z0-9'’]*)",
            lambda match: (match.group(1) or "") + words.native(match.group(2)),
            text,
            flags=re.I,
        )
    return _WORD.sub(lambda match: match.group() if match.group().isdigit() else words.native(match.group()), text)


_ARTICLE = {"": "ال", "b": "بال", "w": "وال", "l": "لل", "B": "بال", "W": "وال", "L": "لل"}

# roman -> (letter at the beginning or after a vowel, sign after a consonant)
_DEVA_VOWELS = {"aa": ("आ", "ा"), "ai": ("ऐ", "ै"), "au": ("औ", "ौ"), "ee": ("ई", "ी"), "oo": ("ऊ", "ू"),
    "a": ("अ", ""), "i": ("इ", "ि"), "u": ("उ", "ु"), "e": ("ए", "े"), "o": ("ओ", "ो")}  # fmt: skip
_BENG_VOWELS = {"aa": ("আ", "া"), "oi": ("ঐ", "ৈ"), "ou": ("ঔ", "ৌ"), "ee": ("ঈ", "ী"), "oo": ("উ", "ু"),
    "a": ("আ", "া"), "i": ("ই", "ি"), "u": ("উ", "ু"), "e": ("এ", "ে"), "o": ("অ", "")}  # fmt: skip
_LATIN = "chh kh gh ch jh th dh ph bh sh ng k g c j t d n p f b m y r l v w s h z q x"
_DEVA_LETTERS = "छ ख घ च झ थ ध फ भ श ङ क ग क ज त द न प फ ब म य र ल व व स ह ज क क्ष"
_DEVA = dict(zip(_LATIN.split(), _DEVA_LETTERS.split(), strict=True))
_BENG_LETTERS = "ছ খ ঘ চ ঝ থ ধ ফ ভ শ ং ক গ ক জ ত দ ন প ফ ব ম য় র ল ভ ও স হ জ ক ক্স"
_BENG = dict(zip(_LATIN.split(), _BENG_LETTERS.split(), strict=True))
_ARAB = {
    "kh": "خ", "gh": "غ", "sh": "ش", "ch": "ش", "th": "ث", "dh": "ذ", "7'": "خ", "3'": "غ", "b": "ب", "t": "ت", "j": "ج", "7": "ح", "5": "خ", "d": "د",
    "r": "ر",
    "z": "ز", "s": "س", "9": "ص", "6": "ط", "3": "ع", "f": "ف", "q": "ق",
    "k": "ك", "l": "ل", "m": "م", "n": "ن", "h": "ه", "w": "و", "y": "ي", "g": "ج",
    "2": "ء",
    "8": "غ", "p": "ب", "v": "ف", "x": "كس", "c": "ك", "a": "ا", "aa": "ا",
    "e": "", "i": "ي", "ee": "ي", "ii": "ي", "u": "و", "o": "و", "ou": "و", "oo": "و", "uu": "و",
}  # fmt: skip


def by_rule(roman: str, lang: str) -> str:
    """Letter by letter, the longest spelling first. Good enough for a name that no list holds."""
    if lang == "ar":
        return _spell_arabic(roman)
    consonants, vowels, virama = (_DEVA, _DEVA_VOWELS, "्") if lang in ("hi", "ne") else (_BENG, _BENG_VOWELS, "্")
    if lang == "as":
        consonants = {**consonants, "r": "ৰ", "w": "ৱ", "v": "ভ", "x": "স", "s": "চ"}
    out, place, after_consonant = "", 0, False
    while place < len(roman):
        for size in (3, 2, 1):
            piece = roman[place : place + size]
            if piece in consonants:
                # two consonants on end are joined, save for r, l, n and m, after which a vowel is mostly left unwritten
                out += (virama if after_consonant and out[-1:] not in "रलनमरলনমৰং" else "") + consonants[piece]
                after_consonant = True
                break
            if piece in vowels:
                letter, sign = vowels[piece]
                last = place + size == len(roman)
                out += ("ा" if lang in ("hi", "ne") and piece == "a" and last else sign) if after_consonant else letter
                after_consonant = False
                break
        else:
            size, after_consonant = 1, False
        place += size
    return out


def _spell_arabic(roman: str) -> str:
    out, place = "", 0
    while place < len(roman):
        for size in (2, 1):
            piece = roman[place : place + size]
            if piece in _ARAB:
                vowel = piece[0] in "aeiou"
                # short vowels inside a word are not written; at its ends they stand for long ones
                written = _ARAB[piece]
                if vowel and len(piece) == 1 and 0 < place < len(roman) - 1:
                    written = "" if piece in "aei" else "و"
                elif vowel and place == 0:
                    written = "ا"
                elif piece == out[-1:]:
                    written = ""
                out += written
                break
        else:
            size = 1
        place += size
    return re.sub(r"(.)\1", r"\1", out)

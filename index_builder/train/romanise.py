"""Native script -> the Latin spellings that people type, by rule, with their variety: training text where nobody has collected any.

Romanised Nepali, Assamese and chat Arabic have next to no open data. Each letter has its usual spelling first and rarer ones after
it; `romanise` draws one spelling per letter and word, so that a language model sees "chha", "cha" and "xa" for छ.
"""

import random
import re
import unicodedata

_DEVA_CONSONANTS = {
    "क": "k", "ख": "kh", "ग": "g", "घ": "gh", "ङ": "ng", "च": "ch ch c", "छ": "chh ch x", "ज": "j", "झ": "jh", "ञ": "n ny", "ट": "t", "ठ": "th", "ड": "d",
    "ढ": "dh", "ण": "n", "त": "t", "थ": "th", "द": "d", "ध": "dh", "न": "n", "प": "p", "फ": "ph f", "ब": "b", "भ": "bh v", "म": "m", "य": "y", "र": "r",
    "ल": "l", "व": "w v b", "श": "sh s", "ष": "sh s", "स": "s", "ह": "h",
}  # fmt: skip
_DEVA_VOWELS = {
    "ा": "a a aa", "ि": "i", "ी": "i i ee", "ु": "u", "ू": "u u oo", "ृ": "ri", "े": "e", "ै": "ai", "ो": "o", "ौ": "au", "ॅ": "a", "ॉ": "o",
    "अ": "a", "आ": "aa a", "इ": "i", "ई": "i ee", "उ": "u", "ऊ": "u oo", "ऋ": "ri", "ए": "e ye", "ऐ": "ai", "ओ": "o", "औ": "au",
}  # fmt: skip
_BENG_CONSONANTS = {
    "ক": "k", "খ": "kh", "গ": "g", "ঘ": "gh", "ঙ": "ng", "চ": "s ch", "ছ": "s ch", "জ": "j z", "ঝ": "jh", "ঞ": "n", "ট": "t", "ঠ": "th", "ড": "d", "ঢ": "dh",
    "ণ": "n", "ত": "t", "থ": "th", "দ": "d", "ধ": "dh", "ন": "n", "প": "p", "ফ": "ph f", "ব": "b", "ভ": "bh v", "ম": "m", "য": "j", "ৰ": "r", "র": "r",
    "ল": "l", "ৱ": "w v b", "শ": "x s h", "ষ": "x s h", "স": "x s h", "হ": "h", "ৎ": "t", "Y": "y y j",
}  # fmt: skip
_BENG_VOWELS = {
    "া": "a", "ি": "i", "ী": "i", "ু": "u", "ূ": "u", "ৃ": "ri", "ে": "e", "ৈ": "oi", "ো": "u o", "ৌ": "ou",
    "অ": "o a", "আ": "a", "ই": "i", "ঈ": "i", "উ": "u", "ঊ": "u", "ঋ": "ri", "এ": "e", "ঐ": "oi", "ও": "o u", "ঔ": "ou",
}  # fmt: skip
_ARAB = {
    "ب": "b", "ت": "t", "ث": "th s t", "ج": "j j g", "ح": "7 h", "خ": "kh 5", "د": "d", "ذ": "th d z", "ر": "r", "ز": "z", "س": "s", "ش": "sh sh ch",
    "ص": "s 9", "ض": "d", "ط": "t 6", "ظ": "z", "ع": "3 3 a", "غ": "gh", "ف": "f", "ق": "q 2 g k", "ك": "k", "ل": "l", "م": "m", "ن": "n", "ه": "h",
    "ة": "a ah eh", "ى": "a", "ا": "a", "آ": "a aa", "أ": "a 2", "إ": "i e", "ٱ": "", "ئ": "2 e", "ؤ": "2 o", "ء": "2", "و": "w", "ي": "y",
    "\u064e": "a", "\u064f": "u o", "\u0650": "i e", "\u064b": "an", "\u064c": "", "\u064d": "", "\u0670": "a",
}  # fmt: skip
_VOWEL_LETTERS = set("aeiou")
_CODAS = {"ं": "n m", "ँ": "n", "ঃ": "", "ः": "", "ং": "ng n", "ঁ": "n", "্": ""}


def romanise(word: str, lang: str, rng: random.Random) -> str:
    """One word of Arabic ("ar"), Assamese ("as") or Nepali or Hindi ("ne", "hi") in Latin letters. Letters outside the tables vanish."""
    if lang == "ar":
        return _arabic(word, rng)
    if lang == "as":
        return _indic(word, _BENG_CONSONANTS, _BENG_VOWELS, "্", rng.choice("ooa"), rng)
    return _indic(word, _DEVA_CONSONANTS, _DEVA_VOWELS, "्", "a", rng)


def _draw(spellings: str, rng: random.Random) -> str:
    options = spellings.split(" ")
    return options[0] if len(options) == 1 or rng.random() < 0.5 else rng.choice(options)


def _indic(word: str, consonants: dict[str, str], vowels: dict[str, str], virama: str, inherent: str, rng: random.Random) -> str:
    """Letters to (onset, vowel) syllables, then the inherent vowel is left out at the end of a word and between two full syllables."""
    word = re.sub("\u09af\u09bc(?=[\u09be-\u09cc])", "Y", unicodedata.normalize("NFC", word)).replace("\u09af\u09bc", "ই")
    word = word.replace("ক্ষ", "খ").replace("\u09bc", "").replace("ज्ञ", "ग्य").replace("\u093c", "")
    syllables: list[list[str]] = []  # [consonants, vowel or "" or "*" for the inherent one, coda]
    for letter in word:
        if letter in consonants:
            if syllables and syllables[-1][1] == virama:
                syllables[-1][0] += _draw(consonants[letter], rng)
                syllables[-1][1] = "*"
            else:
                syllables.append([_draw(consonants[letter], rng), "*", ""])
        elif letter == virama:
            if syllables:
                syllables[-1][1] = virama
        elif letter in vowels:
            if syllables and syllables[-1][1] == "*" and not syllables[-1][2] and unicode_sign(letter):
                syllables[-1][1] = _draw(vowels[letter], rng)
            else:
                syllables.append(["", _draw(vowels[letter], rng), ""])
        elif letter in _CODAS and syllables:
            syllables[-1][2] += _draw(_CODAS[letter], rng)
    parts = []
    last = len(syllables) - 1
    for place, (onset, vowel, coda) in enumerate(syllables):
        if vowel == virama:
            vowel = ""
        elif vowel == "*":
            cluster = len(onset) > 2 or (len(onset) == 2 and onset[1] != "h")
            silent_end = place == last and last > 0 and not coda and not cluster
            between = inherent == "a" and 0 < place < last and not coda and not cluster and _ends_open(parts) and syllables[place + 1][1] not in ("*", virama)
            vowel = "" if silent_end or between else inherent
        parts.append(onset + vowel + coda)
    return "".join(parts)


def unicode_sign(letter: str) -> bool:
    """Whether a vowel is written onto the consonant before it (ा) and not as a letter of its own (आ)."""
    return not ("\u0904" <= letter <= "\u0914" or "\u0985" <= letter <= "\u0994")


def _ends_open(parts: list[str]) -> bool:
    return bool(parts) and parts[-1][-1:] in _VOWEL_LETTERS


def _arabic(word: str, rng: random.Random) -> str:
    """Fully vocalised words are spelled out; in others a short vowel is put between consonants, as a reader would."""
    vocalised = re.search("[\u064b-\u0650]", word) is not None
    word = re.sub("[\u0652\u0640\u06d6-\u06ed]", "", word)
    word = re.sub("(.)([\u064b-\u0650]?)\u0651", r"\1\1\2", word)
    word = re.sub("\u064eا", "\u064e", re.sub("^ا\u064e", "ا", word))
    word = re.sub("[\u064b-\u0650]+$", "", word)  # case endings are not spoken
    word = re.sub("^ال", "ال" if rng.random() < 0.7 else "إل", word)
    out = ""
    for place, letter in enumerate(word):
        if letter in "وي" and place:
            after_consonant = out[-1:] not in _VOWEL_LETTERS or out[-1:] in "ui"
            spelled = (
                ("u o oo ou" if letter == "و" else "i i ee y") if after_consonant and word[place + 1 : place + 2] not in ("ا", "\u064e") else _ARAB[letter]
            )
            out = out[:-1] if after_consonant and out[-1:] in ("u", "i") else out
        else:
            spelled = _ARAB.get(letter, "")
        spelled = _draw(spelled, rng)
        if not vocalised and spelled and out and spelled[0] not in _VOWEL_LETTERS and out[-1] not in _VOWEL_LETTERS and rng.random() < 0.75:
            out += rng.choice("aaaie")
        out += spelled
    return out


def to_typewriter_turkish(text: str) -> str:
    """Turkish as typed on a keyboard without its letters: "nasıl yapılır" as "nasil yapilir"."""
    return text.translate(str.maketrans("çğıöşüÇĞİÖŞÜâîû", "cgiosuCGIOSUaiu"))

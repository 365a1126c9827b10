"""What can be said about a text from its letters alone: letters that belong to one language, and scripts that none of ours uses."""

import unicodedata
from collections.abc import Sequence

NAMES = {
    "ar": "Arabic", "as": "Assamese", "bn": "Bangla", "en": "English", "hi": "Hindi", "ne": "Nepali", "tr": "Turkish",
    "ur": "Urdu", "fa": "Persian", "ckb": "Central Kurdish", "mr": "Marathi", "mai": "Maithili", "bho": "Bhojpuri", "sa": "Sanskrit",
    "az": "Azerbaijani", "ku": "Kurdish", "uz": "Uzbek", "de": "German", "fr": "French", "es": "Spanish", "id": "Indonesian or Malay",
}  # fmt: skip

# Grammar words of the two languages that are written in Latin letters. They say that a sentence with a foreign word in another script
# ("What does পিঠা mean?") is theirs; without them the other script is the language, and the Latin words are names ("Durga puja কবে?").
GRAMMAR = """
what who whom whose which when where why how is are was were do does did can could should would will the a an of in on at to for from with by and or
it this that these those mean means meaning word called please tell me about i you we they my your has have had not be
ne nedir nasıl nasil neden niçin nicin niye kim kimdir kime hangi hangisi nerede nereye nereden kaç kac mi mı mu mü midir ve bir bu şu o ile için icin gibi
olarak demek demektir anlama gelir var yok değil degil olan çok daha
"""

# class -> (letter, what it shows). Only shown, never decisive: a quotation may hold any letter, and the model has weighed them already.
LETTERS: dict[str, tuple[tuple[str, str], ...]] = {
    "as": (("ৰ", "ৰ occurs only in Assamese"), ("ৱ", "ৱ occurs only in Assamese")),
    "tr": (("ğ", "ğ is a Turkish letter"), ("ı", "ı is a Turkish letter"), ("ş", "ş is a Turkish letter")),
    "az": (("ə", "ə is Azerbaijani, not Turkish"),),
    "ur": (("ٹ", "ٹ is Urdu, not Arabic"), ("ڈ", "ڈ is Urdu, not Arabic"), ("ں", "ں is Urdu, not Arabic"), ("ے", "ے is Urdu, not Arabic")),
    "ckb": (("ێ", "ێ is Kurdish"), ("ۆ", "ۆ is Kurdish"), ("ە", "ە is Kurdish")),
    "fa": (
        ("پ", "پ is Persian, not Arabic"),
        ("چ", "چ is Persian, not Arabic"),
        ("گ", "گ is Persian, not Arabic"),
        ("ژ", "ژ is Persian, not Arabic"),
    ),
    "ar": (("ة", "ة is Arabic, not Persian or Urdu"), ("إ", "إ is Arabic, not Persian or Urdu")),
    "mr": (("ळ", "ळ is Marathi, rare in Hindi and Nepali"),),
    "de": (("ß", "ß is German"),),
    "es": (("ñ", "ñ is Spanish"),),
}

# first word of a letter's Unicode name -> (language, ISO 15924, name). Where a script serves many languages the largest stands for it.
_OTHER = {
    "GUJARATI": ("gu", "Gujr"), "GURMUKHI": ("pa", "Guru"), "ORIYA": ("or", "Orya"), "TAMIL": ("ta", "Taml"), "TELUGU": ("te", "Telu"),
    "KANNADA": ("kn", "Knda"), "MALAYALAM": ("ml", "Mlym"), "SINHALA": ("si", "Sinh"), "THAI": ("th", "Thai"), "LAO": ("lo", "Laoo"),
    "TIBETAN": ("bo", "Tibt"), "MYANMAR": ("my", "Mymr"), "GEORGIAN": ("ka", "Geor"), "HANGUL": ("ko", "Kore"), "ETHIOPIC": ("am", "Ethi"),
    "KHMER": ("km", "Khmr"), "HIRAGANA": ("ja", "Jpan"), "KATAKANA": ("ja", "Jpan"), "CJK": ("zh", "Hani"), "GREEK": ("el", "Grek"),
    "CYRILLIC": ("ru", "Cyrl"), "ARMENIAN": ("hy", "Armn"), "HEBREW": ("he", "Hebr"), "THAANA": ("dv", "Thaa"),
}  # fmt: skip


def other_script(words: Sequence[str]) -> tuple[str, str, str]:
    """(language, ISO 15924 code, English name of the script) of words in a script that the model does not know; "und" when unknown."""
    names = [unicodedata.name(letter, "").split(" ")[0] for letter in "".join(words)[:200]]
    if "HIRAGANA" in names or "KATAKANA" in names:  # Japanese mixes kana into Chinese characters
        names = ["HIRAGANA"]
    known = [name for name in names if name in _OTHER]
    if not known:
        return "und", "Zzzz", ""
    name = max(known, key=known.count)
    return (*_OTHER[name], "Chinese" if name == "CJK" else name.title())

"""Text as it is compared: letters folded, words and sentences found, in Arabic, Bengali-Assamese, Devanagari and Latin script."""

import unicodedata
from functools import lru_cache

import regex

# Each pair is applied in order, after NFKC. The encoder's tokenizer carries the same table (train/tokenizer), so that
# dense and lexical search see the same letters.
FOLDS: tuple[tuple[str, str], ...] = (
    (r"[\u064B-\u065F\u0640\u0670\u06D6-\u06ED]", ""),  # Arabic short vowels, tatweel, recitation marks: users never type them
    (r"[\u200B-\u200F\u2060\u202A-\u202E\u2066-\u2069\uFEFF\u00AD]", ""),  # joiners, bidi controls, soft hyphen: invisible
    ("[أإآٱ]", "ا"),
    ("[ىی]", "ي"),
    ("ة", "ه"),
    ("ک", "ك"),
    ("ৰ", "র"),  # Assamese ra: half of the Assamese on the web is typed with the Bengali letter
    ("\u093c", ""),  # the Hindi dot below (ज़ as ज), often left out
    ("ँ", "ं"),
    ("\u0307", ""),  # what is left of İ after lower-casing
    ("ı", "i"),  # Turkish typed on a keyboard without ı
)
_TO_ASCII_DIGIT = {zero + value: str(value) for zero in (0x0660, 0x06F0, 0x0966, 0x09E6) for value in range(10)}
DIGITS: tuple[tuple[str, str], ...] = tuple(  # the same table for the tokenizer
    (f"[{''.join(chr(code) for code, digit in _TO_ASCII_DIGIT.items() if digit == ascii)}]", ascii) for ascii in "0123456789"
)
_COMPILED = tuple((regex.compile(pattern), replacement) for pattern, replacement in FOLDS)
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}]+)*")
_SENTENCE_END = regex.compile(r"(?<=[।॥؟!?…])[\"'”’»)\]]*\s+|(?<=[^\s.]{2}\.)[\"'”’»)\]]*\s+(?=[\p{Lu}\p{Lo}\p{N}\"'“‘«(])|\n+")


def fold(text: str) -> str:
    """`text` with the spelling differences that do not change a word removed; for comparison, never for display."""
    # the tokenizer lower-cases letter by letter, Python alone knows a final sigma
    text = unicodedata.normalize("NFKC", text).replace("Σ", "σ").lower()
    for pattern, replacement in _COMPILED:
        text = pattern.sub(replacement, text)
    return text.translate(_TO_ASCII_DIGIT)


def words(text: str) -> list[str]:
    """The words of `text`, folded. Combining vowel signs stay inside their word, which Python's `\\w` does not do."""
    return _WORD.findall(fold(text))


@lru_cache(maxsize=4096)
def sentence_spans(text: str) -> tuple[tuple[int, int], ...]:
    """Offsets of the sentences of `text`; text[a:b] holds no surrounding space, and nothing but space lies between two."""
    spans, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        # a closing quote belongs to the sentence before it, only the space does not
        end = match.start() + len(match.group().rstrip())
        if text[start:end].strip():
            spans.append(_trim(text, start, end))
        start = match.end()
    if text[start:].strip():
        spans.append(_trim(text, start, len(text)))
    return tuple(spans)


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


def same_word(a: str, b: str) -> bool:
    """Whether two folded words are forms of one: equal, or sharing a stem of at least four letters and two thirds of the longer.

    Bangla, Turkish, Nepali and Assamese put their cases at the end of the word (বাংলাদেশ, বাংলাদেশের); a shared beginning is the
    cheapest stemmer that serves all of them.
    """
    if a == b:
        return True
    a, b = _without_article(a), _without_article(b)
    shared = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        shared += 1
    return shared >= 4 and shared * 3 >= max(len(a), len(b)) * 2 or a == b


def stem(word: str) -> str:
    """What `same_word` needs two words to share at least: their first four letters, without an Arabic article."""
    return _without_article(word)[:4]


def _without_article(word: str) -> str:
    """An Arabic word without its article and the one-letter words written onto it (وال، بال، كال، لل، ال)."""
    if "\u0600" <= word[:1] <= "\u06ff":
        for prefix in ("وال", "بال", "كال", "فال", "لل", "ال"):
            if word.startswith(prefix) and len(word) - len(prefix) >= 3:
                return word[len(prefix) :]
    return word


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())

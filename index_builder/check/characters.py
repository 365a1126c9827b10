"""Characters that do not belong: hidden ones, two sets of digits, brackets without a partner, markup, text that is not NFC."""

import unicodedata
from collections.abc import Iterator

import regex

from index_builder.check.report import Severity, printable

Defect = tuple[Severity, str, str, str]  # severity, check, found, expected

_BIDI = regex.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Joiners belong inside a word of an Indic script (পুর‍্যাউ, জসীমউদ্‌দীন) and nowhere else.
_INDIC = r"[[\p{L}\p{M}]&&[\p{Bengali}\p{Devanagari}]]"
_HIDDEN = regex.compile(
    rf"(?<!{_INDIC})[\u200c\u200d]|[\u200c\u200d](?!{_INDIC})|[[\p{{Cf}}\p{{Cc}}\p{{Co}}\p{{Cn}}\u115f\u3164\ufffd]--[\u200c\u200d\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\n\t]]",
    regex.V1,
)
_SPACES = regex.compile(r"^\s|\s$|[ \t]{2,}|[\p{Zs}--[ ]]", regex.V1)
_MARKUP = regex.compile(
    r"</?[A-Za-z][^<>]{0,80}>|&(?:#\d+|#x[0-9a-fA-F]+|[A-Za-z]{2,8});|https?://\S*|\*\*|__|``?|\[[^\[\]]*\]\([^()]*\)|\[\[|\{\{|^#{1,6} |\[\d{1,3}\]",
    regex.M,
)
_DIGIT_SETS = {"0": "0-9", "٠": "Arabic", "۰": "Persian", "०": "Devanagari", "০": "Bengali"}
_OWN_DIGITS = {"ar": "Arabic", "as": "Bengali", "bn": "Bengali", "hi": "Devanagari", "ne": "Devanagari"}
_BRACKETS = {")": "(", "]": "[", "}": "{", "»": "«", "”": "“"}
_LIST_MARK = regex.compile(r"(?<![^\s,;])[\p{L}\p{M}\p{N}]{1,3}\)")
_OPEN_SINGLE, _CLOSE_SINGLE = regex.compile(r"(?<![^\s(«“\"-])'(?=[\p{L}\p{N}])"), regex.compile(r"(?<=\S)'(?![\p{L}\p{M}\p{N}])")
_FIRST_CURLY = regex.compile(r"(?<![\p{L}\p{M}\p{N}])‘(?=\S)")
# Precomposed letters that NFC takes apart: keyboards type them, and nothing here tells the two apart.
_EXCLUDED = {code: unicodedata.normalize("NFC", chr(code)) for code in (*range(0x0958, 0x0960), 0x09DC, 0x09DD, 0x09DF)}


def character_defects(text: str, lang: str) -> Iterator[Defect]:
    for name, pattern, expected in (
        ("bidi control", _BIDI, "no direction controls: the page sets the direction"),
        ("hidden character", _HIDDEN, "only characters that show; joiners only between letters of an Indic word"),
    ):
        if match := pattern.search(text):
            around = printable(text[max(0, match.start() - 20) : match.start()])
            yield "error", name, f"U+{ord(match.group()):04X} after {around!r} (character {match.start() + 1})", expected
    if match := _SPACES.search(text):
        around = printable(text[max(0, match.start() - 12) : match.end() + 12])
        yield "warning", "spaces", f"{around!r} at character {match.start() + 1}", "single plain spaces, none at the ends"
    yield from _not_nfc(text)
    if match := _MARKUP.search(text):
        yield "error", "markup", printable(match.group(), 60), "plain text"
    yield from _digits(text, lang)
    yield from _unbalanced(text)


def _not_nfc(text: str) -> Iterator[Defect]:
    normal = unicodedata.normalize("NFC", text)
    if normal == text:
        return
    at = next((i for i, (a, b) in enumerate(zip(text, normal, strict=False)) if a != b), len(normal))
    codes = " ".join(f"U+{ord(c):04X}" for c in text[at : at + 2])
    # Arabic keyboards put the shadda before the vowel, NFC after it
    severity: Severity = "warning" if sorted(text.translate(_EXCLUDED)) == sorted(normal) else "error"
    yield severity, "not NFC", f"{codes} at character {at + 1}", "text in Unicode normalisation form C"


def _digits(text: str, lang: str) -> Iterator[Defect]:
    found: dict[str, str] = {}
    for run in regex.findall(r"\p{Nd}+", text):
        for digit in run:
            zero = chr(ord(digit) - unicodedata.digit(digit))
            found.setdefault(_DIGIT_SETS.get(zero, f"U+{ord(zero):04X}"), run)
    shown = ", ".join(f"{name} ({run})" for name, run in found.items())
    if len(found) > 1:
        yield "error", "mixed digits", shown, "one set of digits in a field"
    elif found and not found.keys() & {"0-9", _OWN_DIGITS.get(lang, "0-9")}:
        yield "error", "foreign digits", shown, f"{_OWN_DIGITS.get(lang, '0-9')} digits, or 0-9"


def _unbalanced(text: str) -> Iterator[Defect]:
    expected = "each opening quotation mark and bracket closed, in order"
    opened: list[str] = []
    for c in _LIST_MARK.sub("", text) if text.count(")") != text.count("(") else text:
        if c in "([{«“„":
            opened.append(c)
        elif opened and opened[-1] == "„" and c in "“”":
            opened.pop()
        elif c in _BRACKETS and (not opened or opened.pop() != _BRACKETS[c]):
            yield "error", "unbalanced", f"{c} without {_BRACKETS[c]} in {printable(text, 60)!r}", expected
            return
        # „so“ closes with the mark that opens “so”
        if opened[-2:] == ["„", "“"]:
            del opened[-2:]
    if opened:
        yield "error", "unbalanced", f"{opened[-1]} is not closed in {printable(text, 60)!r}", expected
    # 5'6" is a measure
    if text.count('"') % 2 and len(regex.findall(r'(?<!\d)"', text)) % 2:
        yield "error", "unbalanced", f'an odd number of " in {printable(text, 60)!r}', expected
    if len(_FIRST_CURLY.findall(text)) > text.count("’"):
        yield "error", "unbalanced", f"‘ is not closed in {printable(text, 60)!r}", expected
    # an apostrophe may begin a word, so this one is not certain
    if len(_OPEN_SINGLE.findall(text)) > len(_CLOSE_SINGLE.findall(text)):
        yield "warning", "unbalanced", f"' is not closed in {printable(text, 60)!r}", expected

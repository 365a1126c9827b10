"""A follow-up ("and in Dhaka?", "ঢাকায়?", "peki ya İstanbul'da?") -> a question that stands alone, from the questions before it.

Rules and word lists that anyone can read (followups.json), and the reader is shown what was searched for. A question that
is complete must never be changed, so each rule asks for two signs: that it is short, and that it begins, points or stops like a follow-up.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import regex

from index_builder.asking import FUNCTION
from index_builder.text import fold, words
from index_builder.vocabulary import MajlisError

FILE = Path(__file__).resolve().parent / "followups.json"
_MOST_WORDS = 7  # a question of more words says what it is about
_MOST_NEW = 2  # words with a meaning of their own beside "it" or "there"
_MOST_CARRIED = 10
_ARABIC_AND = "و"
_INDIA, _OF_INDIA = "north_india", {"assam", "west_bengal"}
_END = regex.compile(r"[\s?؟।!.…]+$")
_ENDING = r"[\p{L}\p{M}]{0,4}"  # case endings: ঢাকায়, İstanbul'da, काठमाडौंमा


@dataclass(frozen=True, slots=True)
class _Lists:
    """Folded words, of all languages together: those of different scripts cannot be confused, and a conversation may change its language."""

    begin: tuple[tuple[str, ...], ...]  # what ties a question to the one before: ("what", "about")
    refer: frozenset[str]
    verbs: frozenset[str]  # so common that a question with nothing else has no topic: "when is it eaten?"
    place: regex.Pattern
    region: Mapping[str, str]  # a folded place -> key of the strings' "regions"


def standalone(question: str, history: Sequence[str]) -> str:
    """`question` as one that stands alone, or "" when it already does or nothing was asked before. `history`: earlier questions, oldest first."""
    alone = ""  # the last question of the history, itself made to stand alone
    for earlier in history:
        alone = _alone(earlier, alone) or earlier
    return _alone(question, alone)


def region_in(question: str) -> str:
    """The region of the place that `question` names last, a key of the strings' "regions"; empty when it names none that is known."""
    return next(reversed(_regions(question)), "")


def is_elsewhere(question: str, region: str) -> bool:
    """Whether `question` names places, and none of them lies in `region`. Of 19 first hits elsewhere among the dev questions one was an answer."""
    named = set(_regions(question))
    if _INDIA in named:
        named |= _OF_INDIA  # who says India may mean any part of it
    return bool(region and named) and region not in named


def _regions(question: str) -> list[str]:
    """The region of each place that `question` names, in their order."""
    lists = _lists()
    named = [fold(match.group()) for match in lists.place.finditer(question)]
    # a match has its case ending, and in Arabic what is written onto it
    return [region for one in named if (region := next((region for name, region in lists.region.items() if name in one), ""))]


def _alone(question: str, before: str) -> str:
    if not before:
        return ""
    lists = _lists()
    asked = words(question)
    if not asked or len(asked) > _MOST_WORDS:
        return ""
    rest = _without_beginning(question, lists)
    begins = rest != question
    places = [match.group() for match in lists.place.finditer(question)]
    named = {word for place in places for word in words(place)}
    new = [word for word in words(rest) if word not in FUNCTION | lists.refer | lists.verbs | named]
    refers = any(word in lists.refer for word in asked)
    if not new and places:
        return _elsewhere(before, places[-1], rest, lists)
    if begins or (refers and len(new) <= _MOST_NEW) or not new:
        return f"{_topic(before, lists)}: {rest}"
    return ""


def _elsewhere(before: str, place: str, rest: str, lists: _Lists) -> str:
    """The earlier question about another place: its own place replaced, or the new one added."""
    stem, mark = _END.sub("", before), "؟" if "؟" in before else "?"
    if lists.place.search(before):
        first, *others = lists.place.finditer(stem)
        changed = stem
        for other in reversed(others):
            if fold(other.group()) == fold(first.group()):
                changed = changed[: other.start()] + place + changed[other.end() :]
        return f"{changed[: first.start()]}{place}{changed[first.end() :]}{mark}"
    return f"{stem} {_END.sub('', rest)}{mark}"


def _topic(before: str, lists: _Lists) -> str:
    """What the earlier question was about: its words that are no question words, as they were written."""
    kept = [word for word in _END.sub("", before).split() if any(part not in FUNCTION | lists.refer for part in words(word))]
    return " ".join(kept[:_MOST_CARRIED]).rstrip(",;:") or _END.sub("", before)


def _without_beginning(question: str, lists: _Lists) -> str:
    """`question` without the words that tie it to the one before: "and", "peki ya", "what about"; an Arabic "and" is written onto its word."""
    parts = question.split()
    asked = [words(part) for part in parts]
    for phrase in lists.begin:
        taken = [word for part in asked[: len(phrase)] for word in part]
        if len(parts) > len(phrase) and taken == list(phrase):
            return " ".join(parts[len(phrase) :])
    first = asked[0][0] if asked[0] else ""
    known = first[1:] in FUNCTION or first[1:] in lists.refer or lists.place.fullmatch(parts[0][1:].rstrip("؟?"))
    if first.startswith(_ARABIC_AND) and first not in FUNCTION and known:
        return " ".join([parts[0][1:], *parts[1:]])
    return question


@cache
def _lists() -> _Lists:
    """Raises MajlisError when the word lists are missing or broken."""
    try:
        data: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
        refer, verbs = (frozenset(words(" ".join(data[kind].values()))) for kind in ("refer", "verbs"))
        begin = sorted((tuple(words(phrase)) for phrases in data["begin"].values() for phrase in phrases), key=len, reverse=True)
        region = {fold(name): where for where, names in data["places"].items() for name in names}
        names = sorted({name for names in data["places"].values() for name in names}, key=len, reverse=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MajlisError(f"{FILE} cannot be read ({error!r}). Restore it from the repository.") from error
    pattern = rf"(?<![\p{{L}}\p{{M}}])(?:و?[بلف]?)(?:{'|'.join(map(regex.escape, names))})['’]?{_ENDING}(?![\p{{L}}\p{{M}}])"
    return _Lists(tuple(begin), refer, verbs, regex.compile(pattern, regex.IGNORECASE), region)

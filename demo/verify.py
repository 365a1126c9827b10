"""What may be shown: citations that exist and are supported, and an answer in the reader's language."""

from collections.abc import Sequence

import regex

from demo.events import Citation
from index_builder.text import same_word, sentence_spans, words
from index_builder.vocabulary import Evidence

MARK = regex.compile(r"\s?\[(\p{Nd}{1,3})\]")
SUPPORTED_SHARE = 0.6  # of a sentence's words that must stand in the cited text


def remove_unknown(answer: str, evidence: Sequence[Evidence]) -> tuple[str, int]:
    """`answer` without marks whose number no evidence has, and how many were removed. Digits of any script are read."""
    given = {item.n for item in evidence}
    removed = 0

    def keep(match: regex.Match) -> str:
        nonlocal removed
        if int(match.group(1)) in given:
            return match.group()
        removed += 1
        return ""

    return MARK.sub(keep, answer), removed


def citations_of(answer: str, evidence: Sequence[Evidence]) -> tuple[Citation, ...]:
    """Each mark of `answer` with the sentence that it follows, and whether that sentence's words are in the cited source."""
    by_number = {item.n: item for item in evidence}
    found = []
    start = 0
    for match in MARK.finditer(answer):
        before = MARK.sub("", answer[start : match.start()]).strip()
        if before:
            spans = sentence_spans(before)
            quote = before[spans[-1][0] : spans[-1][1]]
            start = match.end()
        elif found:
            quote = found[-1].quote  # "[1][2]": both belong to the same sentence
        else:
            continue
        item = by_number.get(int(match.group(1)))
        if item:
            found.append(Citation(item.n, item.hit.entry.entry_id, quote, supported(quote, item)))
    return tuple(found)


def supported(sentence: str, item: Evidence) -> bool:
    entry = item.hit.entry
    source = set(words(f"{entry.title} {entry.question} {entry.text}"))
    asked = words(sentence)
    held = sum(word in source or any(same_word(word, other) for other in source) for word in asked)
    return bool(asked) and held / len(asked) >= SUPPORTED_SHARE


def without_marks(answer: str) -> str:
    return MARK.sub("", answer)

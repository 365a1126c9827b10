"""What may be shown: citations that exist and are supported, and an answer in the reader's language."""

from collections.abc import Callable, Sequence

import regex

from demo.events import Citation, Detection
from index_builder.text import sentence_spans, words
from index_builder.vocabulary import Entry, Evidence

MARK = regex.compile(r"\s?\[(\p{Nd}{1,3})\]")


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


def citations_of(answer: str, evidence: Sequence[Evidence], holds: Callable[[str, Entry], bool]) -> tuple[Citation, ...]:
    """Each mark of `answer` with the sentence that it follows, and whether the cited source carries that sentence (`holds`)."""
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
            found.append(Citation(item.n, item.hit.entry.entry_id, quote, holds(quote, item.hit.entry)))
    return tuple(found)


def unsupported(
    answer: str, citations: Sequence[Citation], evidence: Sequence[Evidence], holds: Callable[[str, Entry], bool]
) -> tuple[str, ...]:
    """The sentences of `answer`, as they stand in it, that no source bears out.

    `citations`: those of the answer (citations_of). A sentence that cites is held against what it cites, one that does not against `evidence`.
    """
    held: dict[str, bool] = {}
    for citation in citations:
        held[citation.quote] = held.get(citation.quote, False) or citation.supported
    found = []
    for part in MARK.split(answer)[::2]:
        for start, end in sentence_spans(part):
            sentence = part[start:end].strip()
            if words(sentence) and not held.setdefault(sentence, any(holds(sentence, item.hit.entry) for item in evidence)):
                found.append(sentence)
    return tuple(dict.fromkeys(found))


def repeats_at(answer: str) -> int:
    """Where `answer` begins to say again what it has said, a whole sentence or a mark alone, as small models do without end; -1 if nowhere."""
    said, last, start = set(), "", 0
    for match in (*MARK.finditer(answer), None):  # None: the last sentence may go on
        part = answer[start : match.start() if match else len(answer)]
        spans = sentence_spans(part)
        for begin, end in spans if match else spans[:-1]:
            if part[begin:end] in said:
                return start + begin
            said.add(part[begin:end])
        if match:
            if not spans and match.group(1) == last:
                return start
            last, start = match.group(1), match.end()
    return -1


def without_marks(answer: str) -> str:
    """`answer` without anything that reads as a mark, also not after another was taken out of it ("[[1]2]")."""
    while (shorter := MARK.sub("", answer)) != answer:
        answer = shorter
    return answer


class LanguageGuard:
    """Listens to an answer while it is written: is it in the language that it should be in?

    Looked at as soon as there are letters enough to tell, and then at the end of every line and sentence, so that an answer that
    begins in one language and goes on in another is noticed too. Names and quotations are too short to count.
    """

    _ENOUGH = 40  # letters after which a language can be told
    _LEAST = 20  # of a sentence, or of a whole answer that is short
    _SURE = 0.9

    def __init__(self, detect: Callable[[str], Detection], lang: str):
        self._detect, self._lang = detect, lang
        self._unheard = ""
        self._heard = False
        self._begun = False  # the first letters have been looked at

    def hears(self, piece: str) -> bool:
        """Whether the answer, with `piece` added to it, is surely in another language."""
        self._unheard += piece
        if not self._begun and _letters(self._unheard) >= self._ENOUGH:
            self._begun = True
            self._heard |= self._is_other(self._unheard)
        spans = sentence_spans(self._unheard)
        if len(spans) > 1:
            for start, end in spans[:-1]:
                self._heard |= self._is_other(self._unheard[start:end])
            self._unheard = self._unheard[spans[-1][0] :]
        return self._heard

    def heard_at_the_end(self) -> bool:
        """The same, when nothing more comes."""
        self._heard |= self._is_other(self._unheard)
        return self._heard

    def _is_other(self, text: str) -> bool:
        if _letters(text) < self._LEAST:
            return False
        found = self._detect(without_marks(text))
        return found.lang not in (self._lang, "und") and found.confidence >= self._SURE


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))

"""Who writes the queries of an entry: a sequence-to-sequence model or a Llama, behind one interface."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, Protocol

from index_builder.querygen.families import ENGLISH_NAMES, Task
from index_builder.querygen.model import Decoding, Request, Seq2Seq, Written
from index_builder.text import sentences
from index_builder.vocabulary import LANGUAGES, Entry

_PROMPT_ROOM = 24  # source tokens kept free for marks or the words of a prompt
_LETTERS = 50_000  # of a passage that are looked at; what is longer is no passage


@dataclass(frozen=True, slots=True)
class Job:
    entry: Entry
    lang: str  # to write in


class QueryWriter(Protocol):
    name: str
    entries_at_a_time: int

    def settings(self) -> dict[str, Any]:
        """All that decides what it writes, beside the corpus; JSON values."""
        ...

    def can_write(self, lang: str) -> None:
        """Raises QueryModelError when it writes this language for no passage at all."""
        ...

    def write(self, jobs: Sequence[Job], number: int) -> list[list[Written]]:
        """Up to `number` different queries for each job, the best first; none where there is nothing to write."""
        ...


class Seq2SeqWriter:
    """Asks about each window of a passage, or translates what people ask about it."""

    entries_at_a_time = 64

    def __init__(self, model: Seq2Seq, task: Task, decoding: Decoding, seed: int = 0):
        self.name, self._model, self._task, self._decoding, self._seed = model.name, model, task, decoding, seed

    def settings(self) -> dict[str, Any]:
        decoding = {key: value for key, value in asdict(self._decoding).items() if key not in ("number", "batch_tokens")}
        return {"task": self._task, "model_sha256": self._model.fingerprint(), **decoding, "seed": self._seed}

    def can_write(self, lang: str) -> None:
        if not any(self._model.family.can(self._task, source, lang) for source in LANGUAGES):
            self._model.check(self._task, next(source for source in LANGUAGES if source != lang), lang)

    def write(self, jobs: Sequence[Job], number: int) -> list[list[Written]]:
        texts: dict[str, list[str]] = {}  # of an entry, the same for every language
        requests: list[Request] = []
        shares: list[range] = []  # the requests of each job
        for job in jobs:
            entry, first = job.entry, len(requests)
            if self._model.family.can(self._task, entry.lang, job.lang):
                if entry.entry_id not in texts:
                    texts[entry.entry_id] = self._windows(entry, number) if self._task == "ask" else questions_of(entry, number)
                title = entry.title if self._task == "ask" else ""
                requests += [Request(self._task, entry.lang, job.lang, text, title) for text in texts[entry.entry_id]]
            shares.append(range(first, len(requests)))
        written: list[list[Written]] = [[] for _ in requests]
        # a call of its own for each number of hypotheses: an entry with one window needs all of them from it, one with three a third
        wanted = [-(-number // len(share)) for share in shares for _ in share]
        for hypotheses in sorted(set(wanted)):
            chosen = [i for i, count in enumerate(wanted) if count == hypotheses]
            decoding = Decoding(**{**asdict(self._decoding), "number": hypotheses})
            for i, found in zip(chosen, self._model.write([requests[i] for i in chosen], decoding), strict=True):
                written[i] = found
        return [_best_of([written[i] for i in share], number) for share in shares]

    def _windows(self, entry: Entry, number: int) -> list[str]:
        room = self._model.family.most_source_tokens - _PROMPT_ROOM - self._model.count_tokens(entry.title)
        return spread(windows(entry.text[:_LETTERS], max(room, _PROMPT_ROOM), self._model.count_tokens), number)


class LlamaWriter:
    """Asks any generator of `demo.generate` for questions, one a line. It gives no likelihoods: the first has score 0, the next -1."""

    entries_at_a_time = 1

    def __init__(self, name: str, complete: Callable[[str, int], str]):
        """`complete`: (prompt, most tokens) -> what the model writes."""
        self.name, self._complete = name, complete

    def settings(self) -> dict[str, Any]:
        return {"task": "ask", "prompt": _LLAMA_PROMPT}

    def can_write(self, lang: str) -> None:
        """A Llama has no codes of languages, and tries what it is asked; how well is for the round trip to find out."""

    def write(self, jobs: Sequence[Job], number: int) -> list[list[Written]]:
        return [self._ask(job, number) for job in jobs]

    def _ask(self, job: Job, number: int) -> list[Written]:
        passage = " ".join(part for part in (job.entry.title, job.entry.text[:_LLAMA_LETTERS]) if part)
        prompt = _LLAMA_PROMPT.format(number=number, language=ENGLISH_NAMES[job.lang], passage=passage)
        lines = [
            line.strip().lstrip("-*•0123456789०১২৩৪৫৬৭৮৯٠١٢٣٤٥٦٧٨٩.) ").strip() for line in self._complete(prompt, 64 * number).split("\n")
        ]
        return [Written(line, -float(rank)) for rank, line in enumerate(dict.fromkeys(filter(None, lines)))][:number]


_LLAMA_LETTERS = 2_000
_LLAMA_PROMPT = "Write {number} short questions in {language} that this passage answers, one on each line and nothing else.\n\n{passage}"


def windows(text: str, most_tokens: int, count_tokens: Callable[[str], int]) -> list[str]:
    """Whole sentences packed to at most `most_tokens` each; a longer sentence is a window of its own, which the model cuts."""
    out: list[str] = []
    parts: list[str] = []
    length = 0
    for sentence in sentences(text):
        tokens = count_tokens(sentence)
        if parts and length + tokens > most_tokens:
            out.append(" ".join(parts))
            parts, length = [], 0
        parts.append(sentence)
        length += tokens
    return [*out, " ".join(parts)] if parts else out


def spread(items: Sequence[str], number: int) -> list[str]:
    """At most `number` of them, evenly from the first to the last."""
    if len(items) <= number:
        return list(items)
    return [items[round(i * (len(items) - 1) / max(1, number - 1))] for i in range(number)]


def questions_of(entry: Entry, number: int) -> list[str]:
    """What a model that only translates is given: the native question and the queries in the entry's own language; without any, its title and sentences."""
    own = [query.text for query in entry.queries if query.lang == entry.lang]
    asked = [text for text in dict.fromkeys((entry.question, *own)) if text]
    if not asked:
        asked = [text for text in (entry.title, *spread(sentences(entry.text[:_LETTERS]), number)) if text]
    return asked[:number]


def _best_of(found: Sequence[Sequence[Written]], number: int) -> list[Written]:
    """The best of each window, then their second best …; each text once."""
    once: dict[str, Written] = {}
    for rank in zip_longest(*found):
        for written in rank:
            if written is not None:
                once.setdefault(written.text, written)
    return list(once.values())[:number]

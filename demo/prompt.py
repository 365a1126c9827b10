"""Evidence and question -> the messages a model gets, written in the user's language (METHODS section 6, answer-language fidelity)."""

from collections.abc import Callable, Mapping, Sequence

from demo.generate.types import Message
from demo.languages import endonym, region_of, strings
from demo.verify import without_marks
from index_builder.text import sentences
from index_builder.vocabulary import Entry, Evidence

ANSWER_TOKENS = 320  # three sentences of Assamese in a tokenizer that knows none of it
_TEMPLATE_TOKENS = 64  # what a chat template may write around two messages


def build_messages(
    question: str, evidence: Sequence[Evidence], lang: str, count_tokens: Callable[[str], int], context: int
) -> tuple[list[Message], Mapping[int, tuple[str, ...]]]:
    """The messages of one question, for training and for answering, and number -> sentences of the evidence that is in them.

    The system message is the same for every question in a language, and the evidence stands before the question: a second question about the
    same evidence finds all of it in the KV cache.
    Evidence in the language of the answer comes first; each piece keeps its number. What does not fit into `context` tokens (less
    the answer's share) is cut at sentence ends, the longest first. Sources and question are text: what would read as a citation of ours,
    or as the next piece of evidence, is taken out of them.
    """
    words = strings(lang)
    system = words["prompt_system"].format(language=endonym(lang), unknown=words["unknown"])
    asked = f"{words['prompt_question']} {_plain(question)}"

    def user(lines: Sequence[str]) -> str:
        return f"{words['prompt_evidence']}\n{''.join(lines)}\n{asked}"

    budget = context - ANSWER_TOKENS - _TEMPLATE_TOKENS - count_tokens(system) - count_tokens(user(()))
    ordered = sorted(evidence, key=lambda item: (item.hit.entry.lang != lang, item.n))
    given = {item.n: sources for item in ordered if (sources := source_sentences(item.hit.entry))}
    heads = {item.n: f"[{item.n}] {_head(item.hit.entry, lang)}".rstrip() for item in ordered}
    sizes = {n: count_tokens(_line(heads[n], given[n])) for n in given}
    while given and sum(sizes.values()) > budget:
        longest = max(sizes, key=lambda n: (sizes[n], n))  # of equals, the one that was found last
        given[longest] = given[longest][:-1]
        if given[longest]:
            sizes[longest] = count_tokens(_line(heads[longest], given[longest]))
        else:  # a single sentence that does not fit: better gone than cut in two
            del given[longest], sizes[longest]
    lines = [_line(heads[n], given[n]) for n in given]
    return [{"role": "system", "content": system}, {"role": "user", "content": user(lines)}], given


def source_sentences(entry: Entry) -> tuple[str, ...]:
    """The sentences of an entry as a model reads and an answer quotes them: on one line each, without marks like "[3]" of the source's own."""
    return tuple(sentence for found in sentences(entry.text) if (sentence := _plain(found)))


def _head(entry: Entry, lang: str) -> str:
    """Place and topic in the reader's language, then the question that the source answers, or its title."""
    words = strings(lang)
    place = words["regions"].get(region_of(entry.locale, entry.region), "")
    about = ", ".join(part for part in (place, words["topics"].get(entry.topic, "")) if part)
    name = _plain(entry.question) or (f"{_plain(entry.title)}:" if entry.title else "")
    return " ".join(part for part in (f"({about})" if about else "", name) if part)


def _line(head: str, sources: Sequence[str]) -> str:
    return " ".join((head, *sources)) + "\n"


def _plain(text: str) -> str:
    return " ".join(without_marks(text).split())

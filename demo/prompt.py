"""Evidence and question -> the messages a model gets, written in the user's language (METHODS section 6, answer-language fidelity)."""

from collections.abc import Callable, Sequence

from demo.generate.types import Message
from demo.languages import endonym, strings
from index_builder.text import sentence_spans
from index_builder.vocabulary import Evidence

ANSWER_TOKENS = 320  # three sentences of Assamese in a tokenizer that knows none of it


def build_messages(
    question: str, evidence: Sequence[Evidence], lang: str, count_tokens: Callable[[str], int], context: int
) -> list[Message]:
    """The system message is the same for every question in a language, so that its KV cache is reused; evidence and question come after it.

    Also returns the numbers of the evidence that is in them. Evidence that does not fit into `context` tokens (less the answer's share) is cut at sentence ends, the longest first.
    """
    words = strings(lang)
    system = words["prompt_system"].format(language=endonym(lang), unknown=words["unknown"])
    budget = context - ANSWER_TOKENS - count_tokens(system) - count_tokens(question) - 64
    texts = _fitted([(item.n, item.hit.entry.title, item.hit.entry.text) for item in evidence], budget, count_tokens)
    sources = "\n".join(f"[{n}] {f'{title}: ' if title else ''}{text}" for n, title, text in texts)
    user = f"{words['prompt_evidence']}\n{sources}\n\n{words['prompt_question']} {question}"
    return [{"role": "system", "content": system}, {"role": "user", "content": user}], tuple(n for n, _, _ in texts)


def _fitted(texts: list[tuple[int, str, str]], budget: int, count_tokens: Callable[[str], int]) -> list[tuple[int, str, str]]:
    sizes = [count_tokens(f"[{n}] {title}: {text}\n") for n, title, text in texts]
    while texts and sum(sizes) > budget:
        longest = max(range(len(texts)), key=lambda i: sizes[i])
        n, title, text = texts[longest]
        spans = sentence_spans(text)
        if len(spans) > 1:
            texts[longest] = (n, title, text[: spans[-2][1]])
            sizes[longest] = count_tokens(f"[{n}] {title}: {texts[longest][2]}\n")
        else:  # a single sentence that does not fit: better gone than cut in two
            del texts[longest], sizes[longest]
    return texts

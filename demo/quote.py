"""Verbatim answers: sentences of the evidence, chosen and cited, never a word that is not in a source."""

from collections.abc import Mapping, Sequence

from demo.verify import without_marks
from index_builder.text import sentence_spans
from index_builder.vocabulary import Evidence

MOST_SENTENCES = 3


def quote(evidence: tuple[Evidence, ...]) -> str:
    """The best piece of evidence as an answer: "Sentence. [1] Sentence. [1]".

    A native answer was written to stand alone and is quoted whole, up to three sentences. Of a passage, the sentence nearest
    to the question is quoted with the one after it, which often carries the reason.
    """
    best = evidence[0]
    text = best.hit.entry.text
    spans = sentence_spans(text)
    if best.hit.entry.kind == "qa":
        chosen = spans[:MOST_SENTENCES]
    else:
        nearest = next((i for i, (start, end) in enumerate(spans) if start <= best.start < end), 0)
        chosen = spans[nearest : nearest + 2]
    # a source's own "[3]" (a footnote) would read as a citation of ours
    return cited([without_marks(text[start:end]) for start, end in chosen], best.n)


def candidates(given: Mapping[int, Sequence[str]], refusal: str) -> tuple[str, ...]:
    """Every answer that a model which chooses may give: one to three sentences of one source, in their order, each cited; or the refusal.

    `given`: number -> sentences, as demo.prompt.build_messages tells what it put before the model.
    """
    runs = [
        cited(sentences[start:end], n)
        for n, sentences in given.items()
        for start in range(len(sentences))
        for end in range(start + 1, min(start + MOST_SENTENCES, len(sentences)) + 1)
    ]
    return (*runs, refusal)


def cited(sentences: Sequence[str], n: int) -> str:
    return " ".join(f"{sentence} [{n}]" for sentence in sentences)

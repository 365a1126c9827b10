"""Verbatim answers: sentences of the evidence, chosen and cited, never a word that is not in a source."""

from demo.verify import without_marks
from index_builder.text import sentence_spans
from index_builder.vocabulary import Evidence

_MOST_SENTENCES = 3


def quote(evidence: tuple[Evidence, ...]) -> str:
    """The best piece of evidence as an answer: "Sentence. [1] Sentence. [1]".

    A native answer was written to stand alone and is quoted whole, up to three sentences. Of a passage, the sentence nearest
    to the question is quoted with the one after it, which often carries the reason.
    """
    best = evidence[0]
    text = best.hit.entry.text
    spans = sentence_spans(text)
    if best.hit.entry.kind == "qa":
        chosen = spans[:_MOST_SENTENCES]
    else:
        nearest = next((i for i, (start, end) in enumerate(spans) if start <= best.start < end), 0)
        chosen = spans[nearest : nearest + 2]
    # a source's own "[3]" (a footnote) would read as a citation of ours
    return " ".join(f"{without_marks(text[start:end])} [{best.n}]" for start, end in chosen)

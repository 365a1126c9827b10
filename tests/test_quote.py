"""Verbatim answers hold the words of the evidence and citation marks, and nothing else."""

import regex
from hypothesis import assume, given
from hypothesis import strategies as st

from demo.quote import candidates, quote
from index_builder.text import sentence_spans
from index_builder.vocabulary import Entry, Evidence, Hit

SCRIPTS = st.text(
    st.sampled_from("কখগ া্য়ৰ‍‌।আমি मैंनेहिन्दी॥। القهوةالعربيةَُ؟ Türkçeığş.!?\"'”» ab12\n[]3১२٣ 🙂🇧🇩\u202e\u2066"), min_size=1, max_size=120
)


def evidence(text: str, kind: str = "qa", n: int = 1, start: int = 0, end: int | None = None) -> Evidence:
    entry = Entry(f"e{n}", kind, "en", text, question="Why?" if kind == "qa" else "")
    return Evidence(n, Hit(entry, n, 1.0, 0.9, 1.0, 1.0, "text"), start, len(text) if end is None else end)


def test_a_native_answer_is_quoted_whole_with_a_mark_after_each_sentence():
    assert quote((evidence("Tea is poured. It is sweet."),)) == "Tea is poured. [1] It is sweet. [1]"


def test_of_a_long_native_answer_the_first_three_sentences_are_quoted():
    assert quote((evidence("এক। দুই। তিন। চার।"),)) == "এক। [1] দুই। [1] তিন। [1]"


def test_of_a_passage_the_nearest_sentence_is_quoted_with_the_one_after_it():
    text = "The forest is large. The tiger lives there. It swims. Honey is gathered."
    start = text.index("The tiger")
    assert quote((evidence(text, "passage", start=start, end=start + 22),)) == "The tiger lives there. [1] It swims. [1]"


def test_the_last_sentence_of_a_passage_stands_alone():
    text = "One is here. Two is there."
    assert quote((evidence(text, "passage", start=text.index("Two")),)) == "Two is there. [1]"


def test_only_the_best_piece_of_evidence_is_quoted():
    assert quote((evidence("Qahwa has cardamom.", n=1), evidence("Tea has mint.", n=2))) == "Qahwa has cardamom. [1]"


def test_a_footnote_mark_of_the_source_is_not_taken_for_a_citation():
    assert quote((evidence("The bridge is old.[3] It is long [২]."),)) == "The bridge is old. It is long. [1]"


@given(SCRIPTS, st.sampled_from(["qa", "passage"]), st.integers(0, 120))
def test_every_piece_of_a_quote_is_a_piece_of_the_evidence(text, kind, start):
    assume(text.strip())
    answer = quote((evidence(text, kind, n=7, start=min(start, len(text) - 1)),))
    pieces = answer.split(" [7]")
    assert pieces.pop() == ""
    plain = regex.sub(r"\s?\[\p{Nd}{1,3}\]", "", text)
    place = 0
    for piece in pieces:
        place = plain.index(piece.removeprefix(" "), place)  # in the source's order; raises when it is not there
    assert 1 <= len(pieces) <= (3 if kind == "qa" else 2) and len(pieces) <= len(sentence_spans(text))


def test_a_model_may_choose_one_to_three_sentences_in_a_row_of_one_source_or_the_refusal():
    given = {2: ("A.", "B.", "C.", "D."), 1: ("E.",)}
    assert candidates(given, "No.") == (
        "A. [2]", "A. [2] B. [2]", "A. [2] B. [2] C. [2]", "B. [2]", "B. [2] C. [2]", "B. [2] C. [2] D. [2]",
        "C. [2]", "C. [2] D. [2]", "D. [2]", "E. [1]", "No.",
    )  # fmt: skip


def test_without_evidence_only_the_refusal_can_be_chosen():
    assert candidates({}, "No.") == ("No.",)

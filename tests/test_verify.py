"""Citations that may be shown: those that exist, each with whether its source carries the sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.quote import quote
from demo.verify import citations_of as cited_by
from demo.verify import remove_unknown, without_marks
from index_builder.encode import BUNDLED, open_encoder
from index_builder.support import UNFITTED
from index_builder.text import sentence_spans
from index_builder.vocabulary import Entry, Evidence, Hit

ENCODER = open_encoder(BUNDLED)


def supported(sentence, item):
    entry = item.hit.entry
    return UNFITTED.holds(sentence, entry.lang, entry, ENCODER)


def citations_of(answer, items):
    return cited_by(answer, items, lambda sentence, entry: UNFITTED.holds(sentence, entry.lang, entry, ENCODER))


def evidence(n: int, text: str, lang: str = "en", question: str = "") -> Evidence:
    return Evidence(n, Hit(Entry(f"e{n}", "qa", lang, text, question=question), n, 1.0, 0.9, 1.0, 1.0, "text"), 0, len(text))


COFFEE = evidence(1, "Dates are served with Arabic coffee. The cup is held in the right hand.")
BIHU = evidence(2, "ভোগালী বিহু মাঘ মাহৰ আৰম্ভণিতে পালন কৰা হয়।", "as")


@pytest.mark.parametrize("answer, shown, removed", [
    ("Dates. [1]", "Dates. [1]", 0),
    ("Dates. [3]", "Dates.", 1),
    ("Dates [3] and coffee [1] and tea [0].", "Dates and coffee [1] and tea.", 2),
    ("খেজুর। [১] চা। [৩]", "খেজুর। [১] চা।", 1),
    ("تمر. [٢] شاي. [٩]", "تمر. [٢] شاي.", 1),
    ("खजूर। [२] चाय। [४]", "खजूर। [२] चाय।", 1),
    ("Dates. [1][2][3][999]", "Dates. [1][2]", 2),
    ("In [1984] it was [x] and [].", "In [1984] it was [x] and [].", 0),
    ("", "", 0),
])  # fmt: skip
def test_citations_that_no_evidence_has_are_removed_and_counted(answer, shown, removed):
    assert remove_unknown(answer, (COFFEE, BIHU)) == (shown, removed)


def test_a_sentence_made_of_the_words_of_its_source_is_supported():
    (citation,) = citations_of("Dates are served with coffee. [1]", (COFFEE, BIHU))
    assert (citation.n, citation.entry_id, citation.quote, citation.supported) == (1, "e1", "Dates are served with coffee.", True)


def test_a_sentence_about_something_else_is_not_supported():
    (citation,) = citations_of("Camels race at dawn near Doha. [1]", (COFFEE,))
    assert not citation.supported


@pytest.mark.parametrize("sentence, held", [
    ("coffee cup hand zebra quagga", True),  # three of five words, the least that counts
    ("coffee cup zebra quagga", False),  # two of four
    ("...", False),  # no words at all
])  # fmt: skip
def test_three_words_in_five_support_a_sentence(sentence, held):
    assert supported(sentence, COFFEE) is held


def test_case_endings_and_spelling_do_not_cost_support():
    assert supported("মাঘ মাহত ভোগালী বিহুৰ পালন হয়", BIHU)
    assert supported("মাঘ মাহর আরম্ভণিতে ভোগালী বিহু পালন করা হয়", BIHU)  # typed with the Bengali ra


def test_a_number_that_the_source_does_not_name_is_never_supported():
    assert not supported("Dates are served with Arabic coffee since 1950.", COFFEE)


def test_the_question_of_a_pair_supports_too():
    assert supported("Karak is tea with milk", evidence(1, "It is tea with milk.", question="What is karak?"))


def test_each_mark_belongs_to_the_sentence_before_it():
    found = citations_of("Dates are served. [1] ভোগালী বিহু মাঘ মাহত হয়। [২]", (COFFEE, BIHU))
    assert [(item.n, item.quote) for item in found] == [(1, "Dates are served."), (2, "ভোগালী বিহু মাঘ মাহত হয়।")]


def test_each_mark_belongs_to_the_part_of_a_sentence_since_the_last_one():
    found = citations_of("Dates are served [1] with coffee [2].", (COFFEE, BIHU))
    assert [(item.n, item.quote) for item in found] == [(1, "Dates are served"), (2, "with coffee")]


def test_of_two_sentences_before_a_mark_the_nearer_one_carries_it():
    (citation,) = citations_of("Nobody knows who began it. The cup is held in the right hand. [1]", (COFFEE,))
    assert citation.quote == "The cup is held in the right hand."


def test_two_marks_in_a_row_share_their_sentence():
    assert [(item.n, item.quote) for item in citations_of("Dates are served. [1][2]", (COFFEE, BIHU))] == [
        (1, "Dates are served."),
        (2, "Dates are served."),
    ]


def test_a_mark_before_any_sentence_and_one_without_evidence_are_no_citations():
    assert citations_of("[1] [9]", (COFFEE,)) == ()
    assert citations_of("Dates. [9]", (COFFEE,)) == ()


def test_an_answer_without_marks_reads_on():
    assert without_marks("Dates [1] are served. [২]") == "Dates are served."


@given(st.text(st.sampled_from("aকअب [১1٣0]۔.।\u202e🙂"), max_size=80))
def test_whatever_a_model_writes_only_given_numbers_are_left(answer):
    shown, removed = remove_unknown(answer, (COFFEE, BIHU))
    assert {citation.n for citation in citations_of(shown, (COFFEE, BIHU))} <= {1, 2}
    assert removed >= 0 and (removed or shown == answer)


def test_a_quote_is_always_supported_by_its_source():
    for item in (COFFEE, evidence(1, BIHU.hit.entry.text, "as")):
        found = citations_of(quote((item,)), (item,))
        assert len(found) == len(sentence_spans(item.hit.entry.text)) and all(citation.supported for citation in found)

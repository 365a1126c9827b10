"""Citations that may be shown: those that exist, each with whether its source carries the sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.events import Detection
from demo.quote import quote
from demo.verify import MARK, LanguageGuard, citations_of, remove_unknown, without_marks
from index_builder.encode import BUNDLED, open_encoder
from index_builder.support import UNFITTED
from index_builder.text import sentence_spans
from index_builder.vocabulary import Entry, Evidence, Hit

ENCODER = open_encoder(BUNDLED)


def supported(sentence, item):
    entry = item.hit.entry
    return UNFITTED.holds(sentence, entry.lang, entry, ENCODER)


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


def always(sentence: str, entry: Entry) -> bool:
    return True


def test_whether_a_source_carries_the_sentence_is_asked_with_the_sentence_and_its_source():
    asked = []

    def holds(sentence, entry):
        asked.append((sentence, entry.entry_id))
        return entry.entry_id == "e1"

    found = citations_of("Dates are served with coffee. [1] Camels race at dawn. [2]", (COFFEE, BIHU), holds)
    assert asked == [("Dates are served with coffee.", "e1"), ("Camels race at dawn.", "e2")]
    assert [(item.n, item.entry_id, item.quote, item.supported) for item in found] == [
        (1, "e1", "Dates are served with coffee.", True),
        (2, "e2", "Camels race at dawn.", False),
    ]


def test_each_mark_belongs_to_the_sentence_before_it():
    found = citations_of("Dates are served. [1] ভোগালী বিহু মাঘ মাহত হয়। [২]", (COFFEE, BIHU), always)
    assert [(item.n, item.quote) for item in found] == [(1, "Dates are served."), (2, "ভোগালী বিহু মাঘ মাহত হয়।")]


def test_each_mark_belongs_to_the_part_of_a_sentence_since_the_last_one():
    found = citations_of("Dates are served [1] with coffee [2].", (COFFEE, BIHU), always)
    assert [(item.n, item.quote) for item in found] == [(1, "Dates are served"), (2, "with coffee")]


def test_of_two_sentences_before_a_mark_the_nearer_one_carries_it():
    (citation,) = citations_of("Nobody knows who began it. The cup is held in the right hand. [1]", (COFFEE,), always)
    assert citation.quote == "The cup is held in the right hand."


def test_two_marks_in_a_row_share_their_sentence():
    assert [(item.n, item.quote) for item in citations_of("Dates are served. [1][2]", (COFFEE, BIHU), always)] == [
        (1, "Dates are served."),
        (2, "Dates are served."),
    ]


def test_a_mark_before_any_sentence_and_one_without_evidence_are_no_citations():
    assert citations_of("[1] [9]", (COFFEE,), always) == ()
    assert citations_of("Dates. [9]", (COFFEE,), always) == ()


def test_an_answer_without_marks_reads_on():
    assert without_marks("Dates [1] are served. [২]") == "Dates are served."


@given(st.text(st.sampled_from("aকअب [১1٣0]۔.।\u202e🙂"), max_size=80))
def test_whatever_a_model_writes_only_given_numbers_are_left(answer):
    shown, removed = remove_unknown(answer, (COFFEE, BIHU))
    assert {citation.n for citation in citations_of(shown, (COFFEE, BIHU), always)} <= {1, 2}
    assert removed >= 0 and (removed or shown == answer)


def test_every_sentence_of_a_quote_is_cited():
    for item in (COFFEE, evidence(1, BIHU.hit.entry.text, "as")):
        assert len(citations_of(quote((item,)), (item,), always)) == len(sentence_spans(item.hit.entry.text))


@given(st.text(st.sampled_from("a[]12 ৩\n"), max_size=40))
def test_a_text_without_marks_has_none_however_they_were_nested(text):
    assert not MARK.search(without_marks(text))


# The language of an answer


def by_letters(text: str) -> Detection:
    """Bangla when most letters are, else English; sure of itself from ten letters on."""
    letters = [letter for letter in text if letter.isalpha()]
    bangla = sum("\u0980" <= letter <= "\u09ff" for letter in letters)
    return Detection("bn" if bangla * 2 > len(letters) else "en", "", False, 0.99 if len(letters) >= 10 else 0.5, ())


ENGLISH = "Men in Qatar wear a folded cloth that is held by a black cord. "
BANGLA = "কাতারের পুরুষেরা মাথায় ভাঁজ করা একটি কাপড় পরেন যা কালো দড়ি দিয়ে আটকানো। "


def heard(*pieces: str, lang: str = "en") -> tuple[int, bool]:
    """After how many pieces the guard heard another language (0: never), and what it says at the end."""
    guard = LanguageGuard(by_letters, lang)
    for number, piece in enumerate(pieces, 1):
        if guard.hears(piece):
            return number, True
    return 0, guard.heard_at_the_end()


def test_an_answer_in_its_language_passes_in_whatever_pieces_it_comes():
    assert heard(*ENGLISH) == heard(ENGLISH) == (0, False)
    assert heard(*BANGLA, lang="bn") == (0, False)


def test_another_language_is_heard_as_soon_as_there_are_letters_enough():
    pieces = [piece + " " for piece in BANGLA.split()]
    at, wrong = heard(*pieces)
    assert wrong and sum(letter.isalpha() for letter in "".join(pieces[: at - 1])) < 40


def test_an_answer_that_changes_its_language_is_heard_at_the_end_of_the_sentence_or_line():
    assert heard(ENGLISH, BANGLA, ENGLISH) == (3, True)
    assert heard(ENGLISH.strip() + "\n", BANGLA.strip() + "\n", "so") == (3, True)
    assert heard(ENGLISH, BANGLA) == (0, True), "the last sentence is heard when nothing more comes"


def test_a_name_or_a_short_quotation_in_other_letters_is_no_other_language():
    assert heard("The cloth is called ঘুতরা. ", "It is white. ", "মাথায়।") == (0, False)


def test_marks_do_not_count_as_words():
    guard = LanguageGuard(by_letters, "en")
    assert not guard.hears("[১] " * 40) and not guard.heard_at_the_end()

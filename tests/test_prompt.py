"""What a model is given: the user's language, numbered evidence that fits, the question last."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.languages import endonym, strings
from demo.prompt import ANSWER_TOKENS, build_messages
from index_builder.text import sentence_spans
from index_builder.vocabulary import LANGUAGES, Entry, Evidence, Hit

PLENTY = 100_000


def messages(*arguments):
    return build_messages(*arguments)[0]


def tokens(text: str) -> int:
    """One token a word, so that the sizes can be counted by hand."""
    return len(text.split())


def evidence(n: int, text: str, title: str = "") -> Evidence:
    return Evidence(n, Hit(Entry(f"e{n}", "passage", "en", text, title=title), n, 1.0, 0.9, 1.0, 1.0, "text"), 0, len(text))


THREE = (
    evidence(1, "Alpha one here. Alpha two here. Alpha three here."),
    evidence(2, "Beta one here.", "Title"),
    evidence(3, "Gamma one. Gamma two."),
)


def context_for(question: str, lang: str, sources: int) -> int:
    """The context that leaves `sources` tokens for the evidence."""
    system = messages(question, (), lang, tokens, PLENTY)[0]["content"]
    return ANSWER_TOKENS + tokens(system) + tokens(question) + 64 + sources


@pytest.mark.parametrize("lang", LANGUAGES)
def test_two_questions_in_a_language_have_the_same_system_message(lang):
    one, two = (messages(question, THREE, lang, tokens, PLENTY) for question in ("Why?", "নববর্ষ কবে?"))
    assert one[0] == two[0] and one[0]["role"] == "system" and one[1]["content"] != two[1]["content"]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_system_message_is_in_the_language_and_says_how_to_decline(lang):
    system = messages("?", THREE, lang, tokens, PLENTY)[0]["content"]
    assert endonym(lang) in system and system.endswith(strings(lang)["unknown"]) and "[1]" in system and "{" not in system


def test_the_user_message_holds_the_evidence_in_order_and_then_the_question():
    _, user = messages("What is beta?", THREE, "en", tokens, PLENTY)
    assert user == {"role": "user", "content": (
        "Evidence:\n[1] Alpha one here. Alpha two here. Alpha three here.\n[2] Title: Beta one here.\n[3] Gamma one. Gamma two.\n\nQuestion: What is beta?"
    )}  # fmt: skip


def test_evidence_that_does_not_fit_is_cut_at_a_sentence_end_the_longest_first():
    # each source costs its words and "[n] :": 11 + 5 + 6 = 22
    _, user = messages("Why?", THREE, "en", tokens, context_for("Why?", "en", 21))
    assert "[1] Alpha one here. Alpha two here.\n[2] Title: Beta one here.\n[3] Gamma one. Gamma two.\n" in user["content"]


def test_a_single_sentence_that_does_not_fit_is_left_out_whole_and_numbers_stay():
    _, user = messages(
        "Why?", (evidence(1, "word " * 500 + "end."), evidence(2, "Short.")), "en", tokens, context_for("Why?", "en", 40)
    )
    assert user["content"] == "Evidence:\n[2] Short.\n\nQuestion: Why?"


def test_no_room_at_all_leaves_the_question():
    _, user = messages("Why?", THREE, "en", tokens, 10)
    assert user["content"] == "Evidence:\n\n\nQuestion: Why?"


@given(
    st.integers(0, 60),
    st.lists(st.lists(st.sampled_from(["নববর্ষ আসে।", "وصل العيد؟", "Tea is hot.", "मेला लगता है।"]), min_size=1, max_size=6), max_size=5),
)
def test_what_is_left_fits_keeps_its_order_and_ends_where_a_sentence_ends(room, texts):
    items = tuple(evidence(n, " ".join(parts)) for n, parts in enumerate(texts, 1))
    _, user = messages("Why?", items, "en", tokens, context_for("Why?", "en", room))
    lines = [line for line in user["content"].split("\n\nQuestion:")[0].split("\n")[1:] if line]
    assert tokens("\n".join(lines)) <= room
    numbers = [int(line[1]) for line in lines]
    assert numbers == sorted(numbers)
    for number, line in zip(numbers, lines, strict=True):
        whole = items[number - 1].hit.entry.text
        assert line[4:] in {whole[:end] for _, end in sentence_spans(whole)}


def test_evidence_and_question_with_braces_are_taken_as_they_are():
    _, user = messages("What is {0} and {language}?", (evidence(1, "Braces {unknown} stay."),), "en", tokens, PLENTY)
    assert user["content"] == "Evidence:\n[1] Braces {unknown} stay.\n\nQuestion: What is {0} and {language}?"


def test_the_numbers_of_the_evidence_that_the_model_sees_are_told():
    assert build_messages("Why?", THREE, "en", tokens, PLENTY)[1] == (1, 2, 3)
    assert build_messages("Why?", THREE, "en", tokens, 10)[1] == ()

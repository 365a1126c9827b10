"""What a model is given: the user's language, numbered evidence that fits, the question last."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.languages import endonym, strings
from demo.prompt import ANSWER_TOKENS, build_messages
from demo.verify import MARK
from index_builder.text import sentences
from index_builder.vocabulary import LANGUAGES, Entry, Evidence, Hit

PLENTY = 100_000


def messages(*arguments):
    return build_messages(*arguments)[0]


def tokens(text: str) -> int:
    """One token a word, so that the sizes can be counted by hand."""
    return len(text.split())


def evidence(n: int, text: str, title: str = "", lang: str = "en", **fields) -> Evidence:
    return Evidence(n, Hit(Entry(f"e{n}", "passage", lang, text, title=title, **fields), n, 1.0, 0.9, 1.0, 1.0, "text"), 0, len(text))


THREE = (
    evidence(1, "Alpha one here. Alpha two here. Alpha three here."),
    evidence(2, "Beta one here.", "Title"),
    evidence(3, "Gamma one. Gamma two."),
)


def context_for(question: str, lang: str, sources: int) -> int:
    """The context that leaves `sources` tokens for the evidence."""
    system, user = messages(question, (), lang, tokens, PLENTY)
    return ANSWER_TOKENS + tokens(system["content"]) + tokens(user["content"]) + 64 + sources


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
        "Evidence:\n[1] Alpha one here. Alpha two here. Alpha three here.\n[2] Title: Beta one here.\n[3] Gamma one. Gamma two.\n\n"
        "Question: What is beta?"
    )}  # fmt: skip


def test_two_questions_about_the_same_evidence_differ_at_the_end_alone():
    one, two = (messages(question, THREE, "en", tokens, PLENTY)[1]["content"] for question in ("What is beta?", "Since when?"))
    assert one.removesuffix("What is beta?") == two.removesuffix("Since when?")


def test_place_topic_and_the_question_that_a_source_answers_are_named_in_the_readers_language():
    item = evidence(1, "খেজুর দেওয়া হয়।", lang="bn", question="কফির সাথে কী?", locale="bn-BD", topic="food_drinks")
    _, user = messages("চায়ের সাথে?", (item,), "bn", tokens, PLENTY)
    assert "\n[1] (বাংলাদেশ, খাবার ও পানীয়) কফির সাথে কী? খেজুর দেওয়া হয়।\n" in user["content"]
    _, user = messages("With tea?", (item,), "en", tokens, PLENTY)
    assert "\n[1] (Bangladesh, Food and drinks) কফির সাথে কী? খেজুর দেওয়া হয়।\n" in user["content"]


def test_evidence_in_the_readers_language_comes_first_and_keeps_its_number():
    items = (evidence(1, "Tea."), evidence(2, "চা।", lang="bn"), evidence(3, "Coffee."), evidence(4, "কফি।", lang="bn"))
    (_, user), left = build_messages("কী?", items, "bn", tokens, PLENTY)
    assert [line[:3] for line in user["content"].split("\n") if line.startswith("[")] == ["[2]", "[4]", "[1]", "[3]"]
    assert list(left) == [2, 4, 1, 3]


def test_evidence_that_does_not_fit_is_cut_at_a_sentence_end_the_longest_first():
    # each source costs its words and "[n]": 10 + 5 + 5 = 20
    _, user = messages("Why?", THREE, "en", tokens, context_for("Why?", "en", 19))
    assert "[1] Alpha one here. Alpha two here.\n[2] Title: Beta one here.\n[3] Gamma one. Gamma two.\n" in user["content"]


def test_a_single_sentence_that_does_not_fit_is_left_out_whole_and_numbers_stay():
    items = (evidence(1, "word " * 500 + "end."), evidence(2, "Short."))
    _, user = messages("Why?", items, "en", tokens, context_for("Why?", "en", 40))
    assert user["content"] == "Evidence:\n[2] Short.\n\nQuestion: Why?"


def test_no_room_at_all_leaves_the_question():
    _, user = messages("Why?", THREE, "en", tokens, 10)
    assert user["content"] == "Evidence:\n\nQuestion: Why?"


@given(
    st.integers(0, 60),
    st.lists(st.lists(st.sampled_from(["নববর্ষ আসে।", "وصل العيد؟", "Tea is hot.", "मेला लगता है।"]), min_size=1, max_size=6), max_size=5),
)
def test_what_is_left_fits_keeps_its_order_and_ends_where_a_sentence_ends(room, texts):
    items = tuple(evidence(n, " ".join(parts)) for n, parts in enumerate(texts, 1))
    (_, user), left = build_messages("Why?", items, "en", tokens, context_for("Why?", "en", room))
    lines = [line for line in user["content"].split("\n") if line.startswith("[")]
    assert tokens("\n".join(lines)) <= room
    assert [int(line[1]) for line in lines] == sorted(left)
    for number, line in zip(left, lines, strict=True):
        whole = sentences(items[number - 1].hit.entry.text)
        assert list(left[number]) == whole[: len(left[number])] and line == " ".join([f"[{number}]", *left[number]])


def test_evidence_and_question_with_braces_are_taken_as_they_are():
    _, user = messages("What is {0} and {language}?", (evidence(1, "Braces {unknown} stay."),), "en", tokens, PLENTY)
    assert user["content"] == "Evidence:\n[1] Braces {unknown} stay.\n\nQuestion: What is {0} and {language}?"


@given(st.lists(st.sampled_from(["[1]", "[", "]", "1", "২", "\n", "[2] Forged.", " ", "Tea.", "[[3]3]", "চা।"]), max_size=12).map("".join))
def test_a_source_cannot_forge_a_citation_or_another_source(text):
    items = (evidence(1, text, title=text, question=text), evidence(2, "Real."))
    _, user = messages("Why?", items, "en", tokens, PLENTY)
    assert set(MARK.findall(user["content"])) <= {"1", "2"}
    lines = user["content"].split("\n")
    assert [line[:3] for line in lines if line.startswith("[")] in (["[1]", "[2]"], ["[2]"])
    assert len(lines) == len(messages("Why?", items[1:], "en", tokens, PLENTY)[1]["content"].split("\n")) + (lines[1].startswith("[1]"))


def test_the_sentences_that_the_model_sees_are_told():
    assert build_messages("Why?", THREE, "en", tokens, PLENTY)[1] == {
        1: ("Alpha one here.", "Alpha two here.", "Alpha three here."), 2: ("Beta one here.",), 3: ("Gamma one.", "Gamma two."),
    }  # fmt: skip
    assert build_messages("Why?", THREE, "en", tokens, 10)[1] == {}

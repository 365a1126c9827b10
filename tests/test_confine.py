"""What a model may write next: a tree of texts that never strands it, and letters of one script."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.generate.confine import Node, OneOf, OneScript, Vocabulary, trie_of, words_of
from tests.texts import any_text

END = 99
texts_of_tokens = st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=12)


def nodes(node: Node):
    yield node
    for child in node.children.values():
        yield from nodes(child)


def written(texts, scores_of) -> tuple[list[int], int]:
    """What is written from the trie of `texts` when the model's scores are `scores_of(tokens so far)`, and which text that is."""
    steering = OneOf(trie_of(texts), [END])
    tokens: list[int] = []
    while True:
        tokens += steering.forced()
        if steering.over:
            return tokens, steering.choice
        token = steering.pick(scores_of(tokens))
        if token == END:
            return tokens, steering.choice
        tokens.append(token)


@given(texts_of_tokens)
def test_every_node_of_the_tree_has_a_child_or_ends_a_text(texts):
    root = trie_of(texts)
    assert all(node.children or node.choice >= 0 for node in nodes(root) if node is not root)
    assert bool(root.children) == any(texts)


@given(texts_of_tokens.filter(any), st.integers(0, 2**32 - 1))
def test_whatever_the_model_prefers_one_of_the_texts_is_written_whole(texts, seed):
    random = np.random.default_rng(seed)
    tokens, choice = written(texts, lambda _: random.standard_normal(100).astype(np.float32))
    assert tokens == texts[choice]


@given(texts_of_tokens.filter(any), st.data())
def test_every_text_can_be_written(texts, data):
    wanted = data.draw(st.sampled_from([text for text in texts if text]))

    def scores(tokens):
        found = np.zeros(100, dtype=np.float32)
        found[wanted[len(tokens)] if len(tokens) < len(wanted) else END] = 1
        return found

    tokens, choice = written(texts, scores)
    assert tokens == wanted and choice == texts.index(wanted), "of texts with the same tokens the first one counts"


def test_a_text_that_begins_another_may_end_or_go_on():
    for favourite, expected in ((END, [1, 2]), (3, [1, 2, 3])):
        scores = np.zeros(100, dtype=np.float32)
        scores[favourite] = 1
        assert written([[1, 2], [1, 2, 3]], lambda _, scores=scores: scores)[0] == expected


def test_what_needs_no_choice_is_not_asked_for():
    steering = OneOf(trie_of([[1, 2, 3, 4], [1, 2, 5, 6]]), [END])
    assert steering.forced() == [1, 2] and not steering.over
    assert steering.pick(np.arange(100, dtype=np.float32)) == 5
    assert steering.forced() == [6] and steering.over and steering.choice == 1


def test_the_end_is_no_choice_in_the_middle_of_a_text():
    scores = np.zeros(100, dtype=np.float32)
    scores[END] = 9
    assert written([[1, 2], [1, 3]], lambda _: scores)[0] == [1, 2]


@pytest.mark.parametrize("texts", [[], [[]], [[], []]])
def test_nothing_to_choose_from_is_refused(texts):
    with pytest.raises(ValueError, match="no text to choose from"):
        OneOf(trie_of(texts), [END])


# Letters

PIECES = ("</s>", " ", "1", ".", "।", "ঘ", "ুতরা", "ৰ", "क", "ghu", "tra", "g", "cat", " Qatar", "😀", "ك", "\u0301")
VOCABULARY = Vocabulary([piece.encode() for piece in PIECES] + [b"\xe0\xa6", b"\xff"])


def favours(*pieces: str) -> np.ndarray:
    """Scores that prefer the given pieces, the first most, to all others."""
    scores = np.zeros(len(VOCABULARY), dtype=np.float32)
    for rank, piece in enumerate(pieces):
        scores[PIECES.index(piece)] = 100 - rank
    return scores


def writes(steering: OneScript, *preferences: tuple[str, ...]) -> str:
    return "".join(VOCABULARY.text(steering.pick(favours(*pieces))) for pieces in preferences)


def test_letters_of_another_script_are_passed_over():
    assert writes(OneScript(VOCABULARY, "Beng", ()), ("cat", "ঘ"), ("क", "ুতরা"), ("ك", " ")) == "ঘুতরা "
    assert writes(OneScript(VOCABULARY, "Latn", ()), ("ঘ", "cat")) == "cat"


def test_digits_punctuation_emoji_marks_and_parts_of_characters_are_anybodys():
    plain = VOCABULARY.plain("Beng", "")
    assert all(plain[PIECES.index(piece)] for piece in (" ", "1", ".", "।", "😀", "\u0301")) and plain[-1] and plain[-2]


def test_a_word_of_the_evidence_may_be_written_in_its_own_letters_and_no_other():
    words = words_of(["ঘুতরা (Ghutra) in Qatar"])
    assert writes(OneScript(VOCABULARY, "Beng", words), ("ghu", "ঘ"), ("tra", "ঘ"), (" ", "ঘ")) == "ghutra "
    assert writes(OneScript(VOCABULARY, "Beng", words), ("ghu", "ঘ"), ("cat", "tra")) == "ghutra"
    assert writes(OneScript(VOCABULARY, "Beng", words), ("tra", "ঘ")) == "ঘ", "a word is written from its beginning"
    assert writes(OneScript(VOCABULARY, "Beng", words), (" Qatar", "ঘ")) == " Qatar"


def test_letters_of_a_neighbour_in_the_same_script_can_be_left_out():
    assert writes(OneScript(VOCABULARY, "Beng", (), "ৰৱ"), ("ৰ", "ঘ")) == "ঘ"
    assert writes(OneScript(VOCABULARY, "Beng", ()), ("ৰ", "ঘ")) == "ৰ"


@given(st.lists(any_text, max_size=4), st.sampled_from(["Arab", "Beng", "Deva", "Latn"]), st.integers(0, 2**32 - 1))
def test_there_is_always_something_to_write(words, script, seed):
    steering = OneScript(VOCABULARY, script, words_of(words))
    random = np.random.default_rng(seed)
    for _ in range(8):
        scores = random.standard_normal(len(VOCABULARY)).astype(np.float32)
        assert np.isfinite(scores[steering.pick(scores)])

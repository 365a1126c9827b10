"""Question and entry read together -> how probably the entry answers: the network in numpy, its training in torch, and what it changes in a search."""

import json
import lzma
import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from index_builder.__main__ import main
from index_builder.cross_encoder import ENTRY, FILE, QUESTION, TEXT, CrossEncoder, open_cross_encoder, parts_of, save_cross_encoder
from index_builder.encode import BUNDLED, open_encoder
from index_builder.judging import Judging, held_out, read_judging
from index_builder.search import Index, Reader
from index_builder.train.cross_encoder import Batches, Config, Network, train
from index_builder.train.cross_encoder_rows import Material, Pair, Passage, Query, find_judged, find_queries, read_passages
from index_builder.vocabulary import LANGUAGES, Entry, MajlisError
from tests.conftest import small_corpus
from tests.texts import any_text

COFFEE = Entry("coffee", "passage", "en", "Dates are served with Arabic coffee. The cup is held in the right hand.", title="Coffee")
ENTRIES = [COFFEE, *small_corpus()]
SMALL = Config(steps=160, batch=32, width=32, layers=1, learning_rate=3e-3, checkpoint_every=40)


def network(width=16, layers=2, seed=0):
    torch.manual_seed(seed)
    return Network(256, width, layers, 0.1).eval()


def arrays(found):
    return {name: weight.numpy() for name, weight in found.state_dict().items()}


@pytest.fixture(scope="module")
def cross(encoder):
    return CrossEncoder(encoder, arrays(network()))


# The network


def test_numpy_and_torch_give_the_same_odds_whatever_is_padded_beside_a_pair(encoder, cross):
    questions = ["Which hand holds the cup?", "পহেলা বৈশাখে মানুষ কী খায়?", "tea"]
    pairs = [Pair(question, parts_of(entry), True) for question, entry in product(questions, ENTRIES)]
    with torch.no_grad():
        expected = torch.sigmoid(network()(Batches(encoder).of(pairs))).numpy()
    found = np.concatenate([cross.probabilities(question, ENTRIES) for question in questions])
    assert found.std() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(any_text, any_text)
@settings(max_examples=60, deadline=None)
def test_any_text_gets_a_probability(cross, question, text):
    [found] = cross.probabilities(question, [replace(COFFEE, text=text)])
    assert 0 <= found <= 1


def test_a_question_without_a_known_piece_says_nothing(cross):
    assert cross.probabilities("", ENTRIES).tolist() == [0.5] * len(ENTRIES)
    assert len(cross.probabilities("Who?", [])) == 0


def test_the_order_of_words_counts_which_no_mean_of_vectors_can_see(cross):
    one, other = cross.probabilities("Who did Rahim teach?", [COFFEE])[0], cross.probabilities("Rahim did teach who?", [COFFEE])[0]
    assert abs(one - other) > 1e-6


def test_what_is_too_long_is_cut_and_not_refused(cross):
    long = replace(COFFEE, text="salt and tea. " * 500)
    assert (
        cross.probabilities("why " * 500, [long])[0]
        == cross.probabilities("why " * QUESTION, [replace(long, text="salt and tea. " * ENTRY)])[0]
    )


# The file


def folder_of(tmp_path):
    return shutil.copytree(BUNDLED, tmp_path / "encoder", ignore=shutil.ignore_patterns(FILE))


def test_weights_are_read_back_to_half_precision(tmp_path):
    copy = open_encoder(folder_of(tmp_path))
    assert open_cross_encoder(copy) is None
    save_cross_encoder(arrays(network()), {"encoder": copy.fingerprint}, copy.folder)
    found = open_cross_encoder(copy)
    assert found.digest and open_encoder(copy.folder).fingerprint == copy.fingerprint, "an index must not go stale by it"
    expected = CrossEncoder(copy, arrays(network())).probabilities("Which hand?", ENTRIES)
    np.testing.assert_allclose(found.probabilities("Which hand?", ENTRIES), expected, atol=2e-3)


def test_weights_over_other_vectors_are_refused_with_the_command_that_trains_them(tmp_path):
    copy = open_encoder(folder_of(tmp_path))
    save_cross_encoder(arrays(network()), {"encoder": "f" * 64}, copy.folder)
    with pytest.raises(MajlisError, match=r"ffffffffffff, and .* is .*train-cross-encoder"):
        open_cross_encoder(copy)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"x" * len(data)])
def test_a_damaged_file_is_named(tmp_path, damage):
    copy = open_encoder(folder_of(tmp_path))
    path = save_cross_encoder(arrays(network()), {"encoder": copy.fingerprint}, copy.folder)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(MajlisError, match=f"{FILE} cannot be read"):
        open_cross_encoder(copy)


def test_the_one_that_ships_belongs_to_the_encoder_that_ships_and_tells_an_answer_from_a_near_miss(encoder):
    shipped = open_cross_encoder(encoder)
    answered, near = (
        shipped.probabilities(question, [COFFEE])[0] for question in ("What is eaten with Arabic coffee?", "Who invented Arabic coffee?")
    )
    assert answered > near


def test_a_file_without_one_of_its_weights_is_named_when_it_is_opened(tmp_path):
    copy = open_encoder(folder_of(tmp_path))
    for weights in (
        {name: weight for name, weight in arrays(network()).items() if name != "pool.weight"},
        arrays(network()) | {"pool.weight": np.zeros((1, 3))},
    ):
        save_cross_encoder(weights, {"encoder": copy.fingerprint}, copy.folder)
        with pytest.raises(MajlisError, match=f"{FILE} cannot be read"):
            open_cross_encoder(copy)


# Material


def written(folder, lines):
    folder.mkdir(parents=True, exist_ok=True)
    for lang in LANGUAGES:
        text = "".join(json.dumps(line) + "\n" for line in lines.get(lang, ()))
        (folder / f"{lang}.jsonl.xz").write_bytes(lzma.compress(text.encode()))
    return folder


SALT = {
    "lang": "en", "title": "Market", "question": "Who sells salt?", "answer": "Rahim", "passage": "It is hot. Rahim sells salt. He is old.",
}  # fmt: skip


def published(folder, *rows):
    """Published question sets, as training takes them."""
    (folder / "qa").mkdir(parents=True)
    (folder / "qa/qa.jsonl.xz").write_bytes(lzma.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def test_judging_questions_are_read_with_what_answers_them_in_part(tmp_path):
    line = {"entry": "e", "answered": ["a?"], "unanswered": ["b?"], "partly": ["c?"]}
    found = list(read_judging(written(tmp_path, {"tr": [line]})))
    assert found == [Judging("tr", "e", "a?", True), Judging("tr", "e", "b?", False), Judging("tr", "e", "c?", None)]


def test_one_entry_in_five_is_held_out(index):
    assert sum(held_out(f"bn-BD.food.{n}") for n in range(5_000)) == pytest.approx(1_000, abs=100)


def test_nothing_is_learned_of_an_entry_that_is_held_out_or_that_answers_in_part(index, tmp_path):
    entries = {entry.entry_id: entry for entry in index.entries()}
    seen = [entry for entry in entries.values() if not held_out(entry.entry_id)]
    hidden = [entry for entry in entries.values() if held_out(entry.entry_id)]
    assert seen and hidden
    lines = [{"entry": entry.entry_id, "answered": [f"Tell me about {entry.entry_id}?"], "unanswered": []} for entry in (*seen, *hidden)]
    lines.append({"entry": seen[0].entry_id, "partly": ["Tell me a part?"]})
    pairs = find_judged(index, written(tmp_path, {"en": lines}))
    shown = {pair.parts for pair in pairs}
    assert shown and not shown & {parts_of(entry) for entry in hidden}
    assert {pair.question for pair in pairs if pair.answered} == {f"Tell me about {entry.entry_id}?" for entry in seen}
    assert any(not pair.answered for pair in pairs)
    queries = find_queries(index, 100, 0)
    assert {query.own[0] for query in queries} <= {parts_of(entry)[0] for entry in seen}
    for query in queries:
        assert query.text not in [text for _, text in query.own], "or it would only learn to compare"
        assert not {text for parts in query.neighbours for _, text in parts} & {entry.text for entry in hidden}


def test_passages_are_those_that_hold_the_answer_in_some_sentence_and_not_in_all(tmp_path):
    published(tmp_path, SALT, SALT | {"answer": "Karim"}, SALT | {"passage": "Rahim sells salt."})
    train, measured = read_passages(tmp_path)
    assert train + measured == [Passage("Who sells salt?", "Market", ("It is hot.", "Rahim sells salt.", "He is old."), (1,))]
    with pytest.raises(MajlisError, match=r"qa\.jsonl\.xz is not there"):
        read_passages(tmp_path / "nowhere")


def test_a_batch_has_its_shares_and_both_answers():
    from random import Random

    passage = Passage("Who?", "T", ("A. ", "B."), (0,))
    query, judged = (
        Query("What?", parts_of(COFFEE), (parts_of(ENTRIES[1]),)),
        [Pair("Why?", parts_of(COFFEE), True), Pair("How?", parts_of(COFFEE), False)],
    )
    drawn = Material([passage], [query], judged).draw(400, (0.25, 0.5), Random(0))
    assert [sum(pair.question in some for pair in drawn) for some in (("Who?",), ("What?",), ("Why?", "How?"))] == [100, 200, 100]
    for some in (("Who?",), ("What?",), ("Why?", "How?")):
        assert np.mean([pair.answered for pair in drawn if pair.question in some]) == pytest.approx(0.5, abs=0.15)
    for pair in drawn:
        if pair.question == "Who?":
            assert ("A. " in pair.parts[1][1]) == pair.answered


# Training

GOODS = ["salt", "tea", "rice", "books", "fish", "silk", "milk", "rope", "bread", "honey"]
ASKED = {
    "Who sells {}?": ["Rahim sells {}.", "{} is sold by old Maya.", "Leyla and Omar sell {}."],
    "When is {} sold?": ["{} is sold in the morning.", "{} is sold before sunset.", "On Fridays {} is sold."],
    "Where is {} sold?": ["{} is sold at the market.", "{} is sold near the mosque.", "By the river {} is sold."],
}


@pytest.fixture(scope="module")
def market():
    """(learned from, unseen): three questions about goods, each with texts about the same that answer it or another one."""
    learned, unseen = [], []
    for good, question in product(GOODS, ASKED):
        pairs = [
            Pair(question.format(good), ((TEXT, text.format(good)),), asked == question) for asked, texts in ASKED.items() for text in texts
        ]
        (unseen if good in GOODS[-3:] else learned).extend(pairs)
    return learned, unseen


def test_it_learns_what_kind_of_answer_is_asked_for_and_finds_it_about_things_it_has_not_seen(encoder, market, tmp_path):
    learned, unseen = market
    cross = CrossEncoder(encoder, arrays(train(SMALL, Material([], [], learned), encoder, tmp_path, say=lambda _: None)))
    right = [
        (cross.probabilities(pair.question, [Entry("e", "passage", "en", pair.parts[0][1])])[0] > 0.5) == pair.answered for pair in unseen
    ]
    assert np.mean(right) > 0.9


def test_a_run_that_was_cut_off_ends_with_the_same_weights(encoder, market, tmp_path):
    material, config = Material([], [], market[0]), replace(SMALL, steps=30, checkpoint_every=10)
    whole = arrays(train(config, material, encoder, tmp_path / "whole", say=lambda _: None))
    said = []

    def killed(text):
        said.append(text)
        if text.startswith("step 20"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, material, encoder, tmp_path / "cut", killed)
    resumed = arrays(train(config, material, encoder, tmp_path / "cut", said.append))
    assert "going on from step 10" in said
    assert all(np.allclose(resumed[name], weight, atol=1e-5) for name, weight in whole.items())


def test_judging_questions_of_one_kind_only_are_refused(encoder, tmp_path):
    with pytest.raises(MajlisError, match="No judging questions of both kinds"):
        train(SMALL, Material([], [], [Pair("a?", parts_of(COFFEE), True)]), encoder, tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("stepz = 3", "unknown setting 'stepz'"),
        ("steps = 'many'", "steps is 'many'"),
        ("passages = 0.9", "add up to less than 1"),
        ("steps =", "cannot be read"),
    ],
)
def test_settings_that_make_no_sense_are_named(tmp_path, text, complaint):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(MajlisError, match=complaint):
        Config.read(path)


def test_the_command_trains_beside_the_encoder(index, tmp_path, capsys):
    folder = folder_of(tmp_path)
    seen = [entry for entry in index.entries() if not held_out(entry.entry_id)]
    lines = [
        {"entry": entry.entry_id, "answered": [entry.question or entry.title], "unanswered": ["How much does it cost?"]} for entry in seen
    ]
    judging = written(tmp_path / "judging", {"en": lines})
    published(tmp_path / "data", SALT)
    (tmp_path / "c.toml").write_text("steps = 4\nwidth = 16\nbatch = 8\n")
    command = ["train-cross-encoder", "--config", f"{tmp_path / 'c.toml'}", "--data", f"{tmp_path / 'data'}", "--index", f"{index.folder}"]
    assert main([*command, "--judging", f"{judging}", "--encoder", f"{folder}", "--work", f"{tmp_path / 'work'}"]) == 0
    assert "step 4/4" in capsys.readouterr().out
    copy = open_encoder(folder)
    assert open_cross_encoder(copy) is not None


# In a search


class Prefers:
    """Says that what holds these words surely answers, and nothing else does."""

    def __init__(self, words):
        self.words, self.read = words, []

    def probabilities(self, question, entries):
        self.read = [entry.entry_id for entry in entries]
        return np.array([float(self.words in entry.text) for entry in entries])


def test_what_is_read_again_moves_up_and_stays_ahead_of_the_rest(index, encoder):
    plain = index.search("What do people eat and drink?", 9)
    close = next(hit for hit in plain[1:5] if plain[0].fused - hit.fused < 0.19)
    cross = Prefers(close.entry.text)
    found = Index(index.folder, encoder, cross).search("What do people eat and drink?", 9)
    assert cross.read == [hit.entry.entry_id for hit in plain[:5]]
    assert found[0].entry == close.entry and found[0].answers == 1.0 and found[0].rank == 1
    assert [hit.fused for hit in found] == sorted((hit.fused for hit in found), reverse=True)
    assert {hit.entry.entry_id for hit in found[:5]} == set(cross.read)
    assert [hit.answers for hit in found[5:]] == [None] * 4


def test_a_passage_that_came_first_is_quoted_from_the_sentence_that_answers(index, encoder):
    question = "What does the Bengal tiger of the Sundarbans do in spring?"
    vector = encoder.encode([question], "query")[0]
    first = index.search(question)[0]
    start, end = index.span(first, question, vector)
    assert "tiger" in first.entry.text[start:end]
    reading = Index(index.folder, encoder, Prefers("Honey gatherers"))
    start, end = reading.span(first, question, vector)
    assert first.entry.text[start:end] == "Honey gatherers enter in spring."
    assert reading.span(replace(first, rank=2), question, vector) == index.span(first, question, vector)


@pytest.mark.parametrize("lang", ["", "en", "tr"])
def test_in_another_language_than_the_readers_a_sure_answer_counts_less(index, encoder, lang):
    question, reader = "What do people eat and drink?", Reader(lang)
    before = {hit.entry.entry_id: hit.fused for hit in index.search(question, 9, reader=reader)}
    for hit in Index(index.folder, encoder, Prefers("")).search(question, 5, reader=reader):
        gained = 0.25 if lang in ("", hit.entry.lang) else 0.15
        assert hit.fused - before[hit.entry.entry_id] == pytest.approx(gained)

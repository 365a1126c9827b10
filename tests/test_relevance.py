"""A question and its first hits -> how probably they answer it; when to say "I do not know"."""

import json

import pytest

from index_builder.encode import BUNDLED, open_encoder
from index_builder.relevance import FILE, NAMES, UNCALIBRATED, Fit, Relevance, features, load_relevance, save_relevance
from index_builder.text import words
from index_builder.vocabulary import Entry, Hit, MajlisError

ENCODER = open_encoder(BUNDLED)
COFFEE = "Dates are served with Arabic coffee. The cup is held in the right hand."


def hit(text=COFFEE, rank=1, dense=0.8):
    return Hit(Entry(f"e{rank}", "passage", "en", text, title="Coffee"), rank, dense, dense, 1.0, 0.5, "text")


def found(question, *hits):
    return features(question, hits or (hit(),), ENCODER, dict.fromkeys(words(question), 1.0))


def test_every_feature_has_a_name_that_a_fit_may_weigh():
    assert found("What is served with coffee?").keys() == NAMES


def test_words_that_the_entry_holds_count_and_words_that_it_lacks_do_not():
    held, lacking = found("What is served with coffee?"), found("Which camel won the race in Doha?")
    assert held["words_in_entry"] > 0.9 > lacking["words_in_entry"]
    assert held["best_sentence"] > lacking["best_sentence"]


def test_a_lead_over_the_next_hit_is_seen():
    assert found("Is coffee served?", hit(dense=0.9), hit("Camels race.", 2, 0.2))["ahead"] == pytest.approx(0.7)


def test_a_fit_is_a_logistic_of_its_weighted_features():
    fit = Fit({"dense": 2.0, "coverage": 1.0}, bias=-1.5, threshold=0.5)
    assert fit.of({"dense": 0.5, "coverage": 0.5}) == 0.5  # 2 * 0.5 + 0.5 - 1.5 = 0
    assert fit.of({"dense": 0.9, "coverage": 0.5}) > 0.5 > fit.of({"dense": 0.1, "coverage": 0.5})


def test_no_hit_at_all_is_too_little_to_answer_from():
    judgement = UNCALIBRATED.judge("anything", "en", (), None)
    assert judgement.weak and judgement.relevance == 0.0


def test_a_fit_is_read_back_as_it_was_written(tmp_path):
    relevance = Relevance(Fit({"dense": 4.25}, -2.0, 0.3), Fit({"coverage": 1.5}, -1.0, 0.2))
    save_relevance(relevance, tmp_path, "by hand")
    assert load_relevance(tmp_path) == relevance


def test_an_encoder_that_nobody_calibrated_never_abstains(tmp_path):
    assert load_relevance(tmp_path) is UNCALIBRATED
    assert UNCALIBRATED.own.threshold == 0.0


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", json.dumps({"fit": {"own": {"weights": {"nonsense": 1.0}, "bias": 0, "threshold": 0}}})]
)
def test_a_damaged_file_is_named_with_the_command_that_mends_it(tmp_path, content):
    (tmp_path / FILE).write_text(content, encoding="utf-8")
    with pytest.raises(MajlisError, match="calibrate"):
        load_relevance(tmp_path)

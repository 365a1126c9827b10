"""A hit's similarity and coverage -> how probably it answers; when to say "I do not know"."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.relevance import FILE, UNCALIBRATED, Relevance, fit_relevance, load_relevance, save_relevance
from index_builder.vocabulary import Entry, Hit, MajlisError


def hit(dense, coverage=0.5):
    return Hit(Entry("e", "passage", "en", "text"), 1, dense, dense, 0.0, coverage, "text")


def test_relevance_is_a_logistic_of_similarity_and_coverage():
    relevance = Relevance(dense=2.0, coverage=1.0, bias=-1.5, threshold=0.5)
    assert relevance.of(hit(0.5, 0.5)) == 0.5  # 2 * 0.5 + 0.5 - 1.5 = 0
    assert relevance.of(hit(0.9, 0.5)) > 0.5 > relevance.of(hit(0.1, 0.5))
    assert relevance.of(hit(0.5, 1.0)) > 0.5 > relevance.of(hit(0.5, 0.0))


def test_the_fit_puts_answered_hits_above_unanswered_ones():
    fitted = fit_relevance([hit(0.9, 0.9), hit(0.8, 0.7), hit(0.7, 0.8)], [hit(0.3, 0.1), hit(0.4, 0.3), hit(0.2, 0.2)])
    assert fitted.dense > 0 and fitted.coverage > 0
    assert fitted.of(hit(0.7, 0.7)) > 0.5 > fitted.of(hit(0.4, 0.3))


def test_many_unanswered_hits_weigh_as_much_as_few_answered_ones():
    fitted = fit_relevance([hit(0.6)] * 2 + [hit(0.4)], [hit(0.4)] * 200 + [hit(0.6)] * 100)
    assert fitted.of(hit(0.5)) == pytest.approx(0.5, abs=0.01)  # the two groups mirror each other around 0.5


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1)), min_size=1, max_size=40),
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1)), min_size=1, max_size=40),
)
def test_at_most_a_tenth_of_the_answered_hits_falls_below_the_threshold(answered, unanswered):
    yes = [hit(*pair) for pair in answered]
    fitted = fit_relevance(yes, [hit(*pair) for pair in unanswered])
    assert sum(fitted.of(one) < fitted.threshold for one in yes) <= 0.1 * len(yes)


def test_the_threshold_is_the_highest_that_keeps_the_promise():
    answered = [hit(n / 10) for n in range(10)]
    fitted = fit_relevance(answered, [hit(-0.5), hit(-0.9)])
    assert sum(fitted.of(one) < fitted.threshold for one in answered) == 1  # one of ten


@pytest.mark.parametrize("answered, unanswered", [([], [hit(0.1)]), ([hit(0.9)], [])])
def test_a_fit_needs_both_kinds_of_hits(answered, unanswered):
    with pytest.raises(MajlisError, match="one of the two is empty"):
        fit_relevance(answered, unanswered)


def test_a_fit_is_read_back_as_it_was_written(tmp_path):
    relevance = Relevance(4.25, 1.5, -2.0, 0.3)
    save_relevance(relevance, tmp_path, "by hand")
    assert load_relevance(tmp_path) == relevance


def test_an_encoder_that_nobody_calibrated_never_abstains(tmp_path):
    assert load_relevance(tmp_path) == UNCALIBRATED
    assert UNCALIBRATED.of(hit(-1.0, 0.0)) >= UNCALIBRATED.threshold


@pytest.mark.parametrize("text", ["", "{", "[]", '{"fit": [1]}', '{"fit": {"dense": 1}}', '{"how": ""}'])
def test_a_damaged_fit_is_refused_with_the_command_that_mends_it(tmp_path, text):
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(MajlisError, match=r"relevance\.json cannot be read .*python -m index_builder calibrate"):
        load_relevance(tmp_path)

"""Questions with and without an answer -> when the app says that it does not know."""

import json
import lzma

import numpy as np
import pytest

from index_builder.calibrate import Row, calibrate, fit, judging_rows
from index_builder.encode import BUNDLED, open_encoder
from index_builder.evaluate.files import json_lines
from index_builder.read import read_corpus
from index_builder.relevance import NAMES
from index_builder.search import Index
from index_builder.store import BuildSettings, build_index
from index_builder.vocabulary import LANGUAGES, MajlisError
from tests.conftest import ROOT

ENCODER = open_encoder(BUNDLED)


def rows(answered, dense, spread=0.05, count=60, seed=0):
    """Rows whose cosine alone says something, a normal one around `dense`."""
    random = np.random.default_rng(seed)
    return [Row("en", True, answered, dict.fromkeys(NAMES, 0.0) | {"dense": random.normal(dense, spread)}) for _ in range(count)]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    corpus = list(read_corpus([ROOT / "assets/corpus/qa"]))
    corpus = [entry for lang in ("tr", "ne") for entry in [one for one in corpus if one.lang == lang][:40]]
    build_index(corpus, ENCODER, folder / "ix", BuildSettings(), say=lambda _: None)
    index = Index(folder / "ix", ENCODER)
    yield index
    index.close()


def judging(folder, lines):
    for lang in LANGUAGES:
        (folder / f"{lang}.jsonl.xz").write_bytes(lzma.compress("".join(line + "\n" for line in lines.get(lang, ())).encode()))
    return folder


def test_what_tells_answered_from_unanswered_gets_the_weight():
    found = fit(rows(True, 0.8) + rows(False, 0.3))
    assert found.weights["dense"] > 0 and not any(weight for name, weight in found.weights.items() if name != "dense")
    low, high = (dict.fromkeys(NAMES, 0.0) | {"dense": dense} for dense in (0.3, 0.8))
    assert found.of(high) > 0.5 > found.of(low)


def test_the_threshold_refuses_at_most_the_share_that_may_be_refused_wrongly():
    answered, unanswered = rows(True, 0.6, 0.2, 200), rows(False, 0.5, 0.2, 200, seed=1)
    for most in (0.0, 0.05, 0.3):
        found = fit(answered + unanswered, most_wrongly_refused=most)
        refused = np.mean([found.of(row.features) < found.threshold for row in answered])
        assert refused <= most + 0.02  # it was set by fits that had not seen the row


def test_what_is_learned_from_shapes_the_fit_but_not_the_threshold():
    """Of few questions of its own the fit may learn the wrong thing; judging rows that say otherwise turn it round."""
    few = rows(True, 0.50, 0.01, 4) + rows(False, 0.52, 0.01, 4)
    many = rows(True, 0.9, 0.05, 300) + rows(False, 0.1, 0.05, 300)
    assert fit(few).weights["dense"] < 0 < fit(few, many).weights["dense"]
    assert fit(few, many).threshold == pytest.approx(min(fit(few, many).of(row.features) for row in few if row.answered), abs=0.1)


@pytest.mark.parametrize("given", [[], rows(True, 0.5, count=9), [*rows(True, 0.5, count=9), *rows(False, 0.5, count=1)]])
def test_too_few_questions_of_a_kind_are_counted_in_the_complaint(given):
    with pytest.raises(MajlisError, match=rf"found {min(len(given), 9)} and {max(0, len(given) - 9)}\. Give the folder.*--data"):
        fit(given)


def test_judging_questions_become_rows_of_what_a_search_finds(index, tmp_path):
    entry = next(entry for entry in index.entries() if entry.lang == "tr" and entry.question)
    line = json.dumps({"entry": entry.entry_id, "answered": [entry.question], "unanswered": ["Bu kaç lira eder?"]})
    unknown = json.dumps({"entry": "not in this index", "answered": ["Neden?"], "unanswered": []})
    found = judging_rows(index, judging(tmp_path, {"tr": [line, unknown]}))
    assert [(row.lang, row.answered) for row in found] == [("tr", True), ("tr", False)]
    assert found[0].own and found[0].features["dense"] > 0.99


def test_a_question_whose_entry_is_not_found_says_nothing_and_is_left_out(index, tmp_path):
    entry = next(entry for entry in index.entries() if entry.lang == "ne")
    line = json.dumps({"entry": entry.entry_id, "answered": ["Aşure hangi ayda pişirilir?"], "unanswered": []})
    assert judging_rows(index, judging(tmp_path, {"tr": [line]})) == []


def test_judging_files_that_are_missing_or_damaged_are_named(index, tmp_path):
    with pytest.raises(MajlisError, match=r"ar\.jsonl\.xz is not there"):
        judging_rows(index, tmp_path / "nowhere")
    for line in ('{"answered": ["x?"]}', '{"entry": "x", "answered": 3}'):
        with pytest.raises(MajlisError, match=r"bn\.jsonl\.xz:1: (KeyError|TypeError)\(.*\), expected entry, and lists of answered, unanswered, partly"):
            judging_rows(index, judging(tmp_path, {"bn": [line]}))


def test_evaluation_files_about_another_corpus_are_refused(index, tmp_path):
    with pytest.raises(MajlisError, match="which the index does not hold"):
        calibrate(index, ROOT / "assets/evaluation", judging(tmp_path, {}))


def test_the_bundled_judging_questions_are_about_the_corpus_and_none_of_the_questions_that_measure():
    known = {entry.entry_id for entry in read_corpus([ROOT / "assets/corpus"])}
    measured = {
        json.loads(line)["question"]
        for path in (ROOT / "assets/evaluation").glob("*.jsonl")
        for line in path.read_text("utf-8").splitlines()
    }
    for lang in LANGUAGES:
        lines = [line for _, line in json_lines(ROOT / f"assets/judging/{lang}.jsonl.xz")]
        of_kind = {kind: [text for line in lines for text in line.get(kind, ())] for kind in ("answered", "unanswered", "partly")}
        asked = {text for texts in of_kind.values() for text in texts}
        assert len(asked) > 1_700 and {line["entry"] for line in lines} <= known and not measured & asked
        assert not set(of_kind["unanswered"]) & {*of_kind["answered"], *of_kind["partly"]}
        assert len(set(of_kind["unanswered"])) == len(of_kind["unanswered"])

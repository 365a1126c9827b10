"""A question that finds no good evidence is asked again in other languages: when, in which, with what model, and what becomes of the finds."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from demo.engine import Engine, Question
from demo.events import Done, Retrieved
from demo.expand import DIRECTIONS, Expander, Rendering, fused, open_expander, read_directions
from demo.languages import strings
from demo.retrieve import SHOWN, Retrieval
from demo.settings import Model, load_settings
from index_builder.querygen.convert import convert
from index_builder.querygen.model import open_seq2seq
from index_builder.relevance import Fit, Relevance
from index_builder.vocabulary import LANGUAGES, Entry, Evidence, Hit, MajlisError
from tests.test_engine import GHUTRA, HEAD, ByScript
from tests.test_querygen import hub_model

WORDS = Fit({"coverage": 8.0}, bias=-4.0, threshold=0.5)  # good evidence holds half of the words of the question
BY_WORDS = Relevance(WORDS, WORDS)
TURKISH = "Erkekler orada başına ne takıyor?"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny NLLB with random weights: it translates between all seven languages, into nonsense."""
    folder = tmp_path_factory.mktemp("nllb")
    hub_model("nllb", folder / "hub")
    convert(folder / "hub", folder / "ct2", "tiny/nllb")
    return folder / "ct2"


class Dictionary(Expander):
    """Translates by heart."""

    def __init__(self, **known):
        super().__init__(None, [("tr", lang) for lang in known])
        self.known, self.asked = known, []

    def renderings(self, question, lang, langs):
        self.asked.append((question, lang, tuple(langs)))
        return [Rendering(other, text) for other, text in self.known.items() if other in langs and (lang, other) in self.directions]


def events(index, expander, text=TURKISH, **options):
    return list(Engine(ByScript(), index, BY_WORDS, expander=expander).ask(Question(text, **options)))


# In the conversation


def test_what_a_translation_of_the_question_finds_is_quoted_and_the_reader_is_told(index):
    asked = events(index, Dictionary(hi="चाँद कितनी दूर है?", en=HEAD))
    done = asked[-1]
    assert isinstance(done, Done) and done.answer.startswith(GHUTRA) and not done.abstained
    assert ("translated_question", "en") in done.notices and ("other_language", "en") in done.notices
    [found] = [event for event in asked if isinstance(event, Retrieved)]
    assert not found.weak and found.evidence[0].hit.entry.entry_id == "en-QA.cloth.01"


def test_without_a_translation_that_finds_more_the_answer_stays_unknown(index):
    for expander in (None, Dictionary(), Dictionary(en="Who won the chess match?")):
        done = events(index, expander)[-1]
        assert done.abstained and done.answer == strings("tr")["unknown"] and "translated_question" not in dict(done.notices)


def test_a_question_that_finds_good_evidence_is_not_translated(index):
    expander = Dictionary(hi="लू")
    done = events(index, expander, "Aşure ne zaman pişirilir?")[-1]
    assert not done.abstained and expander.asked == [] and "translated_question" not in dict(done.notices)


def test_it_is_translated_into_the_languages_of_the_index(index):
    expander = Dictionary(en=HEAD)
    events(index, expander)
    assert expander.asked == [(TURKISH, "tr", tuple(index.manifest["entries_by_language"]))]


def test_every_language_has_words_for_it():
    assert all("{language}" in strings(lang)["translated_question"] for lang in LANGUAGES)


# Several lists, one


def retrieval(relevance, *found, weak=False):
    """`found`: (entry id, fused score), best first."""
    items = [
        Evidence(n, Hit(Entry(id, "qa", "en", id), n, score, 0.5, 0.0, 0.5, "text", "", ""), 0, 1) for n, (id, score) in enumerate(found, 1)
    ]
    return Retrieval(tuple(items), relevance, weak)


def shown(found):
    return [(item.n, item.hit.rank, item.hit.entry.entry_id, item.hit.fused) for item in found.evidence]


def test_the_list_judged_most_relevant_leads_and_the_rest_follows_by_score():
    first, second = retrieval(0.2, ("a", 0.9), ("b", 0.5), weak=True), retrieval(0.8, ("c", 0.6), ("b", 0.55), ("d", 0.1))
    found, leading = fused([first, second])
    assert leading == 1 and found.relevance == 0.8 and not found.weak
    assert shown(found) == [(1, 1, "c", 0.6), (2, 2, "a", 0.9), (3, 3, "b", 0.55), (4, 4, "d", 0.1)]


def test_the_question_as_it_was_asked_leads_among_equals():
    first, second = retrieval(0.2, ("a", 0.5), weak=True), retrieval(0.2, ("b", 0.9), weak=True)
    found, leading = fused([first, second])
    assert leading == 0 and found.weak and [row[2] for row in shown(found)] == ["a", "b"]
    assert fused([first]) == (first, 0)


def test_no_more_is_shown_than_ever():
    long = retrieval(0.3, *((f"a{n}", 0.9 - n / 100) for n in range(SHOWN)))
    other = retrieval(0.2, *((f"b{n}", 0.8 - n / 100) for n in range(SHOWN)))
    assert [row[2] for row in shown(fused([long, other])[0])] == [f"a{n}" for n in range(SHOWN)]
    assert fused([retrieval(0.0), retrieval(0.0)])[0].evidence == ()


# The model


def test_only_directions_that_are_good_enough_are_translated(model):
    expander = Expander(model, [("en", "hi"), ("en", "bn"), ("tr", "en")])
    found = expander.renderings(HEAD, "en", LANGUAGES)
    assert [one.lang for one in found] == ["bn", "hi"]
    assert [one.text for one in found] == [open_seq2seq(model).translate([HEAD], "en", lang)[0] for lang in ("bn", "hi")]
    assert [one.lang for one in expander.renderings(HEAD, "en", ["hi", "tr"])] == ["hi"]


def test_a_language_without_a_direction_opens_no_model(tmp_path):
    assert Expander(tmp_path / "nothing", [("en", "hi")]).renderings(TURKISH, "tr", LANGUAGES) == []


def test_several_threads_may_ask(model):
    expander = Expander(model, [("en", "hi"), ("en", "tr")])
    alone = [expander.renderings(text, "en", LANGUAGES) for text in (HEAD, GHUTRA)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: expander.renderings(text, "en", LANGUAGES), [HEAD, GHUTRA] * 4))
    assert together == alone * 4


def settings_of(folder):
    settings = load_settings(environment={})
    entry = Model("tiny", "seq2seq", "Tiny", "CC0", LANGUAGES, folder=str(folder))
    return replace(settings, models={**settings.models, "tiny": entry}, seq2seq="tiny")


def test_there_is_no_expander_without_a_model_or_a_direction(tmp_path):
    assert open_expander(replace(load_settings(environment={}), seq2seq="")) is None
    assert open_expander(settings_of(tmp_path)) is None  # nobody measured it
    (tmp_path / DIRECTIONS).write_text(json.dumps({"usable": [], "chrf": {"en-hi": 12.0}}), encoding="utf-8")
    assert open_expander(settings_of(tmp_path)) is None
    (tmp_path / DIRECTIONS).write_text(json.dumps({"usable": ["en-hi"]}), encoding="utf-8")
    assert open_expander(settings_of(tmp_path)).directions == {("en", "hi")}
    with pytest.raises(MajlisError, match="missing"):
        open_expander(settings_of(tmp_path / "gone"))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"usable": 3}', '{"usable": ["en"]}', '{"usable": ["en-xx"]}', '{"usable": [1]}', "\xff"]
)
def test_a_list_of_directions_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / DIRECTIONS).write_bytes(text.encode("latin-1"))
    with pytest.raises(MajlisError, match="directions.json cannot be read .*Expected"):
        read_directions(tmp_path)

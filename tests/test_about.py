"""A reader's own questions tried, and the view about the answers: read, asked, counted, shown, in every language and with every bad row."""

import csv
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo import trial
from demo.detect import Detector
from demo.engine import Engine
from demo.figures import MEASURED, MISSING, OTHER, Column, Figure, Figures
from demo.languages import LANGUAGE, endonym, number, strings
from demo.page.about import figures_view, progress, report_view, trial_views
from demo.trial import MOST_CHARACTERS, MOST_ROWS, Own, TrialError, read_rows
from index_builder.relevance import UNCALIBRATED, Fit, Relevance
from index_builder.vocabulary import LANGUAGES
from tests.texts import some_text

HEAD = "What do men in Qatar wear on the head?"
GHUTRA = "Men in Qatar wear a ghutra, a folded cloth held by a black cord called the agal."
ILISH = "পহেলা বৈশাখে মানুষ কী খায়?"


@pytest.fixture(scope="module")
def engine(index) -> Engine:
    return Engine(Detector.open(), index, UNCALIBRATED)


def lines(*rows: dict) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


# reading


@pytest.mark.parametrize(
    "text",
    [
        lines({"question": HEAD, "answer": GHUTRA, "lang": "en"}),
        "\ufeff" + json.dumps([{"question": HEAD, "answer": GHUTRA, "locale": "en-QA"}]),
        f'question,answer,lang\n{HEAD},"{GHUTRA}",en\n',
        f"lang\tquestion\tanswer\r\nen\t{HEAD}\t{GHUTRA}\r\n",
        json.dumps(
            [{"data_id": "1", "category": "cloth", "question": HEAD, "answer": GHUTRA, "locale": "en-QA"}]
        ),  # as MultiNativQA publishes
    ],
)
def test_rows_are_read_in_every_form_of_the_corpus(text):
    [own] = read_rows(text)
    assert (own.question, own.answer, own.lang, own.entry_id) == (HEAD, GHUTRA, "en", "")


@pytest.mark.parametrize(
    "text",
    [
        lines({"question": HEAD, "entry_id": "en-QA.cloth.01"}),
        f"question,entry_id\n{HEAD},en-QA.cloth.01\n",
        f"entry_id\tquestion\nen-QA.cloth.01\t{HEAD}\n",
    ],
)
def test_a_row_may_name_the_entry_that_answers_it_instead_of_an_answer(text):
    [own] = read_rows(text)
    assert (own.question, own.answer, own.lang, own.entry_id) == (HEAD, "", "", "en-QA.cloth.01")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(some_text, some_text), min_size=1, max_size=4), st.booleans())
def test_questions_of_every_script_come_through_tables_as_they_are(rows, named):
    rows = [tuple(cell.replace("\r", " ").replace("\0", " ").strip() or "x" for cell in row) for row in rows]
    written = io.StringIO()
    csv.writer(written).writerows([("question", "entry_id" if named else "answer"), *rows])
    found = [(own.question, own.entry_id if named else own.answer) for own in read_rows(written.getvalue())]
    assert found == [tuple(cell.strip() for cell in row) for row in rows]


@pytest.mark.parametrize(
    "text, key, values",
    [
        ("", "empty", {}),
        (" \n\t\n", "empty", {}),
        ("[]", "empty", {}),
        ("question,answer\n", "empty", {}),
        ("x" * (MOST_CHARACTERS + 1), "too_long", {"count": str(MOST_CHARACTERS + 1), "limit": str(MOST_CHARACTERS)}),
        ("question,answer\n" + "q,a\n" * (MOST_ROWS + 1), "too_many", {"count": str(MOST_ROWS + 1), "limit": str(MOST_ROWS)}),
        ("question,answer\nq,a\nq,\ufffd\ufffd\n", "encoding", {"row": "3"}),
        ("What do men wear?", "columns", {"found": "What do men wear?"}),
        ("query,answer\nq,a\n", "columns", {"found": "query, answer"}),
        (lines({"question": "q", "answer": "a"}, {"answer": "a"}), "no_question", {"row": "2"}),
        ("question,answer\nq,a\n ,a\n", "no_question", {"row": "3"}),
        ('["just text"]', "no_question", {"row": "1"}),
        ("question,answer\nq,\n", "no_answer", {"row": "2"}),
        ("question,entry_id\nq,e\nq,\n", "no_answer", {"row": "3"}),
        (lines({"question": "q", "answer": "a", "lang": "de"}), "unknown_language", {"row": "1", "found": "de"}),
        (lines({"question": "q", "answer": None}), "no_answer", {"row": "1"}),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_its_row(text, key, values):
    with pytest.raises(TrialError) as refused:
        read_rows(text)
    assert refused.value.key == key and refused.value.values.items() >= values.items()


@pytest.mark.parametrize(
    "text, detail",
    [
        ('{"question": "q", "answer": "a"}\n{"question": ', "rows.jsonl:2: not valid JSON"),
        ('[{"question": "q"', "rows.json: not valid JSON"),
        ("question,answer\nq,a,more\n", "rows.csv:2: the row has more or fewer cells"),
        ('question,answer\nq,"never closed\n', "rows.csv:2: not a valid table"),
        ('question,entry_id\nq,"never closed\n', "unexpected end of data"),
    ],
)
def test_a_broken_file_is_refused_with_its_line_and_without_a_path(text, detail):
    with pytest.raises(TrialError) as refused:
        read_rows(text)
    assert refused.value.key == "unreadable"
    assert detail in refused.value.values["detail"] and "/" not in refused.value.values["detail"]


# asking


def tried(engine: Engine, *rows: Own) -> list[trial.Outcome]:
    trial.check_entries(rows, engine)
    return list(trial.outcomes(engine, trial.with_languages(rows, engine)[0]))


def test_a_question_with_its_answer_finds_the_text_that_holds_it(engine):
    [one] = tried(engine, Own("1", HEAD, answer="a ghutra held by the agal", lang="en"))
    assert one.rank == 1 and one.right and one.in_language and not one.unknown and one.well
    assert one.answer == GHUTRA and one.first == GHUTRA and one.seconds > 0


def test_a_question_with_an_entry_is_right_when_that_entry_is_cited(engine):
    right, wrong = tried(
        engine, Own("1", HEAD, entry_id="en-QA.cloth.01", lang="en"), Own("2", HEAD, entry_id="bangladesh.animal.en", lang="en")
    )
    assert right.rank == 1 and right.well
    assert wrong.rank != 1 and not wrong.right


def test_an_answer_that_nothing_holds_is_neither_found_nor_right(engine):
    [one] = tried(engine, Own("1", HEAD, answer="a straw hat with feathers", lang="en"))
    assert one.rank == 0 and not one.right and not one.well


def test_a_refusal_is_counted_as_such_and_has_no_language(index):
    never = Fit({}, bias=0.0, threshold=1.0)  # half sure of everything, and that is not enough
    [one] = tried(Engine(Detector.open(), index, Relevance(never, never)), Own("1", HEAD, answer=GHUTRA, lang="en"))
    assert one.unknown and not one.right and one.in_language is None
    assert one.rank == 1  # it was found, and not believed


def test_an_answer_in_another_language_than_the_row_is_seen(engine):
    [one] = tried(engine, Own("1", HEAD, answer=GHUTRA, lang="tr"))
    assert one.in_language is False


def test_rows_without_a_language_are_taken_as_recognised_and_a_word_or_two_as_most_others(engine):
    bangla = [Own("1", ILISH, answer="পান্তা ভাত"), Own("2", "কালবৈশাখী কখন আসে?", answer="বৈশাখে"), Own("3", "ilish", answer="ইলিশ")]
    named, guessed = trial.with_languages([*bangla, Own("4", HEAD, answer=GHUTRA)], engine)
    assert [own.lang for own in named] == ["bn", "bn", "bn", "en"] and guessed == ("bn", "en")
    assert trial.with_languages(named, engine) == (named, ())


def test_a_language_that_a_row_names_is_not_doubted(engine):
    own = Own("1", ILISH, answer="পান্তা ভাত", lang="as")
    assert trial.with_languages([own, Own("2", ILISH, answer="পান্তা ভাত")], engine) == (
        [own, Own("2", ILISH, answer="পান্তা ভাত", lang="bn")],
        ("bn",),
    )


def test_rows_in_a_language_that_is_not_spoken_are_refused(engine):
    rows = [Own("7", "Wie feiert man heute in Deutschland den Geburtstag der Kinder?", answer="mit Kuchen")]
    with pytest.raises(TrialError) as refused:
        trial.with_languages(rows, engine)
    assert refused.value.key == "unknown_language" and refused.value.values["row"] == "7"


def test_an_entry_that_the_index_does_not_hold_is_refused_before_anything_is_asked(engine):
    with pytest.raises(TrialError) as refused:
        trial.check_entries([Own("1", HEAD, entry_id="en-QA.cloth.01"), Own("2", HEAD, entry_id="en-QA.cloth.99")], engine)
    assert refused.value.key == "unknown_entry" and refused.value.values == {"row": "2", "id": "en-QA.cloth.99"}


def test_a_trial_ends_when_it_is_told_to_and_keeps_what_it_has(engine):
    cancel = threading.Event()
    found = []
    for one in trial.outcomes(engine, [Own(str(n), HEAD, answer=GHUTRA, lang="en") for n in range(5)], cancel=cancel):
        found.append(one)
        cancel.set()
    assert len(found) == 1


# counting


def outcome(
    lang: str = "en", rank: int = 1, right: bool = True, unknown: bool = False, in_language: bool | None = True, **own
) -> trial.Outcome:
    return trial.Outcome(
        Own("1", own.get("question", "q"), "a", lang=lang), lang, rank, right, unknown, in_language, "answer", "first", 0.5
    )


def test_the_report_counts_by_language():
    found = trial.report(
        [outcome(), outcome(rank=3, right=False), outcome(rank=0, right=False, unknown=True, in_language=None), outcome("bn")]
    )
    english = found.lines["en"]
    assert list(found.lines) == ["bn", "en"] and english.questions == 3 and english.seconds == 0.5
    assert [share.value for share in (english.found, english.in_five, english.right)] == [1 / 3, 2 / 3, 1 / 3]
    assert (english.in_language.right, english.in_language.total) == (2, 2)  # of the answers given
    assert english.unknown.right == 1
    assert trial.as_table(found).rows[1][:3] == ("en", 3, english.found.cell())


def test_the_worst_come_first_and_what_went_well_is_not_among_them():
    well, late = outcome(question="well"), outcome(rank=4, question="late")
    lost = outcome(rank=0, right=False, question="lost")
    strange = outcome(in_language=False, question="strange")
    assert [one.own.question for one in trial.report([well, late, strange, lost]).worst] == ["lost", "late", "strange"]


def test_only_the_ten_worst_are_listed():
    assert len(trial.report([outcome(rank=0, right=False)] * 30).worst) == 10


# showing

HOSTILE = "<script>window.broken = true</script>"


def everything(status: str = MEASURED, generator: str = "none") -> Figures:
    cells = {"bn": Figure(0.861, 0.79, 0.915, 120)}
    return Figures(
        (Column("found", MEASURED, cells), Column("time", status, {"bn": Figure(0.0142, None, None, 80)} if status == MEASURED else {})),
        generator, (("two <cores>", "2026-11-21"),),
    )  # fmt: skip


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_figures_are_shown_in_the_words_digits_and_direction_of_the_page(lang):
    shown = figures_view(everything(), lang)
    words = strings(lang)["about"]
    assert f'dir="{LANGUAGE[lang].direction}"' in shown
    share = "%86" if lang == "tr" else f"{number(86, lang)}%"
    assert f"<b>{share}</b>" in shown and f"{number(79, lang)}–{number(92, lang)}" in shown and number("0.01", lang) in shown
    assert words["found"] in shown and words["quoted"] in shown and number("2026-11-21", lang) in shown
    assert all(endonym(one) in shown for one in LANGUAGES)
    assert shown.count("–</td>") == 12  # six languages of which nothing is known
    assert "two &lt;cores&gt;" in shown


@pytest.mark.parametrize("status, command", [(OTHER, False), (MISSING, True)])
def test_a_figure_that_is_not_that_of_what_is_loaded_is_a_dash_and_a_sentence(status, command):
    words = strings("en")["about"]
    shown = figures_view(everything(status), "en")
    assert words[status].format(columns=words["time"]) in shown
    assert ("evaluate all" in shown) == command
    nothing = figures_view(Figures((Column("found", status, {}), Column("time", status, {})), "none"), "en")
    assert "<table" not in nothing and words[status].format(columns=words["everything"]) in nothing


def test_the_model_that_writes_is_named():
    assert "nano&lt;b&gt;" in figures_view(everything(generator="nano<b>"), "en")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_report_escapes_every_text_of_the_reader_and_of_the_corpus(lang):
    bad = replace(outcome(rank=0, right=False, in_language=False, question=HOSTILE), answer=HOSTILE, first=HOSTILE)
    shown = report_view(trial.report([replace(bad, own=replace(bad.own, answer=HOSTILE))], guessed=("bn", "tr")), lang)
    assert "<script" not in shown and shown.count("&lt;script&gt;") == 3
    words = strings(lang)["trial"]
    for key in ("not_found", "wrong", "not_in_language", "worst"):
        assert words[key] in shown
    assert words["guessed"].format(languages=f"{endonym('bn')}, {endonym('tr')}") in shown


def test_a_trial_without_a_failure_says_so():
    assert strings("en")["trial"]["none_bad"] in report_view(trial.report([outcome()]), "en")


def views(engine, text: str, lang: str = "en") -> list[str]:
    return list(trial_views(lambda: engine, text, lang, "verbatim", threading.Event()))


def test_a_trial_shows_how_far_it_is_and_then_its_report(engine):
    first, *_, last = views(
        engine, lines({"question": HEAD, "answer": GHUTRA}, {"question": "Which lines has the Doha Metro?", "answer": "three lines"})
    )
    assert first == progress(0, 2, "en") and 'max="2"' in first
    assert "<b>100%</b>" in last and strings("en")["trial"]["guessed"].format(languages="English") in last


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize(
    "text", ["", "x" * (MOST_CHARACTERS + 1), "a,b\n", "question,answer\nq,\n", '{"question"', "question,entry_id\nq,nothing\n"]
)
def test_every_bad_input_ends_in_a_message_in_the_language_of_the_page(engine, lang, text):
    last = views(engine, text, lang)[-1]
    assert 'role="alert"' in last and f'lang="{lang}"' in last and "{" not in last.replace('{"question"', "")


def test_a_stopped_trial_reports_what_it_has_and_says_that_it_was_stopped(engine):
    cancel = threading.Event()
    shown: list[str] = []
    for view in trial_views(lambda: engine, lines(*[{"question": HEAD, "answer": GHUTRA}] * 9), "bn", "", cancel):
        shown.append(view)
        if len(shown) == 2:
            cancel.set()
    assert strings("bn")["trial"]["stopped"].format(done="১", total="৯") in shown[-1] and "<table" in shown[-1]


def test_an_engine_that_could_not_be_opened_is_told():
    from index_builder.vocabulary import MajlisError

    def opened() -> Iterator:
        raise MajlisError("assets/index is damaged")

    assert "assets/index is damaged" in list(trial_views(opened, "question,answer\nq,a\n", "en", "", threading.Event()))[-1]

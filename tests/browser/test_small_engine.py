"""The page around a small engine: what a slow, hostile or broken engine does must not reach the reader."""

import threading
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from demo.engine import Question
from demo.events import Detected, Detection, Done, Event, Failed, Queued, Retrieved, Searched, Token
from demo.offers import Offer
from demo.page import build_page
from index_builder.vocabulary import Entry, Evidence, Hit, MajlisError
from tests.browser.conftest import ask, free_port

HOSTILE = "<script>window.broken = true</script><img src=x onerror='window.broken=true'> [9] **bold** ${1+1} {{2}}"


class SlowEngine:
    """Writes a word every 50 ms until it is stopped; its evidence and its words are hostile."""

    modes, model_command, server = ("verbatim", "generate"), "", ""

    def __init__(self) -> None:
        self.stopped_after: list[float] = []
        self.histories: list[tuple[str, ...]] = []
        self.in_use = "none"

    def offers(self) -> list[Offer]:
        return [
            Offer("nano", "Nano", "CC BY-SA 4.0", ("bn", "en"), 24_000_000, True, "", "yes", 0.0, self.in_use == "nano"),
            Offer("large", HOSTILE, "MIT", (), 9_000_000_000, False, "", "no", 0.0, False),
            Offer("broken", "Broken", "MIT", (), 9_000_000_000, True, "", "no", 0.0, False),
        ]

    def change(self, name: str) -> None:
        if name == "broken":
            raise MajlisError(HOSTILE)
        self.in_use, self.modes = name, ("generate", "verbatim") if name == "nano" else ("verbatim", "generate")

    def ask(self, question: Question, cancel: threading.Event | None = None) -> Iterator[Event]:
        assert cancel is not None
        self.histories.append(question.history)
        lang = question.lang or "en"
        yield Detected(Detection(lang, "Latn", False, 0.9, ((lang, 0.9), ("tr", 0.1)), why=HOSTILE), lang, bool(question.lang))
        if question.history:
            yield Searched(f"{question.history[-1]}: {question.text}")
        if "wait" in question.text:
            yield Queued(2, 61.0)
            while "wait" in question.text and not cancel.wait(0.05):
                pass
            yield Queued(1, 0.0)
        if "fail" in question.text:
            yield Failed("model_failed", {"detail": HOSTILE})
            return
        entry = Entry("hostile.1", "passage", "en", HOSTILE, title=HOSTILE, source=HOSTILE, locale="en-QA", topic="travel")
        yield Retrieved((Evidence(1, Hit(entry, 1, 0.5, 0.5, 1.0, 0.5, "query", HOSTILE, "en"), 0, 10),), 0.9, False)
        written = HOSTILE + " [1]"
        yield Token(written)
        words = 600 if "long" in question.text else 3
        try:
            while words and not cancel.is_set():
                words -= 1
                written += " word"
                yield Token(" word")
                time.sleep(0.05)
        finally:  # told to stop, or closed because nobody reads any more
            if words:
                self.stopped_after.append(time.monotonic())
        yield Done(written, "en", "generate", False, cancel.is_set(), (), {"detect": 1.0, "retrieve": 1.0, "generate": 9.0, "total": 11.0})


@pytest.fixture(scope="module")
def small() -> Iterator[tuple[SlowEngine, str]]:
    engine = SlowEngine()
    page = build_page(engine, engine)
    port = free_port()
    page.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True)
    yield engine, f"http://127.0.0.1:{port}/"
    page.blocks.close()


def begin_long_answer(page: Page) -> None:
    page.fill("#question textarea", "a long answer please")
    page.press("#question textarea", "Enter")
    page.locator("#stop").wait_for(state="visible")


def wait_until_stopped(engine: SlowEngine, times: int) -> None:
    for _ in range(100):
        if len(engine.stopped_after) >= times:
            return
        time.sleep(0.1)
    pytest.fail("the engine went on for nobody")


def test_stop_reaches_the_engine_and_the_page_says_so(open_page, small):
    engine, address = small
    page = open_page(to=address)
    begin_long_answer(page)
    page.wait_for_function("document.querySelectorAll('.m-answer .m-text')[0].innerText.includes('word word')")
    pressed = time.monotonic()
    page.click("#stop")
    page.locator(".m-note", has_text="Stopped.").wait_for()
    assert len(engine.stopped_after) == 1
    assert engine.stopped_after[0] - pressed < 2  # a 30 s answer was ended, not waited for
    page.locator("#ask").wait_for(state="visible")


def test_a_reader_who_goes_away_stops_the_engine(open_page, small):
    engine, address = small
    before = len(engine.stopped_after)
    page = open_page(to=address)
    begin_long_answer(page)
    page.close()
    wait_until_stopped(engine, before + 1)


def test_markup_in_the_corpus_and_in_the_models_words_is_text(open_page, small):
    page = open_page(to=small[1])
    page.evaluate("window.broken = false")
    ask(page, "short")
    assert page.evaluate("window.broken") is False
    assert "<script>" in page.locator(".m-answer .m-text").inner_text()
    card = page.locator(".m-card").inner_text()
    assert "<script>" in card and "**bold** ${1+1} {{2}}" in card
    assert page.locator(".m-cite").count() == 1  # [9] names no evidence and is no link


def test_a_failure_is_told_and_the_next_question_works(open_page, small):
    page = open_page(to=small[1])
    page.fill("#question textarea", "fail")
    page.press("#question textarea", "Enter")
    page.locator(".m-failed").wait_for()
    assert "started" in page.locator(".m-failed").inner_text()
    ask(page, "short")
    assert page.locator(".m-time").count() == 1


def test_a_new_conversation_ends_the_running_answer_and_stays_empty(open_page, small):
    engine, address = small
    before = len(engine.stopped_after)
    page = open_page(to=address)
    begin_long_answer(page)
    page.click("#new")
    page.locator(".m-empty").wait_for()
    wait_until_stopped(engine, before + 1)
    page.wait_for_timeout(500)
    assert page.locator(".m-question").count() == 0
    ask(page, "short")
    assert page.locator(".m-question").count() == 1
    page.locator("#ask").wait_for(state="visible")


def test_questions_before_go_with_the_next_one_and_what_was_searched_is_shown(open_page, small):
    engine, address = small
    page = open_page(to=address)
    ask(page, "short first")
    ask(page, "short second")
    assert engine.histories[-2:] == [(), ("short first",)]
    assert "Searched for: \u2068short first: short second\u2069" in page.locator(".m-searched").inner_text()
    page.click("#new")
    page.locator(".m-empty").wait_for()
    ask(page, "short third")
    assert engine.histories[-1] == ()


def test_who_waits_for_the_model_sees_their_place_and_can_stop_waiting(open_page, small):
    page = open_page(to=small[1])
    page.fill("#question textarea", "wait")
    page.press("#question textarea", "Enter")
    waiting = page.locator(".m-wait")
    page.wait_for_function("document.querySelector('.m-wait')?.innerText.includes('Questions before yours: 2, about 61 s')")
    assert waiting.get_attribute("role") == "status"
    page.click("#stop")
    page.locator(".m-note", has_text="Stopped.").wait_for()
    assert page.locator(".m-wait").count() == 0


@pytest.mark.parametrize("width, dark", [(1280, False), (360, True)])
def test_a_reader_sees_what_each_model_would_cost_and_changes_it(open_page, small, width, dark):
    engine, address = small
    page = open_page(to=address, width=width, dark=dark)
    page.locator("#models > button").click()
    page.locator(".m-model").first.wait_for()
    listed = page.locator("#model-list").inner_text()
    assert "0.02 GB" in listed and "CC BY-SA 4.0" in listed and "বাংলা, English" in listed and "python -m demo models fetch large" in listed
    assert "<script>" in listed, "a title is text"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    choose_model(page, "Nano")
    page.locator("#model-said", has_text="Answers now use Nano.").wait_for()
    page.wait_for_function("document.querySelector('#mode input:checked').value === 'verbatim'")
    assert "in use" in page.locator(".m-model").first.inner_text()
    choose_model(page, "Broken")
    page.locator("#model-said [role=alert]").wait_for()
    assert "<script>" in page.locator("#model-said").inner_text()
    page.wait_for_function("document.querySelector('#model input').value === 'Nano'")
    choose_model(page, "None: the evidence is quoted")
    page.locator("#model-said", has_text="Answers are now quoted from the evidence.").wait_for()


def choose_model(page: Page, title: str) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name=title).click()

"""The view about the answers in a real browser: closed until it is wanted, in the page's language, and the reader's own questions in it."""

import json

import pytest

STORM = {"question": "What is a kalboishakhi storm?", "answer": "a nor'wester, a violent afternoon storm", "lang": "en"}


def open_view(page):
    page.locator("#about > button").click()
    page.locator("#figures .m-panel").wait_for()


def report(page):
    panel = page.locator("#trial-report :is(.m-figures, [role=alert])").first
    panel.wait_for()
    return page.locator("#trial-report")


@pytest.mark.parametrize("locale, width, dark", [("en-GB", 1280, False), ("ar-QA", 320, True), ("bn-BD", 320, False)])
def test_the_view_is_closed_until_it_is_opened_and_fits_the_screen(open_page, locale, width, dark):
    page = open_page(locale, dark=dark, width=width)
    assert not page.locator("#trial-rows").is_visible()
    open_view(page)
    assert page.locator("#figures .m-panel").get_attribute("lang") == locale[:2]
    assert page.locator("#figures .m-panel").evaluate("e => getComputedStyle(e).direction") == ("rtl" if locale.startswith("ar") else "ltr")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # a table, or a sentence that says why there is none
    assert page.locator("#figures :is(.m-figures, .m-note)").count() >= 1


def test_own_questions_are_tried_from_a_file_that_is_never_uploaded(open_page, tmp_path):
    page = open_page("en-GB")
    open_view(page)
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps(STORM) + "\n" + json.dumps(STORM | {"answer": "<b>a kind of bread</b>"}), encoding="utf-8")
    posted = []
    page.on("request", lambda request: posted.append(request.url) if "upload" in request.url else None)
    with page.expect_file_chooser() as choosing:
        page.click("#trial-file")
    choosing.value.set_files(file)
    page.wait_for_function("document.querySelector('#trial-rows textarea').value.includes('kalboishakhi')")
    page.click("#trial-run")
    shown = report(page)
    assert shown.locator("tbody tr").count() == 1 and "2" in shown.locator("tbody td").first.inner_text()
    assert "<b>a kind of bread</b>" in shown.locator(".m-worst").inner_text()  # text, not markup
    assert posted == []
    page.locator("#trial-run").wait_for(state="visible")


def test_rows_that_cannot_be_used_are_explained_in_the_language_of_the_page(open_page):
    page = open_page("ne-NP")
    open_view(page)
    page.fill("#trial-rows textarea", "question,answer\nके हो?,\n")
    page.click("#trial-run")
    assert "पङ्क्ति २" in report(page).inner_text()


def test_on_a_narrow_screen_each_figure_stands_across_from_its_name(open_page):
    page = open_page("en-GB", width=320)
    open_view(page)
    page.fill("#trial-rows textarea", json.dumps(STORM))
    page.click("#trial-run")
    cell = report(page).locator("td").nth(1)
    assert cell.evaluate("e => getComputedStyle(e).display") == "flex"
    assert cell.evaluate("e => getComputedStyle(e, '::before').content") == '"Right evidence first"'
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

"""The page as a person meets it: the real app, the bundled index, a real browser, no other host."""

import pytest

from tests.browser.conftest import ask


def direction(page, selector: str) -> str:
    return page.locator(selector).last.evaluate("element => getComputedStyle(element).direction")


@pytest.mark.parametrize(
    "locale, question, expected, lang, rtl",
    [
        ("bn-BD", "কালবৈশাখী বিকেলে আসে কেন?", "চৈত্র-বৈশাখে", "bn", False),
        ("ar-QA", "لماذا لون القهوة العربية فاتح؟", "لون القهوة العربية في الخليج فاتح", "ar", True),
        ("en-GB", "Why is panta bhat eaten at Pohela Boishakh?", "Panta bhat, rice left in water overnight", "en", False),
    ],
)
def test_a_question_is_answered_from_the_right_evidence_in_its_own_language_and_direction(open_page, locale, question, expected, lang, rtl):
    page = open_page(locale)
    ask(page, question)
    first_card = page.locator(".m-card").first
    assert expected in first_card.inner_text()
    assert expected in page.locator(".m-answer .m-text").last.inner_text()
    assert page.locator(".m-detected strong").get_attribute("lang") == lang
    assert direction(page, ".m-answer .m-text") == ("rtl" if rtl else "ltr")
    assert page.evaluate("getComputedStyle(document.documentElement).direction") == ("rtl" if rtl else "ltr")


def test_a_citation_brings_its_card_into_view(open_page):
    page = open_page("en-GB", width=390)
    ask(page, "What is a kalboishakhi storm?")
    assert not in_view(page, "#e1-1")
    page.locator(".m-cite").first.click()
    page.wait_for_function(
        "() => { const box = document.querySelector('#e1-1').getBoundingClientRect(); return box.top >= -2 && box.top < innerHeight; }"
    )
    assert page.url.endswith("#e1-1")


def in_view(page, selector: str) -> bool:
    return page.locator(selector).evaluate(
        "element => { const box = element.getBoundingClientRect(); return box.top >= 0 && box.top < innerHeight; }"
    )


def test_a_corrected_language_answers_the_same_question_again(open_page):
    page = open_page("en-GB")
    ask(page, "kalboishakhi bikele ashe keno")
    assert page.locator(".m-detected strong").get_attribute("lang") == "bn"
    page.locator("#correction label", has_text="English").click()
    page.wait_for_function(
        "() => document.querySelector('#correction input:checked')?.value === 'en' && document.querySelector('.m-card .m-lang')?.lang === 'en'"
    )
    page.locator(".m-time").wait_for()
    assert page.locator(".m-question").count() == 1  # answered in place, not as a second question
    assert page.locator(".m-answer .m-text").get_attribute("lang") == "en"


def test_script_in_a_question_is_text(open_page):
    page = open_page("en-GB")
    page.evaluate("window.broken = false")
    ask(page, "<script>window.broken = true</script><img src=x onerror='window.broken = true'> What is kalboishakhi ${1+1} {{2}}?")
    assert page.evaluate("window.broken") is False
    shown = page.locator(".m-question").last.inner_text()
    assert "<script>window.broken = true</script>" in shown and "${1+1} {{2}}" in shown


@pytest.mark.parametrize(
    "locale, text, message",
    [
        ("hi-IN", "   ", "कृपया"),
        ("tr-TR", "🙂🙂🙂", "kelime"),
        ("en-GB", "x" * 20_000, "20000"),
        ("en-GB", "Wie feiert man heute in Deutschland den Geburtstag der Kinder?", "অসমীয়া"),
    ],
)
def test_what_cannot_be_answered_says_why_in_the_readers_language(open_page, locale, text, message):
    page = open_page(locale)
    page.fill("#question textarea", text)
    page.click("#ask")
    failed = page.locator(".m-failed")
    failed.wait_for()
    assert message in failed.inner_text()


def test_the_interface_changes_its_language_and_remembers_it(open_page):
    page = open_page("en-GB")
    page.locator("#page-lang input").click()
    page.get_by_role("option", name="অসমীয়া").click()
    page.wait_for_function("document.documentElement.lang === 'as'")
    page.get_by_role("button", name="সোধক", exact=True).wait_for()
    assert page.locator("#evidence h2").inner_text() == "উৎস"
    page.reload()
    page.wait_for_function("document.documentElement.lang === 'as'")
    page.get_by_role("button", name="সোধক", exact=True).wait_for()


def test_a_question_can_be_asked_and_its_evidence_reached_with_the_keyboard_alone(open_page):
    page = open_page("en-GB")
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"  # ready to type
    page.keyboard.type("What is a kalboishakhi storm?")
    page.keyboard.press("Enter")
    page.locator(".m-time").wait_for()
    page.locator(".m-cite").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash === '#e1-1'")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen_and_text_stands_out_from_its_ground(open_page, dark, width):
    page = open_page("ne-NP", dark=dark, width=width)
    ask(page, "दसैँको टीका कसरी बनाइन्छ?")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for selector in (".m-answer .m-text", ".m-card .m-body", ".m-meta", ".m-time"):
        assert contrast(page, selector) >= 4.5, selector  # WCAG AA for body text


def contrast(page, selector: str) -> float:
    return page.locator(selector).first.evaluate(
        """element => {
            const part = (text) => text.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
            let ground = element;
            while (ground && (part(getComputedStyle(ground).backgroundColor)[3] ?? 1) < 1) ground = ground.parentElement;
            const [a, b] = [light(part(getComputedStyle(element).color)), light(part(getComputedStyle(ground).backgroundColor))].sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05);
        }"""
    )


@pytest.mark.parametrize(
    "locale, family, question",
    [
        ("bn-BD", "Majlis Bengali", "চাঁদরাতে কী কী হয়?"),
        ("ar-QA", "Majlis Arabic", "متى القرنقعوه؟"),
        ("hi-IN", "Majlis Devanagari", "छठ में अर्घ्य क्यों?"),
    ],
)
def test_the_bundled_fonts_are_used(open_page, locale, family, question):
    page = open_page(locale)
    ask(page, question)
    page.evaluate("document.fonts.ready")
    loaded = page.evaluate("[...document.fonts].filter(font => font.status === 'loaded').map(font => font.family.replaceAll('\"', ''))")
    assert family in loaded


def test_the_served_page_names_no_other_host(address):
    import re
    import urllib.request

    text = urllib.request.urlopen(address).read().decode()
    foreign = {url for url in re.findall(r"https?://[^\s\"'<>\\]+", text) if not url.startswith(address.rstrip("/"))}
    assert foreign == set()


def test_older_questions_keep_their_evidence(open_page):
    page = open_page("en-GB")
    ask(page, "What is a kalboishakhi storm?")
    ask(page, "How do I behave as a guest in a Qatari majlis?")
    assert page.locator(".m-question").count() == 2
    page.locator(".m-cite[href='#e1-1']").first.click()
    page.wait_for_function("() => document.querySelector('details.m-earlier').open")


@pytest.mark.parametrize("locale, first, then, searched", [
    ("en-GB", "How are weddings held in Dhaka?", "and in Kolkata?", "How are weddings held in Kolkata?"),
    ("bn-BD", "কলকাতায় বিয়ে কীভাবে হয়?", "আর ঢাকায়?", "ঢাকায় বিয়ে কীভাবে হয়?"),
])  # fmt: skip
def test_a_follow_up_is_read_with_the_question_before_it(open_page, locale, first, then, searched):
    page = open_page(locale)
    ask(page, first)
    assert page.locator(".m-searched").count() == 0
    ask(page, then)
    assert searched in page.locator(".m-searched").inner_text()


def test_the_models_to_choose_from_are_shown_in_the_language_of_the_page(open_page):
    page = open_page("ar-QA", width=360)
    page.locator("#models > button").click()
    page.locator(".m-model").first.wait_for()
    assert "يتسع" in (text := page.locator("#model-list").inner_text()) or "تتسع" in text or "أكبر" in text
    assert page.locator("#model-list .m-panel").evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

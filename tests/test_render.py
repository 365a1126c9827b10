"""Turns as HTML: every text as it is, each in its own direction, and never a tag or an address that is not ours."""

import asyncio
import threading
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.events import Citation, Detected, Detection, Done, Failed, Queued, Reason, Replaced, Retrieved, Searched, Token
from demo.languages import all_endonyms, endonym, number, strings
from demo.page import render
from demo.page.private import Private
from demo.page.turn import Turn, after
from index_builder.vocabulary import LANGUAGES, Entry, Evidence, Hit

HOSTILE = """<script>alert(1)</script> <img src=x onerror="alert(2)"> " onmouseover="alert(3) ' ' & &lt;b&gt; ${alert(4)} {{alert(5)}} {0} {language} `x` </div></li> <!--"""
OURS = {
    "div",
    "p",
    "span",
    "section",
    "h1",
    "h2",
    "header",
    "footer",
    "strong",
    "bdi",
    "ol",
    "li",
    "a",
    "br",
    "mark",
    "q",
    "details",
    "summary",
    "code",
}


class Read(HTMLParser):
    """Tags with their attributes, the text between them, and whether every tag is closed in order."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "br":
            self.text += "\n"
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    def having(self, **wanted: str) -> list[dict[str, str]]:
        return [attrs for _, attrs in self.tags if all(attrs.get(name.rstrip("_")) == value for name, value in wanted.items())]

    def links(self) -> list[dict[str, str]]:
        return [attrs for tag, attrs in self.tags if tag == "a"]


def evidence(n: int = 1, text: str = "Dates are served. Coffee too.", matched_by="text", **fields) -> Evidence:
    entry = Entry(**({"entry_id": f"e{n}", "kind": "qa", "lang": "en", "text": text, "question": "What is served?"} | fields))
    query = HOSTILE if matched_by == "query" else ""
    return Evidence(n, Hit(entry, n, 1.0, 0.87, 3.25, 0.5, matched_by, query, "bn" if query else "", 0.72), 0, min(5, len(text)))


def detection(lang: str = "en", script: str = "Latn", **fields) -> Detection:
    return Detection(
        **({"lang": lang, "script": script, "romanised": False, "confidence": 0.934, "ranking": ((lang, 0.934), ("tr", 0.05))} | fields)
    )


DATES = evidence()
TIMES = {"detect": 0.2, "retrieve": 3.14, "generate": 1234.5, "total": 1237.8}


def done(answer: str, lang: str = "en", cited: tuple[int, ...] = (), **fields) -> Done:
    citations = tuple(Citation(n, f"e{n}", answer, True) for n in cited)
    return Done(
        **(
            {
                "answer": answer,
                "answer_lang": lang,
                "mode": "verbatim",
                "abstained": False,
                "stopped": False,
                "citations": citations,
                "timings_ms": TIMES,
            }
            | fields
        )
    )


def turn_of(question: str, *events, page_lang: str = "en") -> Turn:
    turn = Turn(question, page_lang)
    for event in events:
        turn = after(turn, event)
    return turn


def answered(
    answer: str = "Dates are served. [1]", items=(DATES,), lang: str = "en", page_lang: str = "en", question: str = "What?", **fields
) -> Turn:
    events = (
        Detected(detection(lang), lang, False),
        Retrieved(tuple(items), 0.9, False),
        Token(answer),
        done(answer, lang, tuple(item.n for item in items), **fields),
    )
    return turn_of(question, *events, page_lang=page_lang)


def everything(turns: list[Turn], page_lang: str = "en") -> list[str]:
    """Every piece of HTML that the page shows of these turns."""
    return [
        render.conversation(turns, page_lang),
        render.language_panel(turns[-1] if turns else None, page_lang),
        render.evidence_panel(turns, page_lang),
    ]


def hostile_turn() -> Turn:
    item = evidence(
        1,
        HOSTILE,
        "query",
        title=HOSTILE,
        question=HOSTILE,
        source=HOSTILE,
        reliability=HOSTILE,
        lang='"><script>',
        topic=HOSTILE,
        locale=HOSTILE,
        region=HOSTILE,
    )
    found = detection('x" onload="alert(6)', HOSTILE, why=HOSTILE, ranking=((HOSTILE, 0.9), ("<script>", 0.1)))
    events = (
        Detected(found, "en", False),
        Retrieved((item,), 0.9, False),
        Token(HOSTILE),
        done(f"{HOSTILE} [1]", '"><script>', (1,), notices=(("other_language", HOSTILE), ("citations_removed", HOSTILE))),
    )
    return turn_of(HOSTILE, *events)


# --- escaping


@pytest.mark.parametrize("page_lang", LANGUAGES)
def test_what_users_corpus_and_models_write_is_shown_and_never_obeyed(page_lang):
    turns = [hostile_turn(), hostile_turn()]
    for html in everything(turns, page_lang):
        read = Read(html)
        assert {tag for tag, _ in read.tags} <= OURS
        assert not [attrs for _, attrs in read.tags if any(name.startswith("on") or name in ("src", "srcset") for name in attrs)]
        assert all(attrs.get("href", "#").startswith("#") for _, attrs in read.tags)
    conversation, panel, cards = (Read(html).text for html in everything(turns, page_lang))
    assert conversation.count(HOSTILE) >= 4 and HOSTILE in panel
    assert cards.count(HOSTILE) >= 6  # text, question, query, source, reliability; twice


def test_a_hostile_refusal_is_shown_as_text():
    html = render.conversation([turn_of("?", Failed("failed", {"detail": HOSTILE}))], "en")
    assert HOSTILE in Read(html).text and {tag for tag, _ in Read(html).tags} <= OURS


def test_a_hostile_command_in_the_footer_is_shown_as_text():
    read = Read(render.footer("en", HOSTILE))
    assert HOSTILE in read.text and {tag for tag, _ in read.tags} == {"footer", "p", "code"}


@given(st.text(st.sampled_from("<>&\"'/=`${}[]1২٣ \n\taকअب\u200d\u202e🙂-!"), max_size=60), st.sampled_from(LANGUAGES))
def test_any_text_reads_back_from_question_and_card_as_it_was(text, page_lang):
    item = evidence(1, text or "x", question=text)
    turn = answered("x", (item,), question=text, page_lang=page_lang)
    conversation, _, cards = (Read(html).text for html in everything([turn], page_lang))
    assert text in conversation and text in cards and (text or "x") in cards


@given(st.text(st.sampled_from("<>&\"'${}[]123456789 aকअب🙂"), max_size=60))
def test_any_answer_keeps_its_text_and_links_only_to_evidence_that_exists(answer):
    read = Read(render.conversation([answered(answer, (evidence(1), evidence(2)))], "en"))
    assert {link["href"] for link in read.links()} <= {"#e1-1", "#e1-2"}


def test_lines_of_question_and_answer_stay_lines():
    read = Read(render.conversation([answered("one\ntwo", question="three\nfour")], "en"))
    assert "one\ntwo" in read.text and "three\nfour" in read.text


@pytest.mark.parametrize("page_lang", LANGUAGES)
def test_no_address_of_another_host_is_in_the_page(page_lang):
    pieces = [
        *everything([], page_lang),
        *everything([answered(page_lang=page_lang)], page_lang),
        render.header(page_lang),
        render.footer(page_lang, "python -m demo models"),
    ]
    for html in pieces:
        assert "//" not in html and "url(" not in html and "@import" not in html


# --- language and direction


@pytest.mark.parametrize(
    "lang, direction", [("ar", "rtl"), ("as", "ltr"), ("bn", "ltr"), ("en", "ltr"), ("hi", "ltr"), ("ne", "ltr"), ("tr", "ltr")]
)
def test_an_answer_has_its_own_language_and_direction_whatever_the_pages_are(lang, direction):
    for page_lang in ("en", "ar"):
        read = Read(render.conversation([answered(lang=lang, page_lang=page_lang)], page_lang))
        assert read.having(class_="m-text", lang=lang, dir=direction)
        assert read.having(class_="m-chat", lang=page_lang, dir="rtl" if page_lang == "ar" else "ltr")


def test_a_question_finds_its_own_direction():
    html = render.conversation([answered(question="ما هي القهوة؟")], "en")
    assert '<div dir="auto">ما هي القهوة؟</div>' in html


def test_a_quoted_answer_in_another_language_than_the_question_has_the_direction_of_the_source():
    events = (Detected(detection(), "en", False), Retrieved((evidence(1, "تمر", lang="ar"),), 0.9, False), done("تمر [1]", "ar", (1,)))
    assert Read(render.conversation([turn_of("What?", *events)], "en")).having(class_="m-text", lang="ar", dir="rtl")


def test_every_card_has_the_language_and_direction_of_its_text():
    turn = answered(items=(evidence(1, "تمر وقهوة", lang="ar"), evidence(2, "পান্তা ভাত", lang="bn"), evidence(3, "ہاں", lang="ur")))
    read = Read(render.evidence_panel([turn], "en"))
    for lang, direction in (("ar", "rtl"), ("bn", "ltr"), ("ur", "auto")):
        assert read.having(class_="m-body", lang=lang, dir=direction) and read.having(class_="m-title", lang=lang, dir=direction)


# --- citations


def test_a_citation_is_a_link_to_its_card_with_a_name_that_can_be_read_out():
    turn = answered()
    (link,) = Read(render.conversation([turn], "en")).links()
    assert (link["href"], link["aria-label"]) == ("#e1-1", "Show evidence 1")
    assert Read(render.evidence_panel([turn], "en")).having(id="e1-1", class_="m-card m-cited")


@pytest.mark.parametrize("mark", ["[1]", "[১]", "[١]", "[१]"])
def test_a_citation_in_any_digits_leads_to_the_same_card(mark):
    (link,) = Read(render.conversation([answered(f"Dates. {mark}")], "en")).links()
    assert link["href"] == "#e1-1"


def test_a_number_without_evidence_is_no_link():
    read = Read(render.conversation([answered("Dates. [4] [0] [999]")], "en"))
    assert read.links() == []


def test_before_the_evidence_is_there_nothing_is_a_link():
    assert Read(render.conversation([turn_of("What?", Token("Dates. [1]"))], "en")).links() == []


def test_sentences_of_one_source_share_one_link_at_their_end():
    read = Read(render.conversation([answered("One. [1] Two. [1] Three. [2] Four. [1]", (evidence(1), evidence(2)))], "en"))
    assert [link["href"] for link in read.links()] == ["#e1-1", "#e1-2", "#e1-1"]


def test_an_old_citation_still_leads_to_its_own_card():
    turns = [answered(question="First?"), answered(question="Second?")]
    assert [link["href"] for link in Read(render.conversation(turns, "en")).links()] == ["#e1-1", "#e2-1"]
    ids = [attrs["id"] for _, attrs in Read(render.evidence_panel(turns, "en")).tags if "id" in attrs]
    assert sorted(ids) == ["e1-1", "e2-1"]


# --- what is shown


def test_the_language_panel_shows_endonym_script_certainty_runner_up_and_why():
    found = detection("as", "Beng", ranking=(("as", 0.934), ("bn", 0.05)), why="ৰ occurs only in Assamese")
    text = Read(render.language_panel(turn_of("?", Detected(found, "as", False)), "en")).text
    for part in ("অসমীয়া", "Bengali-Assamese script", "certainty 93%", "otherwise বাংলা 5%", "ৰ occurs only in Assamese"):
        assert part in text


def test_a_text_without_letters_is_shown_as_not_sure():
    found = detection("und", "Zyyy", confidence=0.0, ranking=())
    assert "not sure" in Read(render.language_panel(turn_of("1971", Detected(found, "en", False)), "en")).text


def test_romanised_text_is_said_to_be_so_in_panel_and_answer():
    found = detection("bn", "Latn", romanised=True)
    turn = turn_of("jatiyo phul ki", Detected(found, "bn", False), Retrieved((evidence(),), 0.9, False), done("শাপলা। [1]", "bn", (1,)))
    assert "in Latin letters" in Read(render.language_panel(turn, "en")).text
    assert strings("bn")["romanised_note"].format(language=endonym("bn")) in Read(render.conversation([turn], "en")).text


def test_a_card_shows_place_topic_kind_match_scores_source_and_review():
    item = evidence(
        1, "Dates are served.", region="", locale="ar-QA", topic="food_drinks", source="written for Majlis", reliability="unreviewed"
    )
    read = Read(render.evidence_panel([answered(items=(item,))], "en"))
    for part in ("English", "Qatar and the Gulf", "Food and drinks", "Question and answer", "Found by: its text", "likely to answer 72%", "similarity 0.87",
                 "words found 50%", "word score 3.2", "Source: written for Majlis", "not yet checked by a native speaker"):  # fmt: skip
        assert part in read.text


def test_the_matching_part_of_a_card_is_marked():
    assert "<mark>Dates</mark> are served." in render.evidence_panel([answered(items=(evidence(1, "Dates are served."),))], "en")


def test_numbers_on_a_bangla_page_are_in_bangla_digits():
    text = Read(render.evidence_panel([answered(page_lang="bn")], "bn")).text
    assert "০.৮৭" in text and "৫০%" in text and "0.87" not in text
    assert "১২৩৪" in Read(render.conversation([answered(page_lang="bn")], "bn")).text


def test_weak_evidence_carries_a_notice_and_good_evidence_does_not():
    weak = turn_of("?", Detected(detection(), "en", False), Retrieved((evidence(),), 0.1, True))
    notice = strings("en")["low_relevance"]
    assert notice in Read(render.evidence_panel([weak], "en")).text and notice not in Read(render.evidence_panel([answered()], "en")).text


@pytest.mark.parametrize("key, values", [
    ("empty_question", {}), ("no_words", {}), ("too_long", {"count": "20000", "limit": "2000"}), ("model_failed", {"detail": "signal 9"}),
    ("failed", {"detail": "no index"}), ("unsupported_language", {"languages": all_endonyms()}),
])  # fmt: skip
@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_failure_has_its_message_in_every_language(lang, key, values):
    read = Read(render.conversation([turn_of("?", Failed(key, values), page_lang=lang)], lang))
    assert read.having(role="alert") and "{" not in read.text
    if key == "too_long":
        assert {"as": "২০০০০", "bn": "২০০০০", "ne": "२००००"}.get(lang, "20000") in read.text


@pytest.mark.parametrize(
    "notice",
    [
        ("wrong_language", ""), ("citations_removed", "2"), ("cut_short", ""), ("unsure", ""), ("other_language", "bn"), ("nearest", "What is it?"),
        ("rewritten", ""), ("unsupported", "2"), ("uncited", ""), ("no_answer", ""), ("no_room", ""), ("small_context", "512"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_notice_has_its_sentence_in_every_language(lang, notice):
    read = Read(render.conversation([answered(lang=lang, notices=(notice,))], "en"))
    expected = strings(lang)[notice[0]].split("{")[0]
    assert expected in read.text and "{" not in read.text and read.having(class_="m-note", lang=lang)


def test_a_stopped_answer_says_so():
    assert "Stopped." in Read(render.conversation([answered(stopped=True)], "en")).text


def test_a_withdrawn_answer_is_replaced():
    turn = turn_of("?", Token("ভুল"), Replaced("right", "wrong_language"))
    assert turn.text == "right" and not turn.over


def test_while_an_answer_is_written_there_is_a_caret_and_no_time_line():
    writing = render.conversation(
        [turn_of("?", Detected(detection(), "en", False), Retrieved((evidence(),), 0.9, False), Token("Da"))], "en"
    )
    assert "m-caret" in writing and "m-time" not in writing
    finished = render.conversation([answered()], "en")
    assert "m-caret" not in finished and "language 0.2 ms · search 3.1 ms · answer 1234 ms" in Read(finished).text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_who_waits_for_the_model_reads_how_many_are_before_them_and_for_how_long(lang):
    waiting = turn_of("?", Detected(detection(lang), lang, False), Retrieved((evidence(),), 0.9, False), Queued(3, 0.0), page_lang=lang)
    read = Read(render.conversation([waiting], lang))
    assert strings(lang)["queued"].format(count=number(3, lang)) in read.text and read.having(class_="m-wait", role="status")
    waiting = after(waiting, Queued(2, 6.4))
    assert (
        strings(lang)["queued_seconds"].format(count=number(2, lang), seconds=number(7, lang))
        in Read(render.conversation([waiting], lang)).text
    )
    writing = Read(render.conversation([after(waiting, Token("Dates."))], lang))
    assert "Dates." in writing.text and not writing.having(class_="m-wait", role="status")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_follow_up_shows_what_was_searched_for(lang):
    events = (
        Detected(detection(lang), lang, False),
        Searched(HOSTILE),
        Retrieved((evidence(),), 0.9, False),
        done("Dates. [1]", lang, (1,)),
    )
    read = Read(render.conversation([turn_of("and there?", *events)], "en"))
    assert strings(lang)["searched_for"].format(text=f"\u2068{HOSTILE}\u2069") in read.text
    assert read.having(class_="m-searched", lang=lang) and {tag for tag, _ in read.tags} <= OURS


def test_sentences_that_no_source_bears_out_are_marked_and_the_others_are_not():
    answer = "Dates are served. [1] Camels <b>fly</b>. They are purple. [1] Coffee too."
    html = render.conversation([answered(answer, unsupported=("They are purple.", "Camels <b>fly</b>."))], "en")
    marked = Read(html).having(class_="m-doubt", title=strings("en")["unsupported_sentence"])
    assert len(marked) == 2
    assert ">They are purple.</span>" in html and ">Camels &lt;b&gt;fly&lt;/b&gt;.</span>" in html
    assert "Dates are served. Camels" not in html and Read(html).text.count("Coffee too.") == 1


@given(
    st.text(st.sampled_from("<&ab. [1]ক।"), max_size=40), st.lists(st.text(st.sampled_from("<&ab. ক।"), min_size=1, max_size=8), max_size=4)
)
def test_marking_sentences_loses_no_text(answer, doubtful):
    plain, marked = (Read(render.conversation([answered(answer, unsupported=sentences)], "en")).text for sentences in ((), tuple(doubtful)))
    assert plain == marked


@pytest.mark.parametrize("mode, said", [("verbatim", "chosen by nano"), ("generate", "written by nano")])
def test_a_model_that_had_a_part_in_an_answer_is_named(mode, said):
    named = answered(mode=mode, model={"encoder": "e", "generator": "nano"})
    assert said in Read(render.conversation([named], "en")).text
    assert "nano" not in Read(render.conversation([answered(mode=mode, model={"encoder": "e"})], "en")).text


@pytest.mark.parametrize("page_lang", LANGUAGES)
def test_an_empty_page_speaks_its_language(page_lang):
    conversation, panel, cards = (Read(html).text for html in everything([], page_lang))
    words = strings(page_lang)
    assert words["private_note"] in conversation and words["language_empty"] in panel and words["evidence_empty"] in cards
    assert words["tagline"] in Read(render.header(page_lang)).text


# --- the served document


def served(body_parts: list[bytes], path: str = "/") -> tuple[bytes, dict[bytes, bytes]]:
    """(body, headers) that a browser gets when the app behind the middleware answers with these parts."""

    async def app(scope, receive, send):
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", str(sum(map(len, body_parts))).encode()), (b"x-kept", b"1")],
            }
        )
        for i, part in enumerate(body_parts):
            await send({"type": "http.response.body", "body": part, "more_body": i + 1 < len(body_parts)})

    sent = []

    async def send(message):
        sent.append(message)

    # a thread of its own: a browser test in the same session leaves an event loop running in this one
    request = {"type": "http", "path": path, "method": "GET"}
    thread = threading.Thread(target=lambda: asyncio.run(Private(app)(request, None, send)))
    thread.start()
    thread.join()
    return b"".join(message.get("body", b"") for message in sent), dict(sent[0]["headers"])


def test_link_previews_with_foreign_addresses_are_taken_out_of_the_document():
    parts = [
        b'<head>\n<meta property="og:url" content="https://gra',
        b'dio.app/" />\n<meta name="twitter:image"\n content="https://x/y.png">\n<title>M</title></head>',
    ]
    body, headers = served(parts)
    assert body == b"<head>\n<title>M</title></head>"
    assert headers == {b"x-kept": b"1", b"content-length": str(len(body)).encode()}


def test_other_responses_are_left_alone():
    part = b'<meta property="og:url" content="https://gradio.app/">'
    assert served([part], "/file.html") == (part, {b"content-length": str(len(part)).encode(), b"x-kept": b"1"})


@pytest.mark.parametrize("page_lang, said", [("as", "ৰ আখৰটো অসমীয়া ভাষাত লিখা হয়"), ("en", "ৰ is written in অসমীয়া")])
def test_the_reason_is_told_in_the_language_of_the_page(page_lang, said):
    found = detection("as", "Beng", why="ৰ occurs only in Assamese", reason=Reason("letter", "as", shown="ৰ"))
    assert said in render.language_panel(Turn("?", page_lang, Detected(found, "as", False)), page_lang)

"""Turns -> HTML. Pure; every piece of text that is not ours is escaped here and nowhere else."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from demo.events import Detection
from demo.languages import direction, endonym, number, region_of, strings
from demo.page.turn import Turn
from demo.verify import MARK
from index_builder.vocabulary import Evidence


def conversation(turns: Sequence[Turn], page_lang: str, server: str = "") -> str:
    """Questions and answers, oldest first. Each text keeps its own direction and font, whatever the page's is. `server`: where questions are sent."""
    words = strings(page_lang)
    if not turns:
        return f'<div class="m-empty" {_page(page_lang)}><p>{escape(words["private_note_server"].format(host=server) if server else words["private_note"])}</p></div>'
    parts = [_turn(i, turn, page_lang) for i, turn in enumerate(turns, 1)]
    return f'<div class="m-chat" {_page(page_lang)} role="log" aria-live="polite" aria-label="{escape(words["conversation"])}">{"".join(parts)}</div>'


def _turn(position: int, turn: Turn, page_lang: str) -> str:
    page_words = strings(page_lang)
    question = (
        f'<div class="m-question"><span class="m-who">{escape(page_words["you"])}</span><div dir="auto">{_lines(turn.question)}</div></div>'
    )
    words = strings(turn.lang)
    notes = []
    if turn.failed:
        return f'{question}<div class="m-answer m-failed" role="alert">{_text(escape(failure(turn)), turn.lang)}</div>'
    if turn.done:
        for key, value in turn.done.notices:
            notes.append(words[key].format(language=endonym(value), count=_localised(value, turn.lang), text=_isolated(value)))
        if turn.done.stopped:
            notes.append(words["stopped"])
    if turn.detected and turn.detected.detection.romanised and turn.detected.detection.lang == turn.lang:
        notes.append(words["romanised_note"].format(language=endonym(turn.lang)))
    answer_lang = turn.done.answer_lang if turn.done else turn.lang
    shown = {item.n for item in turn.retrieved.evidence} if turn.retrieved else set()
    doubtful = turn.done.unsupported if turn.done else ()
    body = (
        _cited(turn.text, position, shown, doubtful, words)
        if turn.text
        else f'<span class="m-wait" role="status">{escape(_waiting(turn, words))}</span>'
    )
    waiting = "" if turn.over else '<span class="m-caret" aria-hidden="true"></span>'
    foot = "".join(f'<p class="m-note" lang="{turn.lang}" dir="{direction(turn.lang)}">{escape(note)}</p>' for note in notes)
    searched = ""
    if turn.searched:
        searched = f'<p class="m-searched" lang="{turn.lang}" dir="{direction(turn.lang)}">{escape(words["searched_for"].format(text=_isolated(turn.searched)))}</p>'
    return f'{question}<div class="m-answer">{searched}{_text(body + waiting, answer_lang)}{foot}{_timeline(turn, page_lang)}</div>'


def _waiting(turn: Turn, words: Mapping[str, Any]) -> str:
    """What happens while there is no answer yet."""
    if not turn.queued:
        return words["thinking" if turn.detected else "loading"]
    ahead, seconds = number(turn.queued.ahead, turn.lang), math.ceil(turn.queued.seconds)
    return words["queued_seconds" if seconds else "queued"].format(count=ahead, seconds=number(seconds, turn.lang))


def failure(turn: Turn) -> str:
    """Why a turn has no answer, in the language of the turn."""
    if not turn.failed:
        return ""
    return strings(turn.lang)[turn.failed.key].format(**{key: _localised(value, turn.lang) for key, value in turn.failed.values.items()})


def _cited(text: str, position: int, shown: set[int], doubtful: Sequence[str], words: Mapping[str, Any]) -> str:
    """Escaped text whose citation marks are links to their cards; consecutive marks of one source become one link at the end.

    Sentences that are `doubtful` are marked as such.
    """
    parts, last = [], 0
    matches = list(MARK.finditer(text))
    for i, match in enumerate(matches):
        n = int(match.group(1))
        between = text[match.end() : matches[i + 1].start()] if i + 1 < len(matches) else ""
        parts.append(_doubted(text[last : match.start()], doubtful, words))
        last = match.end()
        if n not in shown:
            continue
        if i + 1 < len(matches) and int(matches[i + 1].group(1)) == n and between.strip():
            continue
        label = escape(words["citation"].format(n=n))
        parts.append(f'<a class="m-cite" href="#e{position}-{n}" aria-label="{label}" title="{label}">{n}</a>')
    parts.append(_doubted(text[last:], doubtful, words))
    return "".join(parts).replace("\n", "<br>")


def _doubted(text: str, doubtful: Sequence[str], words: Mapping[str, Any]) -> str:
    for sentence in doubtful:
        before, found, after = text.partition(sentence)
        if found:
            mark = f'<span class="m-doubt" title="{escape(words["unsupported_sentence"])}">{escape(found)}</span>'
            return _doubted(before, doubtful, words) + mark + _doubted(after, doubtful, words)
    return escape(text)


def _timeline(turn: Turn, page_lang: str) -> str:
    if not turn.done:
        return ""
    took = {name: turn.done.timings_ms[name] for name in ("detect", "retrieve", "generate")}
    shown = {name: number(f"{ms:.0f}" if ms >= 10 else f"{ms:.1f}", page_lang) for name, ms in took.items()}
    words, said = strings(page_lang), []
    if model := turn.done.model.get("generator"):
        said.append(words["chosen_by" if turn.done.mode == "verbatim" else "written_by"].format(model=model))
    said.append(words["timeline"].format(**shown))
    return f'<p class="m-time">{" · ".join(f"<bdi>{escape(one)}</bdi>" for one in said)}</p>'


def language_panel(turn: Turn | None, page_lang: str) -> str:
    """Which language was detected: endonym, script, certainty, runner-up, why."""
    words = strings(page_lang)
    heading = f"<h2>{escape(words['language_heading'])}</h2>"
    if not turn or not turn.detected:
        return f'<section class="m-panel" {_page(page_lang)}>{heading}<p class="m-quiet">{escape(words["language_empty"])}</p></section>'
    found = turn.detected.detection
    if found.lang == "und":
        return f'<section class="m-panel" {_page(page_lang)}>{heading}<p class="m-detected"><strong>{escape(words["not_sure"])}</strong></p></section>'
    percent = _percent(found.confidence)
    script = words["scripts"].get(found.script, found.script)
    details = [words["romanised"] if found.romanised and found.script == "Latn" else script]
    details.append(f"{words['confidence']} {number(percent, page_lang)}%")
    if runner := _runner_up(found):
        details.append(f"{words['runner_up']} {endonym(runner[0])} {number(_percent(runner[1]), page_lang)}%")
    why = _why(found, page_lang)
    meter = f'<span class="m-meter" aria-hidden="true"><span style="inline-size:{found.confidence:.0%}"></span></span>'
    name = f'<strong lang="{escape(found.lang)}">{escape(endonym(found.lang))}</strong>'
    separated = '<span class="m-dot" aria-hidden="true"> · </span>'.join(f"<bdi>{escape(detail)}</bdi>" for detail in details)
    return f'<section class="m-panel" {_page(page_lang)}>{heading}<p class="m-detected">{name}{meter}</p><p class="m-quiet">{separated}</p>{why}</section>'


def _why(found: Detection, page_lang: str) -> str:
    """The reason in the language of the page; the detector's own English line when it gave no other."""
    if not found.reason:
        return f'<p class="m-quiet" dir="ltr" lang="en">{escape(found.why)}</p>' if found.why else ""
    reason = found.reason
    said = strings(page_lang)[f"why_{reason.kind}"].format(language=endonym(reason.lang), other=endonym(reason.other), shown=reason.shown)
    return f'<p class="m-quiet">{escape(said)}</p>'


def _runner_up(found: Detection) -> tuple[str, float] | None:
    second = next(((lang, p) for lang, p in found.ranking if lang != found.lang), None)
    return second if second and found.lang != "und" else None


def evidence_panel(turns: Sequence[Turn], page_lang: str) -> str:
    """Cards of the last turn, and those of earlier turns folded away, so that an old citation still leads to its card."""
    words = strings(page_lang)
    heading = f"<h2>{escape(words['evidence_heading'])}</h2>"
    if not turns or not turns[-1].retrieved:
        body = f'<p class="m-quiet">{escape(words["evidence_empty"])}</p>'
    else:
        weak = f'<p class="m-weak" role="status">{escape(words["low_relevance"])}</p>' if turns[-1].retrieved.weak else ""
        body = weak + _cards(len(turns), turns[-1], page_lang)
    earlier = "".join(
        f'<details class="m-earlier"><summary dir="auto">{escape(turn.question)}</summary>{_cards(position, turn, page_lang)}</details>'
        for position, turn in reversed(list(enumerate(turns[:-1], 1)))
        if turn.retrieved
    )
    return f'<section class="m-panel m-evidence" {_page(page_lang)}>{heading}{body}{earlier}</section>'


def _cards(position: int, turn: Turn, page_lang: str) -> str:
    cited = {citation.n for citation in turn.done.citations} if turn.done else set()
    cards = "".join(_card(position, item, item.n in cited, page_lang) for item in (turn.retrieved.evidence if turn.retrieved else ()))
    return f'<ol class="m-cards">{cards}</ol>'


def _card(position: int, item: Evidence, cited: bool, page_lang: str) -> str:
    words = strings(page_lang)
    entry, hit = item.hit.entry, item.hit
    place = words["regions"].get(region_of(entry.locale, entry.region), "")
    badges = [f'<span class="m-badge m-lang" lang="{escape(entry.lang)}">{escape(endonym(entry.lang))}</span>']
    badges += [
        f'<span class="m-badge">{escape(text)}</span>'
        for text in (place, words["topics"].get(entry.topic, ""), words[f"kind_{entry.kind}"])
        if text
    ]
    title = entry.question or entry.title
    text = entry.text
    marked = escape(text[: item.start]) + "<mark>" + escape(text[item.start : item.end]) + "</mark>" + escape(text[item.end :])
    matched = words[f"matched_{hit.matched_by}"].format(language=endonym(hit.matched_query_lang))
    by = f"{words['matched_by']}: {matched}"
    shown_query = ""
    if hit.matched_by == "query":
        shown_query = f' <q dir="auto" lang="{escape(hit.matched_query_lang)}">{escape(hit.matched_query)}</q>'
    scores = [
        f"{words['similarity']} {_number(hit.dense, page_lang)}",
        f"{words['words_found']} {number(f'{hit.coverage * 100:.0f}', page_lang)}%",
    ]
    if hit.answers is not None:
        scores.insert(0, f"{words['answer_likely']} {number(f'{hit.answers * 100:.0f}', page_lang)}%")
    if hit.lexical:
        scores.append(f"{words['keyword_score']} {number(f'{hit.lexical:.1f}', page_lang)}")
    source = words["written_for_majlis"] if entry.source == "written for Majlis" else entry.source
    reliability = words.get(f"reliability_{entry.reliability}", entry.reliability)
    foot = " · ".join(f"<bdi>{escape(part)}</bdi>" for part in (f"{words['source']}: {source}" if source else "", reliability) if part)
    label = escape(words["evidence_card"].format(n=item.n))
    return (
        f'<li class="m-card{" m-cited" if cited else ""}" id="e{position}-{item.n}" aria-label="{label}" tabindex="-1">'
        f'<div class="m-head"><span class="m-n" aria-hidden="true">{item.n}</span>{"".join(badges)}</div>'
        f"{_text(escape(title), entry.lang, 'm-title') if title else ''}{_text(marked, entry.lang, 'm-body')}"
        f'<p class="m-meta"><bdi>{escape(by)}</bdi>{shown_query}</p><p class="m-meta">{" · ".join(f"<bdi>{escape(score)}</bdi>" for score in scores)}</p>'
        f"{f'<p class=m-meta>{foot}</p>' if foot else ''}</li>"
    )


def header(page_lang: str) -> str:
    words = strings(page_lang)
    return f'<header class="m-header" {_page(page_lang)}><h1>Majlis <span lang="ar" dir="rtl">مجلس</span></h1><p>{escape(words["tagline"])}</p></header>'


def footer(page_lang: str, command: str) -> str:
    """What answers are made of now, and the command that gets more; empty command: a model is loaded."""
    words = strings(page_lang)
    note = f"{escape(words['verbatim_note'])} <code dir=ltr>{escape(command)}</code>" if command else ""
    return f'<footer class="m-footer" {_page(page_lang)}><p>{note}</p></footer>'


def _percent(share: float) -> str:
    """Never "100": nothing that was guessed is certain."""
    return "<1" if share < 0.01 else f"{min(99, int(share * 100))}"


def _text(inner: str, lang: str, css: str = "m-text") -> str:
    return f'<div class="{css}" lang="{escape(lang)}" dir="{direction(lang)}">{inner}</div>'


def _page(page_lang: str) -> str:
    # Gradio wraps HTML in boxes of its own direction, so each piece states its own.
    return f'lang="{page_lang}" dir="{direction(page_lang)}"'


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def _number(value: float, lang: str) -> str:
    return number(f"{value:.2f}", lang)


def _isolated(text: str) -> str:
    """`text` in a sentence that may run in the other direction."""
    return f"\u2068{text}\u2069"


def _localised(value: str, lang: str) -> str:
    return number(value, lang) if value.isdigit() else value

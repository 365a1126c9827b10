"""ABOUT THESE ANSWERS, at the foot of the page: how good they are in seven languages, and the reader's own questions tried."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from demo import trial
from demo.figures import COMMAND, MEASURED, MISSING, OTHER, Column, Figure, Figures, Loaded, read_figures
from demo.languages import direction, endonym, number, strings
from index_builder.evaluate.statistics import Share
from index_builder.vocabulary import LANGUAGES, MajlisError

if TYPE_CHECKING:
    from demo.engine import Engine

_REDRAW_S = 0.2
_AT_A_TIME = 2  # trials; others wait, so that questions of readers do not
# A file is read by the browser, into the box: nothing is uploaded, so nothing can be left behind. More than can be tried is not read.
_CHOOSE_FILE = (
    "(old) => new Promise((resolve) => {"
    " const input = Object.assign(document.createElement('input'), { type: 'file', accept: '.jsonl,.json,.csv,.tsv,.txt' });"
    f" input.onchange = async () => resolve(await input.files[0].slice(0, {trial.MOST_CHARACTERS * 4 + 4}).text());"
    " input.oncancel = () => resolve(old);"
    " input.click(); })"
)


def about_view(blocks: gr.Blocks, opened: Callable[[], "Engine"], page_lang: gr.Dropdown, mode: gr.Radio) -> None:
    """Add the view to `blocks`, closed. `opened` waits for the engine; nothing is read before a reader opens the view."""
    running: dict[str, threading.Event] = {}  # session -> what stops its trial

    def show(lang: str) -> tuple[str, bool]:
        try:
            return figures_view(read_figures(Loaded.of(opened())), lang), True
        except MajlisError as error:
            return problem(strings(lang)["about"]["unreadable"].format(detail=error), lang), True

    def speak(lang: str, is_shown: bool) -> tuple:
        about, words = strings(lang)["about"], strings(lang)["trial"]
        return (
            gr.update(label=about["heading"]), show(lang)[0] if is_shown else "", trial_head(lang), gr.update(label=words["label"]),
            gr.update(value=words["file"]), gr.update(value=words["run"]), gr.update(value=strings(lang)["stop"]), "",
        )  # fmt: skip

    def try_own(text: str, lang: str, chosen: str, request: gr.Request) -> Iterator[tuple]:
        cancel = threading.Event()
        running[request.session_hash] = cancel
        try:
            for shown in trial_views(opened, text or "", lang, chosen, cancel):
                yield shown, gr.update(visible=False), gr.update(visible=True)
        finally:
            cancel.set()  # also when the reader went away and Gradio closed this generator
            if running.get(request.session_hash) is cancel:
                del running[request.session_hash]
        yield shown, gr.update(visible=True), gr.update(visible=False)

    def stop(request: gr.Request) -> None:
        if cancel := running.get(request.session_hash):
            cancel.set()

    words = strings("en")
    with gr.Accordion(words["about"]["heading"], open=False, elem_id="about", elem_classes="m-about") as view:
        table = _html("", elem_id="figures")
        head = _html(trial_head("en"))
        box = gr.Textbox(label=words["trial"]["label"], placeholder="question,answer\n…", lines=4, max_lines=12, elem_id="trial-rows")
        with gr.Row(elem_classes="m-under"):
            file = gr.Button(words["trial"]["file"], size="sm", variant="secondary", elem_id="trial-file", scale=0, min_width=140)
            run = gr.Button(words["trial"]["run"], size="sm", variant="primary", elem_id="trial-run", scale=0, min_width=140)
            halt = gr.Button(words["stop"], size="sm", variant="stop", elem_id="trial-stop", visible=False, scale=0, min_width=140)
        result = _html("", elem_id="trial-report")
    is_shown = gr.State(False)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    view.expand(show, page_lang, [table, is_shown], **quiet)
    page_lang.change(speak, [page_lang, is_shown], [view, table, head, box, file, run, halt, result], **quiet)
    file.click(None, box, box, js=_CHOOSE_FILE)
    run.click(try_own, [box, page_lang, mode], [result, run, halt], concurrency_limit=_AT_A_TIME, **quiet)
    halt.click(stop, None, None, queue=False, **quiet)
    blocks.unload(stop)  # a reader who goes away must not keep the model busy


def _html(value: str, **options: Any) -> gr.HTML:
    return gr.HTML(value, js_on_load=None, apply_default_css=False, **options)


def trial_views(opened: Callable[[], "Engine"], text: str, lang: str, mode: str, cancel: threading.Event) -> Iterator[str]:
    """What the page shows while rows are tried: how far it is, and at the end the report, or why there is none."""
    words = strings(lang)["trial"]
    try:
        rows = trial.read_rows(text)
        yield progress(0, len(rows), lang)
        engine = opened()
        trial.check_entries(rows, engine)
        rows, guessed = trial.with_languages(rows, engine)
        found: list[trial.Outcome] = []
        drawn = 0.0
        for outcome in trial.outcomes(engine, rows, mode, cancel):
            found.append(outcome)
            if time.monotonic() - drawn > _REDRAW_S:
                drawn = time.monotonic()
                yield progress(len(found), len(rows), lang)
        stopped = "" if len(found) == len(rows) else words["stopped"].format(done=number(len(found), lang), total=number(len(rows), lang))
        yield report_view(trial.report(found, guessed), lang, stopped)
    except trial.TrialError as error:
        values = {name: number(value, lang) if value.isdecimal() else value for name, value in error.values.items()}
        yield problem(words[error.key].format(**values), lang)
    except MajlisError as error:
        yield problem(strings(lang)["failed"].format(detail=error), lang)


# HTML; every piece of text that is not ours is escaped


def figures_view(found: Figures, lang: str) -> str:
    """The table of seven languages, with where it was measured; and plainly, what was not measured or with something else."""
    about = strings(lang)["about"]
    measured = found.of_status(MEASURED)
    parts = []
    if measured:
        parts.append(f'<p class="m-quiet">{escape(about["intro"])}</p>')
        body = {one: [figure_cell(column.cells.get(one), about, lang) for column in found.columns] for one in LANGUAGES}
        parts.append(_table(about["language"], [about[column.key] for column in found.columns], body))
        by = about["quoted"] if found.generator == "none" else about["by_model"].format(model=found.generator)
        said = [*map(escape, (about["ranges"], by)), *(_measured(machine, date, about, lang) for machine, date in found.measured_on)]
        parts.append(f'<p class="m-quiet">{" ".join(f"<bdi>{one}</bdi>" for one in said)}</p>')
    for status in (OTHER, MISSING):
        if columns := found.of_status(status):
            command = f' <code dir="ltr">{escape(COMMAND)}</code>' if status == MISSING else ""
            parts.append(f'<p class="m-note">{escape(about[status].format(columns=_names(columns, found, about)))}{command}</p>')
    return _section("".join(parts), lang)


def _measured(machine: str, date: str, about: Mapping[str, str], lang: str) -> str:
    # neither is cut in two or turned round by a right-to-left sentence
    when = f'<time datetime="{escape(date)}" dir="ltr">{escape(number(date, lang))}</time>'
    return escape(about["measured"]).format(machine=f'<bdi dir="ltr">{escape(machine)}</bdi>', date=when)


def _names(columns: Sequence[Column], found: Figures, about: Mapping[str, str]) -> str:
    return about["everything"] if len(columns) == len(found.columns) else " · ".join(about[column.key] for column in columns)


def figure_cell(figure: Figure | None, about: Mapping[str, str], lang: str) -> str:
    if figure is None:
        return "–"
    asked = escape(about["questions"].format(count=number(figure.questions, lang)))
    if figure.low is None or figure.high is None:
        return f'<span title="{asked}">{_seconds(figure.value, lang)}</span>'
    return f'<span title="{asked}">{_share(figure.value, figure.low, figure.high, lang)}</span>'


def _share(value: float, low: float, high: float, lang: str) -> str:
    percent = [number(f"{share * 100:.0f}", lang) for share in (value, low, high)]
    shown = f"%{percent[0]}" if lang == "tr" else f"{percent[0]}%"  # Turkish writes the sign first
    return f"<b>{shown}</b> <small><bdi>{percent[1]}–{percent[2]}</bdi></small>"


def _seconds(value: float, lang: str) -> str:
    shown = number(f"{value:.2f}" if value < 10 else f"{value:.0f}", lang)
    return f"<b>{escape(strings(lang)['about']['seconds'].format(value=shown))}</b>"


def _table(corner: str, heads: Sequence[str], body: Mapping[str, Sequence[str]]) -> str:
    """`body`: language -> cells that are HTML already. On a narrow screen each language becomes a block whose cells name themselves."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in (corner, *heads))
    lines = ""
    for lang, cells in body.items():
        named = "".join(f'<td data-name="{escape(name)}">{cell}</td>' for name, cell in zip(heads, cells, strict=True))
        lines += f'<tr><th scope="row" lang="{lang}">{escape(endonym(lang))}</th>{named}</tr>'
    return f'<table class="m-figures"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'


def trial_head(lang: str) -> str:
    words = strings(lang)["trial"]
    said = words["intro"].format(forms=", ".join(trial.FORMS), rows=number(trial.MOST_ROWS, lang))
    return _section(f'<h2>{escape(words["heading"])}</h2><p class="m-quiet">{escape(said)}</p>', lang)


def progress(done: int, total: int, lang: str) -> str:
    said = strings(lang)["trial"]["progress"].format(done=number(done, lang), total=number(total, lang))
    return _section(f'<p class="m-quiet" role="status">{escape(said)}</p><progress value="{done}" max="{total}"></progress>', lang)


def problem(said: str, lang: str) -> str:
    return _section(f'<p class="m-weak" role="alert">{escape(said)}</p>', lang)


def report_view(found: trial.Report, lang: str, stopped: str = "") -> str:
    about, words = strings(lang)["about"], strings(lang)["trial"]
    notes = [stopped] if stopped else []
    if found.guessed:
        notes.append(words["guessed"].format(languages=", ".join(map(endonym, found.guessed))))
    parts = [f'<p class="m-note">{escape(note)}</p>' for note in notes]
    if not found.lines:
        return _section("".join(parts), lang)
    heads = [
        words["questions"],
        about["found"],
        words["in_five"],
        about["right"],
        about["in_language"],
        words["said_unknown"],
        about["time"],
    ]
    body = {
        one: [
            f"<b>{number(line.questions, lang)}</b>",
            *(_of(share, lang) for share in (line.found, line.in_five, line.right, line.in_language, line.unknown)),
            _seconds(line.seconds, lang),
        ]
        for one, line in found.lines.items()
    }
    parts += [
        _table(about["language"], heads, body),
        f'<p class="m-quiet">{escape(about["ranges"])}</p>',
        f"<h2>{escape(words['worst'])}</h2>",
    ]
    failures = "".join(f"<li>{_failure(one, lang)}</li>" for one in found.worst)
    parts.append(f'<ol class="m-worst">{failures}</ol>' if failures else f'<p class="m-quiet">{escape(words["none_bad"])}</p>')
    return _section("".join(parts), lang)


def _of(share: Share, lang: str) -> str:
    return _share(share.value, *share.interval(), lang) if share.total else "–"


def _failure(one: trial.Outcome, lang: str) -> str:
    words = strings(lang)["trial"]
    said = [words["at_rank"].format(rank=number(one.rank, lang)) if one.rank else words["not_found"]]
    if one.unknown:
        said.append(words["unknown"])
    elif not one.right:
        said.append(words["wrong"])
    if one.in_language is False:
        said.append(words["not_in_language"])
    texts = [(words["expected"], one.own.answer or one.own.entry_id)]
    if one.answer and not one.unknown:
        texts.append((words["answered"], one.answer))
    shown = "".join(f'<dt>{escape(name)}</dt><dd dir="auto">{escape(text)}</dd>' for name, text in texts)
    return (
        f'<p class="m-title" dir="auto" lang="{escape(one.lang)}">{escape(one.own.question)}</p>'
        f'<p class="m-meta">{" ".join(map(escape, said))}</p><dl>{shown}</dl>'
    )


def _section(inner: str, lang: str) -> str:
    # Gradio wraps HTML in boxes of its own direction, so each piece states its own.
    return f'<section class="m-panel" lang="{lang}" dir="{direction(lang)}">{inner}</section>'

"""The page, and the only place that knows Gradio. Composition only: events come from the engine, HTML from render.py."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from demo.engine import LONGEST_QUESTION, Engine, Question
from demo.events import Event, Token
from demo.languages import LANGUAGE, REGIONS, preferred_language, strings
from demo.page import render
from demo.page.about import about_view
from demo.page.models import Picker, models_view
from demo.page.private import Private
from demo.page.turn import Turn, after
from index_builder.vocabulary import LANGUAGES

HERE = Path(__file__).resolve().parent
FONTS = HERE.parent.parent / "assets" / "fonts"
_KEPT_TURNS = 20
_REDRAW_S = 0.05  # a page redrawn more often than this gains nothing a reader could see
_DIRECT = "(lang) => { document.documentElement.lang = lang; document.documentElement.dir = lang === 'ar' ? 'rtl' : 'ltr'; }"


class Answers(Protocol):
    """What the page needs of an engine; a test passes a small one."""

    @property
    def modes(self) -> Sequence[str]:
        """The answer modes to offer, the usual one last."""
        ...

    @property
    def model_command(self) -> str:
        """What is shown when no model is loaded."""
        ...

    @property
    def server(self) -> str:
        """The host that questions are sent to, if they leave this machine."""
        ...

    def ask(self, question: Question, cancel: threading.Event | None = None) -> Iterator[Event]: ...


@dataclass(frozen=True, slots=True)
class Page:
    blocks: gr.Blocks
    launch_options: dict[str, Any]

    def launch(self, **options: Any) -> Any:
        return self.blocks.launch(**self.launch_options, **options)


def build_page(engine: Answers, picker: Picker | None = None, opened: Callable[[], Engine] | None = None, may_choose: bool = True) -> Page:
    """The whole page around one engine. `picker` offers the language models, and changes them where the reader `may_choose`; `opened` waits
    for the engine itself, which the view about its answers looks into. No such views without them."""
    running: dict[str, threading.Event] = {}  # session -> what stops its answer

    def answer(text: str, turns: list[Turn], page_lang: str, region: str, mode: str, lang: str, request: gr.Request) -> Iterator[tuple]:
        cancel = threading.Event()
        if before := running.get(request.session_hash):
            before.set()  # a new question ends the answer to the last one
        running[request.session_hash] = cancel
        if lang and turns:
            turns = turns[:-1]  # a corrected language answers the same question again, in its place
        prior = turns[-1].lang if turns else ""
        history = tuple(earlier.question for earlier in turns if earlier.done)
        turns = turns[-_KEPT_TURNS + 1 :]
        turn = Turn(text, page_lang)
        drawn = 0.0
        yield shown([*turns, turn], page_lang, busy=True)
        try:
            mode = mode if mode in engine.modes else ""
            question = Question(text, lang, region=region, mode=mode, page_lang=page_lang, prior=prior, history=history)
            for event in engine.ask(question, cancel):
                if running.get(request.session_hash) is not cancel:
                    # A newer question, or a new conversation, has the page now. Gradio sends the last words of an ended answer once
                    # more, so an answer that was left for an empty page must end with one.
                    if request.session_hash not in running:
                        yield shown([], page_lang, busy=False)
                    return
                turn = after(turn, event)
                # only tokens come too often; nothing may follow for long after any other event
                if not turn.over and (not isinstance(event, Token) or time.monotonic() - drawn > _REDRAW_S):
                    drawn = time.monotonic()
                    yield shown([*turns, turn], page_lang, busy=True)
        finally:
            cancel.set()  # also when the reader went away and Gradio closed this generator
            current = running.get(request.session_hash) is cancel
            if current:
                del running[request.session_hash]
        if current:
            yield shown([*turns, turn], page_lang, busy=False)

    def shown(turns: list[Turn], page_lang: str, busy: bool) -> tuple:
        last = turns[-1] if turns else None
        detected = last.detected if last else None
        # Preselected only when it is what was detected or chosen: a selected button cannot be pressed.
        chosen = detected.answer_lang if detected and (detected.corrected or detected.answer_lang == detected.detection.lang) else None
        return (
            turns, render.conversation(turns, page_lang, engine.server), render.language_panel(last, page_lang), render.evidence_panel(turns, page_lang),
            gr.update(visible=bool(detected), value=chosen), gr.update(visible=not busy), gr.update(visible=busy), gr.update(visible=not turns), gr.update(visible=bool(turns)),
        )  # fmt: skip

    def ask(text: str, turns: list[Turn], page_lang: str, region: str, mode: str, request: gr.Request) -> Iterator[tuple]:
        for update in answer(text or "", turns, page_lang, region, mode, "", request):
            yield *update, ""

    def correct(lang: str, turns: list[Turn], page_lang: str, region: str, mode: str, request: gr.Request) -> Iterator[tuple]:
        if turns:
            yield from answer(turns[-1].question, turns, page_lang, region, mode, lang, request)

    def stop(request: gr.Request) -> None:
        if cancel := running.get(request.session_hash):
            cancel.set()

    def first_language(stored: dict, request: gr.Request) -> str:
        chosen = (stored or {}).get("page_lang", "")
        return chosen if chosen in LANGUAGES else preferred_language(request.headers.get("accept-language", ""))

    def speak(page_lang: str, turns: list[Turn], stored: dict) -> tuple:
        """Every word of the interface in `page_lang`."""
        words = strings(page_lang)
        last = turns[-1] if turns else None
        return (
            {**(stored or {}), "page_lang": page_lang},
            render.header(page_lang), render.conversation(turns, page_lang, engine.server), render.language_panel(last, page_lang), render.evidence_panel(turns, page_lang),
            render.footer(page_lang, engine.model_command),
            gr.update(label=words["ask_label"], placeholder=words["ask_placeholder"], rtl=LANGUAGE[page_lang].direction == "rtl"),
            gr.update(value=words["ask"]), gr.update(value=words["stop"]), gr.update(value=words["new_conversation"]),
            gr.update(label=words["interface_language"]), gr.update(label=words["place"], choices=_places(page_lang)),
            gr.update(label=words["answer_mode"], choices=_modes(page_lang)), gr.update(label=words["correct_it"]),
            *(gr.update(value=example) for example in words["example_questions"]),
        )  # fmt: skip

    def _modes(page_lang: str) -> list[tuple[str, str]]:
        return [(strings(page_lang)[f"mode_{mode}"], mode) for mode in engine.modes]

    def another_model(turns: list[Turn], page_lang: str) -> tuple:
        modes = engine.modes
        return (
            gr.update(choices=_modes(page_lang), value=modes[-1], visible=len(modes) > 1), render.footer(page_lang, engine.model_command),
            render.conversation(turns, page_lang, engine.server),
        )  # fmt: skip

    def forget(page_lang: str, request: gr.Request) -> tuple:
        if cancel := running.pop(request.session_hash, None):
            cancel.set()
        return shown([], page_lang, busy=False)

    def plain_answer(text: str, page_lang: str) -> str:
        """The one endpoint for programs: a question in, the answer with its citation marks out."""
        turn = Turn(text, page_lang)
        for event in engine.ask(Question(text, page_lang=page_lang)):
            turn = after(turn, event)
        return turn.text if turn.done else render.failure(turn)

    words = strings("en")
    with gr.Blocks(title="Majlis", analytics_enabled=False, fill_width=True) as blocks:
        turns = gr.State([])
        stored = gr.BrowserState(
            {}, storage_key="majlis", secret="majlis-page-settings"
        )  # a fixed secret: nothing secret is kept, and a random one would forget at each start
        with gr.Row(elem_classes="m-top", equal_height=True):
            head = _html(render.header("en"), scale=3)
            page_lang = gr.Dropdown(
                [(LANGUAGE[code].endonym, code) for code in LANGUAGES],
                value="en",
                label=words["interface_language"],
                elem_id="page-lang",
                filterable=False,
                scale=1,
                min_width=150,
            )
            place = gr.Dropdown(_places("en"), value="", label=words["place"], elem_id="place", filterable=False, scale=1, min_width=150)
        with gr.Row(elem_classes="m-main"):
            with gr.Column(scale=6, min_width=320, elem_classes="m-left"):
                chat = _html(render.conversation([], "en", engine.server), elem_id="conversation")
                with gr.Row(elem_id="examples", elem_classes="m-examples") as examples:
                    example_buttons = [
                        gr.Button(text, size="sm", variant="secondary", elem_classes="m-example") for text in words["example_questions"]
                    ]
                with gr.Row(elem_classes="m-ask", equal_height=True):
                    box = gr.Textbox(
                        label=words["ask_label"],
                        placeholder=words["ask_placeholder"],
                        lines=1,
                        max_lines=5,
                        max_length=LONGEST_QUESTION * 10,
                        autofocus=True,
                        elem_id="question",
                        scale=8,
                    )
                    ask_button = gr.Button(words["ask"], variant="primary", elem_id="ask", scale=1, min_width=96)
                    stop_button = gr.Button(words["stop"], variant="stop", elem_id="stop", visible=False, scale=1, min_width=96)
                with gr.Row(elem_classes="m-under"):
                    mode = gr.Radio(
                        _modes("en"),
                        value=engine.modes[-1],
                        label=words["answer_mode"],
                        elem_id="mode",
                        visible=len(engine.modes) > 1,
                        scale=3,
                    )
                    new_button = gr.Button(
                        words["new_conversation"], size="sm", variant="secondary", elem_id="new", scale=0, min_width=180, visible=False
                    )
                foot = _html(render.footer("en", engine.model_command))
            with gr.Column(scale=5, min_width=320, elem_classes="m-right"):
                panel = _html(render.language_panel(None, "en"), elem_id="language")
                correction = gr.Radio(
                    [(LANGUAGE[code].endonym, code) for code in LANGUAGES],
                    label=words["correct_it"],
                    visible=False,
                    elem_id="correction",
                    elem_classes="m-correction",
                )
                cards = _html(render.evidence_panel([], "en"), elem_id="evidence")
        if picker and (changed := models_view(picker, page_lang, may_choose)):
            changed.then(another_model, [turns, page_lang], [mode, foot, chat], show_progress="hidden", api_visibility="private")
        if opened:
            about_view(blocks, opened, page_lang, mode)

        view = [turns, chat, panel, cards, correction, ask_button, stop_button, examples, new_button]
        interface = [
            stored,
            head,
            chat,
            panel,
            cards,
            foot,
            box,
            ask_button,
            stop_button,
            new_button,
            page_lang,
            place,
            mode,
            correction,
            *example_buttons,
        ]
        # The event keeps no queue position of its own: the model's process does the queueing, and quotes take milliseconds.
        options: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": 16, "api_visibility": "private"}
        asking = [gr.on([box.submit, ask_button.click], ask, [box, turns, page_lang, place, mode], [*view, box], **options)]
        asking += [button.click(ask, [button, turns, page_lang, place, mode], [*view, box], **options) for button in example_buttons]
        # An answer that ends sends its last words once more; what takes its place must have it cancelled, or be overwritten.
        correcting = correction.input(correct, [correction, turns, page_lang, place, mode], view, cancels=asking, **options)
        stop_button.click(stop, None, None, queue=False, show_progress="hidden", api_visibility="private")
        new_button.click(forget, page_lang, view, show_progress="hidden", api_visibility="private", cancels=[*asking, correcting])
        page_lang.change(speak, [page_lang, turns, stored], interface, show_progress="hidden", api_visibility="private")
        page_lang.change(None, page_lang, None, js=_DIRECT)
        gr.api(plain_answer, api_name="answer")
        blocks.load(first_language, stored, page_lang, show_progress="hidden", api_visibility="private")
        blocks.unload(stop)  # a reader who goes away must not keep the model busy

    launch_options = {
        "share": False, "ssr_mode": False, "enable_monitoring": False, "run_history": False, "footer_links": [], "show_error": False, "quiet": True,
        "theme": _theme(), "css": (HERE / "style.css").read_text(encoding="utf-8"), "strict_cors": True,
        "app_kwargs": {"routes": [Mount("/fonts", StaticFiles(directory=FONTS))], "middleware": [Middleware(Private)], "docs_url": None, "redoc_url": None},
    }  # fmt: skip
    return Page(blocks, launch_options)


def _html(value: str, **options: Any) -> gr.HTML:
    # The default script reports every click to the server; ours are links and need none.
    return gr.HTML(value, js_on_load=None, apply_default_css=False, **options)


def _places(page_lang: str) -> list[tuple[str, str]]:
    words = strings(page_lang)
    return [(words["place_any"], ""), *((words["regions"][region], region) for region in REGIONS)]


def _theme() -> gr.themes.Base:
    # Names of fonts that are bundled or already on the machine: Gradio's own choice would be asked of a font host.
    fonts = ("system-ui", "Majlis Arabic", "Majlis Bengali", "Majlis Devanagari", "sans-serif")
    theme = gr.themes.Soft(
        primary_hue="teal",
        secondary_hue="amber",
        neutral_hue="stone",
        radius_size="md",
        font=fonts,
        font_mono=("ui-monospace", "monospace"),
    )
    return theme.set(
        body_background_fill="*neutral_50", body_background_fill_dark="*neutral_950",
        block_title_background_fill="none", block_title_background_fill_dark="none", block_title_text_color="*neutral_600", block_title_text_color_dark="*neutral_400",
        block_title_padding="0", block_label_background_fill="none", body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_400",
        button_primary_background_fill="*primary_700", button_primary_background_fill_hover="*primary_800", button_primary_background_fill_dark="*primary_600",
    )  # fmt: skip

"""LANGUAGE MODEL, at the foot of the page: which models there are, what each would cost and need, and which one answers."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, Protocol

import gradio as gr
from gradio.events import Dependency

from demo.languages import direction, endonym, number, strings
from demo.offers import Offer
from index_builder.vocabulary import MajlisError

NONE = "none"


class Picker(Protocol):
    """What the view needs of an engine whose model can be changed."""

    def offers(self) -> list[Offer]: ...

    def change(self, name: str) -> None: ...


def models_view(picker: Picker, page_lang: gr.Dropdown, may_choose: bool) -> Dependency | None:
    """Add the view to the page that is being built, closed. Gives the event after which another model answers; None where nobody may choose.

    A model is everybody's: on a machine that serves several readers, none of them changes it for the others.
    """

    def show(lang: str) -> Any:
        found = picker.offers()
        return (offers_list(found, lang), *((gr.update(choices=choices(found, lang), value=used(found)),) if may_choose else ()))

    def speak(lang: str) -> Any:
        heading = strings(lang)["models"]["heading"]
        found, *chosen = show(lang)
        return (gr.update(label=heading), found, *({**one, "label": heading} for one in chosen))

    with gr.Accordion(strings("en")["models"]["heading"], open=False, elem_id="models", elem_classes="m-about") as view:
        chosen = (
            gr.Dropdown([], label=strings("en")["models"]["heading"], elem_id="model", filterable=False, interactive=True)
            if may_choose
            else None
        )
        listed = gr.HTML("", js_on_load=None, apply_default_css=False, elem_id="model-list")
        said = gr.HTML("", js_on_load=None, apply_default_css=False, elem_id="model-said")
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    shown = [listed, chosen] if chosen else [listed]
    view.expand(show, page_lang, shown, **quiet)
    page_lang.change(speak, page_lang, [view, *shown], **quiet)
    if not chosen:
        return None

    def change(name: str, lang: str) -> Iterator[tuple]:
        for text in changing(picker, name, lang):
            yield text, *show(lang)

    return chosen.input(change, [chosen, page_lang], [said, *shown], concurrency_limit=1, **quiet)


def changing(picker: Picker, name: str, lang: str) -> Iterator[str]:
    """What the page says while the model is changed: that it loads, then that it answers, or why it cannot."""
    words = strings(lang)["models"]
    title = next((offer.title for offer in picker.offers() if offer.name == name), name)
    if name != NONE:
        yield _said(words["changing"].format(model=title), lang)
    try:
        picker.change(name)
    except MajlisError as error:
        yield _said(strings(lang)["failed"].format(detail=error), lang, "alert")
        return
    yield _said(words["changed_none"] if name == NONE else words["changed"].format(model=title), lang)


def choices(found: Sequence[Offer], lang: str) -> list[tuple[str, str]]:
    """What can answer at once: quotes, and every model that is here."""
    return [(strings(lang)["models"]["none"], NONE), *((offer.title, offer.name) for offer in found if offer.on_disk)]


def used(found: Sequence[Offer]) -> str:
    return next((offer.name for offer in found if offer.in_use), NONE)


def offers_list(found: Sequence[Offer], lang: str) -> str:
    """Each model with its size, languages, licence, whether it fits, and its speed; of one that is not here, the command that fetches it."""
    return f'<section class="m-panel" lang="{lang}" dir="{direction(lang)}"><ul class="m-models">{"".join(_item(offer, lang) for offer in found)}</ul></section>'


def _item(offer: Offer, lang: str) -> str:
    words = strings(lang)["models"]
    about = []
    if offer.server:
        about.append(words["server"].format(host=offer.server))
    elif offer.bytes:
        about.append(words["size"].format(value=number(f"{offer.bytes / 1e9:.2f}", lang)))
    if offer.languages:
        about.append(", ".join(endonym(one) for one in offer.languages))
    about.append(offer.licence)
    if offer.fits:
        about.append(words[offer.fits])
    if offer.in_use and not offer.server:
        speed = f"{offer.tokens_per_s:.0f}"
        about.append(words["speed"].format(value=number(speed, lang)) if offer.tokens_per_s else words["unmeasured"])
    badge = f' <span class="m-badge m-lang">{escape(words["in_use"])}</span>' if offer.in_use else ""
    fetch = ""
    if not offer.on_disk:
        fetch = f'<p class="m-meta">{escape(words["fetch"])} <code dir="ltr">python -m demo models fetch {escape(offer.name)}</code></p>'
    facts = " · ".join(f"<bdi>{escape(one)}</bdi>" for one in about)
    return f'<li class="m-model"><strong><bdi>{escape(offer.title)}</bdi></strong>{badge}<p class="m-meta">{facts}</p>{fetch}</li>'


def _said(text: str, lang: str, role: str = "status") -> str:
    return f'<p class="m-note" role="{role}" lang="{lang}" dir="{direction(lang)}">{escape(text)}</p>'

"""One turn of the conversation as the page shows it, folded from the engine's events."""

from dataclasses import dataclass, replace

from demo.events import Detected, Done, Event, Failed, Queued, Replaced, Retrieved, Searched, Token


@dataclass(frozen=True, slots=True)
class Turn:
    question: str
    page_lang: str
    detected: Detected | None = None
    searched: str = ""  # what a follow-up was read as
    retrieved: Retrieved | None = None
    queued: Queued | None = None  # while others have their turn
    text: str = ""
    done: Done | None = None
    failed: Failed | None = None

    @property
    def over(self) -> bool:
        return self.done is not None or self.failed is not None

    @property
    def lang(self) -> str:
        """The language that the app speaks in this turn."""
        return self.detected.answer_lang if self.detected else self.page_lang


def after(turn: Turn, event: Event) -> Turn:
    """`turn` with one more event in it."""
    match event:
        case Detected():
            return replace(turn, detected=event)
        case Searched():
            return replace(turn, searched=event.text)
        case Retrieved():
            return replace(turn, retrieved=event)
        case Queued():
            return replace(turn, queued=event)
        case Token():
            return replace(turn, text=turn.text + event.text, queued=None)
        case Replaced():
            return replace(turn, text=event.text)
        case Done():
            return replace(turn, text=event.answer, done=event)
        case Failed():
            return replace(turn, failed=event)

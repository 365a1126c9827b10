"""What every generator offers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Protocol, TypedDict

from index_builder.vocabulary import MajlisError

SMALLEST_CONTEXT = 512  # tokens; with less there is no room for evidence and an answer


class Message(TypedDict):
    role: str  # "system", "user" or "assistant"
    content: str


class GenerationError(MajlisError):
    """The model could not answer; what the message says can be put right."""


class GeneratorDied(GenerationError):
    """The model's process ended by itself. It is started again for the next question."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The answer is one of these texts, exactly."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Letters:
    """The answer is in one script; other letters only in these words."""

    script: str  # ISO 15924
    words: tuple[str, ...] = ()
    without: str = ""  # letters of the script that belong to another language: "ৰৱ" in Bangla


Within = Choices | Letters


@dataclass(frozen=True, slots=True)
class Waiting:
    """Other questions have their turn first."""

    ahead: int
    seconds: float  # about; 0 when nothing is known yet


@dataclass(frozen=True, slots=True)
class Ended:
    """The last item of a stream."""

    reason: str  # "stop" (the model was done), "length" (the limit was reached), "stopped" (by the user)
    prompt_tokens: int  # 0 where they are not known: a remote server, or stopped before the prompt was read
    tokens: int
    evaluated: int = 0  # prompt tokens that really ran through the model; the others were still in its KV cache
    choice: int = -1  # which of the Choices was written; -1 when none was, or not to its end


class Generator(Protocol):
    name: str
    context: int  # tokens; known once the model is loaded
    confines: bool  # whether it can be kept within something; a server cannot
    mode: str  # "verbatim" or "generate": how it answers unless the reader chooses
    short_of_memory: bool  # its context is smaller than it was to be
    tokens_per_s: float  # of its own writing, measured on the last answers; 0 before the first

    def start(self, cancel: Event) -> bool:
        """Load the model if it is not loaded; False when `cancel` was set before it was (it goes on loading). Raises GenerationError."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, without waiting for an answer that another thread is getting."""
        ...

    def stream(
        self, messages: Sequence[Message], max_tokens: int, cancel: Event, within: Within | None = None
    ) -> Iterator[str | Waiting | Ended]:
        """Waiting while other questions have their turn, pieces of text, whole grapheme clusters, then one Ended.

        Setting `cancel` ends it within 200 ms, also while it waits. `within` confines what is written. Raises GenerationError.
        """
        ...

    def close(self) -> None:
        """End what runs, and for good: a stream ends as if stopped, a later question raises GenerationError."""
        ...

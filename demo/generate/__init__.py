"""A language model that writes: `open_generator` gives one from models.toml, local or behind a URL; both stream and both really stop."""

from urllib.parse import urlsplit

from demo.generate.local import LocalGenerator
from demo.generate.remote import RemoteGenerator
from demo.generate.types import Choices, Ended, GenerationError, Generator, GeneratorDied, Letters, Waiting
from demo.hub import gguf_of
from demo.settings import ROOT, Settings

__all__ = ["Choices", "Ended", "GenerationError", "Generator", "GeneratorDied", "Letters", "Waiting", "open_generator"]


def open_generator(settings: Settings, gpu: str = "auto") -> Generator | None:
    """The generator that the settings name, or None for "none". Raises HubError when its file is not on disk; starts no process yet."""
    if settings.generator == "none":
        return None
    model = settings.model(settings.generator, "generator")
    if model.url:
        if settings.offline and urlsplit(model.url).hostname not in ("127.0.0.1", "localhost", "::1"):
            raise GenerationError(
                f"Majlis was started with --offline, and {model.name} is served by {model.url}. Start it without --offline, or choose another model."
            )
        return RemoteGenerator(model)
    if model.lora and not (ROOT / model.lora).is_file():
        raise GenerationError(
            f"The LoRA of {model.name}, {model.lora}, is not there. Put it there, or take `lora` out of its entry in models.toml."
        )
    return LocalGenerator(model, gguf_of(model, settings), gpu)

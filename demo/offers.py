"""The language models that a reader can choose from, and whether each would run on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from demo import hub
from demo.generate import Generator
from demo.settings import Model, Settings

_BESIDE_WEIGHTS = (
    0.4e9  # bytes of a process with a model: llama.cpp's buffers and the keys and values of a context of a few thousand tokens
)


@dataclass(frozen=True, slots=True)
class Offer:
    """One generator of models.toml, as far as a reader wants to know it."""

    name: str
    title: str
    licence: str
    languages: tuple[str, ...]  # officially supported by its makers; empty when nobody said
    bytes: int  # of its file; 0 when not known, or when a server has it
    on_disk: bool  # a server counts as there
    server: str  # the host that runs it; empty when this machine does
    fits: str  # into this machine's memory: "yes", "tight" (when other programs are closed), "no", or "" when nothing is to fit
    tokens_per_s: float  # measured since the app was started; 0: not yet
    in_use: bool


def offers(settings: Settings, generator: Generator | None) -> list[Offer]:
    """Every generator of the settings, smallest first. `generator` is the one that is loaded, or None."""
    memory = psutil.virtual_memory()
    models = [model for model in settings.models.values() if model.role == "generator"]
    found = [_offer(model, settings, generator, memory.available, memory.total) for model in models]
    return sorted(found, key=lambda offer: (bool(offer.server), offer.bytes))


def _offer(model: Model, settings: Settings, generator: Generator | None, available: float, total: float) -> Offer:
    server = urlsplit(model.url).hostname or "" if model.url else ""
    used = generator if generator is not None and generator.name == model.name else None
    there = bool(server) or hub.on_disk(model, settings)
    size = 0 if server else (_size(hub.folder_of(model, settings)) if there else 0) or model.bytes
    fits = "" if server or not size else ("yes" if used else fit(size, available, total))
    return Offer(
        model.name, model.title, model.licence, model.languages, size, there, server, fits, used.tokens_per_s if used else 0.0, used is not None
    )  # fmt: skip


def fit(size: float, available: float, total: float) -> str:
    """Whether a model file of `size` bytes runs in a memory of `total` bytes of which `available` are free now: "yes", "tight" or "no"."""
    needed = size + _BESIDE_WEIGHTS
    return "yes" if needed <= available else "tight" if needed <= total else "no"


def _size(place: Path) -> int:
    """Bytes of a GGUF file, or of the one in a folder."""
    files: Sequence[Path] = [place] if place.is_file() else sorted(place.glob("*.gguf"))
    return files[0].stat().st_size if files else 0

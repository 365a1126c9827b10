"""What suites open: an encoder, an index, or the app's whole engine; and the options that choose them."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from index_builder.encode import BUNDLED, Encoder, open_encoder
from index_builder.evaluate.runs import ROOT, portable
from index_builder.search import Index, open_index
from index_builder.vocabulary import LANGUAGES, MajlisError

if TYPE_CHECKING:
    from demo.engine import Engine

QUESTIONS = ROOT / "assets" / "evaluation"


class _Placed(Protocol):
    @property
    def set(self) -> str: ...

    @property
    def lang(self) -> str: ...


Question = TypeVar("Question", bound=_Placed)


def encoder_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoder", type=Path, default=BUNDLED, metavar="DIR", help="a sentence-transformers folder (default: the bundled one)"
    )
    parser.add_argument("--query-prefix", default="", help='put before every question, "query: " for the E5 family')
    parser.add_argument("--passage-prefix", default="", help='put before every passage, "passage: " for the E5 family')


def index_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--index", type=Path, default=ROOT / "assets/index", metavar="DIR")
    encoder_options(parser)


def engine_options(parser: argparse.ArgumentParser) -> None:
    index_options(parser)
    parser.add_argument(
        "--model", default="", help="generator: a name from models.toml, a .gguf file, or none (default: that of models.toml)"
    )
    parser.add_argument("--gpu", default="auto")


def question_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=QUESTIONS, metavar="DIR", help="evaluation files (default: the bundled ones)")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")


def sample_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="only the first N questions of each set and language")


def encoder_of(options: argparse.Namespace) -> Encoder:
    return open_encoder(options.encoder, query_prefix=options.query_prefix, passage_prefix=options.passage_prefix)


def index_of(options: argparse.Namespace) -> Index:
    return open_index(options.index, encoder_of(options))


def engine_of(options: argparse.Namespace) -> "Engine":
    """The app's engine with the index, encoder and generator of the options. The only suites that need `demo` come through here."""
    from demo.engine import open_engine
    from demo.settings import Model, load_settings

    settings = replace(load_settings(model=options.model), index=options.index)
    if options.encoder.resolve() != BUNDLED:
        # the registry knows no folder that somebody names on the command line
        folder = str(options.encoder.resolve())
        name = options.encoder.resolve().name
        model = Model(
            name, "encoder", name, "as its maker says", LANGUAGES, folder=folder, query_prefix=options.query_prefix, passage_prefix=options.passage_prefix
        )  # fmt: skip
        settings = replace(settings, models={**settings.models, name: model}, encoder=name)
    return open_engine(settings, options.gpu)


def described_encoder(encoder: Encoder) -> dict[str, Any]:
    """For a run's configuration."""
    return {"name": encoder.name, "fingerprint": encoder.fingerprint[:16], "prefixes": [encoder.query_prefix, encoder.passage_prefix]}


def described_index(index: Index) -> dict[str, Any]:
    """For a run's configuration: which entries, encoded how."""
    files = {name: file["sha256"][:16] for name, file in index.manifest["files"].items()}
    cross = {"cross_encoder": index.cross.digest} if index.cross else {}
    return {"folder": portable(str(index.folder)), "entries": len(index), "files": files, "encoder": described_encoder(index.encoder)} | cross


def described_engine(engine: "Engine") -> dict[str, Any]:
    """For a run's configuration: index, encoder, language model, detector and the two judges of an engine."""
    return {
        "index": described_index(engine.index),
        "generator": engine.generator.name if engine.generator else "none",
        "detector": getattr(engine.detector, "name", type(engine.detector).__name__),
        "relevance": _digest(engine.relevance),
        "support": _digest(engine.support),
    }


def _digest(fitted: object) -> str:
    return sha256(repr(fitted).encode()).hexdigest()[:12]


def check_sample(options: argparse.Namespace) -> None:
    if options.sample < 0:
        raise MajlisError(f"--sample is {options.sample}, expected the number of questions of each set and language, or 0 for all.")


def first_of_each(asked: Sequence[Question], count: int) -> list[Question]:
    """The first `count` of each set and language; all when it is 0."""
    seen: Counter[tuple[str, str]] = Counter()
    kept = []
    for one in asked:
        seen[one.set, one.lang] += 1
        if not count or seen[one.set, one.lang] <= count:
            kept.append(one)
    return kept

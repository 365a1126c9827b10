"""An engine that opens in the background, so that the page is there before the models are, and whose model can be changed."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

from demo.engine import Engine, Question, modes_of, open_engine
from demo.events import Event, Failed
from demo.generate import open_generator
from demo.offers import Offer, offers
from demo.settings import Settings
from index_builder.vocabulary import MajlisError


class OpeningEngine:
    """Asks wait until the engine is open; if it could not be opened, every ask says why."""

    def __init__(self, settings: Settings, gpu: str = "auto"):
        self._settings, self._gpu = settings, gpu
        self._engine: Engine | None = None
        self._problem: MajlisError | None = None
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._open, name="open-engine", daemon=True)
        self._starting = threading.Lock()
        self._changing = threading.Lock()  # one change of the model at a time

    def open(self) -> None:
        """Begin, if nobody has. The page calls this once it is there: two imports at a time would only make each other wait."""
        with self._starting:
            if not self._thread.ident:
                self._thread.start()

    @property
    def modes(self) -> tuple[str, ...]:
        """Known before the engine is open."""
        name = self._settings.generator
        if name == "none":
            return modes_of("")
        model = self._settings.model(name)
        return modes_of("generate" if model.url else model.mode)

    @property
    def model_command(self) -> str:
        """The command that gets a model that writes; empty when there is one."""
        return "" if len(self.modes) > 1 else "python -m demo models"

    @property
    def server(self) -> str:
        """The host that questions are sent to; empty when the model runs here."""
        name = self._settings.generator
        return "" if name == "none" else urlsplit(self._settings.model(name).url).hostname or ""

    def offers(self) -> list[Offer]:
        """The models to choose from, with the speed of the one that is loaded."""
        return offers(self._settings, self._engine.generator if self._engine else None)

    def change(self, name: str) -> None:
        """Answer with the generator `name` from now on, or with quotes for "none". An answer that is being written is ended as if stopped.

        The old model answers until the new one is loaded, and stays when that cannot be. Raises MajlisError.
        """
        engine = self.wait()
        with self._changing:
            if name == self._settings.generator:
                return
            settings = replace(self._settings, generator=name)
            generator = open_generator(settings, self._gpu)
            if generator:
                try:
                    generator.start(threading.Event())
                except MajlisError:
                    generator.close()
                    raise
            old, engine.generator = engine.generator, generator
            self._settings = settings
        if old:
            old.close()

    def wait(self) -> Engine:
        """The open engine, opened now if nobody has begun. Raises what kept it from opening."""
        self.open()
        self._opened.wait()
        if self._problem:
            raise self._problem
        assert self._engine is not None
        return self._engine

    def ask(self, question: Question, cancel: threading.Event | None = None) -> Iterator[Event]:
        try:
            engine = self.wait()
        except MajlisError as error:
            yield Failed("failed", {"detail": str(error)})
            return
        yield from engine.ask(question, cancel)

    def _open(self) -> None:
        try:
            self._engine = open_engine(self._settings, self._gpu)
        except MajlisError as error:
            self._problem = error
        except Exception as error:
            self._problem = MajlisError(f"Majlis could not be opened: {error!r}. This is a defect; the lines above tell where.")
            raise  # printed with its traceback by the thread
        finally:
            self._opened.set()
        if self._engine:
            self._warm_up(self._engine)

    def _warm_up(self, engine: Engine) -> None:
        """Read what is read on first use, the word lists for Latin letters, before somebody waits for it."""
        for question in (
            "ami tomake ki bolbo",
            "main aapko kya bataun",
            "ma timilai ke bhanu",
            "moi tumak ki kom",
            "shlonak shno akhbarak",
        ):
            engine.detector.detect(question)
        if engine.generator:
            with suppress(MajlisError):  # the first question will say it to somebody who can do something about it
                engine.generator.start(threading.Event())

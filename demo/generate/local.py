"""A GGUF through llama-cpp-python in its own process (worker.py), restarted when it dies."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from demo.generate.graphemes import Graphemes
from demo.generate.types import SMALLEST_CONTEXT, Choices, Ended, GenerationError, GeneratorDied, Letters, Message, Waiting, Within
from demo.settings import ROOT, Model

LOAD_TIMEOUT_S = 600
_STOP_GRACE_S = 2.0  # a worker that does not obey a stop within this is killed
_POLL_S = 0.02
_ENOUGH_TO_TIME = 16  # tokens of an answer that tell a speed; what was chosen needs no writing and tells none
_LAST_WORDS = 4_000  # bytes of the worker's standard error that are kept
_SIGKILL = 9  # Windows has no name for it
_NEVER = threading.Event()

Inbox = queue.SimpleQueue[dict | None]  # None: the process ended


class LocalGenerator:
    confines = True

    def __init__(self, model: Model, path: Path, gpu: str = "auto"):
        self.name = model.name
        self.context = model.context
        self.mode = model.mode
        self.short_of_memory = False
        self.tokens_per_s = 0.0
        self._model, self._path = model, path
        layers = {"auto": -1, "off": 0}.get(gpu)
        if layers is None:
            if not gpu.removeprefix("-").isdecimal():
                raise GenerationError(f"--gpu is {gpu!r}, expected auto, off or a number of layers.")
            layers = int(gpu)
        self._layers = layers
        self._room = model.context  # tokens; less once there was no memory for so many
        self._process: _Process | None = None
        self._turns = _Turns()  # one answer at a time; other questions wait here
        self._loading = threading.Lock()  # one thread starts and loads the worker; others wait here
        self._state = threading.Lock()  # _process and _closed, held for moments only
        self._closed = False

    def start(self, cancel: threading.Event) -> bool:
        return self._loaded(cancel) is not None

    def count_tokens(self, text: str) -> int:
        process = self._loaded(_NEVER)
        assert process is not None
        number, inbox = process.ask(op="count", text=text)
        try:
            return self._checked(inbox.get(), process)["tokens"]
        finally:
            process.forget(number)

    def stream(
        self, messages: Sequence[Message], max_tokens: int, cancel: threading.Event, within: Within | None = None
    ) -> Iterator[str | Waiting | Ended]:
        turn = self._turns.join()
        try:
            told = 0
            while ahead := self._turns.ahead(turn):
                if cancel.wait(_POLL_S):
                    yield Ended("stopped", 0, 0)
                    return
                if ahead != told:
                    told = ahead
                    yield Waiting(ahead, self._turns.seconds(ahead))
            process = self._loaded(cancel)
            if process is None:
                yield Ended("stopped", 0, 0)
                return
            began = time.monotonic()
            number, inbox = process.ask(
                op="generate", messages=list(messages), max_tokens=max_tokens,
                choices=within.texts if isinstance(within, Choices) else None, letters=asdict(within) if isinstance(within, Letters) else None,
            )  # fmt: skip
            ended, writing_since = False, 0.0
            try:
                for item in self._answer(process, number, inbox, cancel):
                    ended = isinstance(item, Ended)
                    writing_since = writing_since or time.monotonic()
                    if isinstance(item, Ended) and item.tokens >= _ENOUGH_TO_TIME and not isinstance(within, Choices):
                        self.tokens_per_s = (item.tokens - 1) / (time.monotonic() - writing_since)
                    yield item
            finally:
                if not ended:  # the reader went away, or an error: the model must not go on for nobody
                    process.stop(number, inbox)
                process.forget(number)
                self._turns.took(time.monotonic() - began)
        finally:
            self._turns.leave(turn)

    def close(self) -> None:
        with self._state:
            self._closed = True
            process, self._process = self._process, None
        if process:
            process.kill()

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process and process.alive else None

    def _answer(self, process: "_Process", number: int, inbox: Inbox, cancel: threading.Event) -> Iterator[str | Waiting | Ended]:
        graphemes = Graphemes()
        while True:
            if cancel.is_set():
                end = process.stop(number, inbox) or {}
                yield Ended("stopped", end.get("prompt_tokens", 0), end.get("tokens", 0), end.get("evaluated", 0))
                return
            try:
                event = inbox.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if event is None and self._closed:
                yield Ended("stopped", 0, 0)
                return
            event = self._checked(event, process)
            if event["event"] == "token":
                if text := graphemes.push(event["text"]):
                    yield text
            elif event["event"] == "end":
                if text := graphemes.rest():
                    yield text
                yield Ended(event["reason"], event["prompt_tokens"], event["tokens"], event["evaluated"], event["choice"])
                return

    def _loaded(self, cancel: threading.Event) -> "_Process | None":
        """The worker with its model loaded, started first if there is none. None when cancelled: then it goes on loading, for the next question."""
        process = self._process
        if process and process.alive and process.loaded:  # without a lock: a count must not wait for another thread's answer
            return process
        if not _acquire(self._loading, cancel):
            return None
        try:
            process = self._started()
            deadline = time.monotonic() + LOAD_TIMEOUT_S
            while not process.loaded:
                if cancel.is_set():
                    return None
                if time.monotonic() > deadline:
                    process.kill()
                    raise GenerationError(
                        f"{self._path.name} did not load within {LOAD_TIMEOUT_S} s. Choose a smaller model in models.toml."
                    )
                try:
                    event = process.load_inbox.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                if event is None and not self._closed and process.was_killed and self._room > SMALLEST_CONTEXT:
                    self._room //= 2  # the kernel kills what takes too much memory; less is tried
                    process = self._started()
                    continue
                try:
                    event = self._checked(event, process)
                except GenerationError:
                    process.kill()
                    raise
                self.context, self.short_of_memory = event["context"], event["short"] or self._room < self._model.context
                process.loaded = True
            return process
        finally:
            self._loading.release()

    def _started(self) -> "_Process":
        with self._state:
            if self._closed:
                raise GenerationError(
                    f"{self.name} was closed, or another model took its place. Ask again; if it stays, start the app again."
                )
            if self._process is None or not self._process.alive:
                self._process = _Process(self.name)
                _, self._process.load_inbox = self._process.ask(
                    op="load", path=str(self._path), context=self._room, threads=_threads(), gpu_layers=self._layers,
                    lora=self._model.lora,
                )  # fmt: skip
            return self._process

    def _checked(self, event: dict | None, process: "_Process") -> dict:
        if event is None:
            if self._closed:
                raise GenerationError(
                    f"{self.name} was closed, or another model took its place. Ask again; if it stays, start the app again."
                )
            raise process.death()
        if event["event"] == "error":
            raise GenerationError(_explain(event["kind"], event["message"], self._path))
        return event


class _Turns:
    """Who answers now and who waits, first come, first served."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: list[object] = []
        self._usual_s = 0.0  # what an answer usually takes; 0 before the first

    def join(self) -> object:
        turn = object()
        with self._lock:
            self._line.append(turn)
        return turn

    def leave(self, turn: object) -> None:
        with self._lock:
            self._line.remove(turn)

    def ahead(self, turn: object) -> int:
        with self._lock:
            return self._line.index(turn)

    def took(self, seconds: float) -> None:
        with self._lock:
            self._usual_s = 0.7 * self._usual_s + 0.3 * seconds if self._usual_s else seconds

    def seconds(self, ahead: int) -> float:
        return ahead * self._usual_s


class _Process:
    """One life of the worker: its pipes, and who waits for which answer. An event for an id that nobody waits for is dropped."""

    def __init__(self, name: str):
        self._name = name
        self.loaded = False
        self.load_inbox: Inbox = queue.SimpleQueue()
        self._inboxes: dict[int, Inbox] = {}
        self._ids = count(1)
        self._ended = False
        self._lock = threading.Lock()  # _inboxes and _ended
        self._writing = threading.Lock()  # whole lines only
        self._last_words = b""
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "demo.generate.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "GGML_NO_BACKTRACE": "1"},
            )  # fmt: skip
        except OSError as error:
            raise GenerationError(f"The process of {name} could not be started ({error}). Close other programs and ask again.") from error
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._logger = threading.Thread(target=self._keep_last_words, daemon=True)
        self._listener.start()
        self._logger.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return not self._ended and self._popen.poll() is None

    @property
    def was_killed(self) -> bool:
        """Whether it ended by a signal that no program can catch, as the kernel's memory killer sends it."""
        return self._popen.wait() == -_SIGKILL

    def ask(self, **command: Any) -> tuple[int, Inbox]:
        """Send a command; its answers arrive in the inbox until it is forgotten. A dead process answers None."""
        inbox: Inbox = queue.SimpleQueue()
        with self._lock:
            number = next(self._ids)
            self._inboxes[number] = inbox
            if self._ended:
                inbox.put(None)
        self._send(id=number, **command)
        return number, inbox

    def forget(self, number: int) -> None:
        with self._lock:
            self._inboxes.pop(number, None)

    def stop(self, number: int, inbox: Inbox) -> dict | None:
        """End the answer `number`; its last event, or None when the process died or had to be killed."""
        self._send(op="stop", id=number)
        deadline = time.monotonic() + _STOP_GRACE_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                event = inbox.get(timeout=left)
            except queue.Empty:
                break
            if event is None or event["event"] in ("end", "error"):
                return event
        self.kill()
        return None

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()
        self._listener.join(timeout=1)

    def death(self) -> GeneratorDied:
        try:
            code = self._popen.wait(timeout=_STOP_GRACE_S)
        except subprocess.TimeoutExpired:  # it closed its output and lives on
            self._popen.kill()
            code = self._popen.wait()
        self._logger.join(timeout=1)
        lines = [line for line in self._last_words.decode("utf-8", "replace").split("\n") if line.strip()]
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        return GeneratorDied(
            f"The process of {self._name} ended ({how}). It is started again with the next question. Its last words: {' / '.join(lines[-3:]) or 'none'}"
        )

    def _send(self, **command: Any) -> None:
        # ASCII: a lone surrogate in a source must not end the question, and half a line never breaks inside a character.
        line = (json.dumps(command) + "\n").encode("ascii")
        try:
            with self._writing:
                self._popen.stdin.write(line)  # type: ignore[union-attr]
                self._popen.stdin.flush()  # type: ignore[union-attr]
        except (OSError, ValueError):
            pass  # it is dead or dying; whoever waits hears None from the listener

    def _listen(self) -> None:
        with self._popen.stdout as stdout:  # type: ignore[union-attr]
            for line in stdout:
                try:
                    event = json.loads(line)
                except ValueError:  # killed in the middle of a line
                    break
                with self._lock:
                    inbox = self._inboxes.get(event["id"])
                if inbox:
                    inbox.put(event)
        with self._lock:
            self._ended = True
            waiting = list(self._inboxes.values())
        for inbox in waiting:
            inbox.put(None)
        # A worker without a listener is of no use, and an unread pipe would block it.
        self._popen.kill()
        self._popen.wait()
        try:
            self._popen.stdin.close()  # type: ignore[union-attr]
        except OSError:  # what was still buffered for the dead
            pass

    def _keep_last_words(self) -> None:
        with self._popen.stderr as stderr:  # type: ignore[union-attr]
            while chunk := stderr.read1(_LAST_WORDS):  # type: ignore[attr-defined]
                self._last_words = (self._last_words + chunk)[-_LAST_WORDS:]


def _threads() -> int:
    """Physical cores, of those that this process may use: hyper-threads share the units that a matrix product needs. OMP_NUM_THREADS overrides."""
    wish = os.environ.get("OMP_NUM_THREADS", "")
    if wish.isdecimal() and int(wish):
        return int(wish)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(psutil.cpu_count(logical=False) or 1, usable)


def _acquire(lock: threading.Lock, cancel: threading.Event) -> bool:
    """Wait for `lock`, but no longer than until `cancel` is set."""
    while not lock.acquire(timeout=_POLL_S):
        if cancel.is_set():
            return False
    return True


def _explain(kind: str, message: str, path: Path) -> str:
    if kind == "load":
        if not path.is_file():
            return f"{path} is not there. Fetch it with `python -m demo models fetch`, or name another model."
        return (
            f"{path} could not be loaded as a GGUF model: it is truncated, altered, too large for this machine's memory, or of an architecture "
            f"that llama.cpp does not know ({message}). Check it with `python -m demo models verify`, or fetch it again."
        )
    if kind == "template":
        return f"{path.name} cannot hold a conversation: {message}. Use an instruction-tuned model (its name often ends in Instruct) whose GGUF has a working chat template."
    if kind == "context":
        return f"The question and its evidence are longer than the context of {path.name} ({message}). Ask a shorter question, or raise `context` in models.toml."
    return f"{path.name}: {message}. Ask again; if it stays, choose another model in models.toml."

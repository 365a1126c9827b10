"""A GGUF through llama-cpp-python in its own process (worker.py), restarted when it dies."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import regex

from demo.generate.types import Ended, GenerationError, GeneratorDied, Message
from demo.settings import ROOT, Model

LOAD_TIMEOUT_S = 600
_STOP_GRACE_S = 2.0  # a worker that does not obey a stop within this is killed
_POLL_S = 0.02
_GRAPHEME = regex.compile(r"\X")


class LocalGenerator:
    def __init__(self, model: Model, path: Path, gpu: str = "auto"):
        self.name = model.name
        self.context = model.context
        self._model, self._path = model, path
        self._layers = {"auto": -1, "off": 0}.get(gpu)
        if self._layers is None:
            if not gpu.lstrip("-").isdigit():
                raise GenerationError(f"--gpu is {gpu!r}, expected auto, off or a number of layers.")
            self._layers = int(gpu)
        self._process: subprocess.Popen[str] | None = None
        self._events: queue.Queue[dict | None] = queue.Queue()
        self._turn = threading.Lock()  # one conversation at a time; others wait here
        self._ids = count(1)
        self._log: Any = None

    def start(self) -> None:
        with self._turn:
            self._ensure_loaded(threading.Event())

    def count_tokens(self, text: str) -> int:
        with self._turn:
            self._ensure_loaded(threading.Event())
            self._send(op="count", text=text)
            return self._next_event(("count",), LOAD_TIMEOUT_S)["tokens"]

    def stream(self, messages: Sequence[Message], max_tokens: int, cancel: threading.Event) -> Iterator[str | Ended]:
        with self._turn:
            if not self._ensure_loaded(cancel):
                yield Ended("stopped", 0, 0)
                return
            number = next(self._ids)
            self._send(op="generate", id=number, messages=list(messages), max_tokens=max_tokens)
            finished = False
            try:
                for item in self._answer(number, cancel):
                    finished = isinstance(item, Ended)
                    yield item
            finally:
                if not finished and self._alive():  # the reader went away, or an error: the model must not go on for nobody
                    self._stop(number)

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._log:
            self._log.close()
            self._log = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def _answer(self, number: int, cancel: threading.Event) -> Iterator[str | Ended]:
        held = ""  # the last grapheme cluster: the next token may still add a vowel sign to it
        told_to_stop_at = 0.0
        while True:
            if cancel.is_set() and not told_to_stop_at:
                told_to_stop_at = time.monotonic()
                self._send(op="stop", id=number)
            if told_to_stop_at and time.monotonic() - told_to_stop_at > _STOP_GRACE_S:
                self.close()
                yield Ended("stopped", 0, 0)
                return
            try:
                event = self._events.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if event is None:
                raise self._death()
            if event.get("id") != number:
                continue
            if event["event"] == "token":
                clusters = _GRAPHEME.findall(held + event["text"])
                held = clusters.pop()
                if clusters and not told_to_stop_at:
                    yield "".join(clusters)
            elif event["event"] == "error":
                raise GenerationError(_explain(event["message"], self._path))
            elif event["event"] == "end":
                if held and not told_to_stop_at:
                    yield held
                yield Ended(event["reason"], event["prompt_tokens"], event["tokens"])
                return

    def _ensure_loaded(self, cancel: threading.Event) -> bool:
        """Start and load the worker if there is none. False when cancelled while loading."""
        if self._alive():
            return True
        self.close()
        self._log = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")
        self._events = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "demo.generate.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            text=True, encoding="utf-8", cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        threading.Thread(target=_pump, args=(self._process.stdout, self._events), daemon=True).start()
        threads = psutil.cpu_count(logical=False) or 1
        self._send(
            op="load", path=str(self._path), context=self._model.context, threads=threads, gpu_layers=self._layers, lora=self._model.lora
        )
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        while time.monotonic() < deadline:
            if cancel.is_set():
                return False  # it goes on loading, for the next question
            try:
                event = self._events.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if event is None:
                raise self._death()
            if event["event"] == "error":
                self.close()
                raise GenerationError(_explain(event["message"], self._path))
            if event["event"] == "loaded":
                self.context = event["context"]
                return True
        self.close()
        raise GenerationError(f"{self._path.name} did not load within {LOAD_TIMEOUT_S} s. Choose a smaller model in models.toml.")

    def _next_event(self, kinds: Sequence[str], timeout: float) -> dict:
        while True:
            event = self._events.get(timeout=timeout)
            if event is None:
                raise self._death()
            if event["event"] == "error":
                raise GenerationError(_explain(event["message"], self._path))
            if event["event"] in kinds:
                return event

    def _stop(self, number: int) -> None:
        self._send(op="stop", id=number)
        deadline = time.monotonic() + _STOP_GRACE_S
        while time.monotonic() < deadline:
            try:
                event = self._events.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if event is None or (event.get("id") == number and event["event"] in ("end", "error")):
                return
        self.close()

    def _send(self, **command: Any) -> None:
        try:
            self._process.stdin.write(json.dumps(command, ensure_ascii=False) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, OSError) as error:
            raise self._death() from error

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _death(self) -> GeneratorDied:
        code = self._process.wait()
        self._log.seek(0)
        last = [line for line in self._log.read().split("\n") if line.strip()][-3:]
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        return GeneratorDied(
            f"The process of {self.name} ended ({how}). It is started again with the next question. Its last words: {' / '.join(last) or 'none'}"
        )


def _pump(stdout, events: "queue.Queue[dict | None]") -> None:
    for line in stdout:
        events.put(json.loads(line))
    events.put(None)


def _explain(message: str, path: Path) -> str:
    if "Failed to load model" in message:
        return f"{path} could not be loaded as a GGUF model: it is truncated, altered, or of an architecture that llama.cpp does not know. Check it with `python -m demo models verify`, or fetch it again."
    if "exceed context window" in message:
        return f"The question and its evidence are longer than the context of {path.name} ({message}). Ask a shorter question."
    return f"{path.name}: {message}"

"""A model behind an OpenAI-compatible URL (vLLM, TGI, llama.cpp's server, a hosted endpoint), through huggingface-hub's AsyncInferenceClient."""

import asyncio
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from demo.generate.graphemes import Graphemes
from demo.generate.types import Ended, GenerationError, Message, Waiting, Within
from demo.settings import Model

_TIMEOUT_S = 60  # between two pieces; a long prompt is read before the first one
_POLL_S = 0.02


class RemoteGenerator:
    confines = False  # the protocol has no way to say it that all such servers understand
    mode = "generate"
    short_of_memory = False
    tokens_per_s = 0.0  # that of a shared server says little

    def __init__(self, model: Model):
        self.name = model.name
        self.context = model.context
        self._model = model
        self._closed = threading.Event()

    def start(self, cancel: threading.Event) -> bool:
        """Nothing to load; the server is asked with the first question."""
        return True

    def count_tokens(self, text: str) -> int:
        """An upper estimate: the tokenizer is at the server. Byte-level vocabularies spend at most one token a byte, in practice under half."""
        return max(1, len(text.encode("utf-8", "replace")) // 2)

    def stream(
        self, messages: Sequence[Message], max_tokens: int, cancel: threading.Event, within: Within | None = None
    ) -> Iterator[str | Waiting | Ended]:
        if self._closed.is_set():
            raise GenerationError(f"{self.name} was closed. Start the app again.")
        request = _Request(self._model, list(messages), max_tokens)
        graphemes = Graphemes()
        tokens = 0
        try:
            while not (cancel.is_set() or self._closed.is_set()):
                try:
                    item = request.items.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                if isinstance(item, Exception):
                    raise GenerationError(_explain(item, self._model.url)) from item
                if isinstance(item, _Last):
                    if text := graphemes.rest():
                        yield text
                    yield Ended(item.reason, 0, tokens)
                    return
                tokens += 1
                if text := graphemes.push(item):
                    yield text
        finally:
            request.end()
        yield Ended("stopped", 0, tokens)

    def close(self) -> None:
        self._closed.set()


class _Last:
    def __init__(self, reason: str):
        self.reason = reason


class _Request:
    """One request on an event loop of its own, because only there can it be ended while the server is silent.

    Ending it closes the connection, which is how such servers are told to stop.
    """

    def __init__(self, model: Model, messages: list[Message], max_tokens: int):
        self.items: queue.SimpleQueue[str | _Last | Exception] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._read(model, messages, max_tokens))
        threading.Thread(target=self._run, daemon=True).start()

    def end(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._task.cancel)
        except RuntimeError:  # the loop is closed: the answer was whole
            pass

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except Exception as error:  # whatever it is, the reader must hear of it
            self.items.put(error)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _read(self, model: Model, messages: list[Message], max_tokens: int) -> None:
        from huggingface_hub import AsyncInferenceClient

        reason = "stop"
        # The token, if the server wants one, comes from the environment and is never written anywhere.
        token = os.environ.get("MAJLIS_API_KEY") or "none"
        async with AsyncInferenceClient(base_url=model.url, api_key=token, timeout=_TIMEOUT_S) as client:
            chunks: Any = await client.chat_completion(
                messages, model=model.repo or model.name, max_tokens=max_tokens, temperature=0.0, stream=True
            )
            async for chunk in chunks:
                if not chunk.choices:
                    continue
                if text := chunk.choices[0].delta.content:
                    self.items.put(text)
                reason = chunk.choices[0].finish_reason or reason
        self.items.put(_Last(reason))


def _explain(error: Exception, url: str) -> str:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return (
            f"The model is at {url}, and --offline forbids every connection. Start the app without it, or choose a model on this machine."
        )
    return f"The server at {url} did not answer ({type(error).__name__}: {error}). Is it running, and does it serve this model?"

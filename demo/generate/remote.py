"""A model behind an OpenAI-compatible URL (vLLM, TGI, llama.cpp's server, a hosted endpoint), through huggingface-hub's InferenceClient."""

import os
from collections.abc import Iterator, Sequence
from threading import Event

from demo.generate.types import Ended, GenerationError, Message
from demo.settings import Model


class RemoteGenerator:
    def __init__(self, model: Model):
        self.name = model.name
        self.context = model.context
        self._model = model

    def start(self) -> None:
        """Nothing to load; the server is asked with the first question."""

    def count_tokens(self, text: str) -> int:
        """An upper estimate: the tokenizer is at the server. Byte-level vocabularies spend at most one token a byte, in practice under half."""
        return max(1, len(text.encode()) // 2)

    def stream(self, messages: Sequence[Message], max_tokens: int, cancel: Event) -> Iterator[str | Ended]:
        from huggingface_hub import InferenceClient
        from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError

        # The token, if the server wants one, comes from the environment and is never written anywhere.
        client = InferenceClient(base_url=self._model.url, api_key=os.environ.get("MAJLIS_API_KEY") or "none", timeout=60)
        tokens = 0
        reason = "stop"
        try:
            chunks = client.chat_completion(
                list(messages), model=self._model.repo or self.name, max_tokens=max_tokens, temperature=0.0, stream=True
            )
            for chunk in chunks:
                if cancel.is_set():
                    chunks.close()  # ends the request, which is how such servers are told to stop
                    yield Ended("stopped", 0, tokens)
                    return
                if not chunk.choices:
                    continue
                if text := chunk.choices[0].delta.content:
                    tokens += 1
                    yield text
                reason = chunk.choices[0].finish_reason or reason
        except (HfHubHTTPError, InferenceTimeoutError, OSError, ValueError) as error:
            raise GenerationError(f"The server at {self._model.url} did not answer ({error}). Is it running?") from error
        yield Ended(reason, 0, tokens)

    def close(self) -> None:
        """Nothing is held between questions."""

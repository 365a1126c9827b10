"""The process that holds the model: `python -m demo.generate.worker`. Commands come as JSON lines on standard input, events go out on standard output.

It is a process of its own because native code can end it: llama.cpp aborts on a vocabulary without byte fallback, the kernel
kills what takes too much memory. Then one answer is lost and not the app. Every command has an id, and its events carry it.
    in   {"op": "load", "path", "context", "threads", "gpu_layers", "lora"} · {"op": "count", "text"} · {"op": "stop"}
         {"op": "generate", "messages", "max_tokens", "choices": [text…] or null, "letters": {"script", "words", "without"} or null}
    out  {"event": "loaded", "context", "short", "gpu_layers", "control_tokens"} · {"event": "count", "tokens"} · {"event": "token", "text", "tokens": [id…]}
         {"event": "end", "reason", "prompt_tokens", "tokens", "evaluated", "choice"} · {"event": "error", "kind", "message"}
A kind is "load", "template", "context" or "other".
"""

import codecs
import ctypes
import json
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from demo.generate.confine import Free, OneOf, OneScript, Vocabulary, trie_of
from demo.generate.types import SMALLEST_CONTEXT

_QUICK_S = 0.03  # a token that takes no longer is waited for when the answer is stopped
_PAUSE_S = 0.02  # between two events of an answer; a screen shows no more


class Refused(Exception):
    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class _Telling:
    """The tokens of one answer -> "token" events: the first at once, then at most one in _PAUSE_S, with all that came since.

    A small model writes a token in a millisecond. An event each would wake the app as often, on the cores that the model computes with.
    """

    def __init__(self, say: Callable[[str, list[int]], None], piece: Callable[[int], bytes]) -> None:
        self.tokens = 0
        self._say, self._piece = say, piece
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a token may be half a character
        self._text, self._unsaid, self._last = "", list[int](), -math.inf

    def add(self, tokens: Sequence[int]) -> None:
        self.tokens += len(tokens)
        self._unsaid += tokens
        self._text += "".join(self._decoder.decode(self._piece(token)) for token in tokens)
        if time.monotonic() - self._last >= _PAUSE_S:
            self.flush()

    def flush(self) -> None:
        if self._text:
            self._say(self._text, self._unsaid)
            self._text, self._unsaid, self._last = "", [], time.monotonic()


class Worker:
    def __init__(self, out) -> None:
        self._out = out
        self._speaking = threading.Lock()
        self._llm: Any = None
        self._context = 0
        self._template: Any = None
        self._stopped: set[int] = set()  # ids to stop; filled by the reading thread while the main thread generates
        self._current = -1
        self._control: list[str] = []
        self._ends: list[int] = []  # tokens that end a turn
        self._token_s = math.inf  # what the last token took
        self._pieces: dict[int, bytes] = {}  # of tokens that were written
        self._words: Vocabulary | None = None

    def say(self, event: str, number: int, **fields: Any) -> None:
        with self._speaking:
            self._out.write(json.dumps({"event": event, "id": number, **fields}) + "\n")
            self._out.flush()

    def run(self) -> None:
        commands: queue.SimpleQueue[dict] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(commands,), daemon=True).start()
        while True:
            command = commands.get()
            self._do(self._load if command["op"] == "load" else self._generate, command)

    def _read(self, commands: "queue.SimpleQueue[dict]") -> None:
        try:
            for line in sys.stdin:
                command = json.loads(line)
                if command["op"] == "stop":  # at once, past whatever waits
                    self._stopped.add(command["id"])
                elif command["op"] == "count":  # likewise: a vocabulary may be read while the model generates
                    self._do(self._count, command)
                else:
                    commands.put(command)
        finally:
            # The app is gone. Nothing is worth finishing, and a running decode would not look at a queue.
            os._exit(0)

    def _do(self, what, command: dict) -> None:
        try:
            what(command)
        except Refused as error:
            self.say("error", command["id"], kind=error.kind, message=str(error))
        except Exception as error:
            self.say("error", command["id"], kind="other", message=f"{type(error).__name__}: {error}")

    def _load(self, command: dict) -> None:
        import llama_cpp
        from jinja2 import TemplateError
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        context, layers = command["context"], command["gpu_layers"]
        if layers and not llama_cpp.llama_supports_gpu_offload():
            layers = 0
        while True:
            try:
                llm = llama_cpp.Llama(
                    command["path"], n_ctx=context, n_gpu_layers=layers, n_threads=command["threads"], n_threads_batch=command["threads"],
                    lora_path=command["lora"] or None, n_batch=256, n_ubatch=256, verbose=False,
                )  # fmt: skip
                break
            except TemplateError as error:
                raise Refused("template", f"its chat template is broken ({error})") from error
            except (ValueError, RuntimeError, MemoryError, OSError) as error:
                # What does not fit: first fewer layers on the GPU, then a smaller context.
                if layers:
                    layers = _fewer(layers, command["path"])
                elif context > SMALLEST_CONTEXT and "context" in str(error).lower():
                    context //= 2
                else:
                    raise Refused("load", str(error)) from error
        template = llm.metadata.get("tokenizer.chat_template")
        if not template:
            raise Refused("template", "it has no chat template")
        # llama-cpp-python would guess a format from the template's text, or take Llama 2's where there is none.
        bos, eos = (llm._model.token_get_text(token) if token >= 0 else "" for token in (llm.token_bos(), llm.token_eos()))
        self._template = Jinja2ChatFormatter(template, eos_token=eos, bos_token=bos)
        # llama.cpp rounds a context up, and a model is lost past the length it was trained on.
        self._context = min(context, llm.n_ctx(), llm._model.n_ctx_train())
        self._control = _control_tokens(llm, self._template)
        self._ends = [token for token in range(llm.n_vocab()) if llama_cpp.llama_vocab_is_eog(llm._model.vocab, token)]
        self._abort, self._no_abort = (
            llama_cpp.ggml_abort_callback(lambda _: self._current in self._stopped),
            llama_cpp.ggml_abort_callback(),
        )
        self._llm = llm
        short = context < command["context"]
        self.say("loaded", command["id"], context=self._context, short=short, gpu_layers=layers, control_tokens=len(self._control))

    def _count(self, command: dict) -> None:
        self.say("count", command["id"], tokens=len(self._tokens(command["text"], special=False)))

    def _generate(self, command: dict) -> None:
        import llama_cpp

        llm, number = self._llm, command["id"]
        text = self._prompt(command["messages"])
        prompt = self._tokens(text, special=True)  # the template itself writes the first token where the model wants one
        if len(prompt) >= self._context:
            raise Refused("context", f"{len(prompt)} tokens, {self._context} fit")
        room = self._context - len(prompt)
        steering = self._steering(command, text, room)
        limit = room if command.get("choices") else min(command["max_tokens"], room)
        told, reason = _Telling(lambda said, tokens: self.say("token", number, text=said, tokens=tokens), self._piece), "length"
        self._current = number
        unread = prompt[self._keep(prompt) :]
        kept = len(prompt) - len(unread)
        try:
            while told.tokens < limit:
                if forced := steering.forced():
                    # What is decided is said before it is read, and only read where there is still something to choose.
                    unread += forced
                    told.add(forced)
                    told.flush()
                if not steering.over:
                    self._read_in(unread)
                    token = steering.pick(self._scores())
                    unread = [token]
                    if token in self._ends:
                        reason = "stop"
                    else:
                        told.add(unread)
                if number in self._stopped:
                    reason = "stopped"
                    break
                if steering.over or reason == "stop":
                    reason = "stop"
                    break
        except Exception as error:
            if number not in self._stopped or "llama_decode returned 2" not in str(error):
                # Whatever the cache holds now, it is not trusted.
                llm.reset()
                llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(llm.ctx), True)
                raise
            # llama.cpp removed the aborted batch from the cache, and `n_tokens` counts the whole ones: they may be reused.
            reason = "stopped"
        finally:
            self._current = -1
            self._stopped.discard(number)
        evaluated = max(0, min(len(prompt), llm.n_tokens) - kept)
        choice = steering.choice if reason != "stopped" else -1
        told.flush()
        self.say("end", number, reason=reason, prompt_tokens=len(prompt), tokens=told.tokens, evaluated=evaluated, choice=choice)

    def _read_in(self, tokens: list[int]) -> None:
        """Let the model read `tokens`, in such a way that a stop is heard meanwhile.

        Else a stop would wait for the whole prompt to be read, seconds on a laptop. But llama.cpp asks a hundred times a token whether to go on:
        where a token takes a millisecond, that would be a tenth of it, and the stop is heard soon enough after it.
        """
        import llama_cpp

        long = len(tokens) > 1 or self._token_s > _QUICK_S
        llama_cpp.llama_set_abort_callback(self._llm.ctx, self._abort if long else self._no_abort, ctypes.c_void_p(None))
        began = time.monotonic()
        self._llm.eval(tokens)
        if len(tokens) == 1:
            self._token_s = time.monotonic() - began

    def _piece(self, token: int) -> bytes:
        if token not in self._pieces:
            self._pieces[token] = _bytes_of(self._llm, token)
        return self._pieces[token]

    def _keep(self, prompt: list[int]) -> int:
        """How many tokens of `prompt` the cache already holds from the last answer; what comes after them is dropped from it.

        The last token is always read again: its scores begin the answer.
        """
        import llama_cpp

        llm = self._llm
        shared = 0
        for held, wanted in zip(llm.input_ids[: llm.n_tokens].tolist(), prompt[:-1], strict=False):
            if held != wanted:
                break
            shared += 1
        if not llm._ctx.kv_cache_seq_rm(-1, shared, -1):  # a recurrent model cannot forget its last words alone
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(llm.ctx), True)
            shared = 0
        llm.n_tokens = shared
        return shared

    def _scores(self) -> np.ndarray:
        """(vocabulary,) float32: the model's scores of the token after the last one that it read."""
        return np.ctypeslib.as_array(self._llm._ctx.get_logits_ith(-1), shape=(self._llm.n_vocab(),))

    def _steering(self, command: dict, prompt: str, room: int) -> Free | OneOf | OneScript:
        if command.get("choices"):
            texts = [tokens if len(tokens) <= room else [] for tokens in self._in_place(prompt, command.get("choices"))]
            if not any(texts):
                raise Refused("context", f"none of {len(texts)} answers fits into {room} tokens")
            return OneOf(trie_of(texts), self._ends)
        if command.get("letters"):
            return OneScript(self._vocabulary(), **command.get("letters"))
        return Free()

    def _in_place(self, prompt: str, texts: list[str]) -> list[list[int]]:
        """The tokens of each of `texts` where an answer to `prompt` begins: a tokenizer may put a space before a text, or join it to what is there."""
        # What stands before the last control token decides nothing, and reading it again for each text would take longest of all.
        begins = max((prompt.rfind(piece) for piece in self._control), default=-1)
        before = prompt[max(0, begins) :]
        start = self._tokens(before, special=True)
        found = []
        for text in map(self._as_text, texts):
            tokens = self._tokens(before + text, special=True) if text else start
            # where the text would melt into the prompt's last token, its own tokens are the nearest to it
            found.append(tokens[len(start) :] if tokens[: len(start)] == start else self._tokens(text, special=False))
        return found

    def _vocabulary(self) -> Vocabulary:
        if self._words is None:  # a second or two for a large vocabulary, and not every model is asked for it
            self._words = Vocabulary([_bytes_of(self._llm, token) for token in range(self._llm.n_vocab())])
        return self._words

    def _prompt(self, messages: list[dict]) -> str:
        messages = [{**message, "content": self._as_text(message["content"])} for message in messages]
        try:
            return self._template(messages=messages).prompt
        except Exception as error:  # a template is a program: it may raise anything
            raise Refused("template", f"its chat template failed ({type(error).__name__}: {error})") from error

    def _tokens(self, text: str, special: bool) -> list[int]:
        return self._llm.tokenize(text.encode("utf-8", "replace"), add_bos=False, special=special)

    def _as_text(self, content: str) -> str:
        """`content` with every control token of this model broken, so that a question or a source can never end a turn or start another role."""
        for piece in self._control:
            content = content.replace(piece, f"{piece[0]} {piece[1:]}" if len(piece) > 1 else "")
        return content


def _fewer(layers: int, path: str) -> int:
    """Half of `layers`, or of all that the model has where more, or a negative number for all, were asked for; in the end 0."""
    count = _layers_of(path)
    return (min(layers, count) if layers > 0 else count) // 2


def _layers_of(path: str) -> int:
    """The number of layers of a model, from its file alone; 0 where it cannot be read."""
    import llama_cpp

    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only, parameters.n_gpu_layers = True, 0  # no weights are loaded
    model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
    if not model:
        return 0
    try:
        architecture = _metadata(model, "general.architecture")
        found = _metadata(model, f"{architecture}.block_count")
        return int(found) if found.isdecimal() else 0
    finally:
        llama_cpp.llama_model_free(model)


def _metadata(model, key: str) -> str:
    import llama_cpp

    buffer = ctypes.create_string_buffer(256)
    length = llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode() if length >= 0 else ""


def _control_tokens(llm, template) -> list[str]:
    """Texts that the tokenizer turns into control: every control token, and the user-defined ones that this template writes. Longest first."""
    import llama_cpp

    written = ""
    for roles in (("user", "assistant", "user"), ("system", "user")):  # by rendering: many templates put them together from parts
        try:
            written += template(messages=[{"role": role, "content": ""} for role in roles]).prompt
        except Exception:  # some know no system role; what matters is told when a question is asked
            pass
    found = set()
    for token in range(llm.n_vocab()):
        kind = llama_cpp.llama_vocab_get_attr(llm._model.vocab, token)
        if kind & (llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED):
            piece = llm._model.token_get_text(token)
            if piece.strip() and (kind & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL or piece in written):
                found.add(piece)
    return sorted(found, key=len, reverse=True)


def _bytes_of(llm, token: int) -> bytes:
    """The bytes of a token. llama-cpp-python's own `detokenize` gives wrong ones past 32, ten letters of Bangla."""
    import llama_cpp

    size = 64
    while True:
        buffer = ctypes.create_string_buffer(size)
        length = llama_cpp.llama_token_to_piece(llm._model.vocab, token, buffer, size, 0, False)
        if length >= 0:
            return buffer.raw[:length]
        size = -length


def main() -> None:
    # llama.cpp prints to both streams; only our own lines may reach the app.
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    Worker(out).run()


if __name__ == "__main__":
    main()

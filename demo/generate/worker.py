"""The process that holds the model: `python -m demo.generate.worker`. Commands come as JSON lines on standard input, events go out on standard output.

It is a process of its own because native code can end it: llama.cpp aborts on a vocabulary without byte fallback, the kernel
kills what takes too much memory. Then one answer is lost and not the app. Every command has an id, and its events carry it.
    in   {"op": "load", "path", "context", "threads", "gpu_layers", "lora"} · {"op": "count", "text"} · {"op": "stop"}
         {"op": "generate", "messages", "max_tokens"}
    out  {"event": "loaded", "context", "gpu_layers", "control_tokens"} · {"event": "count", "tokens"} · {"event": "token", "text", "tokens": [id…]}
         {"event": "end", "reason", "prompt_tokens", "tokens", "evaluated"} · {"event": "error", "kind", "message"}
A kind is "load", "template", "context" or "other".
"""

import codecs
import ctypes
import json
import os
import queue
import sys
import threading
from typing import Any

SMALLEST_CONTEXT = 512


class Refused(Exception):
    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


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
        # Without it a stop would wait for the whole prompt to be read, seconds on a laptop.
        self._abort = llama_cpp.ggml_abort_callback(lambda _: self._current in self._stopped)
        llama_cpp.llama_set_abort_callback(llm.ctx, self._abort, ctypes.c_void_p(None))
        self._llm = llm
        self.say("loaded", command["id"], context=self._context, gpu_layers=layers, control_tokens=len(self._control))

    def _count(self, command: dict) -> None:
        self.say("count", command["id"], tokens=len(self._tokens(command["text"], special=False)))

    def _generate(self, command: dict) -> None:
        import llama_cpp

        llm, number = self._llm, command["id"]
        prompt = self._prompt(command["messages"])
        if len(prompt) >= self._context:
            raise Refused("context", f"{len(prompt)} tokens, {self._context} fit")
        limit = min(command["max_tokens"], self._context - len(prompt))
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a token may be half a character
        tokens, unsaid, reason = 0, [], "length"
        self._current = number
        llama_cpp.llama_synchronize(llm.ctx)  # a stopped prompt is counted only now
        llama_cpp.llama_perf_context_reset(llm.ctx)
        try:
            # The prefix that this prompt shares with the last one stays in the KV cache: `generate` compares the tokens.
            for token in llm.generate(prompt, temp=0.0, repeat_penalty=1.0):
                if number in self._stopped:
                    reason = "stopped"
                    break
                if llama_cpp.llama_vocab_is_eog(llm._model.vocab, token):
                    reason = "stop"
                    break
                tokens += 1
                unsaid.append(token)
                if text := decoder.decode(_bytes_of(llm, token)):
                    self.say("token", number, text=text, tokens=unsaid)
                    unsaid = []
                if tokens >= limit:
                    break
        except Exception as error:
            if number not in self._stopped or "llama_decode returned 2" not in str(error):
                # Whatever the cache holds now, it is not trusted.
                llm.reset()
                llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(llm.ctx), True)
                raise
            reason = "stopped"
            # llama.cpp removed the aborted batch from the cache, and `n_tokens` counts the whole ones: they may be reused, the logits not.
            llm._requires_eval = True
        finally:
            self._current = -1
            self._stopped.discard(number)
        llama_cpp.llama_synchronize(llm.ctx)
        evaluated = min(len(prompt), llama_cpp.llama_perf_context(llm.ctx).n_p_eval)
        self.say("end", number, reason=reason, prompt_tokens=len(prompt), tokens=tokens, evaluated=evaluated)

    def _prompt(self, messages: list[dict]) -> list[int]:
        messages = [{**message, "content": self._as_text(message["content"])} for message in messages]
        try:
            text = self._template(messages=messages).prompt
        except Exception as error:  # a template is a program: it may raise anything
            raise Refused("template", f"its chat template failed ({type(error).__name__}: {error})") from error
        return self._tokens(text, special=True)  # the template itself writes the first token where the model wants one

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

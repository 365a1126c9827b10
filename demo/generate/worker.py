"""The process that holds the model: `python -m demo.generate.worker`. Commands come as JSON lines on standard input, events go out on standard output.

It is a process of its own because native code can end it: llama.cpp aborts on an unsatisfiable grammar, the kernel kills what
takes too much memory. Then one answer is lost and not the app.
    in   {"op": "load", "path", "context", "threads", "gpu_layers", "lora"} · {"op": "count", "text"} · {"op": "stop", "id"}
         {"op": "generate", "id", "messages", "max_tokens"}
    out  {"event": "loaded", "context", "gpu_layers", "control_tokens"} · {"event": "count", "tokens"} · {"event": "token", "id", "text"}
         {"event": "end", "id", "reason", "prompt_tokens", "tokens"} · {"event": "error", "id", "message"}
"""

import ctypes
import json
import os
import queue
import sys
import threading
from typing import Any

SMALLEST_CONTEXT = 512


class Worker:
    def __init__(self, out) -> None:
        self._out = out
        self._llm: Any = None
        self._stopped: set[int] = set()  # ids to stop; filled by the reading thread while the main thread generates
        self._current = -1
        self._control: list[str] = []

    def say(self, **event: Any) -> None:
        self._out.write(json.dumps(event, ensure_ascii=False) + "\n")
        self._out.flush()

    def run(self) -> None:
        commands: queue.Queue[dict | None] = queue.Queue()
        threading.Thread(target=self._read, args=(commands,), daemon=True).start()
        while (command := commands.get()) is not None:
            try:
                getattr(self, f"_{command['op']}")(command)
            except Exception as error:
                self.say(event="error", id=command.get("id", -1), message=f"{type(error).__name__}: {error}")

    def _read(self, commands: "queue.Queue[dict | None]") -> None:
        for line in sys.stdin:
            command = json.loads(line)
            if command["op"] == "stop":  # at once, past whatever waits
                self._stopped.add(command["id"])
            else:
                commands.put(command)
        # The app is gone. Nothing is worth finishing, and a running decode would not look at a queue.
        os._exit(0)

    def _load(self, command: dict) -> None:
        import llama_cpp

        context, layers, problem = command["context"], command["gpu_layers"], ""
        if layers and not llama_cpp.llama_supports_gpu_offload():
            layers = 0
        while True:
            try:
                self._llm = llama_cpp.Llama(
                    command["path"], n_ctx=context, n_gpu_layers=layers, n_threads=command["threads"], n_threads_batch=command["threads"],
                    lora_path=command["lora"] or None, n_batch=256, n_ubatch=256, verbose=False,
                )  # fmt: skip
                break
            except (ValueError, RuntimeError, MemoryError) as error:
                problem = str(error)
                # What does not fit: first fewer layers on the GPU, then a smaller context.
                if layers:
                    layers = 0
                elif context > SMALLEST_CONTEXT and "context" in problem.lower():
                    context //= 2
                else:
                    raise
        vocabulary = llama_cpp.llama_model_get_vocab(self._llm.model)
        pieces = (self._llm._model.token_get_text(i) for i in range(self._llm.n_vocab()) if llama_cpp.llama_vocab_is_control(vocabulary, i))
        self._control = sorted((piece for piece in pieces if piece), key=len, reverse=True)
        # Without it a stop would wait for the whole prompt to be read, seconds on a laptop.
        self._abort = llama_cpp.ggml_abort_callback(lambda _: self._current in self._stopped)
        llama_cpp.llama_set_abort_callback(self._llm.ctx, self._abort, ctypes.c_void_p(None))
        self.say(event="loaded", context=self._llm.n_ctx(), gpu_layers=layers, control_tokens=len(self._control))

    def _count(self, command: dict) -> None:
        self.say(event="count", tokens=len(self._llm.tokenize(command["text"].encode(), add_bos=False)))

    def _generate(self, command: dict) -> None:
        self._current = command["id"]
        messages = [{**message, "content": self._as_text(message["content"])} for message in command["messages"]]
        prompt_tokens = tokens = 0
        reason = "stop"
        try:
            # The prefix that this prompt shares with the last one stays in the KV cache: llama-cpp-python compares the tokens.
            for chunk in self._llm.create_chat_completion(
                messages, stream=True, max_tokens=command["max_tokens"], temperature=0.0, repeat_penalty=1.0
            ):
                if self._current in self._stopped:
                    reason = "stopped"
                    break
                choice = chunk["choices"][0]
                if text := choice["delta"].get("content"):
                    tokens += 1
                    self.say(event="token", id=self._current, text=text)
                reason = choice["finish_reason"] or reason
            prompt_tokens = self._llm.n_tokens - tokens
        except RuntimeError as error:
            if self._current not in self._stopped or "decode returned 2" not in str(error):
                raise
            reason = "stopped"
            self._forget()
        self.say(event="end", id=self._current, reason=reason, prompt_tokens=max(0, prompt_tokens), tokens=tokens)
        self._current = -1

    def _forget(self) -> None:
        """After an abort the KV cache holds part of a prompt."""
        import llama_cpp

        self._llm.reset()
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._llm.ctx), True)

    def _as_text(self, content: str) -> str:
        """`content` with every control token of this model broken, so that a question or a source can never end a turn or start another role."""
        for piece in self._control:
            content = content.replace(piece, f"{piece[0]} {piece[1:]}")
        return content


def main() -> None:
    # llama.cpp prints to both streams; only our own lines may reach the app.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    Worker(out).run()


if __name__ == "__main__":
    main()

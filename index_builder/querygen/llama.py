"""A Llama of `demo.generate` as a query writer. The one place where the knowledge side reaches for the conversation's side, and only when asked to."""

from collections.abc import Callable
from threading import Event

from index_builder.querygen.families import QueryModelError
from index_builder.querygen.writers import LlamaWriter


def open_llama(name: str) -> tuple[LlamaWriter, Callable[[], None]]:
    """The generator `name` of models.toml, or a .gguf file, and what ends its process. Raises MajlisError saying what is missing."""
    from demo.generate import Ended, open_generator
    from demo.settings import load_settings

    settings = load_settings(model=name)
    generator = open_generator(settings)
    if generator is None:
        raise QueryModelError(f"--model {name} is no model. Give a converted folder, a generator of models.toml, or a .gguf file.")

    def complete(prompt: str, most_tokens: int) -> str:
        pieces = generator.stream([{"role": "user", "content": prompt}], most_tokens, Event())
        return "".join(piece for piece in pieces if not isinstance(piece, Ended))

    return LlamaWriter(generator.name, complete), generator.close

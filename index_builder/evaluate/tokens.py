"""The tokens that XOR-Retrieve's budgets are counted in: nltk's word_tokenize."""

from collections.abc import Callable


def tokenizer() -> tuple[str, Callable[[str], list[str]]]:
    """(name, text -> tokens): nltk's `word_tokenize` as the published script calls it, when nltk finds its sentence model.

    The model (punkt_tab) is data that nltk downloads, not part of the package. Without it the same word rules run on the whole text,
    so that only its last full stop is a token of its own, and a passage of n sentences counts n - 1 tokens fewer. The name says which.
    """
    from nltk.tokenize import word_tokenize

    try:
        word_tokenize("A sentence. Another one.")
    except LookupError:
        return "nltk word rules without sentence model", lambda text: word_tokenize(text, preserve_line=True)
    return "nltk word_tokenize", word_tokenize

"""Answers and references -> figures, in [0, 1] and as small pure functions.

The published scripts break on our languages (METHODS, findings 3 and 4): BLEU over raw strings is a character BLEU, and the usual
ROUGE drops every letter that is not Latin. `char_bleu` and `xor_*` repeat them exactly, to compare with their tables; the others are
honest ones.
"""

import string
import warnings
from collections import Counter
from collections.abc import Callable, Sequence

import regex

from index_builder.text import same_word, words

_PUNCTUATION = regex.compile(r"[\p{P}\p{S}]+")
_SPACES = regex.compile(r"\s+")
_LETTERS = regex.compile(r"[\p{L}\p{M}]")  # vowel signs are no letters to Python
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_COUNTERS = str.maketrans("", "", "年歳人년")
Score = Callable[[str, str], float]  # (answer, reference) -> figure


def best(score: Score, answer: str, references: Sequence[str]) -> float:
    """The best figure over the references; 0 without any."""
    return max((score(answer, reference) for reference in references), default=0.0)


def token_f1(answer: str, reference: str) -> float:
    """F1 of the words that answer and reference share, lower-cased, with the punctuation of every script stripped."""
    return _f1(_tokens(answer), _tokens(reference))


def word_recall(answer: str, reference: str) -> float:
    """Share of the reference's words, or of forms of them, that the answer holds (`text.same_word`): case endings do not count as errors."""
    asked = words(reference)
    held = set(words(answer))
    return sum(word in held or any(same_word(word, other) for other in held) for word in asked) / len(asked) if asked else 0.0


def rouge_l(answer: str, reference: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004), over the words of every script."""
    a, b = words(answer), words(reference)
    common = _longest_common(a, b)
    return 2 * common / (len(a) + len(b)) if common else 0.0


def char_ngram_recall(answer: str, reference: str, n: int = 3) -> float:
    """Share of the reference's character n-grams that are in the answer; survives inflection and transliteration better than words."""
    wanted, given = _ngrams(_plain(reference), n), _ngrams(_plain(answer), n)
    return sum((wanted & given).values()) / sum(wanted.values()) if wanted else 0.0


def chrf(answer: str, references: Sequence[str]) -> float:
    """chrF2 of one answer (Popović 2015) by sacrebleu, scaled to [0, 1]."""
    from sacrebleu.metrics import CHRF

    return CHRF().sentence_score(answer, list(references)).score / 100 if references else 0.0


def corpus_bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """BLEU-4 of many answers by sacrebleu, scaled to [0, 1]; words and punctuation of every script as its `intl` tokenizer cuts them."""
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize="intl").corpus_score(list(answers), [list(references)]).score / 100 if answers else 0.0


def char_bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """What LLMeBench's NativQA task calls BLEU: nltk's corpus_bleu over raw strings, which are sequences of characters to it."""
    from nltk.translate.bleu_score import corpus_bleu as nltk_bleu

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nltk remarks on orders without a match; they make the figure 0, which says it
        return float(nltk_bleu([[reference] for reference in references], list(answers))) if answers else 0.0


def xor_normalise(text: str) -> str:
    """As XOR-Full's script: lower case, no ASCII punctuation, no counters; articles and other punctuation stay."""
    return " ".join(text.lower().translate(_ASCII_PUNCTUATION).translate(_COUNTERS).split())


def xor_f1(answer: str, reference: str) -> float:
    return _f1(xor_normalise(answer).split(), xor_normalise(reference).split())


def xor_exact_match(answer: str, reference: str) -> float:
    return float(xor_normalise(answer) == xor_normalise(reference))


def xor_bleu(answer: str, references: Sequence[str]) -> float:
    """XOR-Full's BLEU: nltk's sentence_bleu over raw strings, unsmoothed: of characters, up to 4 in a row."""
    from nltk.translate.bleu_score import sentence_bleu

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(sentence_bleu(list(references), answer)) if references and answer else 0.0


def mecab_words(text: str) -> str:
    """Japanese with spaces between its words, as XOR-Full's script needs it. Raises MajlisError when MeCab is not installed."""
    try:
        import MeCab
    except ImportError as error:
        from index_builder.vocabulary import MajlisError

        raise MajlisError(
            "Japanese answers are cut into words by MeCab, which is not installed: pip install mecab-python3 unidic-lite, "
            "or leave Japanese out by naming the others with --lang."
        ) from error
    return MeCab.Tagger("-Owakati").parse(text)


def lines_in(lang: str, text: str, language_of: Callable[[str], str], shortest: int = 12) -> bool | None:
    """Line pass (Language Confusion Benchmark): whether every line with at least `shortest` letters is in `lang`; None without such a line."""
    lines = [line for line in text.splitlines() if len(_LETTERS.findall(line)) >= shortest]
    return all(language_of(line) == lang for line in lines) if lines else None


def words_in(lang: str, text: str) -> bool | None:
    """Word pass: whether no word is written in Latin letters; None for languages that are themselves.

    The benchmark counts English words in answers of other scripts, the confusion that a dictionary-free check can see.
    """
    if lang in ("en", "tr"):
        return None
    return not regex.search(r"\p{Latin}{2,}", text)


def _f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    shared = sum((Counter(answer) & Counter(reference)).values())
    return 2 * shared / (len(answer) + len(reference)) if shared else 0.0


def _plain(text: str) -> str:
    return _SPACES.sub(" ", _PUNCTUATION.sub(" ", text.lower())).strip()


def _tokens(text: str) -> list[str]:
    return _plain(text).split()


def _ngrams(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1)) or Counter([text] if text else [])


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]

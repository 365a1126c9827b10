"""A Unigram vocabulary shared by the seven languages, whose normaliser is `index_builder.text.fold` written in the tokenizers library's own steps."""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from index_builder.text import DIGITS, FOLDS


def folding_normalizer() -> normalizers.Normalizer:
    """The steps of `fold`, in its order; a test holds the two equal on text of every script."""
    steps: list[normalizers.Normalizer] = [normalizers.NFKC(), normalizers.Lowercase()]
    steps += [normalizers.Replace(Regex(pattern), replacement) for pattern, replacement in (*FOLDS, *DIGITS)]
    return normalizers.Sequence(steps)


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = folding_normalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=False)]
    )
    trainer = trainers.UnigramTrainer(vocab_size=size, unk_token="<unk>", special_tokens=["<unk>", "<pad>"], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer

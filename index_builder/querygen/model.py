"""A sequence-to-sequence model of any known family in CTranslate2 format: texts in, scored texts out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ctranslate2
import sentencepiece

from index_builder.digest import file_sha256
from index_builder.querygen.families import QueryModelError, Task, read_family


@dataclass(frozen=True, slots=True)
class Request:
    """One text, what to do with it, and the language to write in."""

    task: Task
    source: str  # language of the text
    target: str
    text: str
    title: str = ""  # of the passage that is asked about


@dataclass(frozen=True, slots=True)
class Written:
    text: str
    score: float  # mean log-probability of its tokens, 0 at best


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the texts are chosen. The paper samples among the ten likeliest tokens (METHODS section 1)."""

    number: int = 1  # of texts for each request
    sampling_top_k: int = 0  # 0: beam search
    beam: int = 1  # at least `number` when not sampling
    most_tokens: int = 64
    temperature: float = 1.0
    no_repeat: int = 0  # n-grams of this size are not written twice
    batch_tokens: int = 4_096


class Seq2Seq:
    """Opened by `open_seq2seq`. Not for several threads at once; CTranslate2 uses `threads` cores by itself."""

    def __init__(self, folder: Path, threads: int, seed: int, compute_type: str):
        self.family = read_family(folder)
        self.name = self.family.model
        self.folder = folder
        ctranslate2.set_random_seed(seed)  # before the threads of the translator, which keep it
        try:
            self._words = sentencepiece.SentencePieceProcessor(model_file=str(folder / self.family.source_vocabulary))
            self._target_words = sentencepiece.SentencePieceProcessor(model_file=str(folder / self.family.target_vocabulary))
            self.translator = ctranslate2.Translator(str(folder), inter_threads=threads, intra_threads=1, compute_type=compute_type)
        except (OSError, RuntimeError, ValueError) as error:
            raise QueryModelError(
                f"The model in {folder} cannot be opened ({error}). Convert it again with: python -m index_builder convert"
            ) from error

    def fingerprint(self) -> str:
        """sha256 of the weights: two models under one name write different queries."""
        return file_sha256(self.folder / "model.bin")

    def check(self, task: Task, source: str, target: str) -> None:
        """Raises QueryModelError saying what the model lacks for this."""
        family = self.family
        if family.can(task, source, target):
            return
        if task not in family.tasks:
            raise QueryModelError(f"{self.name} can {' and '.join(family.tasks)}, not {task}. Choose another --task or --model.")
        if target not in family.languages:
            raise QueryModelError(f"{self.name} writes {', '.join(family.languages)}, not {target}. Leave {target} out of --langs.")
        if source not in family.sources:
            raise QueryModelError(f"{self.name} reads {', '.join(family.sources)}, not {source}.")
        raise QueryModelError(
            f"{self.name} asks in the language of the passage only, not in {target} about {source}."
            if task == "ask"
            else f"A text in {source} needs no translation into {target}."
        )

    def source_tokens(self, request: Request) -> list[str]:
        """What the model reads, its own marks included; the text is cut to what it can read."""
        before, after, _ = self.family.tokens(request.task, request.source, request.target)
        text = self.family.text(request.target, request.title, request.text) if request.task == "ask" else request.text
        room = self.family.most_source_tokens - len(before) - len(after)
        # by their numbers: asked for strings, sentencepiece gives unknown letters as they are, and they may read like a mark
        return [*before, *self._words.id_to_piece(self._words.encode(text)[:room]), *after]

    def count_tokens(self, text: str) -> int:
        return len(self._words.encode(text))

    def write(self, requests: Sequence[Request], decoding: Decoding) -> list[list[Written]]:
        """For each request its texts, the best first; fewer than asked for where the model repeats itself, none for an empty text.

        Raises QueryModelError for a request that the model cannot serve.
        """
        for kind in {(request.task, request.source, request.target) for request in requests}:
            self.check(*kind)
        full = [number for number, request in enumerate(requests) if request.text.strip()]
        prefixes = [self.family.tokens(requests[i].task, requests[i].source, requests[i].target)[2] for i in full]
        results = self.translator.translate_batch(
            [self.source_tokens(requests[i]) for i in full],
            target_prefix=prefixes if any(prefixes) else None,
            max_batch_size=decoding.batch_tokens,
            batch_type="tokens",
            beam_size=1 if decoding.sampling_top_k else max(decoding.beam, decoding.number),
            num_hypotheses=decoding.number,
            sampling_topk=decoding.sampling_top_k or 1,
            sampling_temperature=decoding.temperature,
            max_input_length=0,
            max_decoding_length=decoding.most_tokens,
            no_repeat_ngram_size=decoding.no_repeat,
            length_penalty=1,
            return_scores=True,
        )  # fmt: skip
        out: list[list[Written]] = [[] for _ in requests]
        for i, prefix, result in zip(full, prefixes, results, strict=True):
            best: dict[str, float] = {}
            for tokens, score in zip(result.hypotheses, result.scores, strict=True):
                text = " ".join(self._target_words.decode(tokens[len(prefix) :]).split())
                if text and score > best.get(text, float("-inf")):
                    best[text] = score
            out[i] = [Written(text, score) for text, score in sorted(best.items(), key=lambda item: -item[1])]
        return out

    def translate(self, texts: Sequence[str], source: str, target: str, decoding: Decoding = Decoding()) -> list[str]:
        """Each text in the other language; "" where nothing came out."""
        found = self.write([Request("translate", source, target, text) for text in texts], decoding)
        return [written[0].text if written else "" for written in found]


def open_seq2seq(folder: Path, threads: int = 1, seed: int = 0, compute_type: str = "int8") -> Seq2Seq:
    """The model in `folder`. Raises QueryModelError saying what is missing."""
    return Seq2Seq(folder, threads, seed, compute_type)

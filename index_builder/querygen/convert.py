"""Hub models -> CTranslate2 format through CTranslate2's own converters, with their vocabulary and family.json beside them."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from index_builder.querygen.families import M2M100_CODES, NLLB_CODES, Family, QueryModelError, Task, write_family
from index_builder.vocabulary import LANGUAGES

QUANTIZATIONS = ("int8", "int8_float32", "int16", "float16", "bfloat16", "float32")
# SentencePiece files as each family names them on the Hub: (for the source, for the target)
_VOCABULARIES = {
    "t5": ("spiece.model", "spiece.model"),
    "m2m100": ("sentencepiece.bpe.model", "sentencepiece.bpe.model"),
    "nllb": ("sentencepiece.bpe.model", "sentencepiece.bpe.model"),
    "marian": ("source.spm", "target.spm"),
}
_MOST_SOURCE_TOKENS = {"t5": 256, "m2m100": 512, "nllb": 512, "marian": 256}


def convert(
    hub_folder: Path,
    out: Path,
    name: str,
    languages: Sequence[str] = (),
    prompt: str = "",
    quantization: str = "int8",
) -> Family:
    """Write the model in `hub_folder` (transformers' files) to `out`, whole or not at all, and return what it can do.

    languages  that a T5 asks in, or (source, target) of a Marian model; the other families carry their own
    prompt     of a T5 that asks across languages, with {language}, {title} and {text}; without one it asks in the language of the passage
    Raises QueryModelError for a family that is not known, a missing vocabulary, or what CTranslate2 cannot convert.
    """
    kind = _kind(hub_folder)
    source_file, target_file = _VOCABULARIES[kind]
    for file in {source_file, target_file}:
        if not (hub_folder / file).is_file():
            raise QueryModelError(f"{hub_folder} has no vocabulary {file}. Fetch it with the model: python -m demo models fetch {name}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / "model.bin").is_file():
        raise QueryModelError(f"{out} is not empty and holds no converted model. Give an empty or new folder with --out.")
    family = _family(kind, name, tuple(languages), prompt, hub_folder)

    from ctranslate2.converters import TransformersConverter  # imports transformers

    class Converter(TransformersConverter):
        # transformers 5 gives CTranslate2 a vocabulary without the languages of M2M-100, and needs protobuf for the others
        def load_tokenizer(self, *_, **__) -> Vocabulary:
            return Vocabulary(kind, hub_folder)

    scratch = out.with_name(f".{out.name}.converting")
    shutil.rmtree(scratch, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        Converter(str(hub_folder)).convert(str(scratch), quantization=quantization)
        for file in {source_file, target_file}:
            shutil.copy(hub_folder / file, scratch / file)
        write_family(scratch, family)
        shutil.rmtree(out, ignore_errors=True)
        scratch.replace(out)
    except Exception as error:  # transformers, safetensors and CTranslate2 each have their own
        shutil.rmtree(scratch, ignore_errors=True)
        raise QueryModelError(
            f"{hub_folder} could not be converted ({error!r}). Is the download whole? python -m demo models verify"
        ) from error
    return family


class Vocabulary:
    """The pieces of a hub model in the order of its embeddings, with the few properties of a tokenizer that CTranslate2's converters read."""

    bos_token, eos_token, unk_token, pad_token = "<s>", "</s>", "<unk>", "<pad>"
    special_tokens_map: Mapping[str, str] = {}

    def __init__(self, kind: str, folder: Path):
        self._pieces = _pieces_of(kind, folder)
        self.unk_token_id = self._pieces.index(self.unk_token)

    def get_vocab(self) -> dict[str, int]:
        return {piece: number for number, piece in enumerate(self._pieces)}

    def convert_ids_to_tokens(self, number: int) -> str:
        return self._pieces[number]


def _pieces_of(kind: str, folder: Path) -> list[str]:
    if kind in ("m2m100", "marian"):
        vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        pieces = sorted(vocabulary, key=vocabulary.__getitem__)
        if kind == "m2m100":
            from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES

            pieces += [f"__{code}__" for code in FAIRSEQ_LANGUAGE_CODES["m2m100"]]
        return pieces
    words = SentencePieceProcessor(model_file=str(folder / _VOCABULARIES[kind][0]))
    pieces = [words.id_to_piece(number) for number in range(words.vocab_size())]
    if kind == "nllb":
        from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

        # fairseq's four marks stand before the pieces, of which the first three are SentencePiece's own marks
        pieces = ["<s>", "<pad>", "</s>", "<unk>", *pieces[3:], *FAIRSEQ_LANGUAGE_CODES, "<mask>"]
    return pieces


def _kind(folder: Path) -> str:
    path = folder / "config.json"
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("model_type", "")
    except (OSError, ValueError, AttributeError) as error:
        raise QueryModelError(f"{path} cannot be read ({error}). Give the folder of a model in transformers' form.") from error
    if kind in ("t5", "mt5"):
        return "t5"
    if kind == "m2m_100":
        return "nllb" if _is_nllb(folder) else "m2m100"
    if kind == "marian":
        return "marian"
    raise QueryModelError(f"{folder} is of the family {kind!r}; known are t5, mt5, m2m_100 (M2M-100 and NLLB) and marian.")


def _is_nllb(folder: Path) -> bool:
    """NLLB has M2M-100's architecture and its own languages: its tokenizer says which it is."""
    path = folder / "tokenizer_config.json"
    return path.is_file() and "nllb" in json.loads(path.read_text(encoding="utf-8")).get("tokenizer_class", "").lower()


def _family(kind: str, name: str, languages: tuple[str, ...], prompt: str, folder: Path) -> Family:
    translate: tuple[Task, ...] = ("translate",)
    ask: tuple[Task, ...] = ("ask",)
    files = _VOCABULARIES[kind]
    most = _MOST_SOURCE_TOKENS[kind]
    if kind == "t5":
        if prompt and "{text}" not in prompt:
            raise QueryModelError(
                f"The prompt {prompt!r} has no place for the passage. Put {{text}} where it belongs; {{title}} and {{language}} may be there."
            )
        known = languages or LANGUAGES
        sources = LANGUAGES if prompt else known
        return Family(kind, name, dict.fromkeys(known, ""), ask, *files, prompt, not prompt, sources, most)
    if kind == "marian":
        if len(languages) < 2:
            raise QueryModelError(
                "A Marian model does not say its languages. Give the source and then the targets with --langs, as in: --langs en hi"
            )
        codes = {lang: _marian_code(folder, lang) for lang in languages[1:]}
        return Family(kind, name, codes, translate, *files, sources=languages[:1], most_source_tokens=most)
    codes = NLLB_CODES if kind == "nllb" else M2M100_CODES
    return Family(kind, name, codes, translate, *files, sources=tuple(codes), most_source_tokens=most)


def _marian_code(folder: Path, lang: str) -> str:
    """The mark of a target language where the model has several, ">>hin<<"; none in a model of two languages."""
    three = {"ar": "ara", "as": "asm", "bn": "ben", "en": "eng", "hi": "hin", "ne": "nep", "tr": "tur"}[lang]
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    return next((mark for mark in (f">>{three}<<", f">>{lang}<<") if mark in vocabulary), "")

"""How each family of models is told what to write, and the file that says so beside a converted model."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from index_builder.vocabulary import LANGUAGES, MajlisError

Task = Literal["ask", "translate"]
TASKS: tuple[Task, ...] = ("ask", "translate")
FAMILIES = ("majlis", "t5", "m2m100", "nllb", "marian")
SCHEMA = 1
FAMILY_FILE = "family.json"
ASK = "<ask>"  # our own model's token for a question
END = "</s>"
ENGLISH_NAMES = {"ar": "Arabic", "as": "Assamese", "bn": "Bengali", "en": "English", "hi": "Hindi", "ne": "Nepali", "tr": "Turkish"}
# M2M-100 knows no Assamese. Codes of NLLB: METHODS section 9
M2M100_CODES = {lang: f"__{lang}__" for lang in LANGUAGES if lang != "as"}
NLLB_CODES = {
    "ar": "arb_Arab", "as": "asm_Beng", "bn": "ben_Beng", "en": "eng_Latn", "hi": "hin_Deva", "ne": "npi_Deva", "tr": "tur_Latn",
}  # fmt: skip


class QueryModelError(MajlisError):
    """A model that cannot write queries, or not the ones that were asked for."""


@dataclass(frozen=True, slots=True)
class Family:
    """What `convert` and `train-seq2seq` write to family.json."""

    family: str  # of FAMILIES
    model: str  # the name under which its queries are kept: "ielabgroup/xor-tydi-docTquery-mt5-base"
    languages: Mapping[str, str]  # that it can write, each with the model's own code for it
    tasks: tuple[Task, ...]
    source_vocabulary: str  # SentencePiece files in the folder
    target_vocabulary: str
    prompt: str = ""  # t5: with {language} (its English name), {title} and {text}
    same_language: bool = False  # it asks in the language of the passage only
    sources: tuple[str, ...] = field(default=LANGUAGES)  # languages that it reads
    most_source_tokens: int = 512

    def tokens(self, task: Task, source: str, target: str) -> tuple[list[str], list[str], list[str]]:
        """(before the text, after it, prefix of what it writes). For languages that `can` allows."""
        code = self.languages[target]
        if self.family == "majlis":
            return [*([ASK] if task == "ask" else []), code], [END], [code]
        if self.family in ("m2m100", "nllb"):
            return [self.languages[source]], [END], [code]
        if self.family == "marian":
            return [code] if code else [], [END], []
        return [], [END], []

    def text(self, target: str, title: str, text: str) -> str:
        """What is read: the passage in the prompt of its model."""
        if self.prompt:
            return self.prompt.format(language=ENGLISH_NAMES[target], title=title, text=text).strip()
        return f"{title}. {text}" if title else text

    def can(self, task: Task, source: str, target: str) -> bool:
        """Whether it does `task` for a text in `source`, writing `target`."""
        if task not in self.tasks or target not in self.languages or source not in self.sources:
            return False
        return source == target or not self.same_language if task == "ask" else source != target


def wanted(lang: str) -> str:
    """Our own model's token for the language to write in."""
    return f"<2{lang}>"


def write_family(folder: Path, family: Family) -> None:
    text = json.dumps({"schema": SCHEMA, **asdict(family)}, indent=1, ensure_ascii=False)
    (folder / FAMILY_FILE).write_text(text + "\n", encoding="utf-8")


def read_family(folder: Path) -> Family:
    """Raises QueryModelError for a folder that is no converted model, of a family that is not known, or without its vocabulary."""
    path = folder / FAMILY_FILE
    if not (folder / "model.bin").is_file():
        raise QueryModelError(
            f"{folder} holds no model in CTranslate2 format (model.bin). Make it with: python -m index_builder convert NAME --out {folder}"
        )
    if not path.is_file():
        raise QueryModelError(
            f"{folder} does not say of which family its model is ({FAMILY_FILE} is missing). "
            "Convert the original again with: python -m index_builder convert"
        )
    try:
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if row.pop("schema") != SCHEMA:
            raise ValueError(f"schema is not {SCHEMA}")
        family = Family(**{**row, "tasks": tuple(row["tasks"]), "sources": tuple(row["sources"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise QueryModelError(
            f"{path} cannot be read ({error!r}). Convert the model again with: python -m index_builder convert"
        ) from error
    if family.family not in FAMILIES:
        raise QueryModelError(f"{path}: the family {family.family!r} is not known; known are {', '.join(FAMILIES)}.")
    for name in (family.source_vocabulary, family.target_vocabulary):
        if not name or not (folder / name).is_file():
            raise QueryModelError(
                f"{folder} has no vocabulary {name or '(none named)'}. Copy it there from the original model, or convert it again."
            )
    return family

"""models.toml and the environment -> frozen dataclasses, once, at the edge."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from index_builder.vocabulary import LANGUAGES, MajlisError

ROOT = Path(__file__).resolve().parent.parent
ROLES = ("encoder", "generator", "language", "seq2seq")
MODES = ("generate", "verbatim")
SCHEMA = 1


class SettingsError(MajlisError):
    """models.toml cannot be used as it is."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    path: str  # inside the repository of the model
    sha256: str = ""  # empty: recorded at the first download
    bytes: int = 0  # about; 0 when not known


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    role: str
    title: str
    licence: str
    languages: tuple[str, ...]  # officially supported by its makers
    folder: str = ""  # bundled: relative to the repository
    repo: str = ""  # Hugging Face Hub id
    revision: str = "main"
    files: tuple[ModelFile, ...] = ()
    query_prefix: str = ""
    passage_prefix: str = ""
    prompt: str = ""  # of a model that asks questions, with {language}, {title} and {text}
    context: int = 4096
    url: str = ""  # an OpenAI-compatible server
    lora: str = ""  # a LoRA in GGUF, applied to a local generator
    mode: str = "generate"  # how a generator answers unless the reader chooses: "verbatim" for one that can choose and hardly write

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Settings:
    models: Mapping[str, Model]
    encoder: str
    generator: str  # "none" or the name of a model
    language: str
    seq2seq: str = ""  # what translates and asks; "" when there is none
    offline: bool = False
    index: Path = ROOT / "assets" / "index"
    cache: Path = ROOT / "models"

    def model(self, name: str, role: str = "") -> Model:
        known = [model.name for model in self.models.values() if not role or model.role == role]
        if name not in known:
            raise SettingsError(f"No {role or 'model'} called {name!r} in models.toml; it has {', '.join(known) or 'none'}.")
        return self.models[name]


def load_settings(
    path: Path = ROOT / "models.toml", *, model: str = "", offline: bool = False, environment: Mapping[str, str] = os.environ
) -> Settings:
    """Read `path`. `model` names a generator, or a .gguf file, instead of the default. MAJLIS_INDEX, MAJLIS_MODELS and MAJLIS_OFFLINE override.

    Raises SettingsError naming the line for an unknown key, and what is missing or contradictory otherwise.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error}). Restore it from the repository.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from error

    _refuse_unknown(path, text, data, ("schema", "defaults", "model"), "")
    if data.get("schema") != SCHEMA:
        raise SettingsError(f"{path}: schema is {data.get('schema')!r}, this version reads {SCHEMA}.")
    defaults, tables = data.get("defaults", {}), data.get("model", [])
    if not isinstance(defaults, dict) or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingsError(f"{path}: expected one [defaults] table, and one [[model]] table for each model.")
    _refuse_unknown(path, text, defaults, ROLES, "[defaults]")
    _refuse_types(path, defaults, dict.fromkeys(ROLES, str), "[defaults]")
    models: dict[str, Model] = {}
    for number, table in enumerate(tables):
        entry = _model(path, text, table, number)
        if entry.name in models:
            raise SettingsError(f"{path}: two models are called {entry.name!r}; names must differ.")
        models[entry.name] = entry
    generator = model or defaults.get("generator", "none")
    if generator.endswith(".gguf"):
        entry = _file_model(Path(generator))
        models[entry.name] = entry
        generator = entry.name
    settings = Settings(
        models=models, encoder=defaults.get("encoder", ""), generator=generator, language=defaults.get("language", ""),
        seq2seq=defaults.get("seq2seq", ""),
        offline=offline or environment.get("MAJLIS_OFFLINE", "") not in ("", "0"),
        index=Path(environment.get("MAJLIS_INDEX") or ROOT / "assets" / "index"),
        cache=Path(environment.get("MAJLIS_MODELS") or ROOT / "models"),
    )  # fmt: skip
    settings.model(settings.encoder, "encoder")
    settings.model(settings.language, "language")
    if settings.seq2seq:
        settings.model(settings.seq2seq, "seq2seq")
    if generator != "none":
        settings.model(generator, "generator")
    return settings


def _file_model(path: Path) -> Model:
    if not path.is_file():
        raise SettingsError(f"{path} is not there. --model takes the path of a .gguf file, a name from models.toml, or none.")
    return Model(path.stem, "generator", path.name, "as its maker says", (), folder=str(path.resolve()))


def _model(path: Path, text: str, table: Mapping[str, Any], number: int) -> Model:
    name = table.get("name", f"number {number + 1}")
    _refuse_unknown(path, text, table, [field.name for field in fields(Model)], f"model {name!r}", number)
    _refuse_types(path, table, {field.name: field.type for field in fields(Model)}, f"model {name!r}")
    for key in ("name", "role", "title", "licence"):
        if not isinstance(table.get(key), str) or not table[key]:
            raise SettingsError(f'{path}: model {name!r} needs {key} = "…".')
    if table["role"] not in ROLES:
        raise SettingsError(f"{path}:{_line(text, 'role', number)}: role is {table['role']!r}, expected one of {', '.join(ROLES)}.")
    if table.get("mode", MODES[0]) not in MODES:
        raise SettingsError(f"{path}:{_line(text, 'mode', number)}: mode is {table['mode']!r}, expected one of {', '.join(MODES)}.")
    strange = set(map(str, table.get("languages", ()))) - set(LANGUAGES)
    if strange:
        raise SettingsError(
            f"{path}:{_line(text, 'languages', number)}: language {min(strange)!r} is not known; known are {', '.join(LANGUAGES)}."
        )
    files = []
    for file in table.get("files", ()):
        if not isinstance(file, dict):
            raise SettingsError(f'{path}: model {name!r}: a file is written {{ path = "…" }}, not {file!r}.')
        _refuse_unknown(path, text, file, [field.name for field in fields(ModelFile)], f"a file of model {name!r}", number)
        _refuse_types(path, file, {field.name: field.type for field in fields(ModelFile)}, f"a file of model {name!r}")
        if file.get("sha256") and not re.fullmatch("[0-9a-f]{64}", file["sha256"]):
            raise SettingsError(f"{path}: model {name!r}, file {file.get('path')!r}: sha256 must be 64 hexadecimal digits.")
        if not file.get("path") or Path(file["path"]).is_absolute() or ".." in Path(file["path"]).parts:
            raise SettingsError(f"{path}: model {name!r} has a file without a usable path ({file.get('path')!r}).")
        files.append(ModelFile(**file))
    if table.get("repo") and not files:
        raise SettingsError(f"{path}: model {name!r} has a repo but no files to fetch from it.")
    return Model(**{**table, "files": tuple(files), "languages": tuple(table.get("languages", ()))})


def _refuse_unknown(path: Path, text: str, table: Mapping[str, Any], known, where: str, number: int = -1) -> None:
    for key in table:
        if key not in known:
            raise SettingsError(
                f"{path}:{_line(text, key, number)}: unknown key {key!r}{f' in {where}' if where else ''}; known are {', '.join(known)}."
            )


def _refuse_types(path: Path, table: Mapping[str, Any], types: Mapping[str, Any], where: str) -> None:
    for key, value in table.items():
        expected = types[key] if types[key] in (str, int) else list
        if type(value) is not expected:
            kind = {str: "a text in quotes", int: "a whole number", list: "a list in square brackets"}[expected]
            raise SettingsError(f"{path}: {key} in {where} is {value!r}, expected {kind}.")


def _line(text: str, key: str, model_number: int) -> int:
    """The line of `key`, looked for in the n-th [[model]] table or, for -1, anywhere. tomllib does not keep lines."""
    seen = -1
    for number, line in enumerate(text.split("\n"), 1):
        seen += bool(re.match(r"\s*\[\[\s*model\s*\]\]", line))
        if (model_number < 0 or seen == model_number) and re.search(rf"(^|[\s{{,\[.\"']){re.escape(key)}\b[\"']?\s*[=\]]", line):
            return number
    return 1

"""A TOML file of settings -> values that a frozen dataclass with defaults can take, or a complaint that names file and setting."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from index_builder.vocabulary import MajlisError


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MajlisError(f"{path} cannot be read ({error}). Give a TOML file of settings with --config.") from error


def checked(kind: type, values: Mapping[str, object], where: str) -> dict[str, Any]:
    """`values` as settings of the dataclass `kind`, lists as tuples. Raises MajlisError for one that is unknown or of another type than its default."""
    defaults = {field.name: field.default if field.default_factory is MISSING else field.default_factory() for field in fields(kind)}
    found = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    for name, value in found.items():
        if name not in defaults:
            raise MajlisError(f"{where}: unknown setting {name!r}; known are {', '.join(defaults)}.")
        default = defaults[name]
        if default is not MISSING and type(value) is not type(default) and not (type(value) is int and type(default) is float):
            raise MajlisError(f"{where}: {name} is {value!r}, expected something like {default!r}.")
    return found

"""Evaluation files -> rows, each with the place it stands at, so that every complaint names file and line."""

import gzip
import json
import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from index_builder.digest import file_sha256
from index_builder.vocabulary import MajlisError

_OPENERS = {".gz": gzip.open, ".xz": lzma.open}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a published file comes from: what is said when it is not there."""

    file: str  # as its authors name it
    where: str
    licence: str


def require(path: Path, source: Source, option: str = "--data") -> Path:
    """`path`, or MajlisError that says which file is expected, from where, and under which licence."""
    if not path.exists():
        raise MajlisError(
            f"{path} is not there. Expected {source.file}, published at {source.where} under {source.licence}. "
            f"It does not ship with Majlis: download it and name it with {option}."
        )
    return path


def text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """("path:number", line without its end) of a UTF-8 file, plain, .gz or .xz. Raises MajlisError for what is not UTF-8 or broken."""
    number = 0
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, 1):
                yield f"{path}:{number}", raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except FileNotFoundError as error:
        raise MajlisError(f"{path} is not there. Give the file that the suite names, or another folder with --data.") from error
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise MajlisError(f"{path}:{number} is not UTF-8 (byte 0x{byte:02x}). Save the file as UTF-8.") from error
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise MajlisError(f"{path} cannot be read after line {number} ({error}). Download it again.") from error


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("path:number", object) of a JSONL file; empty lines are skipped. Raises MajlisError for a line that is no JSON object."""
    for where, line in text_lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise MajlisError(f"{where}: not valid JSON ({error}). Mend or remove the line.") from error
        if not isinstance(row, dict):
            raise MajlisError(f"{where}: expected a JSON object, found {type(row).__name__}. Mend or remove the line.")
        yield where, row


def json_file(path: Path) -> Any:
    text = "\n".join(line for _, line in text_lines(path))
    try:
        return json.loads(text)
    except ValueError as error:
        raise MajlisError(f"{path}: not valid JSON ({error}). Download it again.") from error


def field(row: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """row[key], or MajlisError that says what was found there."""
    if not isinstance(row, dict):
        raise MajlisError(f"{where}: expected an object with {key!r}, found {row!r:.60}.")
    if not isinstance(row.get(key), kind):
        kinds = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        found = f"{row[key]!r:.60}" if key in row else f"only {', '.join(row) or 'nothing'}"
        raise MajlisError(f"{where}: expected {key!r} ({kinds}), found {found}.")
    return row[key]


class Unique:
    """Refuses an id that was seen before, with both places."""

    def __init__(self, what: str):
        self._what = what
        self._seen: dict[Any, str] = {}

    def __call__(self, key: Any, where: str) -> None:
        if key in self._seen:
            name = " ".join(key) if isinstance(key, tuple) else key
            raise MajlisError(f"{where}: {self._what} {name!r} was already used at {self._seen[key]}. Ids must be unique.")
        self._seen[key] = where


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """File name -> first digits of its sha256: which data a figure was measured on."""
    return {path.name: file_sha256(path)[:16] for path in paths if path.is_file()}


def _open(path: Path) -> IO[bytes]:
    return _OPENERS.get(path.suffix, open)(path, "rb")  # type: ignore[operator]

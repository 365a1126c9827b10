"""Run a suite: rows one by one into a journal, tables from the rows, everything kept at the end. A killed run resumes from its journal."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from index_builder.evaluate.runs import ROOT, Row, Run, Table, command_line, config_digest, find_runs, keep, read_run
from index_builder.vocabulary import LANGUAGES, MajlisError


@dataclass(frozen=True, slots=True)
class Task:
    """A suite with its options decided: what its figures depend on, how rows are measured, what tables they make."""

    suite: str
    title: str
    configuration: Mapping[str, Any]
    rows: Callable[[frozenset[str]], Iterator[Row]]  # given the ids that are measured already
    tables: Callable[[Sequence[Row]], Sequence[Table]]  # pure
    note: str = ""
    close: Callable[[], None] = field(default=lambda: None)


def measure(
    task: Task, out: Path, resume: bool = False, say: Callable[[str], None] = lambda _: None, command: str = ""
) -> tuple[Run, list[Row], Path]:
    """Measure a task, keep the run below `out` and close the task. Rows go to a journal as they come, which is removed at the end;
    with `resume`, those in the journal of a killed run are not measured again. `command`: how to measure it again, unless this process' own.
    """
    configuration = whole_configuration(task)
    journal = out / task.suite / f".{config_digest(task.suite, configuration)}.jsonl"
    try:
        rows = read_journal(journal) if resume else []
        if rows:
            say(f"{task.suite}: going on after {len(rows):,} rows of an interrupted run")
        journal.parent.mkdir(parents=True, exist_ok=True)
        # written anew, so that the half line of a killed process is gone
        with journal.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(_line(row))
            for count, row in enumerate(task.rows(frozenset(row["id"] for row in rows)), 1):
                line = _line(row)
                file.write(line)
                file.flush()
                rows.append(json.loads(line))  # what tables are made of is the same after a resume
                if count % 500 == 0:
                    say(f"{task.suite}: {count:,} rows")
    except OSError as error:
        raise MajlisError(f"{journal} could not be written ({error}). Give a folder that has space with --out.") from error
    finally:
        task.close()
    if not rows:
        raise MajlisError(f"{task.suite}: nothing to measure: no question was left by the options. Check --split, --lang and the files.")
    run = Run(task.suite, task.title, tuple(task.tables(rows)), task.note, configuration, command or command_line())
    folder = keep(run, rows, out)
    journal.unlink()
    return run, rows, folder


def finished(task: Task, out: Path) -> Path | None:
    """The newest kept run of exactly this task, if there is one."""
    wanted = json.loads(json.dumps(whole_configuration(task)))
    folders = find_runs([out / task.suite]) if (out / task.suite).is_dir() else []
    return next((folder for folder in reversed(folders) if read_run(folder).configuration == wanted), None)


def whole_configuration(task: Task) -> dict[str, Any]:
    return dict(task.configuration) | {"code": code_digest()}


def read_journal(path: Path) -> list[Row]:
    """The whole lines of a journal; a last line that was cut by a kill is left out."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def code_digest() -> str:
    """Of the sources that figures depend on: another version of the code is another configuration."""
    digest = sha256()
    for folder in ("index_builder", "demo"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def by_language(rows: Iterable[Row], key: str = "lang") -> dict[str, list[Row]]:
    """Rows grouped by language, our seven first in their order, then any others."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row[key], []).append(row)
    order = [lang for lang in LANGUAGES if lang in grouped] + sorted(set(grouped) - set(LANGUAGES))
    return {lang: grouped[lang] for lang in order}


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"

"""Entries and vectors <-> an index folder (docs/architecture.md, "The index folder"), written whole or not at all, verified when opened.

A *view* is one vector by which an entry can be found: the whole entry, its native question, one sentence of its text, or a
generated query. Views of one language lie in one HNSW graph, whose labels are view numbers; an entry scores as its best view.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np

from index_builder.digest import file_sha256
from index_builder.encode import Encoder, normalised
from index_builder.read import entry_of, row_of
from index_builder.sound import skeletons
from index_builder.text import fold, sentence_spans
from index_builder.vocabulary import LANGUAGES, Entry, MajlisError

SCHEMA = 1
VIEW_KINDS = ("entry", "question", "sentence", "query")
_CHUNK = 512  # entries encoded at a time; what a resumed build may have to encode again
# Keeps vowel signs (M) inside the word, which unicode61 alone does not (checked with বাংলাদেশের).
_TOKENIZER = "unicode61 remove_diacritics 0 categories 'L* M* N* Co'"


class IndexFolderError(MajlisError):
    """An index folder that cannot be opened or built."""


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What decides an index beside corpus and encoder; written to the manifest."""

    question_weight: float = 0.5  # of the native question in a QA pair's entry vector
    query_weight: float = 0.26  # of the mean generated query: the paper's sum of 35 at 0.01 (METHODS, finding 1)
    views: tuple[str, ...] = ("entry", "question", "sentence")
    hnsw_m: int = 16
    hnsw_ef_construction: int = 200
    hnsw_seed: int = 100


def build_index(
    entries: Iterable[Entry], encoder: Encoder, out: Path, settings: BuildSettings, resume: bool = False, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Build the index of `entries` at `out`, replacing a whole index that is there, and return the manifest.

    Everything is written to a hidden sibling folder; the manifest comes last and the folder is renamed into place, so `out` is at
    any moment the old index, or the new one. With `resume`, what an interrupted build of the same corpus, encoder and
    settings finished is kept. Raises IndexFolderError for an empty corpus or a disk that cannot take the files.
    """
    scratch = out.parent / f".{out.name}.building"
    if out.exists() and not out.is_dir():
        raise IndexFolderError(f"{out} is a file. Give an empty or new folder with --out.")
    if out.exists() and not (out / "manifest.json").is_file() and any(out.iterdir()):
        raise IndexFolderError(f"{out} is not an index (it has no manifest.json) and is not empty. Give an empty or new folder with --out.")
    try:
        if _previous(out).exists() and not out.exists():  # killed between the two renames of _rename_into_place
            _previous(out).rename(out)
        if not resume and scratch.exists():
            shutil.rmtree(scratch)
        scratch.mkdir(parents=True, exist_ok=True)
        return _build(entries, encoder, out, scratch, settings, say)
    except (OSError, sqlite3.OperationalError, RuntimeError) as error:
        # hnswlib reports a failed write as RuntimeError, SQLite a full disk as OperationalError
        raise IndexFolderError(
            f"The index could not be written to {out.parent} ({error}). {out} is as it was. "
            f"Free space ({_free(out.parent)} left), then run the same command with --resume."
        ) from error


def _build(entries: Iterable[Entry], encoder: Encoder, out: Path, scratch: Path, settings: BuildSettings, say) -> dict[str, Any]:
    database = scratch / "entries.sqlite"
    corpus_digest, count, views = _write_entries(entries, database, settings)
    if not count:
        raise IndexFolderError("The corpus has no usable row, so there is nothing to index. Check the --corpus path.")
    plan = {"corpus": corpus_digest, "encoder": encoder.fingerprint, "settings": json.loads(json.dumps(asdict(settings)))}
    plan_file = scratch / "plan.json"
    if not plan_file.exists() or plan_file.read_text(encoding="utf-8") != json.dumps(plan):
        for leftover in scratch.iterdir():
            if leftover.name != database.name:
                leftover.unlink()
        _write_whole(plan_file, json.dumps(plan))

    vectors = _encode_views(database, views, encoder, settings, scratch, say)
    with closing(sqlite3.connect(database)) as db:
        languages = dict(db.execute("SELECT lang, count(*) FROM entries GROUP BY lang ORDER BY lang"))
        by_kind = dict(db.execute("SELECT kind, count(*) FROM entries GROUP BY kind ORDER BY kind"))
        graphs = {}
        for lang in languages:
            labels = np.array(
                [row[0] for row in db.execute("SELECT view FROM views JOIN entries USING (row) WHERE lang = ? ORDER BY view", (lang,))]
            )
            graphs[lang] = _write_graph(vectors, labels, scratch / f"graph.{lang}.hnsw", settings)
    del vectors
    (scratch / "vectors.f32").unlink()
    (scratch / "vectors.done").unlink()
    plan_file.unlink()

    files = sorted(path for path in scratch.iterdir() if path.name != "manifest.json")
    manifest = {
        "schema": SCHEMA,
        "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint, "dimension": encoder.dimension,
                    "query_prefix": encoder.query_prefix, "passage_prefix": encoder.passage_prefix, "normalised": True},
        "space": "ip",
        "metric": "cosine",
        "settings": plan["settings"],
        "corpus_sha256": corpus_digest,
        "entries": count,
        "entries_by_language": languages,
        "entries_by_kind": by_kind,
        "views_by_language": graphs,
        "files": {path.name: {"sha256": file_sha256(path), "bytes": path.stat().st_size} for path in files},
    }  # fmt: skip
    manifest["manifest_sha256"] = _manifest_sha256(manifest)
    for path in files:
        _flush(path)
    (scratch / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _flush(scratch / "manifest.json")
    _rename_into_place(scratch, out)
    return manifest


def _write_entries(entries: Iterable[Entry], database: Path, settings: BuildSettings) -> tuple[str, int, int]:
    """Rows, views and the lexical index; returns (sha256 of the corpus rows, entries, views). Cheap beside encoding, so a resumed build writes it again."""
    database.unlink(missing_ok=True)
    digest = sha256()
    view = 0
    row = -1
    with closing(sqlite3.connect(database)) as db, db:
        db.executescript(
            f"""
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA page_size = 4096;
            CREATE TABLE entries (row INTEGER PRIMARY KEY, entry_id TEXT UNIQUE NOT NULL, lang TEXT NOT NULL, locale TEXT NOT NULL,
                                  region TEXT NOT NULL, topic TEXT NOT NULL, kind TEXT NOT NULL, json TEXT NOT NULL);
            CREATE TABLE views (view INTEGER PRIMARY KEY, row INTEGER NOT NULL, kind INTEGER NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL);
            CREATE VIRTUAL TABLE lexical USING fts5(title, question, text, content='', columnsize=1, tokenize="{_TOKENIZER}");
            CREATE VIRTUAL TABLE vocabulary USING fts5vocab(lexical, row);
            CREATE VIRTUAL TABLE sounds USING fts5(skeletons, content='', columnsize=1, tokenize='ascii');
            CREATE VIRTUAL TABLE sound_vocabulary USING fts5vocab(sounds, row);
            """
        )
        for row, entry in enumerate(entries):
            line = json.dumps(row_of(entry), ensure_ascii=False, sort_keys=True)
            digest.update(line.encode() + b"\n")
            db.execute(
                "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (row, entry.entry_id, entry.lang, entry.locale, entry.region, entry.topic, entry.kind, line),
            )
            db.execute(
                "INSERT INTO lexical (rowid, title, question, text) VALUES (?, ?, ?, ?)",
                (row, fold(entry.title), fold(entry.question), fold(entry.text)),
            )
            db.execute(
                "INSERT INTO sounds (rowid, skeletons) VALUES (?, ?)",
                (row, " ".join(skeletons(f"{entry.title} {entry.question} {entry.text}"))),
            )
            for kind, start, end in _views_of(entry, settings):
                db.execute("INSERT INTO views VALUES (?, ?, ?, ?, ?)", (view, row, VIEW_KINDS.index(kind), start, end))
                view += 1
        db.execute("INSERT INTO lexical (lexical) VALUES ('optimize')")
        db.execute("INSERT INTO sounds (sounds) VALUES ('optimize')")
    return digest.hexdigest(), row + 1, view


def _views_of(entry: Entry, settings: BuildSettings) -> Iterator[tuple[str, int, int]]:
    """(kind, start, end): offsets into the text for a sentence, the query's number in `start` for a generated query."""
    yield "entry", 0, len(entry.text)
    if "question" in settings.views and entry.question:
        yield "question", 0, 0
    if "sentence" in settings.views:
        spans = sentence_spans(entry.text)
        if len(spans) > 1:  # one sentence is the entry itself
            for start, end in spans:
                yield "sentence", start, end
    if "query" in settings.views:
        for number in range(len(entry.queries)):
            yield "query", number, 0


def _encode_views(database: Path, views: int, encoder: Encoder, settings: BuildSettings, scratch: Path, say) -> np.ndarray:
    """(views, dimension) float32 on disk, in view order; chunks that an interrupted build finished are kept."""
    done_file = scratch / "vectors.done"
    vectors_file = scratch / "vectors.f32"
    done = int(done_file.read_text()) if done_file.exists() and vectors_file.exists() else 0
    if not done:
        _reserve(vectors_file, views * encoder.dimension * 4)
    vectors = np.memmap(vectors_file, dtype=np.float32, mode="r+", shape=(views, encoder.dimension))
    with closing(sqlite3.connect(database)) as db:
        total = db.execute("SELECT count(*) FROM entries").fetchone()[0]
        if done:
            say(f"going on after {done:,} of {total:,} entries")
        for first in range(done, total, _CHUNK):
            rows = db.execute("SELECT row, json FROM entries WHERE row >= ? AND row < ? ORDER BY row", (first, first + _CHUNK)).fetchall()
            spans = db.execute(
                "SELECT row, view, kind, start, end FROM views WHERE row >= ? AND row < ? ORDER BY view", (first, first + _CHUNK)
            ).fetchall()
            _encode_chunk({row: load_entry(line) for row, line in rows}, spans, encoder, settings, vectors)
            vectors.flush()
            _write_whole(done_file, str(min(first + _CHUNK, total)))
            say(f"encoded {min(first + _CHUNK, total):,} of {total:,} entries")
    return vectors


def _encode_chunk(
    entries: dict[int, Entry], spans: list[tuple[int, int, int, int, int]], encoder: Encoder, settings: BuildSettings, vectors: np.ndarray
) -> None:
    texts: list[str] = []
    place: dict[tuple[int, str, int], int] = {}
    for row, entry in entries.items():
        place[row, "text", 0] = len(texts)
        texts.append(f"{entry.title}. {entry.text}" if entry.title else entry.text)
        # Generated queries are encoded as passages are (METHODS, finding 2); so is the native question, to stay in one space.
        for number, query in enumerate([entry.question, *(query.text for query in entry.queries)]):
            if query:
                place[row, "query", number] = len(texts)
                texts.append(query)
    for row, _, kind, start, end in spans:
        if VIEW_KINDS[kind] == "sentence":
            place[row, "sentence", start] = len(texts)
            texts.append(entries[row].text[start:end])
    encoded = encoder.encode(texts, "passage")

    for row, view, kind, start, _ in spans:
        name = VIEW_KINDS[kind]
        if name == "entry":
            vectors[view] = _entry_vector(row, entries[row], place, encoded, settings)
        elif name == "sentence":
            vectors[view] = encoded[place[row, "sentence", start]]
        else:
            vectors[view] = encoded[place[row, "query", 0 if name == "question" else start + 1]]


def _entry_vector(row: int, entry: Entry, place: dict, encoded: np.ndarray, settings: BuildSettings) -> np.ndarray:
    """normalise((1-b) e(text) + b mean(e(queries))), xQG as a mean (METHODS finding 1), after the native question has had its own share."""
    vector = encoded[place[row, "text", 0]]
    if entry.question:
        vector = (1 - settings.question_weight) * vector + settings.question_weight * encoded[place[row, "query", 0]]
    if entry.queries:
        mean = np.mean([encoded[place[row, "query", number + 1]] for number in range(len(entry.queries))], axis=0)
        vector = (1 - settings.query_weight) * vector + settings.query_weight * mean
    return normalised(vector[None])[0]


def _write_graph(vectors: np.ndarray, labels: np.ndarray, path: Path, settings: BuildSettings) -> int:
    graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
    graph.init_index(
        max_elements=len(labels), ef_construction=settings.hnsw_ef_construction, M=settings.hnsw_m, random_seed=settings.hnsw_seed
    )
    # One thread makes the graph, and so the results, the same on every machine; a large one takes all cores.
    graph.add_items(vectors[labels], labels, num_threads=1 if len(labels) < 50_000 else -1)
    graph.save_index(str(path))
    # hnswlib does not look whether its writes succeeded: on a full disk it leaves a short file and says nothing
    if path.stat().st_size != graph.index_file_size():
        path.unlink()
        raise OSError(f"{path.name} was cut off while it was written; is the disk full?")
    return len(labels)


def load_entry(line: str) -> Entry:
    return entry_of(json.loads(line), "entries.sqlite")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a whole index. Raises IndexFolderError with the command that mends it."""
    mend = f"Build it with `python -m index_builder build --corpus PATH --out {folder}`."
    path = folder / "manifest.json"
    if not path.is_file():
        raise IndexFolderError(f"{folder} is not a whole index: manifest.json is missing. {mend}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        schema = manifest["schema"]
        whole = schema != SCHEMA or manifest["manifest_sha256"] == _manifest_sha256(manifest)
        problem = _problem(manifest) if whole and schema == SCHEMA else ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexFolderError(f"{path} cannot be read ({error!r}). {mend}") from error
    if schema != SCHEMA:
        raise IndexFolderError(f"{folder} was written in index schema {schema}; this version reads schema {SCHEMA}. {mend}")
    if not whole:
        raise IndexFolderError(f"{path} is damaged: its contents do not have the sha256 that it names. {mend}")
    if problem:
        raise IndexFolderError(f"{path} is not of this version's making: {problem}. {mend}")
    return manifest


def verify(folder: Path, manifest: dict[str, Any]) -> None:
    """Every file is there and is the one the manifest knows. hnswlib would read a damaged or foreign file without complaint."""
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise IndexFolderError(
                f"{path} is missing. Restore it, or rebuild with `python -m index_builder build --corpus PATH --out {folder}`."
            )
        if path.stat().st_size != expected["bytes"] or file_sha256(path) != expected["sha256"]:
            raise IndexFolderError(
                f"{path} is damaged: its sha256 is not the one in manifest.json. "
                f"Restore it, or rebuild with `python -m index_builder build --corpus PATH --out {folder}`."
            )


def _problem(manifest: dict[str, Any]) -> str:
    """What keeps a manifest of the right schema and sha256 from being used; empty when nothing does. A missing key raises KeyError."""
    for key, expected in (("space", "ip"), ("metric", "cosine")):
        if manifest[key] != expected:
            return f"{key} is {manifest[key]!r}, expected {expected!r}"
    languages, files = manifest["views_by_language"], manifest["files"]
    if strange := sorted(languages.keys() - set(LANGUAGES)):
        return f"it holds a graph for {strange[0]!r}; known languages are {', '.join(LANGUAGES)}"
    if missing := sorted({"entries.sqlite", *(f"graph.{lang}.hnsw" for lang in languages)} - files.keys()):
        return f"files lacks {missing[0]}"
    for part, keys in (
        (manifest, ("entries",)),
        (manifest["encoder"], ("name", "fingerprint", "dimension", "query_prefix", "passage_prefix")),
        *((file, ("sha256", "bytes")) for file in files.values()),
    ):
        for key in keys:
            part[key]
    return ""


def _manifest_sha256(manifest: dict[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _previous(out: Path) -> Path:
    return out.parent / f".{out.name}.previous"


def _rename_into_place(scratch: Path, out: Path) -> None:
    previous = _previous(out)
    if previous.exists():
        shutil.rmtree(previous)
    if out.exists():
        out.rename(previous)
    try:
        scratch.rename(out)
    except OSError:
        if previous.exists():
            previous.rename(out)
        raise
    if previous.exists():
        shutil.rmtree(previous)


def _write_whole(path: Path, text: str) -> None:
    """So that a build killed here finds the old text or the new one when it is resumed."""
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _reserve(path: Path, size: int) -> None:
    """A file of zeros whose blocks are on the disk: writing a mapped page to a full disk would kill the process (SIGBUS)."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _free(folder: Path) -> str:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return f"{shutil.disk_usage(there).free / 1e6:,.0f} MB"

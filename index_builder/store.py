"""Entries and vectors <-> an index folder (docs/architecture.md, "The index folder"), written whole or not at all, verified when opened.

A *view* is one vector by which an entry can be found: the whole entry, its native question, one sentence of its text, or what the
augmentation (augment.py) adds. An entry scores as its best view. Views lie in HNSW graphs whose labels are view numbers: those of an
entry's own words in the graph of its language, those that stand for questions in the graph of the language they are asked in.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import hnswlib
import numpy as np

from index_builder.augment import Augmentation, augmented
from index_builder.digest import file_sha256
from index_builder.encode import Encoder, normalised
from index_builder.read import entry_of, row_of
from index_builder.sound import skeletons
from index_builder.text import fold, sentence_spans
from index_builder.vocabulary import LANGUAGES, Entry, MajlisError

SCHEMA = 2
VIEW_KINDS = ("entry", "question", "sentence", "query", "language")
CHOICES = VIEW_KINDS[:3]  # of `BuildSettings.views`; the augmentation decides about the others
_CHUNK = 512  # entries encoded at a time; what a resumed build may have to encode again
_ADDED = 50_000  # vectors put into a graph at a time; from here on all cores do it
# Keeps vowel signs (M) inside the word, which unicode61 alone does not (checked with বাংলাদেশের).
_TOKENIZER = "unicode61 remove_diacritics 0 categories 'L* M* N* Co'"


class IndexFolderError(MajlisError):
    """An index folder that cannot be opened or built."""


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What decides an index beside corpus and encoder; written to the manifest."""

    question_weight: float = 0.5  # of the native question in a QA pair's entry vector
    views: tuple[str, ...] = CHOICES
    augment: Augmentation = Augmentation()
    hnsw_m: int = 16
    hnsw_ef_construction: int = 200
    hnsw_seed: int = 100

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"views": list(self.views), "augment": str(self.augment)}


def build_index(
    entries: Iterable[Entry],
    encoder: Encoder,
    out: Path,
    settings: BuildSettings,
    resume: bool = False,
    say: Callable[[str], None] = print,
    notes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Build the index of `entries` at `out`, replacing a whole index that is there, and return the manifest.

    Everything is written to a hidden sibling folder; the manifest comes last and the folder is renamed into place, so `out` is at
    any moment the old index, or the new one. With `resume`, what an interrupted build of the same corpus, encoder and
    settings finished is kept. `notes` are written to the manifest as they are.
    Raises IndexFolderError for an empty corpus or a disk that cannot take the files.
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
        return _build(entries, encoder, out, scratch, settings, say, notes or {})
    except (OSError, sqlite3.OperationalError, RuntimeError) as error:
        # hnswlib reports a failed write as RuntimeError, SQLite a full disk as OperationalError
        raise IndexFolderError(
            f"The index could not be written to {out.parent} ({error}). {out} is as it was. "
            f"Free space ({_free(out.parent)} left), then run the same command with --resume."
        ) from error


def _build(
    entries: Iterable[Entry], encoder: Encoder, out: Path, scratch: Path, settings: BuildSettings, say, notes: Mapping[str, Any]
) -> dict[str, Any]:
    database = scratch / "entries.sqlite"
    corpus_digest, count, queries = _write_entries(entries, database, settings)
    if not count:
        raise IndexFolderError("The corpus has no usable row, so there is nothing to index. Check the --corpus path.")
    plan = {"corpus": corpus_digest, "encoder": encoder.fingerprint, "settings": settings.as_json()}
    plan_file = scratch / "plan.json"
    if not plan_file.exists() or plan_file.read_text(encoding="utf-8") != json.dumps(plan):
        for leftover in scratch.iterdir():
            if leftover.name != database.name:
                leftover.unlink()
        _write_whole(plan_file, json.dumps(plan))

    vectors = _encode_views(database, encoder, settings, scratch, say)
    with closing(sqlite3.connect(database)) as db:
        languages = dict(db.execute("SELECT lang, count(*) FROM entries GROUP BY lang ORDER BY lang"))
        by_kind = dict(db.execute("SELECT kind, count(*) FROM entries GROUP BY kind ORDER BY kind"))
        asked_in = [lang for (lang,) in db.execute("SELECT DISTINCT asked FROM views WHERE asked != '' ORDER BY asked")]

        own = "SELECT view FROM views JOIN entries USING (row) WHERE asked = '' AND lang = ? ORDER BY view"
        graphs = {lang: _write_graph(vectors, _labels(db, own, lang), scratch / f"graph.{lang}.hnsw", settings) for lang in languages}
        asked = "SELECT view FROM views WHERE asked = ? ORDER BY view"
        questions = {
            lang: _write_graph(vectors, _labels(db, asked, lang), scratch / f"questions.{lang}.hnsw", settings) for lang in asked_in
        }
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
        "queries_by_language": queries,
        "views_by_language": graphs,
        "views_by_question_language": questions,
        "files": {path.name: {"sha256": file_sha256(path), "bytes": path.stat().st_size} for path in files},
    }  # fmt: skip
    manifest |= notes
    manifest["manifest_sha256"] = _manifest_sha256(manifest)
    for path in files:
        with path.open("rb+") as file:
            _flush(file)
    with (scratch / "manifest.json").open("wb") as file:
        file.write((json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
        _flush(file)
    _rename_into_place(scratch, out)
    return manifest


def _write_entries(entries: Iterable[Entry], database: Path, settings: BuildSettings) -> tuple[str, int, dict[str, int]]:
    """Rows, views and the lexical index; returns (sha256 of the corpus rows, entries, generated queries by language).

    Cheap beside encoding, so a resumed build writes it again.
    """
    database.unlink(missing_ok=True)
    digest = sha256()
    view = 0
    row = -1
    queries: dict[str, int] = {}
    with closing(sqlite3.connect(database)) as db, db:
        db.executescript(
            f"""
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA page_size = 4096;
            CREATE TABLE entries (row INTEGER PRIMARY KEY, entry_id TEXT UNIQUE NOT NULL, lang TEXT NOT NULL, locale TEXT NOT NULL,
                                  region TEXT NOT NULL, topic TEXT NOT NULL, kind TEXT NOT NULL, json TEXT NOT NULL);
            CREATE TABLE views (view INTEGER PRIMARY KEY, row INTEGER NOT NULL, kind INTEGER NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL,
                                asked TEXT NOT NULL);
            CREATE VIRTUAL TABLE lexical USING fts5(title, question, text, queries, content='', columnsize=1, tokenize="{_TOKENIZER}");
            CREATE VIRTUAL TABLE vocabulary USING fts5vocab(lexical, row);
            CREATE VIRTUAL TABLE sounds USING fts5(skeletons, content='', columnsize=1, tokenize='ascii');
            CREATE VIRTUAL TABLE sound_vocabulary USING fts5vocab(sounds, row);
            """
        )
        for row, entry in enumerate(entries):
            line = corpus_line(entry)
            digest.update(line)
            db.execute(
                "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (row, entry.entry_id, entry.lang, entry.locale, entry.region, entry.topic, entry.kind, line.decode().rstrip("\n")),
            )
            asked = " ".join(query.text for query in entry.queries) if settings.augment.lexical else ""
            db.execute(
                "INSERT INTO lexical (rowid, title, question, text, queries) VALUES (?, ?, ?, ?, ?)",
                (row, fold(entry.title), fold(entry.question), fold(entry.text), fold(asked)),
            )
            db.execute(
                "INSERT INTO sounds (rowid, skeletons) VALUES (?, ?)",
                (row, " ".join(skeletons(f"{entry.title} {entry.question} {entry.text}"))),
            )
            for kind, start, end, lang in _views_of(entry, settings):
                db.execute("INSERT INTO views VALUES (?, ?, ?, ?, ?, ?)", (view, row, VIEW_KINDS.index(kind), start, end, lang))
                view += 1
            for query in entry.queries:
                queries[query.lang] = queries.get(query.lang, 0) + 1
        db.execute("INSERT INTO lexical (lexical) VALUES ('optimize')")
        db.execute("INSERT INTO sounds (sounds) VALUES ('optimize')")
    return digest.hexdigest(), row + 1, dict(sorted(queries.items()))


def corpus_line(entry: Entry) -> bytes:
    """The line of an entry by which the manifest's sha256 of the corpus is made."""
    return (json.dumps(row_of(entry), ensure_ascii=False, sort_keys=True) + "\n").encode()


def _views_of(entry: Entry, settings: BuildSettings) -> Iterator[tuple[str, int, int, str]]:
    """(kind, start, end, language of the questions that it stands for, if of any): start and end are offsets into the text for a
    sentence; `start` is the query's number for a generated query."""
    yield "entry", 0, len(entry.text), ""
    if "question" in settings.views and entry.question:
        yield "question", 0, 0, ""
    if "sentence" in settings.views:
        spans = sentence_spans(entry.text)
        if len(spans) > 1:  # one sentence is the entry itself
            for start, end in spans:
                yield "sentence", start, end, ""
    if settings.augment.dense == "max":
        for number, query in enumerate(entry.queries):
            yield "query", number, 0, query.lang
    if settings.augment.dense == "language":
        for lang in dict.fromkeys(query.lang for query in entry.queries):
            yield "language", 0, 0, lang


_View = tuple[int, int, int, int, str]  # row, kind, start, end, asked


def _encode_views(database: Path, encoder: Encoder, settings: BuildSettings, scratch: Path, say) -> np.ndarray:
    """(views, dimension) float32 on disk, in view order; chunks that an interrupted build finished are kept."""
    done_file, vectors_file = scratch / "vectors.done", scratch / "vectors.f32"
    done = int(done_file.read_text()) if done_file.exists() and vectors_file.exists() else 0
    with closing(sqlite3.connect(database)) as db, vectors_file.open("r+b" if done else "wb") as file:
        total = db.execute("SELECT count(*) FROM entries").fetchone()[0]
        # appended rather than mapped: memory stays that of a chunk, and a full disk is an error rather than a signal
        file.truncate(db.execute("SELECT count(*) FROM views WHERE row < ?", (done,)).fetchone()[0] * encoder.dimension * 4)
        file.seek(0, os.SEEK_END)
        if done:
            say(f"going on after {done:,} of {total:,} entries")
        for first in range(done, total, _CHUNK):
            ends = first + _CHUNK
            rows = db.execute("SELECT row, json FROM entries WHERE row >= ? AND row < ? ORDER BY row", (first, ends)).fetchall()
            views = db.execute(
                "SELECT row, kind, start, end, asked FROM views WHERE row >= ? AND row < ? ORDER BY view", (first, ends)
            ).fetchall()
            file.write(_encode_chunk({row: load_entry(line) for row, line in rows}, views, encoder, settings).tobytes())
            _flush(file)
            _write_whole(done_file, str(min(ends, total)))
            say(f"encoded {min(ends, total):,} of {total:,} entries")
    return np.memmap(vectors_file, dtype=np.float32, mode="r").reshape(-1, encoder.dimension)


def _encode_chunk(entries: dict[int, Entry], views: Sequence[_View], encoder: Encoder, settings: BuildSettings) -> np.ndarray:
    """(len(views), dimension) float32 unit rows, in the order of `views`, which are those of `entries` (row -> entry)."""
    texts: list[str] = []
    place: dict[tuple[int, str, int], int] = {}

    def put(row: int, kind: str, start: int, text: str) -> None:
        place[row, kind, start] = len(texts)
        texts.append(text)

    for row, entry in entries.items():
        put(row, "text", 0, f"{entry.title}. {entry.text}" if entry.title else entry.text)
        # Generated queries are encoded as passages are (METHODS, finding 2); so is the native question, to stay in one space.
        if entry.question:
            put(row, "question", 0, entry.question)
        if settings.augment.dense != "none":
            for number, query in enumerate(entry.queries):
                put(row, "query", number, query.text)
    for row, kind, start, end, _ in views:
        if VIEW_KINDS[kind] == "sentence":
            put(row, "sentence", start, entries[row].text[start:end])
    encoded = encoder.encode(texts, "passage")

    own = np.stack([_own_vector(row, entry, place, encoded, settings) for row, entry in entries.items()])
    number = {row: i for i, row in enumerate(entries)}

    def with_queries(lang: str = "") -> np.ndarray:
        chosen = [
            (number[row], place[row, "query", i])
            for row, entry in entries.items()
            for i, query in enumerate(entry.queries)
            if not lang or query.lang == lang
        ]
        owner, queries = np.array(chosen, dtype=np.intp).reshape(-1, 2).T
        return augmented(own, encoded[queries], owner, settings.augment)

    whole = with_queries() if settings.augment.dense in ("sum", "mean") else own
    by_language = {lang: with_queries(lang) for lang in {asked for _, kind, _, _, asked in views if VIEW_KINDS[kind] == "language"}}
    vectors = np.empty((len(views), encoder.dimension), dtype=np.float32)
    for i, (row, kind, start, _, asked) in enumerate(views):
        name = VIEW_KINDS[kind]
        if name == "entry":
            vectors[i] = whole[number[row]]
        elif name == "language":
            vectors[i] = by_language[asked][number[row]]
        else:
            vectors[i] = encoded[place[row, name, start]]
    return vectors


def _own_vector(row: int, entry: Entry, place: dict, encoded: np.ndarray, settings: BuildSettings) -> np.ndarray:
    """Of the text, and of the native question with its own weight: it is the one query of a QA pair that is known to be good."""
    vector = encoded[place[row, "text", 0]]
    if entry.question:
        vector = (1 - settings.question_weight) * vector + settings.question_weight * encoded[place[row, "question", 0]]
    return normalised(vector[None])[0]


def _labels(db: sqlite3.Connection, query: str, lang: str) -> np.ndarray:
    return np.fromiter((view for (view,) in db.execute(query, (lang,))), dtype=np.int64)


def _shortened(vectors: np.ndarray) -> np.ndarray:
    """Eight bits of mantissa: cosines keep three digits, and the graph packs to half in a repository that keeps every version."""
    bits = np.ascontiguousarray(vectors, np.float32).view(np.uint32)
    return ((bits + 0x4000) & 0xFFFF8000).astype(np.uint32).view(np.float32)


def _write_graph(vectors: np.ndarray, labels: np.ndarray, path: Path, settings: BuildSettings) -> int:
    graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
    graph.init_index(
        max_elements=len(labels), ef_construction=settings.hnsw_ef_construction, M=settings.hnsw_m, random_seed=settings.hnsw_seed
    )
    for first in range(0, len(labels), _ADDED):
        some = labels[first : first + _ADDED]
        # One thread makes the graph, and so the results, the same on every machine; a large one takes all cores.
        graph.add_items(_shortened(vectors[some]), some, num_threads=1 if len(labels) < _ADDED else -1)
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
    languages, questions, files = manifest["views_by_language"], manifest["views_by_question_language"], manifest["files"]
    if strange := sorted((languages.keys() | questions.keys()) - set(LANGUAGES)):
        return f"it holds a graph for {strange[0]!r}; known languages are {', '.join(LANGUAGES)}"
    graphs = (*(f"graph.{lang}.hnsw" for lang in languages), *(f"questions.{lang}.hnsw" for lang in questions))
    if missing := sorted({"entries.sqlite", *graphs} - files.keys()):
        return f"files lacks {missing[0]}"
    try:
        Augmentation.parse(manifest["settings"]["augment"])
    except MajlisError as error:
        return str(error)
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


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _free(folder: Path) -> str:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return f"{shutil.disk_usage(there).free / 1e6:,.0f} MB"

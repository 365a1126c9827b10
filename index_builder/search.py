"""Question -> hits: neighbours from the graph of each language, shared words, and words that sound alike across scripts, fused by score; the
first of them are read again together with the question (cross_encoder.py), when there is what does that.

Reciprocal rank fusion was tried first and lost (docs/decisions.md): a lexical list always has a first rank, even when all it
shares with the question is a common word, and it can never hold an entry in another language.
"""

import math
import os
import shlex
import sqlite3
import subprocess
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np

from index_builder.augment import Augmentation
from index_builder.cross_encoder import CrossEncoder, log_odds, open_cross_encoder
from index_builder.encode import BUNDLED, Encoder
from index_builder.sound import skeletons
from index_builder.store import VIEW_KINDS, IndexFolderError, load_entry, read_manifest, verify
from index_builder.text import same_word, stem, words
from index_builder.vocabulary import Entry, Hit, MatchedBy

_EF_SEARCH = 96
_DEPTH = 50  # how far each list is read
_AT_A_TIME = 1_000  # entries read from the disk
# Tuned on the dev half of assets/evaluation; a cosine is worth 1.
_WORDS_WEIGHT = 0.35  # of all the question's telling words found in an entry, as they are written or as they sound
_OWN_LANGUAGE = 0.005  # decides only between equals
_CHOSEN_LANGUAGE = 0.15  # a language that the reader asked for by name weighs as much as a clearly better match
_OWN_PLACE = 0.08
_QUERY_WEIGHT = 0.9  # of a generated query's cosine: two questions lie nearer to each other than a question and what answers it
_TELLING_IDF = 1.5  # a word that more than about one entry in five holds tells nothing
_TELLING_SOUND_IDF = 3.0
_COVERED_WEIGHT = 0.4  # of an entry that itself, without generated queries, holds all that the question asks for
_COVERED_DEPTH = 10  # how many entries are looked at for it; more changes nothing
_ANSWERS_WEIGHT = 0.25  # of an entry that surely answers
_ANSWERS_WEIGHT_ELSEWHERE = 0.15  # of one in another language than the reader's, which overtakes the reader's own only by a clear lead
SENTENCE_WEIGHT = 0.1  # of the log-odds that a sentence answers, beside its cosine
_READ = 5  # how many entries the cross-encoder reads; ten gain no more
_ASKED_WEIGHT = 1.0  # of a word in a generated query, beside 1 in a text and 2 in a native question
_MOST_TERMS = 12  # the rarest dozen is enough for any question

_QUERY = VIEW_KINDS.index("query")


@dataclass(frozen=True, slots=True)
class _Match:
    """The best view of one entry."""

    dense: float  # cosine
    view: int
    counts: float  # what the cosine counts for in the fusion


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: the language they read, and their locale ("bn-BD") and region ("bangladesh") where they are known."""

    lang: str = ""
    locale: str = ""
    region: str = ""
    insists: bool = False  # the reader named the language, rather than being guessed to read it

    def is_near(self, locale: str, region: str) -> bool:
        """Whether an entry of `locale` and `region` is about the reader's place; for an entry without region its locale decides.

        A country would be too wide: English passages about Assam, West Bengal and North India are all "en-IN".
        """
        return region == self.region if region else bool(locale) and locale == self.locale


class Index:
    """An opened index folder. Safe to search from several threads. Raises IndexFolderError when folder and encoder do not fit."""

    def __init__(self, folder: Path, encoder: Encoder, cross: CrossEncoder | None = None):
        """`cross` reads the first hits again; without one they stay as they were found."""
        self.folder, self.encoder, self.cross = folder, encoder, cross
        self.manifest: dict[str, Any] = read_manifest(folder)
        _check_encoder(folder, self.manifest, encoder)
        verify(folder, self.manifest)
        self._lock = threading.Lock()
        try:
            self._load()
        except (RuntimeError, sqlite3.Error) as error:  # hnswlib's, for a file that is no graph of its own, and SQLite's
            raise IndexFolderError(f"{folder} cannot be loaded ({error}). Rebuild it: {build_command(folder, encoder)}.") from error

    def _load(self) -> None:
        self._db = sqlite3.connect(
            f"{(self.folder / 'entries.sqlite').resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        views = self._db.execute("SELECT row, kind, start, end, asked FROM views ORDER BY view").fetchall()
        numbers = np.array([view[:4] for view in views], dtype=np.int32).reshape(-1, 4)
        self._view_row, self._view_kind, self._view_start, self._view_end = numbers.T.copy()
        self._view_asked = np.array([view[4] for view in views], dtype="U2")  # language of the questions that it stands for
        self._views_of_row = np.searchsorted(self._view_row, np.arange(self.manifest["entries"] + 1))
        self._graphs = {lang: self._graph(f"graph.{lang}.hnsw", count) for lang, count in self.manifest["views_by_language"].items()}
        self._questions = {
            lang: self._graph(f"questions.{lang}.hnsw", count) for lang, count in self.manifest["views_by_question_language"].items()
        }
        # vectors in which an entry's own text is mixed with the queries of one language are for questions in that language alone
        self._by_language = Augmentation.parse(self.manifest["settings"]["augment"]).dense == "language"
        rows = self._db.execute("SELECT lang, locale, region FROM entries ORDER BY row").fetchall()
        self._lang_of_row = [lang for lang, _, _ in rows]
        self._view_lang = np.array(self._lang_of_row, dtype="U2")[self._view_row]
        self._place_of_row = [(locale, region) for _, locale, region in rows]

    def _graph(self, name: str, count: int) -> hnswlib.Index:
        graph = hnswlib.Index(space="ip", dim=self.encoder.dimension)
        graph.load_index(str(self.folder / name))
        if graph.get_current_count() != count:
            raise IndexFolderError(
                f"{self.folder / name} holds {graph.get_current_count()} vectors, the manifest says {count}. Rebuild the index."
            )
        graph.set_ef(_EF_SEARCH)
        graph.set_num_threads(1)
        return graph

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def __len__(self) -> int:
        return self.manifest["entries"]

    def entries(self) -> Iterator[Entry]:
        """In the order of the corpus, a few at a time."""
        for first in range(0, len(self), _AT_A_TIME):
            with self._lock:
                lines = self._db.execute(
                    "SELECT json FROM entries WHERE row >= ? AND row < ? ORDER BY row", (first, first + _AT_A_TIME)
                ).fetchall()
            yield from (load_entry(line) for (line,) in lines)

    def search(
        self, question: str, k: int = 10, langs: Collection[str] = (), locales: Collection[str] = (), reader: Reader = Reader()
    ) -> list[Hit]:
        """The k best entries for `question`, best first. `langs` and `locales` keep only entries of these; `reader` prefers and never excludes."""
        vector = self.encoder.encode([question], "query")
        return self.search_vector(question, vector[0], k, langs, locales, reader)

    def search_vector(
        self,
        question: str,
        vector: np.ndarray,
        k: int = 10,
        langs: Collection[str] = (),
        locales: Collection[str] = (),
        reader: Reader = Reader(),
    ) -> list[Hit]:
        """As `search`, for a question already encoded: `vector` is (dimension,) float32 of unit length."""
        asked = list(dict.fromkeys(words(question)))
        with self._lock:
            idf = self._idf("vocabulary", asked)
            lexical = self._lexical(asked, idf, langs, locales)
            sounds = self._sounding(question, langs, locales)
            allowed = self._rows_of(locales) if locales else None
        questions = self._questions_for(reader.lang)
        dense = self._dense(vector, langs, allowed, questions)
        # a query in another language that lies near would have been among the nearest of its graph: here the reader's own are enough
        own_questions = {reader.lang: questions[reader.lang]} if reader.lang in questions else questions
        dense |= self._matches(sorted((lexical.keys() | sounds.keys()) - dense.keys()), vector, own_questions)
        mass = 2 * sum(idf.values()) or 1.0  # about what BM25 gives an entry that holds every word, counted as word and as prefix
        own = _CHOSEN_LANGUAGE if reader.insists else _OWN_LANGUAGE
        fused = {
            row: match.counts
            + _WORDS_WEIGHT * max(min(1.0, lexical.get(row, 0.0) / mass), sounds.get(row, 0.0))
            + own * (self._lang_of_row[row] == reader.lang)
            + _OWN_PLACE * reader.is_near(*self._place_of_row[row])
            for row, match in dense.items()
        }
        pool = sorted(fused, key=lambda row: (-fused[row], row))[: max(k, _COVERED_DEPTH)]
        with self._lock:
            found = {row: load_entry(self._db.execute("SELECT json FROM entries WHERE row = ?", (row,)).fetchone()[0]) for row in pool}
        covered = {row: coverage(asked, idf, found[row]) for row in pool}
        for row in pool:  # squared: half of a question's words in common is what any neighbour in the same topic has
            fused[row] += _COVERED_WEIGHT * covered[row] ** 2
        best = sorted(pool, key=lambda row: (-fused[row], row))
        answers: dict[int, float] = {}
        if self.cross:
            read = best[:_READ]
            answers = dict(zip(read, self.cross.probabilities(question, [found[row] for row in read]).tolist(), strict=True))
            for row, probability in answers.items():  # never less than before: those that are read stay ahead of the rest
                own_or_any = reader.lang in ("", self._lang_of_row[row])
                fused[row] += (_ANSWERS_WEIGHT if own_or_any else _ANSWERS_WEIGHT_ELSEWHERE) * probability
            best = sorted(best, key=lambda row: (-fused[row], row))
        return [
            self._hit(rank, found[row], fused[row], dense[row], lexical.get(row, 0.0), covered[row], answers.get(row))
            for rank, row in enumerate(best[:k], 1)
        ]

    def telling(self, asked: Sequence[str]) -> dict[str, float]:
        """How much each of these folded words tells: its inverse document frequency in the whole index."""
        with self._lock:
            return self._idf("vocabulary", list(asked))

    def span(self, hit: Hit, question: str, vector: np.ndarray) -> tuple[int, int]:
        """Offsets of the sentence of a hit's text that lies nearest to the question: what the page marks.

        Of the passage that came first, which is quoted from that sentence on, the cross-encoder has a say.
        """
        with self._lock:
            row = self._db.execute("SELECT row FROM entries WHERE entry_id = ?", (hit.entry.entry_id,)).fetchone()[0]
        views = [view for view in self._views(row) if VIEW_KINDS[self._view_kind[view]] == "sentence"]
        if not views:
            return 0, len(hit.entry.text)
        near = _vectors(self._graphs[hit.entry.lang], views) @ vector
        spans = [(int(self._view_start[view]), int(self._view_end[view])) for view in views]
        if self.cross and hit.rank == 1 and hit.entry.kind == "passage":
            parts = [replace(hit.entry, text=hit.entry.text[start:end]) for start, end in spans]
            near = near + SENTENCE_WEIGHT * log_odds(self.cross.probabilities(question, parts))
        return spans[int(np.argmax(near))]

    def similarity(self, entry_id: str, vector: np.ndarray) -> float:
        """Cosine of a question, (dimension,) float32 of unit length, and the nearest view of an entry that the index holds."""
        with self._lock:
            row = self._db.execute("SELECT row FROM entries WHERE entry_id = ?", (entry_id,)).fetchone()[0]
        return self._matches([row], vector, self._questions)[row].dense

    def _questions_for(self, lang: str) -> dict[str, hnswlib.Index]:
        """The graphs of what stands for questions that a question in `lang` (empty: not known) is compared with."""
        if not self._by_language or lang not in self._questions:
            return self._questions
        return {lang: self._questions[lang]}

    def _dense(
        self, vector: np.ndarray, langs: Collection[str], allowed: set[int] | None, questions: dict[str, hnswlib.Index]
    ) -> dict[int, _Match]:
        """The nearest entries of each graph: row -> its best view. Equal depth per language, so that no language crowds out another."""
        best: dict[int, _Match] = {}
        for lang, graph in self._graphs.items():
            if not langs or lang in langs:
                self._nearest(graph, vector, None if allowed is None else self._views_in((lang,), allowed, ""), best)
        for lang, graph in questions.items():
            self._nearest(graph, vector, self._views_in(langs, allowed, lang) if langs or allowed is not None else None, best)
        return best

    def _nearest(self, graph: hnswlib.Index, vector: np.ndarray, wanted: np.ndarray | None, best: dict[int, _Match]) -> None:
        """Put the nearest views of a graph into `best` where they are better; only those `wanted`, (views,) bool, if it is given."""
        count = graph.get_current_count() if wanted is None else int(wanted.sum())
        if not count:
            return
        keep = None if wanted is None else (lambda view: bool(wanted[view]))
        views, distances = graph.knn_query(vector, k=min(_DEPTH, count), filter=keep)
        self._keep(views[0].tolist(), (1.0 - distances[0]).tolist(), best)

    def _views_in(self, langs: Collection[str], allowed: set[int] | None, asked: str) -> np.ndarray:
        """(views,) bool: those of entries in these languages (empty: in any) and rows, that stand for questions in `asked` (empty: for none)."""
        rows = [(not langs or lang in langs) and (allowed is None or row in allowed) for row, lang in enumerate(self._lang_of_row)]
        return np.array(rows)[self._view_row] & (self._view_asked == asked)

    def _counted(self, view: int, dense: float) -> _Match:
        return _Match(dense, view, dense * (_QUERY_WEIGHT if self._view_kind[view] == _QUERY else 1.0))

    def _matches(self, rows: Sequence[int], vector: np.ndarray, questions: dict[str, hnswlib.Index]) -> dict[int, _Match]:
        """The best view of each of these entries, which the graphs did not bring up. One call a graph: hnswlib's calls cost more than vectors."""
        views = np.array([view for row in rows for view in self._views(row)], dtype=np.int64)
        asked, langs = self._view_asked[views], self._view_lang[views]
        best: dict[int, _Match] = {}
        for graph, here in (
            *((graph, views[(asked == "") & (langs == lang)]) for lang, graph in self._graphs.items()),
            *((graph, views[asked == lang]) for lang, graph in questions.items()),
        ):
            if len(here):
                self._keep(here.tolist(), (_vectors(graph, here.tolist()) @ vector).tolist(), best)
        return best

    def _keep(self, views: Sequence[int], similarities: Sequence[float], best: dict[int, _Match]) -> None:
        """Put each view into `best` where it is better than what stands there for its entry."""
        for view, dense in zip(views, similarities, strict=True):
            row, match = int(self._view_row[view]), self._counted(view, dense)
            if row not in best or match.counts > best[row].counts:
                best[row] = match

    def _views(self, row: int) -> list[int]:
        return list(range(self._views_of_row[row], self._views_of_row[row + 1]))

    def _rows_of(self, locales: Collection[str]) -> set[int]:
        marks = ",".join("?" * len(locales))
        return {row for (row,) in self._db.execute(f"SELECT row FROM entries WHERE locale IN ({marks})", tuple(locales))}

    def _sounding(self, question: str, langs: Collection[str], locales: Collection[str]) -> dict[int, float]:
        """row -> share, in [0, 1], of the question's skeletons (sound.py) that an entry holds, weighted by how much each tells."""
        asked = list(dict.fromkeys(skeletons(question)))
        idf = self._idf("sound_vocabulary", asked)
        terms = [f'"{skeleton}"' for skeleton in _telling(asked, idf, _TELLING_SOUND_IDF)]
        mass = sum(idf.values())
        return {row: min(1.0, score / mass) for row, score in self._matching("sounds", "", terms, langs, locales).items()}

    def _idf(self, table: str, asked: list[str]) -> dict[str, float]:
        """How much each asked word tells, by BM25's formula over the whole index; a word that no entry holds tells most."""
        total = len(self)
        counts = {word: (self._db.execute(f"SELECT doc FROM {table} WHERE term = ?", (word,)).fetchone() or (0,))[0] for word in asked}
        return {word: math.log(1 + (total - count + 0.5) / (count + 0.5)) for word, count in counts.items()}

    def _lexical(self, asked: list[str], idf: dict[str, float], langs: Collection[str], locales: Collection[str]) -> dict[int, float]:
        """row -> BM25 (higher is better) of entries that share a word with the question, or the beginning of a long one."""
        telling = _telling(asked, idf, _TELLING_IDF)
        # words are \p{L}\p{M}\p{N} and apostrophes only, so quoting is all that FTS5's query language needs
        terms = [f'"{word}"' for word in telling] + [f'"{word[: max(4, len(word) - 2)]}"*' for word in telling if len(word) >= 5]
        return self._matching("lexical", f", 1.0, 2.0, 1.0, {_ASKED_WEIGHT}", terms, langs, locales)

    def _matching(self, table: str, weights: str, terms: list[str], langs: Collection[str], locales: Collection[str]) -> dict[int, float]:
        if not terms:
            return {}
        query = f"SELECT rowid, bm25({table}{weights}) FROM {table} WHERE {table} MATCH ?"
        values: list[Any] = [" OR ".join(terms)]
        for column, kept in (("lang", langs), ("locale", locales)):
            if kept:
                query += f" AND rowid IN (SELECT row FROM entries WHERE {column} IN ({','.join('?' * len(kept))}))"
                values += kept
        return {row: -score for row, score in self._db.execute(f"{query} ORDER BY 2 LIMIT {_DEPTH}", values)}

    def _hit(self, rank: int, entry: Entry, fused: float, match: _Match, lexical: float, covered: float, answers: float | None) -> Hit:
        kind = VIEW_KINDS[self._view_kind[match.view]]
        matched_by: MatchedBy = "text"
        matched_query = matched_lang = ""
        if kind == "question":
            matched_by, matched_query, matched_lang = "question", entry.question, entry.lang
        elif kind == "query":
            generated = entry.queries[self._view_start[match.view]]
            matched_by, matched_query, matched_lang = "query", generated.text, generated.lang
        return Hit(entry, rank, fused, match.dense, lexical, covered, matched_by, matched_query, matched_lang, answers)


def _vectors(graph: hnswlib.Index, views: list[int]) -> np.ndarray:
    return np.asarray(graph.get_items(views), dtype=np.float32)


def _telling(terms: list[str], idf: dict[str, float], least: float) -> list[str]:
    return sorted((term for term in terms if idf[term] > least), key=lambda term: -idf[term])[:_MOST_TERMS]


def coverage(asked: list[str], idf: dict[str, float], entry: Entry) -> float:
    """Share of the question's idf mass whose words, or forms of them, the entry holds; in [0, 1]."""
    held = set(words(f"{entry.title} {entry.question} {entry.text}"))
    by_stem: dict[str, list[str]] = {}  # forms of one word share their first four letters (text.same_word)
    for word in held:
        by_stem.setdefault(stem(word), []).append(word)
    mass = sum(idf[word] for word in asked)
    found = sum(idf[word] for word in asked if word in held or any(same_word(word, other) for other in by_stem.get(stem(word), ())))
    return found / mass if mass else 0.0


def open_index(folder: Path, encoder: Encoder) -> Index:
    """The index with what reads its first hits again, where that was trained for `encoder`: as the app searches."""
    return Index(folder, encoder, open_cross_encoder(encoder))


def build_command(folder: Path, encoder: Encoder) -> str:
    """The command that builds `folder` with `encoder`, ready for the shell of this system."""
    command = ["python", "-m", "index_builder", "build", "--corpus", "PATH", "--out", str(folder)]
    if encoder.folder.resolve() != BUNDLED:
        command += ["--encoder", str(encoder.folder)]
    for option, prefix in (("--query-prefix", encoder.query_prefix), ("--passage-prefix", encoder.passage_prefix)):
        if prefix:
            command += [option, prefix]
    return subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)


def _check_encoder(folder: Path, manifest: dict[str, Any], encoder: Encoder) -> None:
    built_with = manifest["encoder"]
    differing = [
        (key.replace("_", " "), built_with[key], getattr(encoder, key))
        for key in ("dimension", "fingerprint", "query_prefix", "passage_prefix")
        if built_with[key] != getattr(encoder, key)
    ]
    if differing:
        raise IndexFolderError(
            f"{folder} was built with encoder {built_with['name']} ({', '.join(f'{key} {_short(theirs)}' for key, theirs, _ in differing)}); "
            f"the encoder now in use is {encoder.name} ({', '.join(f'{key} {_short(ours)}' for key, _, ours in differing)}). "
            f"Choose the encoder it was built with in models.toml, or rebuild: {build_command(folder, encoder)}."
        )


def _short(value: str | int) -> str:
    return repr(value[:12]) if isinstance(value, str) else str(value)

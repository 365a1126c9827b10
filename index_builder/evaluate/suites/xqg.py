"""What generated queries add (xQG, METHODS section 1): every variant of the augmentation against none, on the same questions.

Each variant gets an index of its own in a work folder, from the same corpus, encoder and settings, and is searched as the app searches.
Beside that stands the setting of the paper: one vector for each entry, no words and no reader, where all that differs is what the vector
holds. (The vector of a QA pair has its native question in it also there: that is known to be good, and is not what is measured.)
"""

import argparse
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b, sha256
from pathlib import Path

import numpy as np

from index_builder.augment import Augmentation
from index_builder.encode import Encoder, TextKind
from index_builder.evaluate import metrics
from index_builder.evaluate.files import digests, field, json_lines
from index_builder.evaluate.measure import Task
from index_builder.evaluate.questions import SETS, Asked, read_questions
from index_builder.evaluate.runs import ROOT, Cell, Row, Table, portable
from index_builder.evaluate.statistics import macro_average, mean, mean_with_interval, paired_randomisation
from index_builder.evaluate.suites.opening import described_encoder, encoder_of, encoder_options, question_options
from index_builder.evaluate.tokens import tokenizer
from index_builder.filter_queries import QueryFilter, filtered
from index_builder.queries import Header, attach, corpus_digest, queries_files, read_queries, write_queries
from index_builder.read import read_corpus
from index_builder.search import Index, Reader
from index_builder.store import BuildSettings, build_index
from index_builder.vocabulary import LANGUAGES, Entry, GeneratedQuery, MajlisError

SUMMARY = "What generated queries add to search: none, the paper's sum, and every other variant, with p-values."
VARIANTS = ("sum", "mean", "language", "max", "lexical", "max+lexical")
PER_LANGUAGE = (1, 2, 4, 5, 8)  # queries; numbers that no language has are left out
FILTER = QueryFilter(round_trip=10, percentile=30)
PAPER = BuildSettings(views=("entry",))
DEPTH = 50  # hits that are read for the token budgets
BUDGETS = (200, 500, 2_000)
_CUTS = (1, 5, 10)
_MEASURE = "success@5"
_SINGLE = ("sum", "mean")  # variants that leave one vector for each entry
_CROSS = "cross_lingual"
_HELD_OUT = "held out"


@dataclass(frozen=True, slots=True)
class System:
    """One index and how it is asked."""

    augment: str
    number: int  # queries per language; 0 for none
    filtered: bool = False
    paper: bool = False  # one vector for each entry, no words, no reader
    everything: bool = True  # also asked what augmentation is not for

    @property
    def name(self) -> str:
        return " ".join([self.augment, *([f"n={self.number}"] if self.number else []), *(["filtered"] if self.filtered else []), *(["(paper)"] if self.paper else [])])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pool:
    """Entries with their generated queries, and the questions that are asked of them."""

    name: str
    entries: tuple[Entry, ...]
    asked: tuple[Asked, ...]

    def numbers(self) -> tuple[int, ...]:
        """Of queries per language: those of PER_LANGUAGE that some entry has, and its largest number."""
        most = max((_most(entry) for entry in self.entries), default=0)
        return tuple(number for number in PER_LANGUAGE if number <= most)


def add_options(parser: argparse.ArgumentParser) -> None:
    encoder_options(parser)
    question_options(parser)
    parser.add_argument("--corpus", type=Path, nargs="+", default=[ROOT / "assets/corpus"], metavar="PATH")
    parser.add_argument("--queries", type=Path, nargs="+", default=[ROOT / "assets/queries"], metavar="PATH", help="queries of that corpus")
    parser.add_argument(
        "--variant", action="append", default=[], metavar="V", help="only this variant (may be repeated; `none` is always measured)"
    )
    parser.add_argument(
        "--qa",
        type=Path,
        metavar="FILE",
        help="also rows of question, passage, answer, lang and title: those of the titles that train-seq2seq holds out",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="CTranslate2 model that asks about the passages of --qa",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / "runs/xqg-indexes",
        metavar="DIR",
        help="where indexes are built, one after the other (default: runs/xqg-indexes)",
    )
    parser.add_argument("--passages", type=int, default=200, metavar="N", help="of --qa in each language (default 200)")


def open_task(options: argparse.Namespace) -> Task:
    variants = tuple(options.variant) or VARIANTS
    for variant in variants:
        Augmentation.parse(variant)
    encoder, work = Remembering(encoder_of(options)), options.work
    work.mkdir(parents=True, exist_ok=True)
    entries = tuple(attach(read_corpus(options.corpus), *queries_files(options.queries)))
    known = frozenset(entry.entry_id for entry in entries)
    files = [options.data / f"{name}.jsonl" for name in SETS]
    native = _native()
    asked = [one for path in files for one in read_questions(path, options.split, known)]
    asked = [replace(one, text=native(one.text)) if one.set == "romanised" else one for one in asked]
    pools = [Pool("corpus", entries, tuple(asked))]
    left_out = ""
    if options.qa and options.model:
        pools.append(held_out_pool(options.qa, options.model, options.passages, work))
    elif options.qa:
        left_out = f" The passages of {options.qa.name} are left out: a CTranslate2 model has to ask about them, name one with --model."
    names, cut = tokenizer()
    configuration = {
        "split": options.split, "data": digests([*files, *queries_files(options.queries), *([options.qa] if options.qa else [])]),
        "corpus": corpus_digest(entries)[:16], "encoder": described_encoder(encoder), "variants": list(variants), "tokens": names,
        "model": portable(str(options.model)) if len(pools) > 1 else "", "passages": options.passages if len(pools) > 1 else 0,
    }  # fmt: skip
    writers = " and ".join(dict.fromkeys(read_queries(path)[0].model for path in queries_files(options.queries)))
    most, wanted = max(pools[0].numbers(), default=0), max(PER_LANGUAGE)
    fewer = (
        f" The queries are at most {most} for each entry and language; n up to {wanted} needs files that have as many."
        if most < wanted
        else ""
    )
    note = (
        f"Queries by {writers}. Where questions and queries were written by the same kind of model from the same passages, as the bundled ones were, every "
        f"variant is flattered: read the gains as upper bounds.{fewer} Filtered: {FILTER}. p: two-sided paired randomisation test of {_MEASURE}. "
        f"R@Kt: tokens by {names}; milliseconds: processor time of one question, encoding included, {DEPTH} hits read.{left_out}"
    )
    return Task(
        "xqg", f"Generated queries, {options.split}", configuration,
        lambda done: (row for pool in pools for row in _rows(pool, systems(pool, variants), encoder, work, cut, done)),
        tables, note,
    )  # fmt: skip


def _native() -> Callable[[str], str]:
    from demo.detect import Detector
    from demo.retrieve import native_script

    return native_script(Detector.open())


def systems(pool: Pool, variants: Sequence[str]) -> list[System]:
    """None first, then every variant with each number of queries, and filtered with the most; then the setting of the paper.

    What augmentation is not for, the questions in the language of their evidence, is asked of none and of the most queries.
    """
    numbers = pool.numbers()
    found = [System("none", 0)]
    found += [System(variant, number, everything=number == numbers[-1]) for variant in variants for number in numbers]
    found += [System(variant, numbers[-1], filtered=True) for variant in variants if numbers]
    single = [variant for variant in variants if Augmentation.parse(variant).dense in _SINGLE and not Augmentation.parse(variant).lexical]
    if single:
        found += [System("none", 0, paper=True, everything=False)]
    return found + [System(variant, number, paper=True, everything=False) for variant in single for number in numbers]


class Remembering:
    """An encoder that encodes each passage once: the texts of all variants are the same. Questions are encoded again, for their time is measured."""

    def __init__(self, encoder: Encoder):
        self._encoder = encoder
        self._known: dict[str, np.ndarray] = {}
        self.name, self.folder, self.dimension, self.fingerprint = encoder.name, encoder.folder, encoder.dimension, encoder.fingerprint
        self.query_prefix, self.passage_prefix = encoder.query_prefix, encoder.passage_prefix

    def encode(self, texts: Sequence[str], kind: TextKind) -> np.ndarray:
        if kind == "query":
            return self._encoder.encode(texts, kind)
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            self._known.update(zip(new, self._encoder.encode(new, kind), strict=True))
        return np.stack([self._known[text] for text in texts])


# passages of a question-answering data set


def held_out_pool(path: Path, model: Path, passages: int, work: Path) -> Pool:
    """The passages whose title is held out, the first `passages` of each language, with queries that `model` asks about them.

    Raises MajlisError for a bad row, or when there is no model.
    """
    from index_builder.querygen.generate import generate_queries
    from index_builder.querygen.model import Decoding, open_seq2seq
    from index_builder.querygen.writers import Seq2SeqWriter

    seq2seq = open_seq2seq(model)
    writer = Seq2SeqWriter(seq2seq, "ask", Decoding(sampling_top_k=10))
    langs = [lang for lang in LANGUAGES if lang in seq2seq.family.languages]
    entries: dict[str, Entry] = {}
    asked: list[Asked] = []
    count = dict.fromkeys(LANGUAGES, 0)
    for where, row in json_lines(path):
        lang, title, text, question, answer = (field(row, key, str, where) for key in ("lang", "title", "passage", "question", "answer"))
        if not held_out(title) or lang not in count:
            continue
        entry_id = f"{lang}.{sha256(text.encode()).hexdigest()[:16]}"
        if entry_id not in entries:
            if count[lang] == passages:
                continue
            count[lang] += 1
            entries[entry_id] = Entry(entry_id, "passage", lang, text, title=title)
        asked.append(Asked(where.rpartition(":")[2], _HELD_OUT, lang, "", question, lang, frozenset([entry_id]), (answer,)))
    if not asked:
        raise MajlisError(
            f"{path} has no row in {', '.join(LANGUAGES)} whose title is held out. Give rows of question, passage, answer, lang and title."
        )
    name = sha256(repr([corpus_digest(entries.values()), writer.name, writer.settings()]).encode()).hexdigest()[:12]
    out = work / f"queries-{name}.jsonl"
    generate_queries(entries.values, writer, langs, max(PER_LANGUAGE), out, resume=True, say=lambda _: None)
    return Pool(path.stem, tuple(attach(entries.values(), out)), tuple(asked))


def held_out(title: str) -> bool:
    """A twentieth of the titles: those that the bundled model was not trained on (train/seq2seq_data.py splits like this; a test holds them equal).

    Passages that a model has seen with their questions would get better queries than any passage of yours.
    """
    return blake2b(title.encode(), digest_size=2).digest()[0] % 20 == 0


# measuring


def _rows(
    pool: Pool, chosen: Sequence[System], encoder: Encoder, work: Path, cut: Callable[[str], list[str]], done: frozenset[str]
) -> Iterator[Row]:
    tokens = lru_cache(maxsize=None)(cut)
    for system in chosen:
        left = [one for one in _asked(pool, system) if _row_id(pool, system, one) not in done]
        if not left:
            continue
        with _index(pool, system, encoder, work) as index:
            for one in left:
                yield _row(pool, system, one, index, tokens)


def _asked(pool: Pool, system: System) -> Sequence[Asked]:
    main = main_set([one.set for one in pool.asked])
    return [one for one in pool.asked if system.everything or one.set == main]


def main_set(names: Sequence[str]) -> str:
    """That in which variants are compared: questions across languages, where there are any."""
    return _CROSS if _CROSS in names else names[0]


def _row_id(pool: Pool, system: System, one: Asked) -> str:
    return f"{pool.name}/{system.name}/{one.set}/{one.query_id}"


def _row(pool: Pool, system: System, one: Asked, index: Index, tokens: Callable[[str], list[str]]) -> Row:
    began = time.process_time()  # not the clock: a busy machine would make one variant look slower than another
    vector = index.encoder.encode([one.text], "query")[0]
    hits = index.search_vector(
        "" if system.paper else one.text, vector, DEPTH if one.answers else max(_CUTS), reader=Reader("" if system.paper else one.lang)
    )
    took = (time.process_time() - began) * 1e3
    ranked, relevant = [hit.entry.entry_id for hit in hits], dict.fromkeys(one.relevant, 1)
    scores = {f"success@{k}": metrics.success_at(k)(relevant, ranked) for k in _CUTS}
    if one.answers:
        contexts = [tokens(hit.entry.text) for hit in hits]
        for budget in BUDGETS:
            hit = metrics.token_budget_hit(one.answers, contexts, budget)
            if hit is not None:
                scores[f"R@{budget}t"] = float(hit)
    return {"id": _row_id(pool, system, one), "pool": pool.name, "system": system.name, "set": one.set, "lang": one.lang, "evidence_lang": one.evidence_lang,
            "question_id": one.query_id, "scores": scores, "ms": round(took, 2)}  # fmt: skip


@contextmanager
def _index(pool: Pool, system: System, encoder: Encoder, work: Path) -> Iterator[Index]:
    """The index of a system, built unless an interrupted run left it in the work folder, and removed when all was asked of it."""
    settings = replace(PAPER if system.paper else BuildSettings(), augment=Augmentation.parse(system.augment))
    what = [corpus_digest(pool.entries), _queries_digest(pool.entries), encoder.fingerprint, encoder.query_prefix, encoder.passage_prefix]
    entries: Iterable[Entry] = pool.entries
    if system.filtered:
        entries = _filtered(pool.entries, encoder, work, "-".join(what))
    name = sha256(repr([*what, settings.as_json(), system.number, system.filtered]).encode()).hexdigest()[:12]
    folder = work / f"xqg-{name}"
    if not (folder / "manifest.json").is_file():
        build_index((first_queries(entry, system.number) for entry in entries), encoder, folder, settings, say=lambda _: None)
    with closing(Index(folder, encoder)) as index:
        yield index
    shutil.rmtree(folder)


def _filtered(entries: Sequence[Entry], encoder: Encoder, work: Path, what: str) -> list[Entry]:
    """The entries with the queries that pass FILTER; kept in the work folder, because every query has to be asked for it."""
    name = sha256(f"{what} {FILTER}".encode()).hexdigest()[:12]
    path = work / f"filtered-{name}.jsonl.xz"
    if not path.is_file():
        with filtered(
            lambda: entries, encoder, BuildSettings(), FILTER, work / f".filtering-{name}", resume=True, say=lambda _: None
        ) as passed:
            rows = ((entry.entry_id, query) for entry in passed.entries for query in entry.queries)
            write_queries(path, Header(corpus_digest(entries), "filtered", passed.as_json(FILTER)), rows)
    return attach([replace(entry, queries=()) for entry in entries], path)


def first_queries(entry: Entry, number: int) -> Entry:
    """With its first `number` queries in each language, the way the model ranked them."""
    kept: list[GeneratedQuery] = []
    for lang in dict.fromkeys(query.lang for query in entry.queries):
        kept += [query for query in entry.queries if query.lang == lang][:number]
    return replace(entry, queries=tuple(kept))


def _most(entry: Entry) -> int:
    langs = [query.lang for query in entry.queries]
    return max(map(langs.count, set(langs)), default=0)


def _queries_digest(entries: Iterable[Entry]) -> str:
    digest = sha256()
    for entry in entries:
        for query in entry.queries:
            digest.update(f"{entry.entry_id}\t{query.lang}\t{query.text}\n".encode())
    return digest.hexdigest()


# tables


def tables(rows: Sequence[Row]) -> list[Table]:
    """For each pool: all systems, success@5 per language, gains with p-values; then the sets in the questions' own language, and what it costs."""
    found = []
    for pool in dict.fromkeys(row["pool"] for row in rows):
        of_pool = [row for row in rows if row["pool"] == pool]
        main = main_set([row["set"] for row in of_pool])
        asked = [row for row in of_pool if row["set"] == main]
        found += [_figures(pool, main, asked), _languages(pool, main, asked), _gains(f"{pool}, {main}", asked)]
        if others := [row for row in of_pool if row["set"] != main]:
            found.append(_others(pool, others))
            if own := [row for row in others if row["lang"] == row["evidence_lang"]]:
                names = ", ".join(dict.fromkeys(row["set"] for row in own))
                found.append(_gains(f"{pool}, {names} in the language of the evidence", own))
    return found


def _by_system(rows: Sequence[Row]) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row["system"], []).append(row)
    return grouped


def _scores(rows: Iterable[Row], metric: str) -> list[float]:
    return [row["scores"][metric] for row in rows if metric in row["scores"]]


def _figures(pool: str, name: str, rows: Sequence[Row]) -> Table:
    budgets = [f"R@{budget}t" for budget in BUDGETS if any(f"R@{budget}t" in row["scores"] for row in rows)]
    lines = [
        (system, len(group), *(mean_with_interval(_scores(group, f"success@{k}")) for k in _CUTS), *(mean(_scores(group, b)) for b in budgets),
         round(float(np.median([row["ms"] for row in group])), 2))
        for system, group in _by_system(rows).items()
    ]  # fmt: skip
    columns = ("augmentation", "n", *(f"success@{k}" for k in _CUTS), *budgets, "processor ms, median")
    return Table(
        f"{pool}, {name}: every variant",
        columns,
        lines,
        "n = x: so many queries per language. (paper): one vector for each entry, no words, no language preferred.",
    )


def _languages(pool: str, name: str, rows: Sequence[Row]) -> Table:
    langs = [lang for lang in LANGUAGES if any(row["lang"] == lang for row in rows)]
    lines = []
    for system, group in _by_system(rows).items():
        values = {lang: _scores((row for row in group if row["lang"] == lang), _MEASURE) for lang in langs}
        lines.append((system, *(mean(values[lang]) for lang in langs), macro_average(values)))
    return Table(f"{pool}, {name}: {_MEASURE} in each language", ("augmentation", *langs, "macro-average"), lines)


def _gains(name: str, rows: Sequence[Row]) -> Table:
    """Each system against the one without queries that is asked in the same way."""
    langs = [lang for lang in LANGUAGES if any(row["lang"] == lang for row in rows)]
    across = [row for row in rows if row["lang"] != row["evidence_lang"]]
    grouped = _by_system(rows)
    lines: list[tuple[Cell, ...]] = []
    for system, group in grouped.items():
        bare = "none (paper)" if system.endswith("(paper)") else "none"
        if system == bare or bare not in grouped:
            continue
        sides = [group, *([[row for row in group if row["lang"] != row["evidence_lang"]]] if 0 < len(across) < len(rows) else [])]
        of_language = [compared(grouped[bare], [row for row in group if row["lang"] == lang]) for lang in langs]
        cells = [f"{gain:+.3f} (p {p:.4f})" for gain, p in [*(compared(grouped[bare], side) for side in sides), *of_language]]
        significant = sum(p < 0.05 and gain > 0 for gain, p in of_language)
        lines.append((system, *cells, f"{significant} of {len(langs)}", round(min(gain for gain, _ in of_language), 3)))
    sides = ("all", *(["another language"] if 0 < len(across) < len(rows) else []))
    columns = ("augmentation", *sides, *langs, "languages with a significant gain", "least gain in a language")
    return Table(f"{name}: {_MEASURE} against none", columns, lines)


def compared(before: Sequence[Row], after: Sequence[Row]) -> tuple[float, float]:
    """(mean gain in success@5, p) over the questions of `after`, each paired with itself in `before`."""
    first, second = ({(row["set"], row["question_id"]): row["scores"][_MEASURE] for row in rows} for rows in (before, after))
    shared = sorted(first.keys() & second.keys())  # in one order, for the random exchanges of the test
    a, b = [first[question] for question in shared], [second[question] for question in shared]
    return round(float(np.mean(b) - np.mean(a)), 4), paired_randomisation(a, b)


def _others(pool: str, rows: Sequence[Row]) -> Table:
    """The questions that augmentation is not for: what they lose."""
    sides = [(name, own) for name in dict.fromkeys(row["set"] for row in rows) for own in (True, False)]
    kept = [side for side in sides if any(_is_side(row, side) for row in rows)]
    lines = []
    for system, group in _by_system(rows).items():
        of_side = [[row for row in group if _is_side(row, side)] for side in kept]
        lines.append(
            (system, *(figure for some in of_side for figure in (mean(_scores(some, "success@1")), mean(_scores(some, _MEASURE)))))
        )
    columns: tuple[str, ...] = ("augmentation",)
    for name, own in kept:
        side = f"{name}, {'own language' if own else 'another language'}"
        columns += (f"{side}: success@1", f"{side}: {_MEASURE}")
    return Table(f"{pool}: the other sets", columns, lines)


def _is_side(row: Row, side: tuple[str, bool]) -> bool:
    return row["set"] == side[0] and (row["lang"] == row["evidence_lang"]) == side[1]

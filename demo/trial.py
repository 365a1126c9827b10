"""A reader's own question-answer rows through the whole engine: how often their evidence is found and the answer right, in their language."""

import csv
import io
import statistics
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from demo.events import Done, Failed, Retrieved
from demo.languages import all_endonyms, strings
from demo.verify import without_marks
from index_builder.evaluate.answer_metrics import lines_in, word_recall
from index_builder.evaluate.metrics import relevant_ranks
from index_builder.evaluate.runs import Table
from index_builder.evaluate.statistics import Share
from index_builder.evaluate.suites.answering import RIGHT_FROM
from index_builder.read import CorpusError, raw_rows
from index_builder.vocabulary import LANGUAGES, Evidence, MajlisError

if TYPE_CHECKING:
    from demo.engine import Engine

MOST_ROWS = 300
MOST_CHARACTERS = 200_000
FORMS = ("JSONL", "JSON", "CSV", "TSV")
_WORST = 10
_SURE_FROM = 0.9  # of the 736 dev questions that were recognised with so much confidence, none was in another language


class TrialError(MajlisError):
    """Rows that cannot be tried. `key` names the message in the strings' "trial" of every language, `values` fill it."""

    def __init__(self, key: str, **values: object):
        self.key, self.values = key, {name: str(value) for name, value in values.items()}
        super().__init__(strings("en")["trial"][key].format(**self.values))


@dataclass(frozen=True, slots=True)
class Own:
    """One row: a question with what answers it, an answer or an entry of the index, or both."""

    row: str  # where it stands: the line, or the number of the item in a JSON list
    question: str
    answer: str = ""
    entry_id: str = ""
    lang: str = ""  # empty: the row does not say


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one row."""

    own: Own
    lang: str
    rank: int  # of its evidence among what was shown, from 1; 0 when it was not
    right: bool  # the answer holds what was expected, or cites the entry that was
    unknown: bool  # the engine said that it does not know
    in_language: bool | None  # None without an answer
    answer: str
    first: str  # the text of the first evidence
    seconds: float

    @property
    def well(self) -> bool:
        return self.rank == 1 and self.right and self.in_language is not False


@dataclass(frozen=True, slots=True)
class Line:
    """Of one language."""

    questions: int
    found: Share
    in_five: Share
    right: Share
    in_language: Share  # of the answers given
    unknown: Share
    seconds: float  # median


@dataclass(frozen=True, slots=True)
class Report:
    lines: Mapping[str, Line]  # language -> figures
    worst: tuple[Outcome, ...]
    guessed: tuple[str, ...] = ()  # the languages that rows without one were taken to be in


def read_file(path: Path) -> str:
    """The text of a file of rows, as a browser would read it: read_rows says where it is not UTF-8. Raises MajlisError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_CHARACTERS * 4 + 4).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise MajlisError(f"{path} cannot be read ({error.strerror}). Give a file of rows in {', '.join(FORMS)}.") from error


def read_rows(text: str) -> list[Own]:
    """The rows of pasted text in any form of the corpus that has rows (index_builder/read.py), with question and answer or entry_id.

    Raises TrialError for too much text, none, and a row that cannot be used, which it names.
    """
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise TrialError("empty")
    if len(text) > MOST_CHARACTERS:
        raise TrialError("too_long", count=len(text), limit=MOST_CHARACTERS)
    if "\ufffd" in text:  # what a browser puts for bytes that are not UTF-8
        raise TrialError("encoding", row=text[: text.index("\ufffd")].count("\n") + 1, encoding="UTF-8")
    rows = [_own(where, row) for where, row in _rows(text)]
    if not rows:
        raise TrialError("empty")
    if len(rows) > MOST_ROWS:
        raise TrialError("too_many", count=len(rows), limit=MOST_ROWS)
    return rows


def _rows(text: str) -> Iterator[tuple[str, Any]]:
    """(row number, row)."""
    start = text.lstrip()
    header = start.partition("\n")[0]
    suffix = ".json" if start[0] == "[" else ".jsonl" if start[0] == "{" else ".tsv" if "\t" in header else ".csv"
    columns = next(csv.reader([header], delimiter="\t" if suffix == ".tsv" else ","), []) if suffix in (".tsv", ".csv") else []
    if "entry_id" in columns and "answer" not in columns:
        # the reader of corpora insists on a column of answers, which rows that name an entry need not have
        text, columns = _with_column(text, "\t" if suffix == ".tsv" else ",", "answer"), [*columns, "answer"]
    if suffix in (".tsv", ".csv") and "question" not in columns:
        raise TrialError("columns", keys="question, answer, entry_id", found=", ".join(columns)[:80])
    with TemporaryDirectory() as folder:  # the reader reads files; this one is gone before the first question is asked
        path = Path(folder) / f"rows{suffix}"
        path.write_text(text, encoding="utf-8", newline="")
        try:
            for where, row in raw_rows(path, False, lambda _: None, ""):
                yield where.removeprefix(str(path)).removeprefix(": item ").removeprefix(":"), row
        except CorpusError as error:
            raise TrialError("unreadable", detail=str(error).replace(f"{folder}/", "").partition(" Mend the line")[0]) from error


def _with_column(text: str, delimiter: str, name: str) -> str:
    """A table with one more, empty column. Cells keep their line ends, so rows keep their line numbers."""
    written = io.StringIO()
    table = csv.writer(written, delimiter=delimiter, lineterminator="\n")
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)):
            table.writerow([*cells, "" if number else name] if cells else [])
    except csv.Error as error:
        raise TrialError("unreadable", detail=error) from error
    return written.getvalue()


def _own(where: str, row: Any) -> Own:
    if not isinstance(row, dict):
        raise TrialError("no_question", row=where)
    cell = {key: str(row[key]).strip() if row.get(key) is not None else "" for key in ("question", "answer", "text", "entry_id")}
    if not cell["question"]:
        raise TrialError("no_question", row=where)
    answer = cell["answer"] or cell["text"]
    if not answer and not cell["entry_id"]:
        raise TrialError("no_answer", row=where, keys="answer, entry_id")
    lang = str(row.get("lang") or row.get("locale") or "").split("-")[0]
    if lang and lang not in LANGUAGES:
        raise TrialError("unknown_language", row=where, found=lang, languages=", ".join(LANGUAGES))
    return Own(where, cell["question"], answer, cell["entry_id"], lang)


def with_languages(rows: Sequence[Own], engine: "Engine") -> tuple[list[Own], tuple[str, ...]]:
    """The rows, each with a language, and the languages that were guessed for those that did not name theirs.

    A row keeps what it is recognised as where that is sure. One of a word or two is easily mistaken, and would then be judged by the
    mistake: it is taken to be in the language of most others. Raises TrialError when none of them is in a language that is spoken here.
    """
    found = {own: engine.detector.detect(own.question) for own in rows if not own.lang}
    votes = Counter(one.lang for one in found.values() if one.lang in LANGUAGES)
    if found and not votes:
        own, detection = next(iter(found.items()))
        raise TrialError("unknown_language", row=own.row, found=detection.lang, languages=all_endonyms())
    guessed = {
        own: one.lang if one.lang in LANGUAGES and one.confidence >= _SURE_FROM else votes.most_common(1)[0][0]
        for own, one in found.items()
    }
    named = [replace(own, lang=guessed[own]) if own in guessed else own for own in rows]
    return named, tuple(lang for lang in LANGUAGES if lang in guessed.values())


def check_entries(rows: Sequence[Own], engine: "Engine") -> None:
    """Raises TrialError for a row that names an entry which the index does not hold: it could only count as not found."""
    known = {entry.entry_id for entry in engine.index.entries()} if any(own.entry_id for own in rows) else set()
    for own in rows:
        if own.entry_id and own.entry_id not in known:
            raise TrialError("unknown_entry", row=own.row, id=own.entry_id)


def outcomes(engine: "Engine", rows: Sequence[Own], mode: str = "", cancel: threading.Event | None = None) -> Iterator[Outcome]:
    """Each row asked as a reader would ask it, one after the other; ends early when `cancel` is set. Each names its language: with_languages."""
    cancel = cancel or threading.Event()
    for own in rows:
        found = _ask(engine, own, mode if mode in engine.modes else "", cancel)
        if cancel.is_set():  # the answer to this row was broken off
            return
        yield found


def _ask(engine: "Engine", own: Own, mode: str, cancel: threading.Event) -> Outcome:
    from demo.engine import Question

    evidence: tuple[Evidence, ...] = ()
    done: Done | None = None
    failed = False
    for event in engine.ask(Question(own.question, mode=mode, page_lang=own.lang), cancel):
        match event:
            case Retrieved():
                evidence = event.evidence
            case Done():
                done = event
            case Failed():
                failed = True
    answer = without_marks(done.answer) if done and not failed else ""
    answered = bool(done and answer and not done.abstained)
    return Outcome(
        own, own.lang, rank_of(own, evidence), answered and is_right(own, answer, [citation.entry_id for citation in done.citations] if done else []),
        bool(done and done.abstained), is_in(own.lang, answer, done.answer_lang, engine) if done and answered else None, answer,
        evidence[0].hit.entry.text if evidence else "", done.timings_ms["total"] / 1e3 if done else 0.0,
    )  # fmt: skip


def rank_of(own: Own, evidence: Sequence[Evidence]) -> int:
    """Where the evidence stands, from 1, or 0: the entry that the row names, otherwise the first whose text holds the row's answer."""
    grades = {
        item.hit.entry.entry_id: int(item.hit.entry.entry_id == own.entry_id if own.entry_id else holds(item.hit.entry.text, own.answer))
        for item in evidence
    }
    return next(iter(relevant_ranks(grades, list(grades))), 0)


def is_right(own: Own, answer: str, cited: Sequence[str]) -> bool:
    return holds(answer, own.answer) if own.answer else own.entry_id in cited


def holds(text: str, answer: str) -> bool:
    """As the suites judge it: enough of the expected words, or of forms of them."""
    return word_recall(text, answer) >= RIGHT_FROM


def is_in(lang: str, answer: str, answer_lang: str, engine: "Engine") -> bool:
    passed = lines_in(lang, answer, lambda line: engine.detector.detect(line).lang)
    return answer_lang == lang if passed is None else passed  # a line of a word or two cannot be told


def report(found: Sequence[Outcome], guessed: tuple[str, ...] = ()) -> Report:
    """Figures for each language, and the rows that went worst, worst first."""
    grouped = {lang: [one for one in found if one.lang == lang] for lang in LANGUAGES}
    lines = {lang: _line(group) for lang, group in grouped.items() if group}
    failures = sorted((one for one in found if not one.well), key=lambda one: (one.right, one.rank > 0, not one.unknown, -one.rank))
    return Report(lines, tuple(failures[:_WORST]), guessed)


def _line(group: Sequence[Outcome]) -> Line:
    share = lambda said: Share(sum(said), len(said))
    return Line(
        len(group), share([one.rank == 1 for one in group]), share([one.rank > 0 for one in group]), share([one.right for one in group]),
        share([one.in_language for one in group if one.in_language is not None]), share([one.unknown for one in group]),
        statistics.median(one.seconds for one in group),
    )  # fmt: skip


def as_table(found: Report) -> Table:
    """For the command line."""
    columns = (
        "language",
        "questions",
        "evidence first",
        "evidence in five",
        "answer right",
        "answer in the right language",
        "said unknown",
        "median s",
    )
    rows = [
        (lang, line.questions, *(share.cell() for share in (line.found, line.in_five, line.right, line.in_language, line.unknown)), round(line.seconds, 3))
        for lang, line in found.lines.items()
    ]  # fmt: skip
    note = f"An answer or a text holds what was expected when it has {RIGHT_FROM:.0%} of its words. Intervals are Wilson's at 95 %."
    return Table("your own questions", columns, rows, note)

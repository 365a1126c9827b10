"""Files -> entries: JSONL rows, MultiNativQA's JSON, the NativQA framework's TSV, CSV, Markdown and plain text."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

from index_builder.vocabulary import LANGUAGES, TOPICS, Entry, GeneratedQuery, MajlisError

SUFFIXES = (".jsonl", ".json", ".tsv", ".csv", ".md", ".txt")
# MultiNativQA names its files NativQA_<lang>_<variety>_<country>_<split>.json
_NATIVQA_LOCALES = {
    ("ar", "qa"): "ar-QA", ("asm", "in"): "as-IN", ("bn", "bd"): "bn-BD", ("bn", "in"): "bn-IN", ("en", "bd"): "en-BD",
    ("en", "qa"): "en-QA", ("hi", "in"): "hi-IN", ("ne", "np"): "ne-NP", ("tr", "tr"): "tr-TR",
}  # fmt: skip
# MultiNativQA's category strings -> the 18 topics
_TOPIC_NAMES = {"cloths": "cloth", "clothing": "cloth", "food_and_drinks": "food_drinks", "food & drinks": "food_drinks", "names & persons": "names",
                "sports & games": "sports_games", "animals": "animal", "event": "events", "plant": "plants"}  # fmt: skip
_KNOWN = {"id", "kind", "lang", "locale", "region", "topic", "question", "answer", "text", "title", "source", "reliability", "queries"}
_UNUSED = {"qa": {"text"}, "passage": {"question", "answer"}}  # known keys that mean nothing in a row of this kind; kept like unknown ones
_PASSAGE_WORDS = 120


class CorpusError(MajlisError):
    """A corpus file or row that cannot be used; the message names file and line."""


def read_corpus(paths: Iterable[Path], skip_bad: bool = False, say=print, lang: str = "") -> Iterator[Entry]:
    """Every entry of the files and folders in `paths`, in name order. `lang` is for text files, which do not say their language,
    and for the rows of tables that do not either.

    Raises CorpusError at the first bad row; with `skip_bad` the row is reported through `say` and left out, the rest is kept.
    """
    seen: dict[str, str] = {}
    files = ((file, file.relative_to(path if path.is_dir() else path.parent)) for path in paths for file in corpus_files([path]))
    for path, inside in files:
        for where, row in raw_rows(path, skip_bad, say, lang, inside.as_posix()):
            try:
                entry = entry_of(row, where)
                if entry.entry_id in seen:
                    raise CorpusError(
                        f"{where}: the id {entry.entry_id!r} was already used at {seen[entry.entry_id]}. Ids must be unique in a corpus."
                    )
            except CorpusError as error:
                if not skip_bad:
                    raise
                say(f"left out: {error}")
                continue
            seen[entry.entry_id] = where
            yield entry


def entry_of(row: dict[str, Any], where: str) -> Entry:
    """One row as an entry. Unknown keys are kept in `extra`. Raises CorpusError naming `where`, the field, what was found and what was expected."""
    if not isinstance(row, dict):
        raise CorpusError(f"{where}: expected an object with keys such as question and answer, found {type(row).__name__}.")
    row = {key: value for key, value in row.items() if value is not None or key not in _KNOWN}
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise CorpusError(f"{where}: the row holds half of a surrogate pair (\\ud800 to \\udfff), which is no character.") from error
    for key in ("id", "kind", "lang", "locale", "region", "topic", "question", "answer", "text", "title", "source", "reliability"):
        if not isinstance(row.get(key, ""), str):
            raise CorpusError(f"{where}: field {key!r} must be text, found {type(row[key]).__name__} {str(row[key])[:40]!r}.")
    kind = row.get("kind") or ("qa" if row.get("question") else "passage")
    if kind not in ("qa", "passage"):
        raise CorpusError(f"{where}: field 'kind' is {kind!r}, expected 'qa' or 'passage'.")
    body_key = "answer" if kind == "qa" else "text"
    body = row.get(body_key, "").strip()
    if not body:
        raise CorpusError(
            f"{where}: a {kind} row needs a non-empty {body_key!r}; found {sorted(key for key, value in row.items() if value)}."
        )
    question = row.get("question", "").strip() if kind == "qa" else ""
    if kind == "qa" and not question:
        raise CorpusError(f"{where}: a qa row needs a non-empty 'question'.")
    lang = row.get("lang") or row.get("locale", "").split("-")[0]
    if lang not in LANGUAGES:
        raise CorpusError(f"{where}: field 'lang' is {lang!r}, expected one of {', '.join(LANGUAGES)}.")
    topic = _TOPIC_NAMES.get(row.get("topic", "").lower(), row.get("topic", "").lower())
    if topic and topic not in TOPICS:
        raise CorpusError(f"{where}: field 'topic' is {topic!r}, expected one of {', '.join(TOPICS)}.")
    try:
        queries = tuple(
            GeneratedQuery(query["lang"], query["text"], float(query.get("score", 0)), query.get("model", ""))
            for query in row.get("queries") or ()
        )
        if not all(isinstance(value, str) for query in queries for value in (query.lang, query.text, query.model)):
            raise TypeError("lang, text and model must be text")
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise CorpusError(f"{where}: field 'queries' must be a list of {{lang, text, score, model}} ({error!r}).") from error
    identity = row.get("id") or md5(f"{row.get('input_query', '')} {question or body}".encode()).hexdigest()
    return Entry(
        entry_id=identity, kind=kind, lang=lang, text=body, question=question, title=row.get("title", "").strip(), locale=row.get("locale", ""),
        region=row.get("region", ""), topic=topic, source=row.get("source", ""), reliability=row.get("reliability", ""), queries=queries,
        extra={key: value for key, value in row.items() if key not in _KNOWN or key in _UNUSED[kind]},
    )  # fmt: skip


def row_of(entry: Entry) -> dict[str, Any]:
    """The JSONL row that `entry_of` reads back as the same entry."""
    body = {"question": entry.question, "answer": entry.text} if entry.kind == "qa" else {"text": entry.text}
    row = {"id": entry.entry_id, "kind": entry.kind, "lang": entry.lang, "locale": entry.locale, "region": entry.region, "topic": entry.topic,
           "title": entry.title, **body, "source": entry.source, "reliability": entry.reliability}  # fmt: skip
    if entry.queries:
        row["queries"] = [{"lang": query.lang, "text": query.text, "score": query.score, "model": query.model} for query in entry.queries]
    return {key: value for key, value in row.items() if value} | dict(entry.extra)


def corpus_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The corpus files among `paths` and inside its folders, in name order."""
    for path in paths:
        if path.is_dir():
            found = [
                file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES and not file.name.lower().startswith("readme")
            ]
            if not found:
                raise CorpusError(f"{path} holds no corpus file. Known are {', '.join(SUFFIXES)}.")
            yield from found
        elif not path.exists():
            raise CorpusError(f"{path} is not there. Give a corpus file or folder.")
        elif path.suffix.lower() not in SUFFIXES:
            raise CorpusError(f"{path}: files of kind {path.suffix or 'without suffix'} are not known. Known are {', '.join(SUFFIXES)}.")
        else:
            yield path


def raw_rows(path: Path, skip_bad: bool, say, lang: str, name: str = "") -> Iterator[tuple[str, Any]]:
    """(where, row) of one file of any known form, before any row is judged. `name`: the file's in its corpus, for the ids of its passages."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        problem = f"{path}:{line}: not UTF-8 (byte 0x{raw[error.start]:02x}). Save the file as UTF-8."
        if not skip_bad:
            raise CorpusError(problem) from error
        say(f"replaced by �: {problem}")
        text = raw.decode("utf-8-sig", errors="replace")
    suffix = path.suffix.lower()
    if suffix in (".md", ".txt"):
        yield from _text_rows(path, text, lang, name or path.name)
    elif suffix in (".tsv", ".csv"):
        yield from _table_rows(path, text, skip_bad, say, lang)
    else:
        yield from _json_rows(path, text, skip_bad, say)


def _json_rows(path: Path, text: str, skip_bad: bool, say) -> Iterator[tuple[str, Any]]:
    if text.lstrip()[:1] == "[":
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{path}: not valid JSON ({error}).") from error
        for number, row in enumerate(rows, 1):
            yield f"{path}: item {number}", _nativqa(row, path)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problem = f"{path}:{number}: not valid JSON ({error})."
            if not skip_bad:
                raise CorpusError(f"{problem} Mend the line, or leave bad lines out with --skip-bad.") from error
            say(f"left out: {problem}")
            continue
        yield f"{path}:{number}", _nativqa(row, path)


def _nativqa(row: Any, path: Path) -> Any:
    """MultiNativQA's field names as ours. Tolerant, because its stored copies disagree (METHODS section 5, schema)."""
    if not isinstance(row, dict) or not ({"data_id", "category"} & row.keys()) or "lang" in row:
        return row
    row = dict(row)
    parts = path.stem.split("_")
    locale = next((name for (lang, country), name in _NATIVQA_LOCALES.items() if lang in parts and country in parts), "")
    row.setdefault("id", str(row.get("data_id") or ""))
    row.setdefault("topic", (row.get("category") or "").lower())
    row.setdefault("locale", locale)
    row.setdefault("lang", locale.split("-")[0])
    row.setdefault("kind", "qa")
    row.setdefault("input_query", row.get("input_query_id", ""))
    links = row.get("source_answer_url") or row.get("answer_URLs") or ""
    row.setdefault("source", links if isinstance(links, str) else " ".join(map(str, links)))
    row.setdefault("reliability", str(row.get("is_reliable") or ""))
    if isinstance(row.get("answer"), list):  # some "people also ask" snippets are lists of lines
        row["answer"] = " ".join(map(str, row["answer"]))
    return row


def _table_rows(path: Path, text: str, skip_bad: bool, say, lang: str) -> Iterator[tuple[str, Any]]:
    # strict, because a quote that is never closed would otherwise swallow the rows after it without a word
    reader = csv.DictReader(io.StringIO(text), dialect="excel-tab" if path.suffix.lower() == ".tsv" else "excel", strict=True)
    try:
        if not reader.fieldnames or not {"answer", "text"} & set(reader.fieldnames):
            raise CorpusError(f"{path}:1: the header must name question and answer (or text); found {reader.fieldnames}.")
        for row in reader:
            if None in row or None in row.values():  # csv.DictReader's way of saying so
                problem = f"{path}:{reader.line_num}: the row has more or fewer cells than the header."
                if not skip_bad:
                    raise CorpusError(problem)
                say(f"left out: {problem}")
                continue
            row = _nativqa(row, path)
            if lang and not row.get("lang") and not row.get("locale"):
                row["lang"] = lang
            yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise CorpusError(
            f"{path}:{reader.line_num + 1}: not a valid table ({error}). Cells that hold quotes, tabs or line ends must be quoted."
        ) from error


def _text_rows(path: Path, text: str, lang: str, name: str) -> Iterator[tuple[str, Any]]:
    """Paragraphs joined to passages of at most about 120 words; a Markdown heading is the title of what follows it."""
    if not lang:
        raise CorpusError(f"{path}: a text file does not say its language. Give it with --lang ({', '.join(LANGUAGES)}).")
    title, parts, started = path.stem, [], 1

    def passage() -> tuple[str, Any]:
        row = {
            "id": f"{name}:{started}",
            "kind": "passage",
            "lang": lang,
            "title": title,
            "text": "\n".join(parts),
            "source": path.name,
        }
        return f"{path}:{started}", row

    line_number = 1
    for paragraph in text.replace("\r\n", "\n").split("\n\n"):
        heading = paragraph.lstrip().startswith("#") and path.suffix.lower() == ".md"
        if parts and (heading or len(" ".join([*parts, paragraph]).split()) > _PASSAGE_WORDS):
            yield passage()
            parts = []
        if heading:
            first, _, paragraph = paragraph.strip().partition("\n")
            title = first.lstrip("# ").strip() or path.stem
        if paragraph.strip():
            started = started if parts else line_number
            parts.append(" ".join(paragraph.split()))
        line_number += paragraph.count("\n") + 2
    if parts:
        yield passage()

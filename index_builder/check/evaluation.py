"""Evaluation files: schema, qrels that exist, both splits, and no question that the index or the other split already holds."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from index_builder.check.corpus import Findings, Indexed, Row, check_text
from index_builder.check.report import printable
from index_builder.check.similar import NEAR, SAME, Similar
from index_builder.read import CorpusError
from index_builder.text import words
from index_builder.vocabulary import LANGUAGES, TOPICS

SUITES = ("cross_lingual", "paraphrase", "romanised", "temporal", "unanswerable", "free")
SPLITS = ("dev", "test")
_ANSWERED = ("cross_lingual", "temporal")  # these ask for a part of a row, so they say which; elsewhere the whole row is the answer
_GOLD_WORDS = 100


@dataclass(slots=True)
class Question:
    """One readable row of an evaluation file."""

    suite: str
    file: str
    line: int
    raw: dict[str, Any]

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def check_evaluation(folder: Path, rows: Sequence[Row], indexed: Mapping[str, Sequence[Indexed]], findings: Findings) -> Counter[tuple[str, str]]:
    """Adds to `findings`; returns the number of questions per (suite, split). Raises CorpusError when there is no such folder."""
    if not folder.is_dir():
        raise CorpusError(f"{folder} is no folder. Give the folder of the evaluation files, such as assets/evaluation.")
    questions: list[Question] = []
    for suite in SUITES:
        path = folder / f"{suite}.jsonl"
        if not path.is_file():
            findings.add("warning", str(path), 0, "", "schema", "no such file", f"the files {', '.join(SUITES)}")
            continue
        of_suite = _read(path, suite, findings)
        for split in SPLITS:
            share = sum(question.raw.get("split") == split for question in of_suite) / max(1, len(of_suite))
            if share < 0.3:
                severity = "error" if share == 0 else "warning"
                findings.add(severity, str(path), 0, "split", "split", f"{share:.0%} of the questions are {split}", "half dev, half test")
        questions += of_suite
    for path in sorted(folder.glob("*.jsonl")):
        if path.stem not in SUITES:
            findings.add("warning", str(path), 0, "", "schema", "a file that the linter does not know: not checked", f"the files {', '.join(SUITES)}")
    entries = {row.entry.entry_id: row.entry for row in rows}
    ids: dict[str, Question] = {}
    for question in questions:
        _check_question(question, entries, ids, findings)
    asked = [question for question in questions if question.raw.get("lang") in LANGUAGES and _has_words(question.raw.get("question"))]
    _check_leaks(asked, indexed, findings)
    _check_repeats(asked, findings)
    return Counter((question.suite, question.raw.get("split")) for question in questions if question.raw.get("split") in SPLITS)


def _read(path: Path, suite: str, findings: Findings) -> list[Question]:
    questions = []
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            text = line.decode("utf-8")
            row = json.loads(text)
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeDecodeError as error:
            findings.add("error", str(path), number, "", "not UTF-8", f"byte 0x{line[error.start]:02x}", "UTF-8")
        except UnicodeEncodeError:
            findings.add("error", str(path), number, "", "not UTF-8", "half a character (a lone surrogate)", "text that UTF-8 can hold")
        except (ValueError, RecursionError) as error:
            findings.add("error", str(path), number, "", "schema", f"not valid JSON ({error})", "one JSON object a line")
        else:
            if isinstance(row, dict):
                questions.append(Question(suite, str(path), number, row))
            else:
                findings.add("error", str(path), number, "", "schema", type(row).__name__, "one JSON object a line")
    return questions


def _has_words(text: Any) -> bool:
    return isinstance(text, str) and bool(words(text))


def _check_question(question: Question, entries: Mapping[str, Any], ids: dict[str, Question], findings: Findings) -> None:
    raw, suite = question.raw, question.suite

    def add(severity, name: str, check: str, found: str, expected: str) -> None:
        findings.add(severity, question.file, question.line, name, check, found, expected)

    def one_of(name: str, allowed: Sequence[str]) -> bool:
        if raw.get(name) in allowed:
            return True
        add("error", name, "schema", repr(raw.get(name, "nothing")), f"one of {', '.join(allowed)}")
        return False

    texts = ["question", *(["answer"] if suite in _ANSWERED or "answer" in raw else []), *(["answer_en"] if suite == "cross_lingual" else [])]
    whole = {name for name in ("id", *texts) if isinstance(raw.get(name), str) and raw[name].strip()}
    for name in ("id", *texts):
        if name not in whole:
            add("error", name, "schema", repr(raw[name]) if name in raw else "nothing", "text")
    known_lang = one_of("lang", LANGUAGES)
    if suite != "free" or "topic" in raw:
        one_of("topic", TOPICS)
    one_of("split", SPLITS)
    if suite == "romanised":
        one_of("script", ("Latn",))
    if "id" in whole:
        before = ids.setdefault(raw["id"], question)
        if before is not question:
            add("error", "id", "duplicate id", f"{raw['id']!r}, used before at {before.place}", "an id of its own")
    _check_qrels(raw, suite, entries, add)
    if known_lang:
        for name in texts:
            if name in whole:
                romanised = "Latin" if name == "question" and raw.get("script") == "Latn" else ""
                # a gold answer may be one name, so its length is no question of style
                measured = "question" if name == "question" else f"{name} "
                lang = "en" if name == "answer_en" else raw["lang"]
                check_text(raw[name], lang, measured, lambda severity, of, *rest: add(severity, of.strip(), *rest), script=romanised)
                if name != "question" and len(words(raw[name])) > _GOLD_WORDS:
                    add("warning", name, "length", f"{len(words(raw[name]))} words", f"at most {_GOLD_WORDS} words")


def _check_qrels(raw: dict[str, Any], suite: str, entries: Mapping[str, Any], add) -> None:
    qrels = raw.get("qrels")
    if not isinstance(qrels, dict):
        add("error", "qrels", "qrels", repr(qrels)[:60] if "qrels" in raw else "nothing", "an object of entry id and grade")
        return
    if suite == "unanswerable":
        if qrels:
            add("error", "qrels", "qrels", f"{', '.join(qrels)}", "{}: nothing in the corpus answers it")
        return
    if not qrels and suite != "free":
        add("error", "qrels", "qrels", "{}", "at least one entry that answers the question")
    for identity, grade in qrels.items():
        if isinstance(grade, bool) or not isinstance(grade, int) or grade < 1:
            add("error", "qrels", "qrels", f"grade {grade!r} for {identity!r}", "a whole number, 1 or more")
        if identity not in entries:
            add("error", "qrels", "qrels", f"{identity!r}, which the corpus does not hold", "ids of corpus rows")
    languages = sorted({entries[identity].lang for identity in qrels if identity in entries})
    if languages and raw.get("evidence_lang") not in languages:
        add("error", "evidence_lang", "schema", repr(raw.get("evidence_lang", "nothing")), f"the language of the entries in qrels: {', '.join(languages)}")


def _check_leaks(asked: Sequence[Question], indexed: Mapping[str, Sequence[Indexed]], findings: Findings) -> None:
    """A question that the index holds word for word is found by anything, and a figure made of such questions says nothing."""
    similar = {lang: Similar([one.text for one in of]) for lang, of in indexed.items()}
    for question in asked:
        lang = question.raw["lang"]
        if question.suite == "romanised" or lang not in similar or not (hit := similar[lang].near(question.raw["question"])):
            continue
        similarity, number = hit
        other = indexed[lang][number]
        found = f"{printable(question.raw['question'])!r} is {similarity:.2f} like {other.row.entry.entry_id!r} at {other.row.place}: {printable(other.text)!r}"
        findings.add("error", question.file, question.line, "question", "leak", found, f"a question unlike every indexed one (below {NEAR})")


def _check_repeats(asked: Sequence[Question], findings: Findings) -> None:
    """The same question twice counts twice; once in dev and once in test, it carries tuning over to the test."""
    groups: dict[tuple[str, bool], list[Question]] = {}
    for question in asked:
        groups.setdefault((question.raw["lang"], question.suite == "romanised"), []).append(question)
    for group in groups.values():
        for similarity, earlier, later in Similar([question.raw["question"] for question in group]).pairs():
            first, second = group[earlier], group[later]
            if similarity >= SAME:
                check = "duplicate" if similarity == 1 else "near-duplicate"
                found = f"{printable(second.raw['question'])!r} ({second.raw.get('split')}) is {similarity:.2f} like {first.place} ({first.raw.get('split')}): {printable(first.raw['question'])!r}"
                findings.add("error" if similarity == 1 else "warning", second.file, second.line, "question", check, found, "a question of its own")

"""Questions through the whole engine, or somebody's answers from a file -> rows with every figure of an answer, and their tables.

Two protocols. `honest`: the engine answers as the app does, with evidence, in its own words for the prompt. `paper`: the model alone
gets the prompt of LLMeBench's NativQA task, which tells it how many words the reference has (METHODS, finding 5), and is scored with
that task's character BLEU. Only figures of the paper protocol may be put beside the tables of the paper.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from index_builder.evaluate import answer_metrics as scores
from index_builder.evaluate.files import Unique, json_lines
from index_builder.evaluate.files import field as field_of
from index_builder.evaluate.measure import by_language
from index_builder.evaluate.runs import Cell, Row, Table
from index_builder.evaluate.statistics import macro_average, mean, mean_with_interval
from index_builder.vocabulary import MajlisError

if TYPE_CHECKING:
    from demo.engine import Engine

RIGHT_FROM = 0.7  # share of a reference's words that an answer must hold to count as right
_PAPER_TOKENS = 800
_ENGLISH_NAMES = {"ar": "Arabic", "as": "Assamese", "bn": "Bangla", "en": "English", "hi": "Hindi", "ne": "Nepali", "tr": "Turkish"}
_ANSWER_FIELD = re.compile(r'"answer"\s*:\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Item:
    """A question with the answers that count as right; none for a question without a reference."""

    item_id: str
    set: str
    lang: str
    text: str
    references: tuple[str, ...]
    locale: str = ""
    evidence_lang: str = ""
    relevant: frozenset[str] = frozenset()  # entries that answer it, where they are known


@dataclass(frozen=True, slots=True)
class Given:
    """An answer, from wherever it came."""

    text: str
    lang: str = ""  # of the source, when it was quoted
    abstained: bool = False
    failed: str = ""  # the key of the message, when there was no answer
    mode: str = ""
    cited: tuple[str, ...] = ()  # entry ids, in the order of the citations
    supported: int = 0  # citations whose sentence stands in the cited source
    unknown: int = 0  # marks that no evidence has
    first: str = ""  # the best evidence
    timings_ms: Mapping[str, float] = field(default_factory=dict)


Answers = Callable[[Item], Given]


def ask(engine: "Engine", mode: str = "") -> Answers:
    """Each question as a reader in its language and place would ask it."""
    from demo.engine import Question
    from demo.events import Done, Failed, Retrieved
    from demo.verify import MARK

    def answer(item: Item) -> Given:
        seen: dict[type, Any] = {
            type(event): event for event in engine.ask(Question(item.text, locale=item.locale, mode=mode, page_lang=item.lang))
        }
        retrieved, done, failed = seen.get(Retrieved), seen.get(Done), seen.get(Failed)
        first = retrieved.evidence[0].hit.entry.entry_id if retrieved and retrieved.evidence else ""
        if done is None:
            return Given("", failed=failed.key if failed else "no answer", first=first)
        numbers = {evidence.n for evidence in retrieved.evidence}
        return Given(
            done.answer, done.answer_lang, done.abstained, "", done.mode, tuple(citation.entry_id for citation in done.citations),
            sum(citation.supported for citation in done.citations), sum(int(mark) not in numbers for mark in MARK.findall(done.answer)),
            first, done.timings_ms,
        )  # fmt: skip

    return answer


def ask_as_paper(engine: "Engine") -> Answers:
    """The model alone with LLMeBench's NativQA prompt, which leaks the length of the reference. Raises MajlisError without a model."""
    generator = engine.generator
    if generator is None:
        raise MajlisError(
            "The paper protocol asks a language model without evidence, and none is loaded. Choose one with --model NAME, or --protocol honest."
        )
    cancel = threading.Event()
    generator.start(cancel)

    def answer(item: Item) -> Given:
        began = time.perf_counter()
        pieces = [piece for piece in generator.stream(paper_prompt(item), _PAPER_TOKENS, cancel) if isinstance(piece, str)]
        return Given(
            paper_answer("".join(pieces)), item.lang, mode="paper", timings_ms={"total": round((time.perf_counter() - began) * 1e3, 2)}
        )

    return answer


def paper_prompt(item: Item) -> list[dict[str, str]]:
    """The two messages of LLMeBench's zero-shot NativQA task, as METHODS section 5 restates them."""
    language = _ENGLISH_NAMES[item.lang]
    words = len(item.references[0].split()) if item.references else 0
    system = (
        f"You are a/an {language} AI assistant specialized in providing detailed and accurate answers across various fields. "
        "Your task is to deliver clear, concise, and relevant information."
    )
    user = (
        f"Please use your expertise to answer the following {language} question. Answer in {language} and rate your confidence level from 1 to 10. "
        'Provide your response in the following JSON format: {"answer": "your answer", "score": your confidence score}. Please provide JSON output only. '
        f"No additional text. Answer should be limited to less or equal to {words} words.\nQuestion: {item.text}"
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def paper_answer(text: str) -> str:
    """The "answer" of the JSON that was asked for, also out of JSON that was cut short; the whole text when there is none."""
    if match := _ANSWER_FIELD.search(text):
        try:
            return json.loads(f'"{match.group(1)}"', strict=False)
        except ValueError:
            return match.group(1)
    return text.strip()


def read_answers(path: Path, items: Sequence[Item]) -> Answers:
    """Somebody's answers: JSONL of {id, answer, lang}, `lang` optional. A question without a row counts as unanswered.

    Raises MajlisError with file and line for an id that was not asked or is answered twice, and for an answer in another language
    than was asked, which would be scored against the wrong reference.
    """
    asked = {item.item_id: item for item in items}
    unique = Unique("the id")
    given: dict[str, str] = {}
    for where, row in json_lines(path):
        item_id = str(field_of(row, "id", (str, int), where))
        text = field_of(row, "answer", str, where)
        unique(item_id, where)
        if item_id not in asked:
            raise MajlisError(f"{where}: id {item_id!r} was not asked in this suite and split. Give the answers to these questions.")
        if row.get("lang", asked[item_id].lang) != asked[item_id].lang:
            raise MajlisError(
                f"{where}: the answer is in {row['lang']!r}, question {item_id!r} was asked in {asked[item_id].lang!r}. Answers must be in the language asked."
            )
        given[item_id] = text
    if not given:
        raise MajlisError(f"{path} holds no answer. Expected lines of id and answer.")
    return lambda item: Given(given[item.item_id], item.lang) if item.item_id in given else Given("", failed="not in the file")


def rows(
    items: Sequence[Item], answers: Answers, language_of: Callable[[str], str], done: frozenset[str], bertscore: Mapping[str, Any]
) -> Iterator[Row]:
    """`language_of`: text -> its language; `bertscore`: language -> a scorer, where one is at hand (bertscore.py)."""
    for item in items:
        if item.item_id not in done:
            yield answer_row(item, answers(item), language_of, bertscore.get(item.lang))


def answer_row(item: Item, given: Given, language_of: Callable[[str], str], bertscore: scores.Score | None = None) -> Row:
    """Figures of one answer; an abstention or a failure scores 0 wherever a reference is known."""
    plain = re.sub(r"\s?\[\d{1,3}\]", "", given.text)
    answered = bool(plain.strip()) and not given.abstained and not given.failed
    text = plain if answered else ""
    figures: dict[str, float] = {"answered": float(answered)}
    if item.references:
        recall = scores.best(scores.word_recall, text, item.references)
        figures |= {
            "right": float(recall >= RIGHT_FROM), "word recall": recall, "token F1": scores.best(scores.token_f1, text, item.references),
            "ROUGE-L": scores.best(scores.rouge_l, text, item.references), "chrF": scores.chrf(text, item.references),
            "char-3-gram recall": scores.best(scores.char_ngram_recall, text, item.references),
        }  # fmt: skip
        if bertscore:
            figures["BERTScore"] = scores.best(bertscore, text, item.references)
    if answered:
        lines, words = scores.lines_in(item.lang, text, language_of), scores.words_in(item.lang, text)
        figures |= {name: float(passed) for name, passed in (("line pass", lines), ("word pass", words)) if passed is not None}
        marks = len(given.cited) + given.unknown
        if given.first:  # an answer from evidence should cite it
            figures["citation validity"] = len(given.cited) / marks if marks else 0.0
        if given.cited:
            figures["citation support"] = given.supported / len(given.cited)
        if item.relevant:
            figures["cites the right evidence"] = float(bool(item.relevant.intersection(given.cited)))
    row: Row = {
        "id": item.item_id, "set": item.set, "lang": item.lang, "question": item.text, "answer": given.text, "references": list(item.references),
        "scores": {name: round(value, 4) for name, value in figures.items()},
    }  # fmt: skip
    optional = {
        "evidence_lang": item.evidence_lang, "abstained": given.abstained, "failed": given.failed, "mode": given.mode,
        "timings_ms": dict(given.timings_ms), "first": given.first,
    }  # fmt: skip
    return row | {name: value for name, value in optional.items() if value}


# tables

_TEXT = ("token F1", "ROUGE-L", "chrF", "char-3-gram recall", "BERTScore")
_TRUST = ("line pass", "word pass", "citation validity", "citation support", "cites the right evidence")


def tables(found: Sequence[Row], protocol: str = "honest") -> list[Table]:
    """How often answers are right, how near they come to the reference, in which language they are, and what they cite; by set and language."""
    made = [_right(found), _near(found, protocol), _trust(found)]
    return [table for table in made if table.rows]


def _groups(found: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """(set, language or part of it, its rows): each set by language, and at the end all of them where there are several."""
    names = list(dict.fromkeys(row["set"] for row in found))
    for name in names:
        of_set = [row for row in found if row["set"] == name]
        groups = by_language(of_set)
        yield from ((name, lang, group) for lang, group in groups.items())
        if len(groups) > 1:
            yield name, "all", of_set
        own = [row for row in of_set if row.get("evidence_lang") == row["lang"]]
        other = [row for row in of_set if row.get("evidence_lang", row["lang"]) != row["lang"]]
        if own and other:
            yield from ((name, "own language", own), (name, "another language", other))
    if len(names) > 1:
        yield "all", "sets", list(found)


def _right(found: Sequence[Row]) -> Table:
    lines: list[tuple[Cell, ...]] = []
    for name, lang, group in _groups([row for row in found if "right" in row["scores"]]):
        by_lang = {one: values_of(rows, "right") for one, rows in by_language(group).items()}
        lines.append((
            f"{name} {lang}", len(group), mean(values_of(group, "answered")), mean_with_interval(values_of(group, "right")),
            macro_average(by_lang) if lang in ("all", "sets") else None,
        ))  # fmt: skip
    note = f"An answer counts as right when it holds {RIGHT_FROM:.0%} of the words of a reference (case endings aside); no answer counts as wrong."
    return Table("answers", ("questions", "n", "answered", "right", "right, macro-average"), lines, note)


def _near(found: Sequence[Row], protocol: str) -> Table:
    bleu = "character BLEU (paper)" if protocol == "paper" else "BLEU"
    score = scores.char_bleu if protocol == "paper" else scores.corpus_bleu
    present = [name for name in _TEXT if any(name in row["scores"] for row in found)]
    lines = []
    for name, lang, group in _groups([row for row in found if row["references"]]):
        answers = ["" if row.get("abstained") else re.sub(r"\s?\[\d{1,3}\]", "", row["answer"]) for row in group]
        corpus = round(score(answers, [row["references"][0] for row in group]), 4)
        lines.append((f"{name} {lang}", len(group), *(mean(values_of(group, metric)) for metric in present), corpus))
    note = "Mean over all questions of the best figure over the references; BLEU is of the whole set, against the first reference."
    if protocol == "paper":
        note += " The prompt told the model how many words the reference has, as LLMeBench's does."
    return Table("nearness to the reference", ("questions", "n", *present, bleu), lines if present else [], note)


def _trust(found: Sequence[Row]) -> Table:
    answered = [row for row in found if row["scores"]["answered"]]
    present = [name for name in _TRUST if any(name in row["scores"] for row in answered)]
    lines = [
        (f"{name} {lang}", len(group), *(mean(values_of(group, metric)) for metric in present)) for name, lang, group in _groups(answered)
    ]
    note = (
        "Of the answers given. Line pass: every line is in the language of the question; word pass: no word in Latin letters (not for en, tr). "
        "Citation validity: marks that name given evidence; support: cited sentences whose words stand in the source."
    )
    return Table("language and citations of answers", ("questions", "answers", *present), lines if present else [], note)


def values_of(group: Sequence[Row], metric: str) -> list[float]:
    return [row["scores"][metric] for row in group if metric in row["scores"]]

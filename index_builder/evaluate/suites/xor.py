"""XOR-Retrieve and XOR-Full (Asai et al. 2021) with the rules of the published scripts, on their files or through this engine.

The gold file holds lines of id, question, lang and answers. Predictions of XOR-Retrieve are a list of {id, lang, ctxs: [passage text, …]}, best
first, without titles; those of XOR-Full an object of question id -> short answer.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from index_builder.evaluate import answer_metrics as scores
from index_builder.evaluate.files import Source, Unique, digests, field, json_file, json_lines, require
from index_builder.evaluate.measure import Task, by_language
from index_builder.evaluate.metrics import first_tokens, token_budget_hit
from index_builder.evaluate.runs import Cell, Row, Table
from index_builder.evaluate.statistics import macro_average, mean_with_interval
from index_builder.evaluate.suites.answering import Given, Item, ask
from index_builder.evaluate.suites.opening import described_engine, described_index, engine_of, engine_options, index_of
from index_builder.evaluate.tokens import tokenizer
from index_builder.search import Reader
from index_builder.vocabulary import LANGUAGES, MajlisError

SUMMARY = "R@2kt and R@5kt of XOR-Retrieve, F1, EM and BLEU of XOR-Full."
_WHERE, _LICENCE = "nlp.cs.washington.edu/xorqa", "CC BY-SA 4.0"
SOURCES = {
    "retrieve": Source("xor_dev_retrieve_eng_span_v1_1.jsonl", _WHERE, _LICENCE),
    "full": Source("xor_dev_full_v1_1.jsonl", _WHERE, _LICENCE),
}
BUDGETS = (200, 500, 2_000, 5_000)
_DEPTH = 50
_NO_ANSWER = "No Answer"


@dataclass(frozen=True, slots=True)
class Gold:
    question_id: str
    lang: str
    text: str
    answers: tuple[str, ...]


def add_options(parser: argparse.ArgumentParser) -> None:
    engine_options(parser)
    parser.add_argument("--task", choices=("retrieve", "full"), default="retrieve")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help=f"{SOURCES['retrieve'].file} or {SOURCES['full'].file}, from {_WHERE}"
    )
    parser.add_argument(
        "--predictions", type=Path, metavar="FILE", help="predictions in the published form (above), instead of this index or engine"
    )
    parser.add_argument("--lang", action="append", default=[], metavar="LANG", help="only questions in this language (may be repeated)")


def open_task(options: argparse.Namespace) -> Task:
    gold = read_gold(require(options.data, SOURCES[options.task]), tuple(options.lang))
    configuration = {"task": options.task, "data": digests([options.data]), "langs": sorted(set(options.lang))}
    if options.predictions:
        configuration["predictions"] = digests([options.predictions])
    if options.task == "retrieve":
        return _retrieve(options, gold, configuration)
    return _full(options, gold, configuration)


def read_gold(path: Path, langs: Sequence[str] = ()) -> list[Gold]:
    """Lines of {id, question, lang, answers}; `answers` may be one text. Raises MajlisError with file and line."""
    unique = Unique("the question")
    gold = []
    for where, row in json_lines(path):
        answers = field(row, "answers", (list, str), where)
        _texts(answers, "answers", where)
        one = Gold(str(field(row, "id", (str, int), where)), field(row, "lang", str, where), field(row, "question", str, where),
                   (answers,) if isinstance(answers, str) else tuple(answers))  # fmt: skip
        unique(one.question_id, where)
        if not langs or one.lang in langs:
            gold.append(one)
    if not gold:
        raise MajlisError(f"{path} holds no question{f' in {chr(44).join(langs)}' if langs else ''}. Give the file as it is published.")
    return gold


def _texts(values: Sequence[object], key: str, where: str) -> None:
    if strange := [value for value in values if not isinstance(value, str)]:
        raise MajlisError(f"{where}: expected texts in {key!r}, found {strange[0]!r:.60}.")


# XOR-Retrieve


def _retrieve(options: argparse.Namespace, gold: Sequence[Gold], configuration: dict) -> Task:
    name, cut = tokenizer()
    configuration["tokens"] = name
    if options.predictions:
        found = read_contexts(options.predictions, {one.question_id: one for one in gold})
        contexts: Callable[[Gold], Sequence[str] | None] = lambda one: found.get(one.question_id)
        close = lambda: None
    else:
        index = index_of(options)
        configuration["index"] = described_index(index)
        contexts = lambda one: [hit.entry.text for hit in index.search(one.text, _DEPTH, reader=Reader(one.lang))]
        close = index.close
    note = (
        f"R@Kt: a gold answer stands, letter for letter, in the first K tokens (by {name}) of the passages found. Questions answered by yes or no are not "
        "counted, nor, as in the published script, those without a prediction. Average: unweighted over languages."
    )
    return Task("xor", "XOR-Retrieve", configuration, lambda done: _retrieve_rows(gold, contexts, cut, done), retrieve_tables, note, close)


def read_contexts(path: Path, gold: Mapping[str, Gold]) -> dict[str, list[str]]:
    """The published form: a list of {id, lang, ctxs: [passage, …]}. Ids that the gold file lacks are skipped, as there.

    Raises MajlisError for an empty list, an id predicted twice, and a language other than the question's.
    """
    data = json_file(path)
    if not isinstance(data, list) or not data:
        raise MajlisError(f"{path}: expected a list of {{id, lang, ctxs}} with at least one prediction, found {str(data)[:40]!r}.")
    unique = Unique("the prediction for")
    found: dict[str, list[str]] = {}
    for number, row in enumerate(data, 1):
        where = f"{path}: item {number}"
        question_id, contexts = str(field(row, "id", (str, int), where)), field(row, "ctxs", list, where)
        unique(question_id, where)
        _texts(contexts, "ctxs", where)
        if question_id in gold:
            if row.get("lang") != gold[question_id].lang:
                raise MajlisError(
                    f"{where}: the language is {row.get('lang')!r}, question {question_id!r} is in {gold[question_id].lang!r}."
                )
            found[question_id] = contexts
    if not found:
        raise MajlisError(f"{path}: none of its {len(data):,} ids is in the gold file. Give the gold file of the same split.")
    return found


def _retrieve_rows(
    gold: Sequence[Gold], contexts: Callable[[Gold], Sequence[str] | None], cut: Callable[[str], list[str]], done: frozenset[str]
) -> Iterator[Row]:
    for one in gold:
        if one.question_id in done:
            continue
        found = contexts(one)
        if found is None:
            continue
        tokens = _tokens(found, cut)
        hits = {f"R@{_short(budget)}": token_budget_hit(one.answers, tokens, budget) for budget in BUDGETS}
        if None not in hits.values():
            yield {
                "id": one.question_id, "set": "XOR-Retrieve", "lang": one.lang, "question": one.text, "scores": {name: float(hit) for name, hit in hits.items()},
                "tokens": len(first_tokens(tokens, BUDGETS[-1])),
            }  # fmt: skip


def _tokens(contexts: Sequence[str], cut: Callable[[str], list[str]]) -> list[list[str]]:
    """Of as many passages as the largest budget needs; the rest is not worth cutting."""
    tokens: list[list[str]] = []
    count = 0
    for context in contexts:
        tokens.append(cut(context))
        count += len(tokens[-1])
        if count >= BUDGETS[-1]:
            break
    return tokens


def _short(budget: int) -> str:
    return f"{budget // 1_000}kt" if budget >= 1_000 else f"{budget}t"


def retrieve_tables(rows: Sequence[Row]) -> list[Table]:
    return [_by_language("XOR-Retrieve", rows, [f"R@{_short(budget)}" for budget in BUDGETS], tokens=True)]


def _by_language(title: str, rows: Sequence[Row], names: Sequence[str], tokens: bool = False) -> Table:
    groups = by_language(rows)
    lines: list[tuple[Cell, ...]] = []
    for lang, group in groups.items():
        used = (round(sum(row["tokens"] for row in group) / len(group)),) if tokens else ()
        lines.append((lang, len(group), *(mean_with_interval([row["scores"][name] for row in group]) for name in names), *used))
    macro = [macro_average({lang: [row["scores"][name] for row in group] for lang, group in groups.items()}) for name in names]
    lines.append(("average", len(rows), *macro, *((None,) if tokens else ())))
    return Table(title, ("questions in", "n", *names, *(("tokens there were",) if tokens else ())), lines)


# XOR-Full, and the same rules for MKQA


def _full(options: argparse.Namespace, gold: Sequence[Gold], configuration: dict) -> Task:
    asked = [one for one in gold if one.answers != (_NO_ANSWER,)]
    if options.predictions:
        predictions = read_predictions(options.predictions, {one.question_id for one in asked})
        return Task(
            "xor", "XOR-Full", configuration, lambda done: full_rows("XOR-Full", asked, predictions.get, done), full_tables, FULL_NOTE
        )
    engine = engine_of(options)
    configuration["engine"] = described_engine(engine)
    asked = [one for one in asked if one.lang in LANGUAGES]
    note = f"{FULL_NOTE} Only questions in the languages that Majlis speaks were asked."
    return Task(
        "xor",
        "XOR-Full",
        configuration,
        lambda done: full_rows("XOR-Full", asked, engine_answers(engine, asked), done),
        full_tables,
        note,
        engine.close,
    )


FULL_NOTE = "The rules of XOR-Full's script: ASCII punctuation alone is dropped, BLEU is of characters, a missing prediction counts as 0. Average: unweighted over languages."


def read_predictions(path: Path, asked: set[str]) -> dict[str, str]:
    """The published form: an object of question id -> short answer; whatever stands before the last "_" of an id is dropped, as there."""
    data = json_file(path)
    if not isinstance(data, dict) or not data:
        raise MajlisError(f"{path}: expected an object of question id -> answer with at least one, found {str(data)[:40]!r}.")
    for key, value in data.items():
        if not isinstance(value, str):
            raise MajlisError(f"{path}: the answer to {key!r} must be text, found {value!r:.40}.")
    found = {key.split("_")[-1]: value for key, value in data.items()}
    if not asked & found.keys():
        raise MajlisError(f"{path}: none of its {len(found):,} ids is in the gold file. Give the gold file of the same split.")
    return found


def engine_answers(engine, asked: Sequence[Gold]) -> Callable[[str], str | None]:
    """The engine's answers by question id, without citation marks; None where it abstained."""
    from demo.verify import without_marks

    answer, by_id = ask(engine), {one.question_id: one for one in asked}

    def of(question_id: str) -> str | None:
        one = by_id[question_id]
        given: Given = answer(Item(one.question_id, "", one.lang, one.text, one.answers))
        return None if given.abstained or given.failed else without_marks(given.text)

    return of


def full_rows(name: str, gold: Sequence[Gold], predicted: Callable[[str], str | None], done: frozenset[str]) -> Iterator[Row]:
    for one in gold:
        if one.question_id not in done:
            answer = predicted(one.question_id)
            yield {
                "id": one.question_id, "set": name, "lang": one.lang, "question": one.text, "answer": answer or "", "references": list(one.answers),
                "scores": {key: round(value, 6) for key, value in full_scores(one, answer).items()},
            }  # fmt: skip


def full_scores(one: Gold, answer: str | None) -> dict[str, float]:
    if answer is None:
        return {"F1": 0.0, "EM": 0.0, "BLEU": 0.0}
    given, references = answer, list(one.answers)
    if one.lang == "ja":
        references = [scores.mecab_words(reference) for reference in references]
        given = scores.mecab_words(answer.replace("・", " ").replace("、", ","))
    return {
        "F1": scores.best(scores.xor_f1, given, references), "EM": scores.best(scores.xor_exact_match, given, references),
        "BLEU": scores.xor_bleu(answer, references),
    }  # fmt: skip


def full_tables(rows: Sequence[Row]) -> list[Table]:
    return [_by_language(rows[0]["set"], rows, ("F1", "EM", "BLEU"))]

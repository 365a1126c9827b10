"""Whether the app says "I do not know" when it should: questions that the corpus answers, near misses that it does not, and questions asked freely."""

import argparse
from collections.abc import Iterator, Sequence

from index_builder.evaluate.files import digests
from index_builder.evaluate.measure import Task, by_language
from index_builder.evaluate.questions import FREE, UNANSWERABLE, Asked, read_questions
from index_builder.evaluate.runs import Cell, Row, Table
from index_builder.evaluate.statistics import (
    Detection,
    Share,
    area_under_curve,
    expected_calibration_error,
    reliability_bins,
)
from index_builder.evaluate.suites.opening import (
    check_sample,
    described_engine,
    engine_of,
    engine_options,
    first_of_each,
    question_options,
    sample_option,
)

SUMMARY = "How well questions that the corpus cannot answer are refused, and how far the stated confidence can be believed."
ANSWERABLE = ("paraphrase", "temporal")


def add_options(parser: argparse.ArgumentParser) -> None:
    engine_options(parser)
    question_options(parser)
    sample_option(parser)


def open_task(options: argparse.Namespace) -> Task:
    check_sample(options)
    engine = engine_of(options)
    known = frozenset(entry.entry_id for entry in engine.index.entries())
    files = [options.data / f"{name}.jsonl" for name in (*ANSWERABLE, UNANSWERABLE, FREE)]
    asked = [
        one
        for path in files
        for one in read_questions(path, options.split, known)
        if one.set in (UNANSWERABLE, FREE) or one.lang == one.evidence_lang
    ]
    configuration = {"split": options.split, "sample": options.sample, "data": digests(files), "engine": described_engine(engine)}
    tuned = "The threshold was chosen on these questions. " if options.split == "dev" else ""
    note = f"{tuned}Answerable: reworded questions in the language of their evidence. Unanswerable: near misses, written so that the corpus nearly answers them."
    title = f"Refusal, {options.split}" + (f": {engine.generator.name}" if engine.generator else "")
    return Task(
        "refusal", title, configuration, lambda done: _rows(engine, first_of_each(asked, options.sample), done), tables, note, engine.close
    )


def _rows(engine, asked: Sequence[Asked], done: frozenset[str]) -> Iterator[Row]:
    from demo.engine import Question
    from demo.events import Done, Failed, Retrieved

    for one in asked:
        if f"{one.set}/{one.query_id}" in done:
            continue
        seen = {type(event): event for event in engine.ask(Question(one.text, page_lang=one.lang))}
        retrieved, finished = seen.get(Retrieved), seen.get(Done)
        evidence = retrieved.evidence if retrieved else ()
        first = evidence[0].hit.entry if evidence else None
        row: Row = {
            "id": f"{one.set}/{one.query_id}", "set": one.set, "lang": one.lang, "question": one.text, "answerable": bool(one.relevant),
            "refused": Failed in seen or bool(finished and finished.abstained), "confidence": round(retrieved.relevance, 4) if retrieved else 0.0,
            "right": bool(first and first.entry_id in one.relevant), "sure": bool(finished) and ("unsure", "") not in finished.notices,
        }  # fmt: skip
        row["scores"] = {"decided right": float(row["refused"] != row["answerable"])}
        if first and not row["scores"]["decided right"]:
            row["evidence"] = [{"id": first.entry_id, "lang": first.lang, "text": first.text[:200]}]
        yield row


def tables(rows: Sequence[Row]) -> list[Table]:
    written, free = ([row for row in rows if (row["set"] == FREE) == of_free] for of_free in (False, True))
    groups = by_language(written) | {"all": written}
    return [_decisions(groups), _asked_freely(by_language(free) | {"all": free}), _calibration(groups), _bins(written)]


def _decisions(groups: dict[str, list[Row]]) -> Table:
    lines: list[tuple[Cell, ...]] = []
    for lang, group in groups.items():
        no, yes = [row["refused"] for row in group if not row["answerable"]], [row for row in group if row["answerable"]]
        wrongly = [Share(sum(row["refused"] and (row["right"] or not first) for row in yes), len(yes)).cell() for first in (False, True)]
        found = Detection.of([(row["refused"], not row["answerable"]) for row in group])
        lines.append((lang, len(no), Share(sum(no), len(no)).cell(), len(yes), *wrongly, found.precision))
    columns = (
        "language", "unanswerable", "refused (recall)", "answerable", "wrongly refused", "though the right evidence was first", "precision of refusals",
    )  # fmt: skip
    note = (
        "Refused: higher is better. Wrongly refused: lower is better; where other evidence was first, the answer would have been wrong. "
        "Intervals are Wilson's at 95 %."
    )
    return Table("refusals", columns, lines, note)


def _asked_freely(groups: dict[str, list[Row]]) -> Table:
    lines: list[tuple[Cell, ...]] = []
    for lang, group in groups.items():
        no, yes = [row for row in group if not row["answerable"]], [row for row in group if row["answerable"]]
        answers = [row for row in group if not row["refused"]]
        sure = [row for row in answers if row["sure"]]
        shares = (
            Share(sum(row["right"] and not row["refused"] for row in yes), len(yes)),
            Share(sum(row["refused"] for row in yes), len(yes)),
            Share(sum(row["refused"] for row in no), len(no)),
            Share(sum(row["right"] for row in answers), len(answers)),
            Share(sum(row["right"] for row in sure), len(sure)),
        )
        auc = area_under_curve([(row["confidence"], row["answerable"]) for row in group])
        lines.append((lang, len(yes), *(share.cell() for share in shares[:2]), len(no), shares[2].cell(), len(answers), shares[3].cell(), len(sure), shares[4].cell(), auc))
    columns = (
        "language", "answerable", "answered from the right evidence", "wrongly refused", "unanswerable", "refused", "answers given",
        "from the right evidence", "without the remark that it is unsure", "of these from the right evidence", "AUC, answerable",
    )  # fmt: skip
    note = (
        "Questions asked without looking at the corpus. What answers them was judged among the first three entries that a search without cross-encoder "
        "found, so an answer from a fourth counts as wrong: lower bounds. Questions that are answered only in part are left out."
    )
    return Table("asked freely", columns, lines, note)


def _calibration(groups: dict[str, list[Row]]) -> Table:
    lines = []
    for lang, group in groups.items():
        judged = [(row["confidence"], row["right"]) for row in group]
        answerable = [(row["confidence"], row["answerable"]) for row in group]
        lines.append(
            (lang, len(group), round(expected_calibration_error(judged), 4), area_under_curve(judged), area_under_curve(answerable))
        )
    note = (
        "The confidence that the app states against whether the first evidence answers the question. AUC: the chance that a question "
        "with the right evidence first, or an answerable one, is given more confidence than another; 0.5 is a coin."
    )
    return Table(
        "calibration", ("language", "n", "expected calibration error", "AUC, right evidence first", "AUC, answerable"), lines, note
    )


def _bins(rows: Sequence[Row]) -> Table:
    bins = reliability_bins([(row["confidence"], row["right"]) for row in rows])
    lines = [(f"{one.confidence:.2f}", one.count, round(one.right, 4)) for one in bins]
    return Table(
        "reliability",
        ("mean stated confidence", "n", "right evidence first"),
        lines,
        "All languages, in ten equal bins of the stated confidence.",
    )

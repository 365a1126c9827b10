"""The whole engine on the bundled questions that have a known answer, with any generator of models.toml, or somebody's answers to them."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from index_builder.evaluate.files import digests
from index_builder.evaluate.measure import Task
from index_builder.evaluate.questions import SETS, read_questions
from index_builder.evaluate.suites import answering
from index_builder.evaluate.suites.answering import Item
from index_builder.evaluate.suites.opening import (
    check_sample,
    described_engine,
    engine_of,
    engine_options,
    first_of_each,
    question_options,
    sample_option,
)
from index_builder.vocabulary import LANGUAGES, Entry, MajlisError

if TYPE_CHECKING:
    from demo.engine import Engine

SUMMARY = "How often the whole engine answers right, in the right language, with citations that hold."


def add_options(parser: argparse.ArgumentParser) -> None:
    engine_options(parser)
    question_options(parser)
    sample_option(parser)
    answer_options(parser)


def answer_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=("verbatim", "generate"), default="", help="default: the best that the engine can do")
    parser.add_argument(
        "--protocol", choices=("honest", "paper"), default="honest",
        help="paper: the prompt of the NativQA paper, which tells the model the length of the reference, and its character BLEU",
    )  # fmt: skip
    parser.add_argument(
        "--answers", type=Path, metavar="FILE", help="score these answers (JSONL of id, answer, lang) instead of asking the engine"
    )
    parser.add_argument("--bertscore", type=Path, metavar="DIR", help="folder with one transformers encoder a language: DIR/ar, DIR/bn …")


def open_task(options: argparse.Namespace) -> Task:
    check_sample(options)
    engine = engine_of(options)
    entries = {entry.entry_id: entry for entry in engine.index.entries()}
    files = [options.data / f"{name}.jsonl" for name in SETS]
    items = first_of_each([item for path in files for item in _items(path, options.split, entries)], options.sample)
    return engine_task("answers", f"Answers, {options.split}", engine, items, files, options)


def engine_task(
    suite: str, title: str, engine: "Engine", items: Sequence[Item], files: Sequence[Path], options: argparse.Namespace
) -> Task:
    """Questions with references, through the engine or from a file: what the suites answers and nativqa share."""
    scorers = bertscorers(options.bertscore)
    if options.answers:
        answers = answering.read_answers(options.answers, items)
        by, how = f"answers of {options.answers.name}", {"answers": digests([options.answers])}
    elif options.protocol == "paper":
        answers = answering.ask_as_paper(engine)
        by, how = f"{engine.generator.name} alone, protocol of the paper", {"protocol": "paper"}
    else:
        mode = options.mode or engine.modes[-1]
        answers = answering.ask(engine, mode)
        by, how = answered_by(engine, mode), {"protocol": "honest", "mode": mode}
    configuration = how | {
        "split": options.split, "sample": options.sample, "data": digests(files), "engine": described_engine(engine), "bertscore": sorted(scorers),
    }  # fmt: skip
    note = f"The first {options.sample} questions of each set and language." if options.sample else "Every question of the split."
    return Task(
        suite, f"{title}: {by}", configuration, lambda done: answering.rows(items, answers, lambda text: engine.detector.detect(text).lang, done, scorers),
        lambda found: answering.tables(found, options.protocol), note, engine.close,
    )  # fmt: skip


def answered_by(engine: "Engine", mode: str) -> str:
    """For a title: who answers."""
    if engine.generator is None:
        return "quoted from the evidence"
    return f"{engine.generator.name}, {'choosing among the evidence' if mode == 'verbatim' else 'in its own words'}"


def bertscorers(folder: Path | None) -> dict[str, answering.scores.Score]:
    """Language -> scorer, for the encoders that are there. Raises MajlisError when there is none."""
    if folder is None:
        return {}
    from index_builder.evaluate.bertscore import open_scorer

    present = [lang for lang in LANGUAGES if (folder / lang).is_dir()]
    if not present:
        raise MajlisError(
            f"{folder} holds no folder {', '.join(LANGUAGES)}. Put a transformers encoder into the folder of its language, or leave --bertscore out."
        )
    return {lang: open_scorer(folder / lang) for lang in present}


def _items(path: Path, split: str, entries: dict[str, Entry]) -> list[Item]:
    """A short gold answer is the reference where there is one, otherwise the text of what answers the question."""
    return [
        Item(f"{one.set}/{one.query_id}", one.set, one.lang, one.text, one.answers or tuple(entries[i].text for i in sorted(one.relevant)),
             evidence_lang=one.evidence_lang, relevant=one.relevant)
        for one in read_questions(path, split, frozenset(entries))
    ]  # fmt: skip

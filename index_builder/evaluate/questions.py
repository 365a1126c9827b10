"""The project's own evaluation files (assets/evaluation): questions with what answers them."""

from dataclasses import dataclass
from pathlib import Path

from index_builder.evaluate.files import Unique, json_lines
from index_builder.vocabulary import MajlisError

SETS = ("cross_lingual", "paraphrase", "romanised", "temporal")
UNANSWERABLE = "unanswerable"
FREE = "free"  # asked without looking at the corpus; some of them it answers


@dataclass(frozen=True, slots=True)
class Asked:
    """One row of an evaluation file."""

    query_id: str
    set: str
    lang: str
    split: str
    text: str
    evidence_lang: str
    relevant: frozenset[str]
    answers: tuple[str, ...] = ()  # short gold answers: in the language of the question, and in English where there is one


def read_questions(path: Path, split: str, known: frozenset[str] | None) -> list[Asked]:
    """The rows of one evaluation file in one split.

    `known`: the ids that the index holds, None where qrels do not matter.
    Raises MajlisError with file and line for a bad row, an id used twice, a qrel that the index does not know, and a question
    without a relevant entry (unless the file is that of the unanswerable or of the freely asked).
    """
    if not path.is_file():
        raise MajlisError(f"{path} is not there. The evaluation files ship in assets/evaluation; give another folder with --data.")
    asked = []
    unique = Unique("the id")
    for where, row in json_lines(path):
        try:
            one = Asked(
                row["id"],
                path.stem,
                row["lang"],
                row["split"],
                row["question"],
                row.get("evidence_lang", ""),
                frozenset(i for i, grade in row["qrels"].items() if grade >= 1),
                tuple(dict.fromkeys(row[key] for key in ("answer", "answer_en") if row.get(key))),
            )
        except (KeyError, AttributeError, TypeError) as error:
            raise MajlisError(f"{where}: expected id, lang, split, question and qrels ({error!r}).") from error
        unique(one.query_id, where)
        unknown = one.relevant - known if known is not None else ()
        if unknown:
            raise MajlisError(
                f"{where}: qrels name {min(unknown)!r}, which the index does not hold. Build the index from the corpus of these questions."
            )
        if not one.relevant and path.stem not in (UNANSWERABLE, FREE):
            raise MajlisError(
                f"{where}: question {one.query_id!r} has no relevant entry (no grade of 1 or more). Judge it, or leave it out."
            )
        if one.split == split:
            asked.append(one)
    return asked

"""Training files -> examples. An example is a few texts in different languages, or a question and the sentence that answers it, that mean one thing."""

import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from index_builder.text import sentences
from index_builder.vocabulary import MajlisError

FAMILIES = ("parallel", "romanised", "question")
NAME_SOURCES = ("libmateweather-places", "aosp-deskclock-cities", "cldr-ter")


@dataclass(frozen=True, slots=True)
class Example:
    """Texts that should lie together: `sides[language]` holds the renderings of one sentence ("question" and "answer" for a QA row)."""

    source: str  # where it came from: "tatoeba-manythings"
    licence: str
    family: str  # of FAMILIES
    sides: dict[str, list[str]]


def read_rows(path: Path) -> Iterator[str]:
    if not path.is_file():
        raise MajlisError(f"Training file {path} is not there. Give the folder that holds it with --data.")
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield line.rstrip("\n")


def read_parallel(data: Path) -> list[Example]:
    """`parallel/en-*.tsv.xz` joined on the English side, so that as-ar and ne-tr pairs arise where both share an English sentence."""
    joined: dict[tuple[str, str], Example] = {}
    for path in sorted((data / "parallel").glob("en-*.tsv.xz")):
        lang = path.name[3:5]
        for row in read_rows(path):
            english, other, source, licence = row.split("\t")[:4]
            source = source.split(":")[0]
            example = joined.setdefault((source, english), Example(source, licence, "parallel", {"en": [english]}))
            example.sides.setdefault(lang, []).append(other)
    if not joined:
        raise MajlisError(f"No parallel/en-*.tsv.xz under {data}. Give the folder of training data with --data.")
    return list(joined.values())


def split_names(examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """(the rest, a tenth of the place names by hash): a name held out is held out of every source that has it as a whole row."""
    held = {
        example.sides["en"][0].lower()
        for example in examples
        if example.source in NAME_SOURCES and blake2b(example.sides["en"][0].lower().encode(), digest_size=2).digest()[0] % 10 == 0
    }
    names = [example for example in examples if example.source in NAME_SOURCES and example.sides["en"][0].lower() in held]
    return [example for example in examples if example.sides["en"][0].lower() not in held], names


def read_romanised(data: Path) -> list[Example]:
    """The same words and sentences in native and in Latin letters: names meet across scripts, and romanised questions find their answers."""
    examples = []
    for row in read_rows(data / "romanised" / "words.tsv.xz"):
        lang, roman, native, source = row.split("\t")[:4]
        examples.append(
            Example(f"{source.split(':')[0]}-{lang}", "CC BY 4.0 / CC BY-SA 4.0", "romanised", {lang: [native], "roman": [roman]})
        )
    for row in map(json.loads, read_rows(data / "romanised" / "sentences.jsonl.xz")):
        if "flores" not in row["source"].lower():  # FLORES dev is what we measure on
            sides = {row["lang"]: [row["native"]], "roman": [row["roman"]]}
            examples.append(Example(f"{row['source']}-sentences", row["licence"], "romanised", sides))
    return examples


def read_questions(data: Path) -> tuple[list[Example], list[Example]]:
    """Question -> the sentence of its passage that holds the answer: (training, held-out tenth). A row whose answer is in no sentence is left out."""
    train: list[Example] = []
    held_out: list[Example] = []
    for row in map(json.loads, read_rows(data / "qa" / "qa.jsonl.xz")):
        found = [sentence for sentence in sentences(row["passage"]) if row["answer"] in sentence]
        if not found:
            continue
        sides = {"question": [row["question"]], "answer": [f"{row['title']}. {found[0]}", found[0]]}
        example = Example(row["source"], row["licence"], "question", sides)
        # by title, so that no article is on both sides of the split
        tenth = blake2b(row["title"].encode(), digest_size=2).digest()[0] % 10 == 0
        (held_out if tenth else train).append(example)
    return train, held_out

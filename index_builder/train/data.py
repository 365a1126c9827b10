"""Training files -> examples. An example is a few texts in different languages, or a question and the sentence that answers it, that mean one thing."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from index_builder.evaluate.files import json_lines, text_lines
from index_builder.text import sentences
from index_builder.vocabulary import MajlisError

NAME_SOURCES = ("libmateweather-places", "aosp-deskclock-cities", "cldr-ter")


@dataclass(frozen=True, slots=True)
class Example:
    """Texts that should lie together: `sides[language]` holds the renderings of one sentence ("question" and "answer" for a QA row)."""

    source: str  # where it came from: "tatoeba-manythings"
    licence: str
    family: str  # "parallel", "romanised" or "question"
    sides: dict[str, list[str]]


def training_files(data: Path) -> list[Path]:
    """Everything that the encoder is trained and measured on."""
    return [path for part in ("parallel", "qa", "romanised", "dev") for path in sorted((data / part).glob("*.xz"))]


def read_rows(path: Path) -> Iterator[str]:
    """The lines of a training file. Raises MajlisError for a file that is not there, broken or not UTF-8, and says where."""
    return (line for _, line in text_lines(present(path)))


def _columns(path: Path, count: int) -> Iterator[list[str]]:
    """The first `count` columns of each line. Raises MajlisError for a line that has fewer."""
    for where, line in text_lines(present(path)):
        columns = line.split("\t")[:count]
        if len(columns) < count:
            raise MajlisError(f"{where}: {len(columns)} columns, expected {count} with tabs between them. Mend or remove the line.")
        yield columns


def present(path: Path) -> Path:
    """`path`, or MajlisError where it is not there."""
    if not path.is_file():
        raise MajlisError(f"Training file {path} is not there. Give the folder that holds it with --data.")
    return path


def read_parallel(data: Path) -> list[Example]:
    """`parallel/en-*.tsv.xz` joined on the English side, so that as-ar and ne-tr pairs arise where both share an English sentence."""
    joined: dict[tuple[str, str], Example] = {}
    for path in sorted((data / "parallel").glob("en-*.tsv.xz")):
        lang = path.name[3:5]
        for english, other, source, licence in _columns(path, 4):
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
    for lang, roman, native, source in _columns(data / "romanised" / "words.tsv.xz", 4):
        examples.append(
            Example(f"{source.split(':')[0]}-{lang}", "CC BY 4.0 / CC BY-SA 4.0", "romanised", {lang: [native], "roman": [roman]})
        )
    for _, row in json_lines(present(data / "romanised" / "sentences.jsonl.xz")):
        if "flores" not in row["source"].lower():  # FLORES dev is what we measure on
            sides = {row["lang"]: [row["native"]], "roman": [row["roman"]]}
            examples.append(Example(f"{row['source']}-sentences", row["licence"], "romanised", sides))
    return examples


def read_questions(data: Path) -> tuple[list[Example], list[Example]]:
    """Question -> the sentence of its passage that holds the answer: (training, held-out tenth). A row whose answer is in no sentence is left out."""
    train: list[Example] = []
    held_out: list[Example] = []
    for _, row in json_lines(present(data / "qa" / "qa.jsonl.xz")):
        found = [sentence for sentence in sentences(row["passage"]) if row["answer"] in sentence]
        if not found:
            continue
        sides = {"question": [row["question"]], "answer": [f"{row['title']}. {found[0]}", found[0]]}
        example = Example(row["source"], row["licence"], "question", sides)
        (held_out if is_held_out(row["title"]) else train).append(example)
    return train, held_out


def is_held_out(title: str) -> bool:
    """Whether questions about this article are measured on: a tenth, by title, so that no article is on both sides."""
    return blake2b(title.encode(), digest_size=2).digest()[0] % 10 == 0

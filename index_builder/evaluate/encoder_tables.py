"""Tables from the rows of an encoder's figures: what was aimed at, each language, each pair, closer looks, speed. Pure."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from index_builder.evaluate.encoder_rows import FEWEST
from index_builder.evaluate.encoder_speed import ROUNDS, WORDS
from index_builder.evaluate.runs import Cell, Row, Table
from index_builder.evaluate.statistics import mean_with_interval
from index_builder.vocabulary import LANGUAGES

# What a user would otherwise pick. A column each, empty until somebody names its folder: no figure is quoted that was not measured.
OTHERS = ("multilingual-e5-small", "LaBSE", "static-similarity-mrl-multilingual-v1", "potion-multilingual-128M")
_MEANS = ("to English", "from English", "all pairs")


def tables(rows: Sequence[Row]) -> list[Table]:
    of_encoder: dict[str, list[Row]] = {}
    for row in rows:
        of_encoder.setdefault(row["encoder"], []).append(row)
    found = [_overview(of_encoder)]
    for name, group in of_encoder.items():
        title = f"{name}: " if len(of_encoder) > 1 else ""
        found += [_aligned(title, group), _asked(title, group), _pairs(title, group, "flores"), _pairs(title, group, "names")]
        if any(row["set"] == "variant" for row in group):
            found.append(_variants(group))
    found.append(_speed(of_encoder))
    return [table for table in found if table.rows]


def _of(rows: Sequence[Row], name: str, lang: str | None = None, to: str | None = None) -> list[Row]:
    return [row for row in rows if row["set"] == name and (lang is None or row["lang"] == lang) and (to is None or row.get("to") == to)]


def _cell(rows: Sequence[Row], metric: str) -> tuple[float, float, float] | None:
    """Of one row that sums up many queries, or of many rows of one query each."""
    if len(rows) == 1 and "intervals" in rows[0]:
        interval = rows[0]["intervals"].get(metric)
        return tuple(interval) if interval else None  # type: ignore[return-value]
    return mean_with_interval([row["scores"][metric] for row in rows])


_BY_LANGUAGE = {  # name -> (set, metric)
    "question -> sentence, same language, success@10": ("question to sentence", "success@10"),
    "question -> English sentence, success@10": ("question to English sentence", "success@10"),
    "question -> English passage, success@5": ("question to English passage", "success@5"),
    "among all entries, success@5": ("question to English passage", "success@5 of all"),
    "paraphrase, success@1": ("paraphrase", "success@1"),
}


def _languages(rows: Sequence[Row], name: str) -> list[str]:
    present = {row["lang"] for row in _of(rows, name)}
    # an English question finds an English passage without any translation
    return [lang for lang in LANGUAGES if lang in present and not (lang == "en" and "English" in name)]


def _overview(of_encoder: Mapping[str, Sequence[Row]]) -> Table:
    columns = [*of_encoder, *(other for other in OTHERS if other.lower() not in map(str.lower, of_encoder))]
    figures: dict[str, tuple[str, Callable[[Sequence[Row]], Cell]]] = {}

    def languages(metric_name: str, name: str, metric: str, aim: str, lowest: str) -> None:
        values = lambda rows: [cell[0] for lang in _languages(rows, name) if (cell := _cell(_of(rows, name, lang), metric))]
        figures[f"{metric_name}, mean of languages"] = (
            aim,
            lambda rows: round(float(np.mean(found)), 4) if (found := values(rows)) else None,
        )
        figures[f"{metric_name}, lowest language"] = lowest, lambda rows: min(values(rows), default=None)

    def pairs(metric_name: str, choose: Callable[[Row], bool], aim: str) -> None:
        figures[metric_name] = aim, lambda rows: min((row["scores"]["P@1"] for row in _of(rows, "flores") if choose(row)), default=None)

    mean = lambda metric: lambda rows: _cell(_of(rows, "flores means"), metric)
    figures["FLORES dev P@1, X -> en, mean"] = "", mean("to English")
    pairs("FLORES dev P@1, X -> en, lowest language", lambda row: row["to"] == "en", ">= .97")
    figures["FLORES dev P@1, en -> X, mean"] = "", mean("from English")
    pairs("FLORES dev P@1, en -> X, lowest language", lambda row: row["lang"] == "en", ">= .97")
    figures["FLORES dev P@1, 42 pairs, mean"] = ">= .94", mean("all pairs")
    pairs("FLORES dev P@1, 42 pairs, worst", lambda row: True, ">= .86")
    figures["one pool, six translations in the top six"] = ">= .90", lambda rows: _cell(_of(rows, "one pool", "all"), "translations first")
    figures["one pool, mAP"] = "", lambda rows: _cell(_of(rows, "one pool", "all"), "mAP")
    aims = ((">= .86", ""), (">= .66", ""), (">= .85", ">= .75"), ("", ""), (">= .90", ""))
    for (metric_name, (name, metric)), (aim, lowest) in zip(_BY_LANGUAGE.items(), aims, strict=True):
        languages(metric_name, name, metric, aim, lowest)
    figures["place names across scripts, P@1"] = ">= .90", _across_scripts
    figures["territories across scripts, P@1"] = (
        ">= .90",
        lambda rows: _cell(_of(rows, "territories"), "P@1") if _of(rows, "territories") else None,
    )
    lines = [(name, aim, *(figure(of_encoder.get(column, ())) if column in of_encoder else None for column in columns)) for name, (aim, figure) in figures.items()]  # fmt: skip
    note = "An encoder has an empty column where its folder was not given with --encoder. The means of languages leave English out where the other side is English."
    return Table("what was aimed at, and what was reached", ("measure", "aim", *columns), lines, note)


def _across_scripts(rows: Sequence[Row]) -> float | None:
    found = [row for row in _of(rows, "names") if row["scripts"]]
    return round(sum(row["scores"]["P@1"] * row["n"] for row in found) / sum(row["n"] for row in found), 4) if found else None


def _aligned(title: str, rows: Sequence[Row]) -> Table:
    one = lambda name, metric, **where: _cell(found, metric) if (found := _of(rows, name, **where)) else None
    lines = [
        (lang, one("flores", "P@1", lang=lang, to="en"), one("flores", "P@1", lang="en", to=lang), one("one pool", "translations first", lang=lang),
         one("one pool", "mAP", lang=lang), one("names", "P@1", lang=lang, to="en"), one("names", "P@1", lang="en", to=lang))
        for lang in LANGUAGES if _of(rows, "flores", lang)
    ]  # fmt: skip
    count = next((row["n"] for row in _of(rows, "flores")), 0)
    names = [row["n"] for row in _of(rows, "names", to="en")]
    note = f"{count:,} FLORES dev sentences; one pool: all languages together. Names: {min(names, default=0)} to {max(names, default=0)} held-out place names a language."
    columns = (
        "language",
        "X -> en, P@1",
        "en -> X, P@1",
        "one pool, top six",
        "one pool, mAP",
        "names, X -> en, P@1",
        "names, en -> X, P@1",
    )
    return Table(f"{title}aligned text and names", columns, lines, note)


def _asked(title: str, rows: Sequence[Row]) -> Table:
    lines = []
    for lang in LANGUAGES:
        cells: list[Cell] = []
        for name, metric in _BY_LANGUAGE.values():
            found = _of(rows, name, lang)
            cells += [_cell(found, metric) if found else None, len(found) or None]
        if any(cell is not None for cell in cells):
            lines.append((lang, *cells))
    pools = {lang: group[0]["pool"] for lang in LANGUAGES if (group := _of(rows, "question to sentence", lang))}
    english = next((row["pool"] for row in _of(rows, "question to English sentence")), 0)
    note = (
        f"Sentences looked among, same language: {', '.join(f'{lang} {count:,}' for lang, count in pools.items())}; English: {english:,}, all of the corpus. A passage or pair is found by "
        "its whole or any of its sentences. No open set of questions and sentences exists in as, hi or ne. The second number is that of the questions."
    )
    columns = ("questions in", *(column for name in _BY_LANGUAGE for column in (name, "n")))
    return Table(f"{title}questions", columns, lines, note)


def _pairs(title: str, rows: Sequence[Row], name: str) -> Table:
    found = {(row["lang"], row["to"]): row["scores"]["P@1"] for row in _of(rows, name)}
    langs = [lang for lang in LANGUAGES if any(lang in pair for pair in found)]
    lines = [(lang, *(found.get((lang, other)) for other in langs)) for lang in langs]
    what = "all pairs of FLORES dev, P@1" if name == "flores" else "held-out place names, P@1"
    note = "A row is the language that asks, a column the one that is looked through." + (f" Pairs that share fewer than {FEWEST} names are empty." if name == "names" else "")  # fmt: skip
    return Table(f"{title}{what}", ("from", *(f"to {lang}" for lang in langs)), lines, note)


def _variants(rows: Sequence[Row]) -> Table:
    metrics = (*_MEANS, "translations first", "success@5 of all")
    lines = [
        (row["variant"], *(tuple(row["intervals"][metric]) for metric in metrics), "{}, {:.3f}".format(*row["worst"]))
        for row in _of(rows, "variant")
    ]
    note = "FLORES dev P@1, one pool of its languages, and the bundled questions in six languages to English passages among all entries."
    columns = ("vectors", "X -> en", "en -> X", "42 pairs", "one pool, top six", "passage among all entries, success@5", "worst pair")
    return Table("shorter, centred and unrounded vectors", columns, lines, note)


def _speed(of_encoder: Mapping[str, Sequence[Row]]) -> Table:
    lines = [
        (name, row["dimension"], row["megabytes"], row["per_second"], row["single_us"], row["first_s"], row["first_processor_s"])
        for name, rows in of_encoder.items() for row in _of(rows, "speed")
    ]  # fmt: skip
    note = (
        f"Questions of {WORDS} words, one thread. A second is one of processor time, which other work on the machine hardly changes; the times of one question and of the first "
        f"vector are by the clock and do change. Medians, of {ROUNDS} rounds and of {ROUNDS} processes. Aim: 10,000 a second, first vector after 0.4 s."
    )
    columns = (
        "encoder",
        "dimensions",
        "MB on disk",
        "questions a second",
        "one question, µs",
        "process start to first vector, s",
        "of it processor time, s",
    )
    return Table("speed", columns, lines, note)

"""Kept runs -> one HTML page that needs nothing else: no script, no font, no address. Charts are made of whatever the rows hold."""

from collections import Counter
from collections.abc import Sequence
from html import escape

from index_builder.evaluate import charts
from index_builder.evaluate.measure import by_language
from index_builder.evaluate.runs import Row, Run, Table, shown
from index_builder.evaluate.statistics import reliability_bins
from index_builder.vocabulary import LANGUAGES

_WORST = 20
_DEPTH = 10
# what a row counts as found or right by, the first that it has
_MAIN = ("success@1", "right", "decided right", "F1", "mAP", "P@1", "R@2kt")

_STYLE = """
:root { color-scheme: light dark; --accent: #2864b4; --line: #8884; }
@media (prefers-color-scheme: dark) { :root { --accent: #7ab0ff; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 70rem; background: Canvas; color: CanvasText; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-size: .9rem; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: end; white-space: nowrap; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: start; }
.charts { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1rem; }
.charts svg { max-width: 100%; height: auto; flex: 0 1 auto; }
.worst { border-inline-start: 3px solid var(--accent); padding-inline-start: .8rem; margin: 1rem 0; }
.worst p { margin: .2rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; overflow-wrap: anywhere; }
dt { opacity: .7; } dd { margin: 0; }
"""


def page(runs: Sequence[tuple[Run, Sequence[Row]]], title: str = "Majlis, measured") -> str:
    """The whole page. Everything that came from a file is escaped; questions and evidence keep their own direction."""
    body = "\n".join(_section(run, rows) for run, rows in runs)
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _section(run: Run, rows: Sequence[Row]) -> str:
    about = {
        "command": run.command,
        "machine": run.machine,
        "time": run.time,
        "versions": ", ".join(f"{k} {v}" for k, v in run.versions.items()),
    }
    parts = [f"<section>\n<h2>{escape(run.title)}</h2>", f"<p>{escape(run.note)}</p>" if run.note else ""]
    parts += [_table(table) for table in run.tables]
    drawn = charts_of(rows)
    if drawn:
        parts.append(f'<h3>Charts</h3>\n<div class="charts">\n{chr(10).join(drawn)}\n</div>')
    parts.append(_worst(rows))
    parts.append(
        "<h3>How it was measured</h3><dl>"
        + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in about.items() if v)
        + "</dl>\n</section>"
    )
    return "\n".join(part for part in parts if part)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    lines = "\n".join("<tr>" + "".join(f"<td>{escape(shown(cell))}</td>" for cell in row) + "</tr>" for row in table.rows)
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    return f'<h3>{escape(table.title)}</h3>{note}\n<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>'


def charts_of(rows: Sequence[Row]) -> list[str]:
    made = (_pairs(rows), _over_k(rows), _calibration(rows), _confusion(rows), _timings(rows))
    return [chart for chart in made if chart]


def main_score(row: Row) -> float | None:
    """The figure that says whether a row went well, in [0, 1]; None when it has none."""
    return next((row["scores"][name] for name in _MAIN if name in row.get("scores", {})), None)


def _pairs(rows: Sequence[Row]) -> str:
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        score = main_score(row)
        for other, value in ({row["evidence_lang"]: score} if row.get("evidence_lang") else row.get("by_lang", {})).items():
            if value is not None:
                found.setdefault((row["lang"], other), []).append(value)
    if not found:
        return ""
    langs = [sorted({pair[side] for pair in found}, key=_order) for side in (0, 1)]
    cells = {pair: sum(values) / len(values) for pair, values in found.items()}
    return charts.heat_map(
        "question language (rows) against evidence language", *langs, cells, {pair: len(values) for pair, values in found.items()}
    )


def _over_k(rows: Sequence[Row]) -> str:
    """Share of what is relevant that is among the first k, by language."""
    ranked = [{"lang": "all"} | row for row in rows if "ranks" in row]
    if not ranked:
        return ""
    series = {}
    for lang, group in by_language(ranked).items():
        recall = lambda row, k: sum(rank <= k for rank in row["ranks"]) / max(1, sum(grade >= 1 for grade in row["relevant"].values()))
        series[lang] = [(k, sum(recall(row, k) for row in group) / len(group)) for k in range(1, _DEPTH + 1)]
    return charts.line_chart("recall over k", series, "k", "recall@k")


def _calibration(rows: Sequence[Row]) -> str:
    judged = [row for row in rows if "confidence" in row and "right" in row]
    if not judged:
        return ""
    bins = reliability_bins([(row["confidence"], row["right"]) for row in judged])
    return charts.line_chart(
        "stated confidence against how often it was right",
        {"all": [(one.confidence, one.right) for one in bins]},
        "confidence",
        "right",
        True,
        (0, 1),
    )


def _confusion(rows: Sequence[Row]) -> str:
    guessed = [row for row in rows if "guess" in row]
    if not guessed:
        return ""
    first = guessed[0].get("detector")
    return charts.confusion_matrix(
        Counter((row["lang"] + "*" * row.get("latin", False), row["guess"]) for row in guessed if row.get("detector") == first), LANGUAGES
    )


def _timings(rows: Sequence[Row]) -> str:
    timed = [row for row in rows if "total" in row.get("timings_ms", {}) and "lang" in row]
    if not timed:
        return ""
    return charts.spread_chart(
        "whole answer, ms: the median is named; box: the middle half, line: 5 % to 95 %",
        {lang: [row["timings_ms"]["total"] for row in group] for lang, group in by_language(timed).items()},
        "ms",
    )


def _worst(rows: Sequence[Row]) -> str:
    """The questions that went worst, evenly over the languages, with what was found instead or answered."""
    failed = [row for row in rows if row.get("question") and (main_score(row) or 0.0) < 0.5 and main_score(row) is not None]
    failed.sort(key=lambda row: (sum(row["scores"].values()), row["id"]))
    turn: dict[str, int] = {}
    order = {}
    for row in failed:
        turn[row.get("lang", "")] = turn.get(row.get("lang", ""), 0) + 1
        order[row["id"]] = turn[row.get("lang", "")]
    shown_rows = sorted(failed, key=lambda row: order[row["id"]])[:_WORST]
    if not shown_rows:
        return ""
    return f"<h3>Worst questions, {len(shown_rows)} of {len(failed)}</h3>\n" + "\n".join(map(_failure, shown_rows))


def _failure(row: Row) -> str:
    lines = [
        f"<p><b>{escape(row['id'])}</b> {escape(', '.join(f'{name} {value:g}' for name, value in row['scores'].items()))}</p>",
        _spoken(row["question"], row.get("lang", "")),
    ]
    if row.get("answer"):
        lines.append("<p>answered:</p>" + _spoken(row["answer"], row.get("lang", "")))
    if row.get("references"):
        lines.append("<p>expected:</p>" + _spoken(row["references"][0], row.get("lang", "")))
    if row.get("relevant"):
        where = f" (found at rank {row['ranks'][0]})" if row.get("ranks") else " (not found)"
        lines.append(f"<p>relevant: {escape(', '.join(row['relevant']))}{where}</p>")
    for evidence in row.get("evidence", ()):
        lines.append(f"<p>found first: {escape(evidence['id'])}</p>" + _spoken(evidence["text"], evidence.get("lang", "")))
    return f'<div class="worst">{"".join(lines)}</div>'


def _spoken(text: str, lang: str) -> str:
    return f'<p dir="auto" lang="{escape(lang)}">{escape(text)}</p>'


def _order(lang: str) -> tuple[int, str]:
    return (LANGUAGES.index(lang) if lang in LANGUAGES else len(LANGUAGES), lang)

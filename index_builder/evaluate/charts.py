"""Small SVG charts, as text. They take the colour of the text around them and one accent colour, so that they fit a light and a dark page."""

from collections.abc import Mapping, Sequence
from html import escape

ACCENT = "var(--accent, #2864b4)"
# told apart by colour-blind readers (Okabe and Ito), and each line is named at its end
_LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a", "#a0522d", "#6a3d9a")
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 460, 270, 46, 42, 90, 40


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[str, str], float],
    counts: Mapping[tuple[str, str], int] | None = None,
) -> str:
    """Shares in [0, 1] as shades; a cell that there is not stays empty. `counts` are shown when the pointer rests on a cell."""
    size, left, top = 38, 70, 44
    parts = [_text(4, 14, title)]
    parts += [_text(left + size * (x + 0.5), top - 6, name, "middle") for x, name in enumerate(columns)]
    for y, row in enumerate(rows):
        parts.append(_text(left - 6, top + size * (y + 0.6), row, "end"))
        for x, column in enumerate(columns):
            share = cells.get((row, column))
            if share is None:
                continue
            many = f", {counts[row, column]:,} questions" if counts else ""
            parts.append(
                f'<rect x="{left + size * x}" y="{top + size * y}" width="{size - 1}" height="{size - 1}" style="fill:{ACCENT}" '
                f'fill-opacity="{0.06 + 0.64 * share:.2f}"><title>{escape(row)}, {escape(column)}: {share:.3f}{many}</title></rect>'
            )
            if share >= 0.005 or not share:  # "0.00" would say that a rare one never happened
                parts.append(_text(left + size * (x + 0.5), top + size * (y + 0.6), f"{share:.2f}", "middle"))
    return _svg(left + size * len(columns) + 10, top + size * len(rows) + 10, title, parts)


def line_chart(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_name: str,
    y_name: str,
    diagonal: bool = False,
    x_range: tuple[float, float] | None = None,
) -> str:
    """Lines over one x axis; y runs from 0 to 1. `diagonal` draws what perfect calibration would be."""
    points = [point for line in series.values() for point in line]
    low, high = x_range or (min(x for x, _ in points), max(x for x, _ in points))
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    across = lambda x: _LEFT + width * ((x - low) / (high - low) if high > low else 0.5)
    down = lambda y: _TOP + height * (1 - y)
    parts = [_text(4, 14, title), *_grid(down, x_name, y_name)]
    parts += [_text(across(x), _HEIGHT - _BOTTOM + 16, f"{x:g}", "middle") for x in _ticks(low, high)]
    if diagonal:
        parts.append(
            f'<line x1="{across(low)}" y1="{down(low):.1f}" x2="{across(high)}" y2="{down(high):.1f}" stroke="currentColor" stroke-dasharray="4 4" opacity=".5"/>'
        )
    for (name, line), colour in zip(series.items(), _cycle(len(series)), strict=True):
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="2.5" fill="{colour}"><title>{escape(name)}: {x:g}, {y:.3f}</title></circle>'
            for x, y in line
        ]
    lowest = 0.0
    named = sorted(zip(series.items(), _cycle(len(series)), strict=True), key=lambda one: -one[0][1][-1][1])
    for (name, line), colour in named:  # from the top; names of lines that end together are pushed apart
        lowest = max(lowest + 11, down(line[-1][1]) + 4)
        parts.append(_text(across(line[-1][0]) + 8, lowest, name, fill=colour))
    return _svg(_WIDTH, max(_HEIGHT, int(lowest) + 10), title, parts)


def spread_chart(title: str, values: Mapping[str, Sequence[float]], unit: str) -> str:
    """For each name a line from the 5th to the 95th percentile, a box from the 25th to the 75th, and the median."""
    import numpy as np

    row, left = 26, 70
    top = max(max(one) for one in values.values() if len(one)) or 1.0
    width = _WIDTH - left - 70
    parts = [_text(4, 14, title)]
    for i, (name, one) in enumerate(values.items()):
        p5, p25, p50, p75, p95 = np.percentile(one, [5, 25, 50, 75, 95])
        at = lambda value: left + width * float(value) / top
        y = 34 + row * i
        parts += [
            _text(left - 6, y + 4, name, "end"),
            f'<line x1="{at(p5):.1f}" y1="{y}" x2="{at(p95):.1f}" y2="{y}" stroke="currentColor"/>',
            f'<rect x="{at(p25):.1f}" y="{y - 7}" width="{max(1.0, at(p75) - at(p25)):.1f}" height="14" style="fill:{ACCENT}" fill-opacity=".5">'
            f"<title>{escape(name)}: 5 % {p5:.1f}, median {p50:.1f}, 95 % {p95:.1f} {escape(unit)}</title></rect>",
            f'<line x1="{at(p50):.1f}" y1="{y - 8}" x2="{at(p50):.1f}" y2="{y + 8}" stroke="currentColor" stroke-width="2"/>',
            _text(at(p95) + 6, y + 4, f"{p50:.1f} {unit}"),
        ]
    return _svg(_WIDTH, 34 + row * len(values), title, parts)


def confusion_matrix(counts: Mapping[tuple[str, str], int], first: Sequence[str]) -> str:
    """(true, guessed) -> how often, as shares of a row; names in `first` come first. A star marks Latin letters."""
    order = lambda name: (name.rstrip("*") not in first, name.endswith("*"), name)
    rows, columns = sorted({true for true, _ in counts}, key=order), sorted({guess for _, guess in counts}, key=order)
    totals = {row: sum(count for (true, _), count in counts.items() if true == row) for row in rows}
    cells = {(true, guess): count / totals[true] for (true, guess), count in counts.items()}
    return heat_map("rows: true, columns: recognised, share of the row; * in Latin letters", rows, columns, cells, counts)


def standalone(svg: str) -> str:
    """An inline chart as a file of its own, on white."""
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" style="color:#222;background:#fff" ', 1) + "\n"


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" aria-label="{escape(title)}" font-family="sans-serif" font-size="11">'
    return "\n".join([head, *parts, "</svg>"])


def _text(x: float, y: float, text: str, anchor: str = "start", fill: str = "currentColor") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'


def _grid(down, x_name: str, y_name: str) -> list[str]:
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = down(share)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="currentColor" opacity=".15"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{share:g}", "end"))
    return [*parts, _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, x_name, "middle"), _text(_LEFT, _TOP - 4, y_name)]


def _ticks(low: float, high: float) -> list[float]:
    if high - low <= 1:
        return [low + (high - low) * i / 4 for i in range(5)]
    step = max(1, round((high - low) / 6))
    return [low + step * i for i in range(int((high - low) / step) + 1)]


def _cycle(count: int) -> list[str]:
    return [_LINES[i % len(_LINES)] for i in range(count)]

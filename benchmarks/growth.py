"""How cost grows with size: a line fitted to logarithms, and a chart of it."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

Point = tuple[float, float]  # size, cost: both above 0
# told apart by colour-blind readers (Okabe and Ito)
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
_PANEL, _PLOT, _LEFT, _TOP = 320, 210, 58, 58  # pixels


def power_law(points: Sequence[Point]) -> Point:
    """(exponent, factor) of cost = factor * size ** exponent, by least squares over logarithms. Raises ValueError below two sizes."""
    if len({size for size, _ in points}) < 2:
        raise ValueError(f"a line needs two sizes, found {sorted({size for size, _ in points})}")
    exponent, logarithm = np.polyfit(*(np.log([point[axis] for point in points]) for axis in (0, 1)), 1)
    return float(exponent), float(np.exp(logarithm))


def chart(title: str, panels: Mapping[str, Mapping[str, Sequence[Point]]], x_name: str) -> str:
    """A standalone SVG with a panel for each cost: both axes logarithmic, dots measured, lines fitted with their exponent.

    `panels`: name of the cost with its unit -> name of the series -> points. Series keep their colour across panels.
    """
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    colour = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}
    width, height = _PANEL * len(panels), _TOP + _PLOT + 50
    parts = [_text(8, 18, title, "start", 14)]
    for i, name in enumerate(names):
        parts.append(f'<circle cx="{14 + 130 * i}" cy="33" r="4" fill="{colour[name]}"/>')
        parts.append(_text(23 + 130 * i, 37, name))
    for i, (name, series) in enumerate(panels.items()):
        parts.append(f'<g transform="translate({_PANEL * i},0)">{"".join(_panel(name, series, colour, x_name))}</g>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{escape(title)}" font-family="sans-serif" font-size="11">'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="#fff"/>', *parts, "</svg>\n"])


def _panel(name: str, series: Mapping[str, Sequence[Point]], colour: Mapping[str, str], x_name: str) -> list[str]:
    points = [point for line in series.values() for point in line]
    (x0, x1), (y0, y1) = (_decades([point[axis] for point in points]) for axis in (0, 1))
    wide = _PANEL - _LEFT - 50
    across = lambda x: _LEFT + wide * (math.log10(x) - x0) / (x1 - x0)
    down = lambda y: _TOP + _PLOT * (1 - (math.log10(y) - y0) / (y1 - y0))
    parts = [_text(_LEFT, _TOP - 6, name), _text(_LEFT + wide / 2, _TOP + _PLOT + 38, x_name, "middle")]
    for decade in range(x0, x1 + 1):
        x = across(10.0**decade)
        parts += [_rule(x, _TOP, x, _TOP + _PLOT), _text(x, _TOP + _PLOT + 16, f"{10**decade:,}", "middle")]
    for decade in range(y0, y1 + 1):
        y = down(10.0**decade)
        parts += [_rule(_LEFT, y, _LEFT + wide, y), _text(_LEFT - 6, y + 4, f"{10.0**decade:,.10g}", "end")]
    ends = []
    for label, line in series.items():
        parts += [
            f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3.5" fill="{colour[label]}"><title>{escape(label)}: {x:,.0f}, {y:.4g}</title></circle>'
            for x, y in line
        ]
        if len({x for x, _ in line}) > 1:
            exponent, factor = power_law(line)
            first, last = min(x for x, _ in line), max(x for x, _ in line)
            ends.append((down(factor * last**exponent), across(last), f"n^{exponent:.2f}", colour[label]))
            parts.append(
                f'<line x1="{across(first):.1f}" y1="{down(factor * first**exponent):.1f}" x2="{across(last):.1f}" y2="{ends[-1][0]:.1f}" '
                f'stroke="{colour[label]}" stroke-width="1.5" stroke-dasharray="5 3"/>'
            )
    lowest = -math.inf
    for y, x, label, fill in sorted(ends):  # from the top; labels that would cover each other are pushed apart
        lowest = max(lowest + 12, y + 4)
        parts.append(_text(x + 8, lowest, label, fill=fill))
    return parts


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around all values, at least one apart."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ccc"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 11, fill: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">{escape(text)}</text>'

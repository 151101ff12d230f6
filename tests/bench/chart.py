# SPDX-License-Identifier: GPL-3.0-or-later
"""A line chart as SVG, which pages of a repository show without any program."""

from __future__ import annotations

import typing as t
from html import escape

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 40, 50  # margins
COLOURS = ("#1f77b4", "#d62728", "#2ca02c")
_LICENCE = "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->"
_STYLE = "text { font: 13px sans-serif; fill: #333 } .grid { stroke: #ddd } .axis { stroke: #333 } path { fill: none; stroke-width: 2 }"

Series = t.Mapping[str, t.Sequence[float]]


def line_chart(title: str, x_title: str, y_title: str, xs: t.Sequence[float], series: Series) -> str:
    """The SVG text of *series*, each with one value for every one of *xs*, from zero up."""
    top = max(max(values) for values in series.values()) * 1.1

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / max(xs)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">{_LICENCE}<style>{_STYLE}</style>']
    parts.append('<rect width="100%" height="100%" fill="#fff"/>')
    parts.append(f'<text x="{LEFT}" y="22" font-weight="bold">{escape(title)}</text>')
    for step in range(5):
        value = top * step / 4
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for value in xs:
        parts.append(f'<text x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_title)}</text>')
    parts.append(f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{escape(y_title)}</text>')
    for row, (colour, (name, values)) in enumerate(zip(COLOURS, series.items())):
        points = [f"{x(at):.1f},{y(value):.1f}" for at, value in zip(xs, values)]
        parts.append(f'<path stroke="{colour}" d="M{" L".join(points)}"/>')
        parts.extend(f'<circle cx="{point.split(",")[0]}" cy="{point.split(",")[1]}" r="3" fill="{colour}"/>' for point in points)
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{TOP + 18 * row}" style="fill: {colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"

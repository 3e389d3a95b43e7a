"""Small charts beside each other, as one SVG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

WIDTH, HEIGHT, GAP, COLUMNS = 210, 90, 34, 3


def plot(path: Path, title: str, series: Mapping[str, Sequence[float]]) -> None:
    """Write a chart for each series, its values from left to right, from 0 on."""
    rows = -(-len(series) // COLUMNS)
    width = COLUMNS * (WIDTH + GAP) + GAP
    height = rows * (HEIGHT + 2 * GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="11" fill="#444">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{GAP}" y="22" font-size="13" fill="#000">{title}</text>',
    ]
    for index, (name, values) in enumerate(series.items()):
        left = GAP + index % COLUMNS * (WIDTH + GAP)
        top = 2 * GAP + index // COLUMNS * (HEIGHT + 2 * GAP)
        parts += _chart(left, top, name, values)
    path.write_text("\n".join([*parts, "</svg>", ""]))


def _chart(left: int, top: int, name: str, values: Sequence[float]) -> list[str]:
    most = max(*values, 1)
    step = WIDTH / max(len(values) - 1, 1)
    points = " ".join(
        f"{left + step * place:.1f},{top + HEIGHT * (1 - value / most):.1f}"
        for place, value in enumerate(values)
    )
    return [
        f'<text x="{left}" y="{top - 21}" fill="#000">{name}</text>',
        f'<text x="{left}" y="{top - 7}">{values[-1]:,.1f} at the end,'
        f" {max(values):,.1f} at most</text>",
        f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="#f4f4f4"'
        "/>",
        f'<polyline points="{points}" fill="none" stroke="#2a6fbb"/>',
    ]

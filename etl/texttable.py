"""Tables as text: aligned, and no wider than the terminal where there is one.

Knows nothing of what stands in them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from types import UnionType

#: The widest that a cell is printed, and the narrowest that a text is cut to.
WIDEST, NARROWEST = 32, 12

#: Between two columns.
GAP = "  "

#: From here on a number has digits enough before its point.
LARGE = 1000


def table(
    names: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    width: int | None = None,
    right: Collection[str] = (),
) -> str:
    """Rows as aligned text: numbers to the right, long values cut, null left empty.

    Where that is wider than ``width``, long names are broken after their underscores,
    then texts are cut, and what still has no room is named below. The columns named
    in ``right`` stand to the right.
    """
    cells = [[cut(_text(value), WIDEST) for value in row] for row in rows]
    columns = [[row[i] for row in rows] for i in range(len(names))]
    to_right = [
        name in right or _are(values, int | float)
        for name, values in zip(names, columns, strict=True)
    ]
    heads = [[name] for name in names]
    widths = _widths(heads, cells)
    if width is not None and _total(widths) > width:
        heads = [_broken(name) for name in names]
        are_texts = [_are(values, str) for values in columns]
        widths = _fit(_widths(heads, cells), are_texts, width)
    shown = heads[: len(widths)]
    deepest = max(map(len, shown), default=1)
    above = [[""] * (deepest - len(head)) + head for head in shown]
    below = [["-" * each for each in widths], *cells]
    lines = [
        _line(line, widths, to_right) for line in [*zip(*above, strict=True), *below]
    ]
    if len(widths) < len(names):
        more = f"not shown: {', '.join(names[len(widths) :])}"
        lines += ["", more if width is None else cut(more, width)]
    return "\n".join(lines)


def cut(text: str, width: int) -> str:
    """A text that is no wider; where it was, it ends with an ellipsis."""
    if width_of(text) <= width:
        return text
    while width_of(text) >= width:
        text = text[:-1]
    return f"{text}…"


def printable(text: str, keep: str = "") -> str:
    """A text without what a terminal would act on, but the characters to keep."""
    return "".join(char if char.isprintable() or char in keep else "?" for char in text)


def width_of(text: str) -> int:
    """The columns that a text takes in a terminal: a wide character takes two."""
    return sum(_width_of(char) for char in text)


def _width_of(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _text(value: object) -> str:
    """A value as people read it: six digits of a fraction, nothing that moves about."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < LARGE else f"{value:.2f}"
    return printable(str(value))


def _are(values: Sequence[object], kind: type | UnionType) -> bool:
    """Whether there are values, and all that are not null are of a kind."""
    return bool(values) and all(
        value is None or isinstance(value, kind) for value in values
    )


def _broken(name: str) -> list[str]:
    """A name in lines that end with its underscores, short ones put together."""
    lines: list[str] = []
    for part in name.replace("_", "_\n").split("\n"):
        if lines and len(lines[-1]) + len(part) <= NARROWEST:
            lines[-1] += part
        else:
            lines.append(part)
    return lines


def _widths(
    heads: Sequence[Sequence[str]], cells: Sequence[Sequence[str]]
) -> list[int]:
    return [
        max(map(width_of, [*head, *(row[i] for row in cells)]))
        for i, head in enumerate(heads)
    ]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _fit(widths: Sequence[int], are_texts: Sequence[bool], width: int) -> list[int]:
    """As many columns as have room, texts cut no more than that takes."""
    columns = list(zip(widths, are_texts, strict=True))
    least = [min(each, NARROWEST) if is_text else each for each, is_text in columns]
    count = len(least)
    while count > 1 and _total(least[:count]) > width:
        count -= 1
    fitted = list(widths[:count])
    while _total(fitted) > width and fitted != least[:count]:
        spare = [each - most for each, most in zip(fitted, least, strict=False)]
        fitted[spare.index(max(spare))] -= 1
    return fitted


def _line(cells: Sequence[str], widths: Sequence[int], to_right: Sequence[bool]) -> str:
    padded = []
    for cell, width, right in zip(cells, widths, to_right, strict=False):
        text = cut(cell, width)
        blanks = " " * (width - width_of(text))
        padded.append(blanks + text if right else text + blanks)
    return GAP.join(padded).rstrip()

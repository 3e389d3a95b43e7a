"""Tables: printed, and kept as Markdown in ``bench/results`` with the machine's facts.

Knows no names of hosts or folders, and no benchmark.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"

Row = Sequence[str]


def table(head: Row, rows: Sequence[Row]) -> str:
    """A Markdown table with its columns in line, numbers to the right."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [
        all(row[place][:1].isdecimal() or row[place] in ("", "-") for row in rows)
        for place in range(len(head))
    ]
    text = []
    for line in lines:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ]
        text.append(f"| {' | '.join(cells)} |")
    rule = [
        f"{'-' * (width + 1)}{':' if to_right else '-'}"
        for width, to_right in zip(widths, right, strict=True)
    ]
    text.insert(1, f"|{'|'.join(rule)}|")
    return "\n".join(text)


def number(value: float | None) -> str:
    """Three significant digits, or a dash for what is not known."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def publish(name: str, title: str, *parts: str) -> None:
    """Print the parts, and keep them."""
    show(title, *parts)
    keep(name, title, *parts)


def show(title: str, *parts: str) -> None:
    """Print the parts."""
    print(f"\n# {title}", *parts, sep="\n\n", end="\n\n", flush=True)


def keep(name: str, title: str, *parts: str) -> None:
    """Write the parts to ``<name>.md``, in place of what was there."""
    body = "\n\n".join([f"# {title}", *parts])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(f"{body}\n\n{_machine()}\n")


def progress(words: str) -> None:
    """Print one line of progress."""
    print(f"… {words}", flush=True)


def _machine() -> str:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    now = datetime.datetime.now(datetime.UTC)
    facts = [
        f"{len(os.sched_getaffinity(0))} cores ({_processor()})",
        f"{memory:.0f} GiB of memory",
        f"{platform.system()} {platform.release().split('-')[0]}",
        f"Python {platform.python_version()}",
        f"commit {_commit()}",
        f"load {os.getloadavg()[2]:.1f} over the last 15 minutes",
        f"{now:%Y-%m-%d %H:%M} UTC",
    ]
    return "; ".join(facts) + "."


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """The commit that was measured; "unknown" outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    said = subprocess.run(
        command, cwd=RESULTS.parent, capture_output=True, text=True, check=False
    )
    return said.stdout.strip() or "unknown"

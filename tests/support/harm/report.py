"""What the parts have done and found: counts, violations, and the table at the end."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


class Violation(Exception):
    """What must not happen has happened; the part cannot go on."""


@dataclass
class Report:
    """What one part has done and found so far."""

    part: str
    seed: int
    seconds: float
    plot: Path | None = None
    done: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    skipped: str = ""
    _began: float = field(default_factory=lambda: time.monotonic())
    _ended: float | None = None

    def require(self, holds: bool, promise: str, *details: object) -> None:
        """Note a violation where a promise does not hold."""
        if not holds:
            about = " ".join(map(str, details))
            self.violations.append(f"{self.part} {self.done}: {promise}: {about}")
            print(
                f"VIOLATION {self.violations[-1][:2000]}", file=sys.stderr, flush=True
            )

    def rounds(self, times: int) -> Iterator[int]:
        """So many times, but no longer than the part may take; prints how far it is.

        None begins that, if it takes as long as the longest before, would end too late.
        """
        longest = 0.0
        for number in range(times):
            began = time.monotonic()
            if began + longest > self._began + self.seconds:
                break
            yield number
            longest = max(longest, time.monotonic() - began)
            self.done += 1
            if self.done % max(times // 20, 1) == 0:
                print(f"… {self.line}", flush=True)
        self._ended = time.monotonic()

    @property
    def line(self) -> str:
        found = f"{len(self.violations)} violations"
        return f"{self.part}: {self.done} in {self.taken} s, {found}"

    @property
    def taken(self) -> int:
        """Seconds so far, or in all."""
        return round((self._ended or time.monotonic()) - self._began)


def summary(reports: list[Report]) -> str:
    """A Markdown table of the parts, and what was counted in each."""
    lines = [
        "| part | seed | times | seconds | violations | counts |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for each in reports:
        counts = ", ".join(f"{name} {n}" for name, n in sorted(each.counts.items()))
        cells = [each.part, each.seed, each.done, each.taken, len(each.violations)]
        lines.append(f"| {' | '.join(map(str, cells))} | {each.skipped or counts} |")
    return "\n".join(lines)


def shortened(value: object) -> str:
    """A value as one short line for a violation."""
    return json.dumps(value, default=str)[:300]

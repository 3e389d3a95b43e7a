"""Harm done to the service: ``scripts/harm.sh --help``. Runs the parts, prints a table.

Whatever ends it, the servers that it started end too.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.support.harm import (
    disk,
    dropped,
    files,
    kills,
    requests,
    signals,
    soak,
    two,
    upgrades,
    uploads,
)
from tests.support.harm.attempts import MOMENTS
from tests.support.harm.report import Report, Violation, summary

#: A part harms the service so many times, in a folder of its own.
Part = Callable[[Path, Random, int, Report], None]

#: Each part, and how many times it takes in its long form.
PARTS: dict[str, tuple[Part, int]] = {
    "kills": (kills.kills, 1000),
    "starts": (kills.starts, 40),
    "postgres": (kills.postgres, 250),
    "files": (files.files, 10_000),
    "soak": (soak.soak, 1000),
    "two": (two.two, 100),
    "dropped": (dropped.dropped, 10),
    "disk": (disk.disk, 100),
    "signals": (signals.signals, len(signals.EVERY) * len(MOMENTS)),
    "requests": (requests.requests, 10_000),
    "uploads": (uploads.uploads, 200),
    "upgrades": (upgrades.upgrades, 30),
}


def main() -> int:
    """Returns the exit code: 0, or 1 where a promise did not hold."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    reports: list[Report] = []
    with tempfile.TemporaryDirectory(prefix="features-etl-harm-") as name:
        Path(name).chmod(0o755)  # Postgres may run as another user
        try:
            for part in options.parts:
                _harm(part, Path(name) / part, options, reports)
        finally:
            print(summary(reports))
    return 1 if any(report.violations for report in reports) else 0


def _harm(
    part: str, folder: Path, options: argparse.Namespace, reports: list[Report]
) -> None:
    run, times = PARTS[part]
    report = Report(part, options.seed, 60 * options.minutes, options.plot)
    reports.append(report)
    folder.mkdir()
    try:
        run(folder, Random(options.seed), options.times or times, report)
    except Violation as violation:
        report.require(False, "the part reaches its end", violation)
    print(f"… {report.line}", flush=True)


def _options() -> argparse.Namespace:
    listed = ", ".join(f"{name} ({times})" for name, (_, times) in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/harm.sh",
        description="Harms a service of its own in many ways, and checks its promises.",
        epilog=f"Parts, and how many times without --times: {listed}.",
    )
    parser.add_argument(
        "--parts", type=_parts, default=list(PARTS), help="separated by commas"
    )
    parser.add_argument("--seed", type=int, default=1, help="of all that is random")
    parser.add_argument("--times", type=int, help="how many times each part does harm")
    parser.add_argument("--minutes", type=float, default=120, help="bound of each part")
    parser.add_argument("--plot", type=Path, help="an SVG file for what soak measured")
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    chosen = [name for name in text.split(",") if name]
    if wrong := [name for name in chosen if name not in PARTS]:
        known = ", ".join(PARTS)
        raise argparse.ArgumentTypeError(f"no {wrong[0]!r}: {known}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())

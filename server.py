"""Entry point: serves the API, or with ``--once`` does one run and shows its result."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from etl.stop_signals import on_stop_signals


def main() -> int:
    """Returns the exit code: 0, 1 after a run that failed, 2 where it cannot start."""
    # Before anything that takes a while: as the first process of a container it would
    # not hear of a stop before it has said what to do. Nothing is started yet, and an
    # exception could get lost in an import that a signal interrupts.
    early = 130 if "--once" in sys.argv else 0
    on_stop_signals(lambda *_: os._exit(early))
    try:
        from etl.service import run_once, serve
    except ImportError as error:
        words = " ".join(str(error).split())
        print(f"{words}: use ./run.sh, which installs it", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(
        description="Turns CSV files into the table features inside Postgres.",
        epilog="Settings come from the environment: see README.md.",
    )
    parser.add_argument(
        "--once", action="store_true", help="do one run, show features, and end"
    )
    about = "a pipeline: a folder with sql and data in it (default: the project)"
    parser.add_argument("pipeline", metavar="FOLDER", type=Path, nargs="?", help=about)
    arguments = parser.parse_args()
    return (run_once if arguments.once else serve)(os.environ, arguments.pipeline)


if __name__ == "__main__":
    sys.exit(main())

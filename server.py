"""Entry point: serves the API, or with ``--once`` does one run and shows its result."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from etl.signals import hold_signals
from etl.standardstreams import open_streams, print_error


def main() -> int:
    """Returns the exit code: 0, 1 after a failed run, 2 if it cannot start, or 130."""
    hold_signals()  # before the imports, which take a while
    open_streams()
    try:
        from etl.service import start
    except ImportError as error:
        message = " ".join(str(error).split())
        print_error(f"{message}: use ./run.sh, which installs it")
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
    return start(os.environ, arguments.pipeline, once=arguments.once)


if __name__ == "__main__":
    sys.exit(main())

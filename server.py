"""Entry point: serves the API, or with ``--once`` does one run and shows its result."""

from __future__ import annotations

import argparse
import os
import sys

from etl.service import run_once, serve


def main() -> int:
    """Returns the exit code: 0, 1 after a run that failed, 2 where it cannot start."""
    parser = argparse.ArgumentParser(
        description="Turns CSV files into the table features inside Postgres.",
        epilog="Settings come from the environment: see README.md.",
    )
    parser.add_argument(
        "--once", action="store_true", help="do one run, show features, and end"
    )
    if parser.parse_args().once:
        return run_once(os.environ)
    return serve(os.environ)


if __name__ == "__main__":
    sys.exit(main())

"""The service without a look at the bytes of records, to compare with."""

from __future__ import annotations

import sys

from etl.csvfiles.patterns import RecordPatterns


def _trusted(self: RecordPatterns, lines: bytes) -> int:
    return lines.count(b"\n")


if __name__ == "__main__":
    RecordPatterns.count_regular = _trusted  # type: ignore[method-assign]
    from server import main

    sys.argv[1:] = []
    sys.exit(main())

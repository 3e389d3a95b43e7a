"""The service without a look at the bytes of records, to compare with."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace

from etl import streams
from etl.forms import Column, Forms, forms_of


def _trusting(columns: Sequence[Column | None], delimiter: str) -> Forms:
    """Forms under which whole lines are asked about first, whatever they hold."""
    return replace(forms_of(columns, delimiter), frame=re.compile(b""))


def _trusted(self: Forms, lines: bytes) -> int:
    return lines.count(b"\n")


if __name__ == "__main__":
    Forms.count_plain = _trusted  # type: ignore[method-assign]
    streams.forms_of = _trusting  # type: ignore[attr-defined]
    from server import main

    sys.argv[1:] = []
    sys.exit(main())

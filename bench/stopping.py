"""What ends a benchmark early, and how the servers that it started end with it.

A signal leaves by way of every ``finally``. While something is started or stopped it
waits, so nothing is left half-way.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_in_order() -> None:
    """From now on these signals end the program in order."""
    for number in ENDS:
        signal.signal(number, _end)


def _end(number: int, _: object) -> None:
    for each in ENDS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that come meanwhile wait until the end. Also a decorator.

    What is started in here must be in the hands of an ExitStack before the end.
    """
    came: list[int] = []
    # No mask, which programs that are started would inherit.
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in ENDS
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])

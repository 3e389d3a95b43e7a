"""Stop signals: the first one cancels the work, and later ones do nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

#: kill and `docker stop`; Ctrl-C; Ctrl-\; a closed terminal, unless `nohup` ignores it.
STOP_SIGNALS = tuple(
    number
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
    if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
)

T = TypeVar("T")


def hold_signals() -> None:
    """Block stop signals in this thread and in all that it starts.

    A signal then stays pending until ``until_signal`` waits for it. The kernel drops a
    signal to the first process of a container that has no handler for it, but not one
    that is blocked.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


async def until_signal(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work``; the first signal, also one that was held, cancels it.

    Signals must be held, and stay so: no later one interrupts the stop, or the last
    moments of the interpreter. Raises CancelledError if there was a signal.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work)

    def wait() -> None:
        # Not a handler: CPython 3.11 may make no progress while signals keep coming.
        signal.sigwait(STOP_SIGNALS)
        with contextlib.suppress(RuntimeError):  # the loop is closed: work has ended
            loop.call_soon_threadsafe(task.cancel)

    if not signal.sigpending().isdisjoint(STOP_SIGNALS):
        task.cancel()  # before its first step
    threading.Thread(target=wait, name="signals", daemon=True).start()
    return await task

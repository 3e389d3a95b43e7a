"""Stop signals: the first one cancels the work, and later ones do nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

#: kill and `docker stop`; Ctrl-C; Ctrl-\; a closed terminal, unless `nohup` ignores it.
STOP_SIGNALS = tuple(
    number
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
    if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
)

T = TypeVar("T")


def hold_signals() -> None:
    """Keep stop signals pending, so that none gets lost or ends the process.

    The kernel drops a signal to the first process of a container that has no handler
    for it, but not one that is blocked.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


async def until_signal(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work``; the first signal, also one that was held, cancels it.

    Signals are ignored when it has ended: nothing is left to stop but the
    interpreter. Raises CancelledError if there was a signal.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work)

    def stop(*_: object) -> None:
        # Not SIG_IGN, which processes that are started meanwhile would inherit.
        _handle_signals(lambda *_: None)
        task.cancel()
        loop.call_soon_threadsafe(lambda: None)  # wakes it

    _handle_signals(stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    await asyncio.wait([task])
    # Not a handler: those are gone in the last moments of an interpreter.
    _handle_signals(signal.SIG_IGN)
    return task.result()


def _handle_signals(handler: Callable[..., None] | signal.Handlers) -> None:
    """Set the handler of each. Not the loop's: CPython 3.11 hangs (in its own handler)
    where some hundred signals come while the loop does not read its wakeup pipe.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, handler)

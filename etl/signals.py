"""Stop signals: the first one ends what goes on, and no later one does harm."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from etl.stop_signals import on_stop_signals

T = TypeVar("T")


async def until_signal(work: Coroutine[Any, Any, T]) -> T:
    """Do ``work``, which the first signal cancels; signals are ignored from then on.

    Also after the end: whoever calls has to clean up, and nothing more to do. Raises
    CancelledError where there was a signal.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work)

    def stop(*_: object) -> None:
        # Not SIG_IGN: what is started meanwhile is not to ignore them.
        on_stop_signals(lambda *_: None)
        loop.call_soon_threadsafe(task.cancel)

    on_stop_signals(stop)
    try:
        await asyncio.wait([task])
    finally:
        # Not a handler: those are gone in the last moments of an interpreter.
        on_stop_signals(signal.SIG_IGN)
    return task.result()

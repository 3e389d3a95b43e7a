"""The signals that stop the service. Imports nothing that takes a while."""

from __future__ import annotations

import signal
from collections.abc import Callable

#: kill and `docker stop`; Ctrl-C; a closed terminal; Ctrl-\.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def on_stop_signals(action: Callable[..., object] | signal.Handlers) -> None:
    """Call ``action`` at each of them, but leave SIGHUP ignored where nohup did so."""
    for number in STOP_SIGNALS:
        ignored = signal.getsignal(number) is signal.SIG_IGN
        if not (ignored and number == signal.SIGHUP):
            signal.signal(number, action)

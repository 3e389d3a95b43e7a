"""Every signal in every phase: the service stops, goes on, or can be started again."""

from __future__ import annotations

import itertools
import signal
import time
from functools import partial
from pathlib import Path
from random import Random

from tests.support.harm.attempts import MOMENTS, Attempts, repeat
from tests.support.harm.report import Report
from tests.support.harm.service import Service, running
from tests.support.processes import answer, until

#: These stop the service and its Postgres; the exit code is 0.
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)

#: These end no Python process, and these only stop it for a while.
IGNORED = (
    *(signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH),
    *(signal.SIGPIPE, signal.SIGXFSZ),
)
PAUSES = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

EVERY = [number for number in range(1, signal.SIGRTMIN) if number not in (32, 33)]


def signals(folder: Path, rng: Random, times: int, report: Report) -> None:
    """Pairs of a signal and a moment of a run, in an order at random."""
    pairs = list(itertools.product(EVERY, MOMENTS))
    rng.shuffle(pairs)
    signal.signal(signal.SIGHUP, lambda *_: None)  # nohup's neglect would be inherited
    harms = [(partial(_send, report, number), moment) for number, moment in pairs]
    with running(folder, rng, report) as (service, data):
        repeat(Attempts(service, data, rng, report), times, itertools.cycle(harms))


def _send(report: Report, number: int, service: Service, rng: Random) -> str:
    name = signal.Signals(number).name
    process = service.process
    assert process is not None
    process.send_signal(number)
    if number in STOPS:
        for again in rng.choices(STOPS, k=rng.choice([0, 0, 1, 3])):
            time.sleep(rng.random() * 0.2)
            process.send_signal(again)
        code = service.ended()
        report.require(code == 0, "a stop has the exit code 0", name, code)
        report.require(not service.has_postgres(), "a stop ends Postgres", name)
    elif number in IGNORED or number in PAUSES:
        if number in PAUSES:
            time.sleep(rng.random())
            process.send_signal(signal.SIGCONT)
        status, _ = answer(f"{service.url}/healthz")
        report.require(status == 200, "the service goes on", name, status)
    else:
        until(lambda: process.poll() is not None)
        code = service.ended()
        report.require(code == -number, "the signal ends it", name, code)
    return name

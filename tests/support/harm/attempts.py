"""One run that meets a harm, and all that must hold afterwards.

The harm is the caller's; the promises are here, and the same for every harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from random import Random

from tests.support.harm.data import Data
from tests.support.harm.report import Report, Violation, shortened
from tests.support.harm.service import PHASES, Service
from tests.support.processes import SECONDS

#: Does harm to a service, and says in a few words which.
Strike = Callable[[Service, Random], str]

#: What is done, and in which moment.
Harm = tuple[Strike, str]

#: When it happens: a while after a phase begins, or after the end, in the clean-up.
MOMENTS = (*PHASES, "end")

MAX_DELAY_SECONDS = 0.06

#: The share of runs that another one precedes which met the same harm: with none
#: between them that succeeded.
TWICE = 0.3

LEFT = """
select
    (select count(*) from etl.runs where state = 'running'),
    (select count(*) from etl.locks)
"""


@dataclass(frozen=True)
class _Harmed:
    """A run that met a harm: how it ended, if that was seen before, and the digest of
    features as far as it could be read just after.
    """

    run: int
    dry: bool
    ended: dict[str, object] | None
    digest: str | None
    about: tuple[str, ...]


@dataclass
class Attempts:
    """Runs of one service, each of which meets a harm."""

    service: Service
    data: Data
    rng: Random
    report: Report

    def disturb(self, strike: Strike, moment: str) -> None:
        """Begin a run, do harm, bring the service back, and check every promise.

        Raises Violation where the service does not come back.
        """
        service, report = self.service, self.report
        before: tuple[str, ...] = ()
        if self.rng.random() < TWICE:
            before = ("after", *self._harm(strike, self.rng.choice(MOMENTS)).about)
        old, old_digest = service.features(), service.digest()
        harmed = self._harm(strike, moment)
        run, ended, between = harmed.run, harmed.ended, harmed.digest
        about = (*harmed.about, *before)

        seen, seen_digest = service.features(), service.digest()
        record = self._record(run)
        report.counts[f"{moment}: {record['state']}"] += 1
        is_new = record["state"] == "succeeded" and not harmed.dry
        report.require(
            record["state"] in ("succeeded", "failed", "interrupted"),
            "a run whose service has ended does not stay running",
            *(*about, shortened(record)),
        )
        report.require(
            ended is None or ended["state"] == record["state"],
            "what was reported of a run stays true",
            *(*about, shortened(ended), shortened(record)),
        )
        report.require(
            is_new or seen == old,
            "a run that did not succeed leaves features as they were",
            *(*about, shortened(record)),
        )
        report.require(
            between in (None, old_digest, seen_digest),
            "a reader sees the old rows or the new ones",
            *about,
        )
        after = self._next_run("", about)
        report.require(
            not is_new or seen == after,
            "a run that succeeded has published all",
            *(*about, shortened(record)),
        )
        report.require(
            self._next_run("?full=true", about) == after,
            "a run leaves what a run from nothing leaves",
            *about,
        )
        left = self._left()
        report.require(left == (0, 0), "nothing is left of dead runs", *about, left)

    def _harm(self, strike: Strike, moment: str) -> _Harmed:
        """Change files, begin a run, do harm in this moment, and bring the service back
        to where that run has ended.
        """
        service, rng = self.service, self.rng
        change = self.data.change()
        self.report.counts[f"files {change}"] += 1
        dry = rng.random() < 0.1
        parameters = "&dry_run=true" if dry else rng.choice(["", "", "&full=true"])
        run = service.begin(parameters)
        ended = service.follow(run, None if moment == "end" else moment)
        time.sleep(rng.random() * MAX_DELAY_SECONDS)
        struck = strike(service, rng)
        digest = service.digest()
        self._recover()
        service.follow(run)  # it goes on where the service does
        about = (change, parameters, f"{struck} in {moment}", f"run {run}")
        return _Harmed(run, dry, ended, digest, about)

    def _left(self) -> tuple[int, int]:
        """The runs that are not over, and locks of runs: once there are none, or after
        a while. A connection gives its lock back a moment after the answer.
        """
        deadline = time.monotonic() + SECONDS
        while True:
            (found,) = self.service.query(LEFT)
            if found == (0, 0) or time.monotonic() > deadline:
                return found[0], found[1]
            time.sleep(0.05)

    def _recover(self) -> None:
        began = time.monotonic()
        self.service.revive()
        seconds = round(time.monotonic() - began)
        counts = self.report.counts
        counts["max s to recover"] = max(counts["max s to recover"], seconds)

    def _record(self, run: int) -> dict[str, object]:
        status, record = self.service.get(f"/runs/{run}")
        return dict(record) if status == 200 else {"state": f"answers {status}"}

    def _next_run(self, parameters: str, about: tuple[str, ...]) -> bytes:
        """The features after a run that must succeed."""
        status, body = self.service.trigger(parameters)
        self.report.require(
            status == 200, "the next run succeeds", *about, status, shortened(body)
        )
        return self.service.features()


def anytime(strike: Strike, rng: Random) -> Iterator[Harm]:
    """The same harm again and again, each time in a moment at random."""
    while True:
        yield strike, rng.choice(MOMENTS)


def repeat(attempts: Attempts, times: int, strikes: Iterable[Harm]) -> None:
    """So many runs, each of which meets the next of these harms."""
    for _, (strike, moment) in zip(
        attempts.report.rounds(times), strikes, strict=False
    ):
        try:
            attempts.disturb(strike, moment)
        except (Violation, OSError, HTTPException) as error:
            report = attempts.report
            report.require(False, "the service is there", repr(error))
            with suppress(Violation):
                attempts.service.revive()

"""``kill -9`` of the service, of its Postgres, of single backends, or of both."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.support.harm.attempts import Attempts, Strike, anytime, repeat
from tests.support.harm.data import Data
from tests.support.harm.report import Report, Violation
from tests.support.harm.service import Service, kill, running
from tests.support.processes import until

#: A first start takes about as long: it makes a cluster.
FIRST_START_SECONDS = 4.0


def kills(folder: Path, rng: Random, times: int, report: Report) -> None:
    """The service is killed in a run, and started again at once."""
    _disturbed(folder, rng, times, report, kill_service)


def postgres(folder: Path, rng: Random, times: int, report: Report) -> None:
    """Postgres, single backends, or Postgres and the service are killed in a run."""

    def strike(service: Service, rng: Random) -> str:
        chosen = rng.choice(STRIKES)
        report.counts[chosen.__name__] += 1
        return chosen(service, rng)

    _disturbed(folder, rng, times, report, strike)


def starts(folder: Path, rng: Random, times: int, report: Report) -> None:
    """The very first start is killed on its way, and another one begins at once."""
    for number in report.rounds(times):
        Data(folder / str(number) / "data", rng, users=100)
        service = Service(folder / str(number))
        seconds = rng.random() * FIRST_START_SECONDS
        service.start_killed(seconds)
        try:
            service.start()
            status, body = service.get("/trigger_etl")
            report.require(status == 200, "a run succeeds", status, body)
        except Violation as violation:
            report.require(False, "the next start works", f"{seconds:.2f} s", violation)
        finally:
            service.close()
        shutil.rmtree(folder / str(number))


def _disturbed(
    folder: Path, rng: Random, times: int, report: Report, strike: Strike
) -> None:
    with running(folder, rng, report) as (service, data):
        repeat(Attempts(service, data, rng, report), times, anytime(strike, rng))


def kill_service(service: Service, rng: Random) -> str:
    service.end()
    return "kill -9 of the service"


def kill_postmaster(service: Service, rng: Random) -> str:
    first = service.postmaster()
    _end_postgres(first, [first])
    return "kill -9 of Postgres"


def kill_all_of_postgres(service: Service, rng: Random) -> str:
    first = service.postmaster()
    _end_postgres(first, [first, *_children(first)])
    return "kill -9 of all of Postgres"


def kill_backend(service: Service, rng: Random) -> str:
    """Any process of Postgres but the first: all others end with it."""
    first = service.postmaster()
    _end_postgres(first, [rng.choice(_children(first))])
    return "kill -9 of a process of Postgres"


def kill_leader(service: Service, rng: Random) -> str:
    return _kill_found(service, "select pid from etl.locks where leads")


def kill_worker(service: Service, rng: Random) -> str:
    return _kill_found(service, "select pid from etl.locks where not leads limit 1")


def terminate_leader(service: Service, rng: Random) -> str:
    """As an administrator does; the others stay."""
    service.query("select pg_terminate_backend(pid) from etl.locks where leads")
    return "pg_terminate_backend of the leader"


def kill_both(service: Service, rng: Random) -> str:
    """The service and the first process of Postgres, or all of its processes."""
    first = service.postmaster()
    others = _children(first) if rng.random() < 0.5 else []
    service.end()
    kill([first, *others])
    return f"kill -9 of the service and {1 + len(others)} of Postgres"


STRIKES: tuple[Strike, ...] = (
    *(kill_postmaster, kill_all_of_postgres, kill_backend, kill_leader, kill_worker),
    *(terminate_leader, kill_both),
)


def _kill_found(service: Service, query: str) -> str:
    if numbers := [number for (number,) in service.query(query)]:
        _end_postgres(service.postmaster(), numbers)
    return f"kill -9 of {len(numbers)} that {query!r} finds"


def _end_postgres(first: int, numbers: list[int]) -> None:
    """Kill some, and wait until all that the first process has started are gone: until
    then they may answer.
    """
    others = _children(first)
    kill(numbers)
    until(lambda: not [each for each in others if Path(f"/proc/{each}/exe").exists()])


def _children(number: int) -> list[int]:
    """All but the logger, which survives the others."""
    children = []
    for child in Path(f"/proc/{number}/task/{number}/children").read_text().split():
        with suppress(OSError):  # of one that has ended
            if b"logger" not in Path(f"/proc/{child}/cmdline").read_bytes():
                children.append(int(child))
    return children

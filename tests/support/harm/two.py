"""Two servers on one named database: the one that leads a run is killed or cut off."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random

from psycopg.conninfo import make_conninfo

from tests.support.harm.attempts import Attempts, Strike, anytime, repeat
from tests.support.harm.data import Data
from tests.support.harm.proxy import Proxy
from tests.support.harm.report import Report, shortened
from tests.support.harm.service import Service
from tests.support.tcpserver import tcp_server


def two(folder: Path, rng: Random, times: int, report: Report) -> None:
    """The first reaches the database through a proxy, the second by itself."""
    data = Data(folder / "data", rng)
    with ExitStack() as stack:
        server = stack.enter_context(tcp_server(folder))
        direct, proxy = server.conninfo("postgres"), Proxy(server.port)
        stack.callback(proxy.close)
        proxied = make_conninfo(direct, port=proxy.port)
        settings = {"DATA_DIR": folder / "data"}
        first = Service(folder / "first", direct, DATABASE_URL=proxied, **settings)
        second = Service(folder / "second", direct, **settings)
        for service in (first, second):
            service.start()
            stack.callback(service.close)
        first.get("/trigger_etl")
        strikes = _strikes(second, proxy, report)

        def strike(service: Service, rng: Random) -> str:
            name = rng.choice(list(strikes))
            report.counts[name] += 1
            strikes[name](service, rng)
            report.require(
                service.process is None or service.process.poll() is None,
                "the first server lives",
                name,
            )
            return name

        repeat(Attempts(first, data, rng, report), times, anytime(strike, rng))
    found = first.tracebacks + second.tracebacks
    report.require(not found, "no traceback in the log", found)


def _strikes(second: Service, proxy: Proxy, report: Report) -> dict[str, Strike]:
    def killed(service: Service, rng: Random) -> str:
        service.end()
        return _takes_over(second, report)

    def cut(service: Service, rng: Random) -> str:
        proxy.cut()
        return _takes_over(second, report)

    def away(service: Service, rng: Random) -> str:
        with proxy.refusing():
            _takes_over(second, report)
            time.sleep(rng.random() * 4)
        return ""

    def held(service: Service, rng: Random) -> str:
        with proxy.holding():
            _is_served(second, report)
            time.sleep(rng.random() * 4)
        return _takes_over(second, report)

    def paused(service: Service, rng: Random) -> str:
        assert service.process is not None
        service.process.send_signal(signal.SIGSTOP)
        _is_served(second, report)
        time.sleep(rng.random() * 2)
        service.process.send_signal(signal.SIGCONT)
        return _takes_over(second, report)

    each = (killed, cut, away, held, paused)
    return {strike.__name__: strike for strike in each}


def _is_served(second: Service, report: Report) -> None:
    """Readers of the other server notice nothing, and its runs wait for their turn."""
    second.features()
    status, body = second.get("/trigger_etl?dry_run=true")
    report.require(status in (200, 409), "one run at a time", status, shortened(body))


def _takes_over(second: Service, report: Report) -> str:
    """The other server can run as soon as the first one is gone, or has ended its run.

    A dry run, so that what is published is the first one's alone.
    """
    found = second.trigger("?dry_run=true")
    report.require(found[0] == 200, "the other server takes over", shortened(found))
    return ""

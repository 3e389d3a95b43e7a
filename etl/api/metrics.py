"""``/metrics`` for Prometheus: what this process counts, its pools, and its database.

Requests and runs are counted as they end; pools and the database are read at each
scrape. Reads no rows of ``features``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from time import perf_counter

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    Summary,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily as CounterFamily
from prometheus_client.metrics_core import GaugeMetricFamily as GaugeFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from psycopg import OperationalError
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from etl.api.app_keys import DATABASE, records_connection
from etl.http.parameters import refuse_parameters
from etl.run.records import Run

#: Seconds: a row by its key takes under a millisecond, a run of large files a minute.
BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

#: The method and route of a request that no route takes.
NO_ROUTE = ("none", "none")

#: Kinds of requests whose metrics are cached: there are fewer of routes and statuses.
MAX_KINDS = 1024

#: The status of a request whose client left before its answer ended, as in nginx.
NO_ANSWER = 499

END_STATES = ("succeeded", "failed", "interrupted")

#: Metrics by column of the view etl.metrics.
MEASURES = {
    "published_at": (
        "etl_last_success_timestamp_seconds",
        "When a run last published, in seconds since 1970",
    ),
    "rows": ("etl_features_rows", "Rows that were published last"),
    "runs_under_way": ("etl_runs_under_way", "Runs in progress on this database"),
}

#: Metrics by statistic of a pool.
POOL_METRICS = {
    "pool_max": (GaugeFamily, "etl_pool_connections_max", "Size that a pool may reach"),
    "requests_waiting": (GaugeFamily, "etl_pool_waiting", "Waits in progress"),
    "wait_seconds": (CounterFamily, "etl_pool_wait_seconds", "Seconds waited"),
    "requests_errors": (CounterFamily, "etl_pool_timeouts", "Waits that timed out"),
}

disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Counters of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        timer = partial(Summary, registry=self.registry)
        request = ("method", "route", "status")
        self._requests = counter("http_requests", "Requests answered", request)
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "Seconds that requests took",
            request[:2],
            buckets=BUCKETS,
            registry=self.registry,
        )
        # prometheus_client takes longer to find them than to count.
        self._request_metrics = lru_cache(MAX_KINDS)(self._find_request_metrics)
        self._runs = counter("etl_runs", "Runs ended by this process", ["state"])
        self.watch_runs = counter("etl_watch_runs", "Runs that WATCH started")
        self._phases = timer("etl_phase_duration_seconds", "Time of a phase", ["phase"])
        self._steps = timer("etl_step_duration_seconds", "Time of a SQL file", ["file"])
        self._records = counter("etl_records", "Records, rejects included", ["file"])
        self._rejects = counter("etl_rejected_records", "Rejected records", ["file"])
        for state in END_STATES:
            self._runs.labels(state)
        ProcessCollector(registry=self.registry)

    def count_request(
        self, status: int, seconds: float = 0, route: web.AbstractRoute | None = None
    ) -> None:
        """Count a finished request; those without a route share one label."""
        its = route and route.resource
        method, path = (route.method, its.canonical) if route and its else NO_ROUTE
        requests, durations = self._request_metrics(method, path, status)
        requests.inc()
        durations.observe(seconds)

    def _find_request_metrics(
        self, method: str, path: str, status: int
    ) -> tuple[Counter, Histogram]:
        requests = self._requests.labels(method, path, status)
        return requests, self._seconds.labels(method, path)

    def count_run(self, run: Run) -> None:
        """Count a finished run with its phases, SQL files and records."""
        state = run.summary.get("state")
        self._runs.labels(state if state in END_STATES else "interrupted").inc()
        for phase, seconds in run.seconds_by_phase().items():
            self._phases.labels(phase).observe(seconds)
        for step in run.steps:
            if not step.kept:
                self._steps.labels(step.file).observe(step.milliseconds / 1000)
        for file in run.files:
            self._records.labels(file.file).inc(file.records)
            self._rejects.labels(file.file).inc(file.rejected)


METRICS = web.AppKey("metrics", Metrics)


def count_requests(metrics: Metrics) -> Middleware:
    """The outermost middleware: counts every request, however it ends."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = perf_counter()
        status = NO_ANSWER
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            route = request.match_info.route
            metrics.count_request(status, perf_counter() - began, route)

    return count


async def metrics(request: web.Request) -> web.Response:
    """All metrics as text, also while the database is unavailable."""
    refuse_parameters(request)
    database = request.app[DATABASE]
    pools = {
        "readers": database.readers,
        "records": database.records,
        "runners": database.runners,
    }
    scrape = Scrape(request.app[METRICS], await _read_database(request), pools)
    headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"}
    return web.Response(body=generate_latest(scrape), headers=headers)


async def _read_database(request: web.Request) -> dict[str, float | None]:
    """The row of etl.metrics, empty where the database is unavailable."""
    try:
        async with records_connection(request) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute("table etl.metrics")
            return await cursor.fetchone() or {}
    except (OperationalError, PoolTimeout):
        return {}


@dataclass(frozen=True)
class Scrape(Collector):
    """All metrics at one moment; ``of_database`` is empty without the database."""

    metrics: Metrics
    of_database: Mapping[str, float | None]
    pools: Mapping[str, AsyncConnectionPool]

    def collect(self) -> Iterator[Metric]:
        """What was counted, then what the database and the pools say now."""
        yield from self.metrics.registry.collect()
        is_up = bool(self.of_database)
        yield GaugeFamily("etl_database_up", "Whether the database answers", is_up)
        for column, (name, description) in MEASURES.items():
            if (value := self.of_database.get(column)) is not None:
                yield GaugeFamily(name, description, value)
        yield from self._of_pools()

    def _of_pools(self) -> Iterator[Metric]:
        connections = GaugeFamily(
            "etl_pool_connections", "Connections of a pool", labels=("pool", "state")
        )
        families = {
            statistic: kind(name, description, labels=("pool",))
            for statistic, (kind, name, description) in POOL_METRICS.items()
        }
        for pool, its in self.pools.items():
            stats: dict[str, float] = {**its.get_stats()}
            stats["wait_seconds"] = stats.get("requests_wait_ms", 0) / 1000
            idle = stats["pool_available"]
            connections.add_metric((pool, "idle"), idle)
            connections.add_metric((pool, "used"), stats["pool_size"] - idle)
            for statistic, family in families.items():
                family.add_metric((pool,), stats.get(statistic, 0))
        yield from (connections, *families.values())

"""What Prometheus is answered: what is counted, and what is read when it asks.

Pools are looked at, and the database is asked what was published; no rows are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from psycopg import OperationalError
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from etl.api.metrics import METRICS, Metrics
from etl.postgres.database import Database


@dataclass(frozen=True)
class Published:
    """What the database says: None where it says nothing."""

    at: float | None = None
    rows: int | None = None
    runs_under_way: int | None = None


@dataclass(frozen=True)
class Measures(Collector):
    """All that Prometheus is told at one time."""

    metrics: Metrics
    published: Published
    pools: Mapping[str, AsyncConnectionPool]

    def collect(self) -> Iterator[Metric]:
        """One after the other."""
        yield from self.metrics.collect()
        yield from _of_published(self.published)
        yield from _of_pools(self.pools)


async def answer_metrics(request: web.Request, database: Database) -> web.Response:
    """All of it in Prometheus's text format, also while the database is away."""
    pools = {"readers": database.readers, "runners": database.runners}
    published = await _read_published(database)
    measures = Measures(request.app[METRICS], published, pools)
    headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"}
    return web.Response(body=generate_latest(measures), headers=headers)


async def _read_published(database: Database) -> Published:
    try:
        async with database.readers.connection() as connection:
            rows = await connection.execute(
                "select published_at, rows, runs_under_way from etl.measures"
            )
            return Published(*(await rows.fetchall())[0])
    except (OperationalError, PoolTimeout):
        return Published()


def _of_published(published: Published) -> Iterator[Metric]:
    is_there = published.runs_under_way is not None
    for name, words, value in (
        ("etl_database_up", "Whether the database answered just now", is_there),
        (
            "etl_last_success_timestamp_seconds",
            "When a run last published, in seconds since 1970",
            published.at,
        ),
        ("etl_features_rows", "Rows that were published last", published.rows),
        (
            "etl_runs_under_way",
            "Runs under way on this database, of this server or another",
            published.runs_under_way,
        ),
    ):
        if value is not None:
            yield GaugeMetricFamily(name, words, float(value))


def _of_pools(pools: Mapping[str, AsyncConnectionPool]) -> Iterator[Metric]:
    """How far the pools of connections are used, and whether anyone waits."""
    connections = GaugeMetricFamily(
        "etl_pool_connections", "Connections to the database", labels=("pool", "state")
    )
    most = GaugeMetricFamily(
        "etl_pool_connections_max", "Connections that a pool may have", labels=("pool",)
    )
    waiting = GaugeMetricFamily(
        "etl_pool_waiting", "Those who wait for a connection", labels=("pool",)
    )
    waited = CounterMetricFamily(
        "etl_pool_wait_seconds", "Seconds waited for connections", labels=("pool",)
    )
    refused = CounterMetricFamily(
        "etl_pool_timeouts",
        "Waits for a connection that were in vain",
        labels=("pool",),
    )
    for name, pool in pools.items():
        stats = pool.get_stats()
        idle = stats["pool_available"]
        connections.add_metric((name, "idle"), idle)
        connections.add_metric((name, "used"), stats["pool_size"] - idle)
        most.add_metric((name,), stats["pool_max"])
        waiting.add_metric((name,), stats["requests_waiting"])
        waited.add_metric((name,), stats.get("requests_wait_ms", 0) / 1000)
        refused.add_metric((name,), stats.get("requests_errors", 0))
    yield from (connections, most, waiting, waited, refused)

"""Counts what this process does for Prometheus: requests, and runs with all they did.

What is read when Prometheus asks, of pools and database, is in measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    Summary,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from etl.run.records import Run

#: Seconds: a row by its key takes under a millisecond, a run of large files a minute.
BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

#: What stands for the route of a request that has none, or not with its method.
NO_ROUTE = "none"

#: What stands for the status where no answer was sent to its end: the client left, or
#: stalled. As nginx has it.
NO_ANSWER = 499

ENDED = ("succeeded", "failed", "interrupted")


#: Counts a request, and observes its seconds.
Observer = tuple[Callable[[], None], Callable[[float], None]]


class Metrics(Collector):
    """Counts in a registry of its own, so that services do not mix."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        request = ("method", "route", "status")
        self._requests = self._counter("http_requests", "Requests answered", *request)
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "Seconds that requests took",
            ("method", "route"),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._runs = self._counter("etl_runs", "Runs ended by this process", "state")
        for state in ENDED:
            self._runs.labels(state)
        self._phases = self._summary(
            "etl_phase_duration_seconds", "Seconds that runs spent in a phase", "phase"
        )
        self._steps = self._summary(
            "etl_step_duration_seconds", "Seconds that a SQL file took", "file"
        )
        self._records = self._counter(
            "etl_records",
            "Records that files had, the rejected ones among them",
            "file",
        )
        self._rejected = self._counter(
            "etl_rejected_records", "Records that runs left out", "file"
        )
        ProcessCollector(registry=self._registry)
        self._observers: dict[tuple[web.AbstractRoute, int], Observer] = {}

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(name, words, labels, registry=self._registry)

    def _summary(self, name: str, words: str, *labels: str) -> Summary:
        return Summary(name, words, labels, registry=self._registry)

    def count_request(
        self, route: web.AbstractRoute, status: int, seconds: float
    ) -> None:
        """Count a request that is over; labels are looked up once for each kind."""
        try:
            count, observe = self._observers[route, status]
        except KeyError:
            count, observe = self._observer(route, status)
        count()
        observe(seconds)

    def _observer(self, route: web.AbstractRoute, status: int) -> Observer:
        """What counts requests of one kind; kept where the route is no passing one."""
        there = route.resource
        path, method = (there.canonical, route.method) if there else (NO_ROUTE,) * 2
        count = self._requests.labels(method, path, status).inc
        observe = self._seconds.labels(method, path).observe
        if there:
            self._observers[route, status] = count, observe
        return count, observe

    def count_run(self, run: Run) -> None:
        """Count a run that is over, with all that it did."""
        state = run.summary.get("state")
        self._runs.labels(state if state in ENDED else "interrupted").inc()
        for phase, seconds in run.seconds_by_phase().items():
            self._phases.labels(phase).observe(seconds)
        for step in run.steps:
            self._steps.labels(step.file).observe(step.milliseconds / 1000)
        for file in run.files:
            self._records.labels(file.file).inc(file.records)
            self._rejected.labels(file.file).inc(file.rejected)

    def collect(self) -> Iterator[Metric]:
        """All that is counted, without the times at which counting began."""
        for metric in self._registry.collect():
            metric.samples = [
                each for each in metric.samples if not each.name.endswith("_created")
            ]
            yield metric


METRICS = web.AppKey("metrics", Metrics)


def counting(metrics: Metrics) -> Middleware:
    """Counts every request, whatever becomes of it; to stand outside all others."""

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
            metrics.count_request(route, status, perf_counter() - began)

    return count

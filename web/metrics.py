"""GET /metrics: counters and gauges for Prometheus; no label comes from what a machine says."""

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable
from functools import cache

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bootstrap.states import State
from web.listeners import Access, Routes
from web.site import Site

# From a read of the store (1 ms) to a commit that waits for a slow disk (seconds).
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Machines(Collector):
    """Counts the machines by state when it is asked."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield the gauges."""
        records = list(self._site.ledger.machines())
        tally = Tally(record.state for record in records)
        states = GaugeMetricFamily("firstlight_machines", "Machines by state.", labels=["state"])
        for state in State:
            states.add_metric([str(state)], tally[state])
        yield states
        stuck = sum(record.is_stuck for record in records)
        yield GaugeMetricFamily("firstlight_stuck_machines", "Machines past their deadline.", value=stuck)
        last = self._site.ledger.last_event()
        yield GaugeMetricFamily("firstlight_last_event", "Number of the newest event.", value=last)


def add(app: Flask, routes: Routes, site: Site) -> Callable[[str, int, float], None]:
    """Add the route, and measure every request of `app`; return what takes the measure of others."""
    registry = CollectorRegistry()
    registry.register(Machines(site))
    answers = Counter(
        "firstlight_http_requests", "Answered requests.", ["route", "status"], registry=registry
    )
    seconds = Histogram(
        "firstlight_http_seconds", "Time to the answer.", ["route"], registry=registry, buckets=BUCKETS
    )

    # To find a row by its labels costs more than to count in it.
    answers_of = cache(lambda route, status: answers.labels(route, str(status)))
    seconds_of = cache(seconds.labels)

    def measure(route: str, status: int, took_seconds: float) -> None:
        answers_of(route, status).inc()
        seconds_of(route).observe(took_seconds)

    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()

    @app.after_request
    def end(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "none"
        measure(route, response.status_code, time.perf_counter() - g.get("began", time.perf_counter()))
        return response

    @routes.get("/metrics", Access.OPERATOR)
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return measure

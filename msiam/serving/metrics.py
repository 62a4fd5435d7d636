"""Figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The figures of one server; not global, since a process may have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "msiam_requests", "Requests answered.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "msiam_request_seconds", "Time to answer.", ["path"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.batches = Histogram(
            "msiam_batch_queries", "Queries that went through the model together.",
            buckets=SIZES, registry=self.registry,
        )  # fmt: skip
        self.work = Counter(
            "msiam_model_seconds", "Time that the model and the search took.",
            registry=self.registry,
        )  # fmt: skip
        self.refreshed = Counter(
            "msiam_gallery_refreshed", "Newer galleries that were opened, or refused.", ["result"],
            registry=self.registry,
        )  # fmt: skip

    def follow(self, waiting: Callable[[], float], records: Callable[[], float]) -> None:
        """Tell the length of the queue and of the gallery, as they are when asked."""
        gauge = Gauge("msiam_queries_waiting", "Queries that wait.", registry=self.registry)
        gauge.set_function(waiting)
        gauge = Gauge("msiam_records", "Records of the gallery.", registry=self.registry)
        gauge.set_function(records)

    def batch(self, size: int, seconds: float) -> None:
        self.batches.observe(size)
        self.work.inc(seconds)

    def request(self, path: str, status: int, seconds: float) -> None:
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self.registry)

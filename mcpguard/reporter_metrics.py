"""How events fare on their way out, for a scrape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mcpguard.reporter import Drop, Reporter


class ReporterMetrics(Collector):
    """Reads a reporter's counts when it is asked."""

    def __init__(self, server: str, reporter: Reporter) -> None:
        self._server = server
        self._reporter = reporter

    def collect(self) -> Iterator[Metric]:
        """Return the metrics as they stand."""
        counts, server = self._reporter.counts(), self._server
        sent = CounterMetricFamily("mcp_usage_events", "Events that arrived.", labels=("server", "sink"))
        sent.add_metric((server, "file"), counts.get("written", 0))
        sent.add_metric((server, "ingest"), counts.get("sent", 0))
        yield sent
        dropped = CounterMetricFamily("mcp_usage_dropped", "Events lost.", labels=("server", "reason"))
        for reason in get_args(Drop):
            dropped.add_metric((server, reason), counts.get(reason, 0))
        yield dropped
        retries = CounterMetricFamily("mcp_usage_retries", "Failed tries to send.", labels=("server",))
        retries.add_metric((server,), counts.get("retries", 0))
        yield retries
        waiting = GaugeMetricFamily("mcp_usage_waiting", "Events in the queue.", labels=("server",))
        waiting.add_metric((server,), self._reporter.waiting())
        yield waiting
        spooled = GaugeMetricFamily(
            "mcp_usage_spooled_bytes", "Bytes that wait for the registry.", labels=("server",)
        )
        spooled.add_metric((server,), self._reporter.spooled())
        yield spooled

"""Traces and metrics to an OpenTelemetry collector, by OTLP over HTTP. Needs `gatehouse[otlp]`.

The spans are the SDK's own, one a message; the metrics are those of `/metrics`, under the same names. What
the `OTEL_*` variables say of headers, resources and sampling is OpenTelemetry's to read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry

from mcpguard.ingest import check_address
from mcpguard.listener import StartError

EVERY = 15.0
"""Seconds between two exports of metrics."""


class Export(Protocol):
    """What sends traces and metrics while a server runs."""

    def start(self) -> None:
        """Begin."""

    def close(self) -> None:
        """Send what waits, and end. Blocks for some seconds where the collector is gone."""


class NoExport:
    """Sends nothing."""

    def start(self) -> None:
        """Begin."""

    def close(self) -> None:
        """End."""


def export(url: str | None, server: str, registries: Sequence[CollectorRegistry]) -> Export:
    """Prepare to send to the collector at `url`, where there is one.

    Raises:
        StartError: the address is none, or OpenTelemetry is not installed.

    """
    if url is None:
        return NoExport()
    check_address(url, "--otlp")
    try:
        from opentelemetry import sdk  # noqa: F401
        from opentelemetry.exporter.otlp.proto import http  # noqa: F401
    except ImportError:
        raise StartError("--otlp needs OpenTelemetry's SDK: install gatehouse[otlp]") from None
    return _Export(url.rstrip("/"), server, registries)


class _Export:
    """A tracer provider for the process, and a thread that sends metrics."""

    def __init__(self, url: str, server: str, registries: Sequence[CollectorRegistry]) -> None:
        self._url, self._server, self._registries = url, server, registries
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._end_tracing: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Take the process's tracing over. Within a process the first to do so has it."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import set_tracer_provider

        from mcpguard.otlp_metrics import MetricSender

        resource = Resource.create({"service.name": self._server, "service.namespace": "gatehouse"})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{self._url}/v1/traces", timeout=3)))
        set_tracer_provider(provider)
        self._end_tracing = provider.shutdown
        sender = MetricSender(f"{self._url}/v1/metrics", resource, self._registries)
        self._thread = threading.Thread(
            target=self._send_metrics, args=(sender.send,), name="otlp", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Send what waits, and end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(3)
        self._end_tracing()

    def _send_metrics(self, send: Callable[[], None]) -> None:
        while not self._stop.wait(EVERY):
            send()
        send()

"""How long the engines behind a server take: `with mcpguard.backend("duckdb"): ...` around each use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Histogram

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

REGISTRY = CollectorRegistry()
"""Of the process: an engine doesn't know which server it works for, nor need it."""
_DURATIONS = Histogram(
    "mcp_backend_duration_seconds",
    "How long an engine behind the server took, failures included.",
    ("engine",),
    buckets=BUCKETS,
    registry=REGISTRY,
)


@contextmanager
def backend(engine: str) -> Iterator[None]:
    """Measure one use of an engine. `engine` is a name out of the server's code, never a caller's text."""
    start = time.perf_counter()
    try:
        yield
    finally:
        _DURATIONS.labels(engine).observe(time.perf_counter() - start)

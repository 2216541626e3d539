"""What the control plane counts. Labels are of our own making, never of a client's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from xds.resource import Kind, ResourceSet

_BUILD_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The process's metrics, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._resources = Gauge(
            "gatehouse_xds_resources", "Resources that are published", ["type"], registry=registry
        )
        self._pushes = Counter(
            "gatehouse_xds_pushes", "Responses sent to Envoys", ["type"], registry=registry
        )
        self._nacks = Counter(
            "gatehouse_xds_nacks", "Responses that an Envoy refused", ["type"], registry=registry
        )
        self._connected = Gauge("gatehouse_xds_connected", "Envoys with an open stream", registry=registry)
        self._build = Histogram(
            "gatehouse_xds_build_seconds", "Building and checking", buckets=_BUILD_BUCKETS, registry=registry
        )
        self._ok = Gauge(
            "gatehouse_policy_reload_ok",
            "1 while what is published is what policy and deployment say now",
            registry=registry,
        )
        self._info = Gauge("gatehouse_policy_info", "The policy in force", ["digest"], registry=registry)
        for kind in Kind:
            self._resources.labels(kind.label).set(0)
            self._pushes.labels(kind.label)
            self._nacks.labels(kind.label)

    def reload_ok(self, source: Callable[[], bool]) -> None:
        """Ask `source`, at each scrape, whether the last good is also the latest."""
        self._ok.set_function(lambda: float(source()))

    def published(self, resources: ResourceSet, digest: str, seconds: float) -> None:
        for kind in Kind:
            self._resources.labels(kind.label).set(len(resources.of_kind(kind)))
        self._info.clear()
        self._info.labels(digest).set(1)
        self._build.observe(seconds)

    def pushed(self, kind: Kind) -> None:
        self._pushes.labels(kind.label).inc()

    def nacked(self, kind: Kind) -> None:
        self._nacks.labels(kind.label).inc()

    @contextmanager
    def connection(self) -> Iterator[None]:
        with self._connected.track_inprogress():
            yield

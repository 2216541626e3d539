"""A control plane within the test's process: a real gRPC server, and resources that a test sets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

from prometheus_client import CollectorRegistry

from pdp.deployment import Address
from xds.ads import AdsServer, AdsService, Tls
from xds.metrics import Metrics
from xds.publication import Publication
from xds.resource import ResourceSet

_T = TypeVar("_T")
ROLE = "mcp-gateway"


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[None, None, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def call(self, function: Callable[[], _T]) -> _T:
        async def on_loop() -> _T:
            return function()

        return self.run(on_loop())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Plane:
    """Serves what `publish` was last given; `kill` and `revive` keep the port."""

    def __init__(self, loop: Loop, tls: Tls | None = None) -> None:
        self.loop = loop
        self.registry = CollectorRegistry()
        self.publication = Publication()
        self._tls = tls
        self._metrics = Metrics(self.registry)
        self._address = Address("127.0.0.1", 0)
        self._server: AdsServer | None = None
        self.revive()

    @property
    def port(self) -> int:
        return self._address.port

    def publish(self, resources: ResourceSet) -> None:
        self.loop.call(lambda: self.publication.publish(resources))

    def kill(self) -> None:
        if self._server is not None:
            self.loop.run(self._server.stop(0))
            self._server = None

    def revive(self) -> None:
        async def start() -> AdsServer:
            service = AdsService({ROLE: self.publication}, self._metrics)
            server = AdsServer(service, self._address, self._tls)
            await server.start()
            return server

        self._server = self.loop.run(start())
        self._address = self._server.address

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@contextmanager
def running_plane(tls: Tls | None = None) -> Iterator[Plane]:
    loop = Loop()
    plane = Plane(loop, tls)
    try:
        yield plane
    finally:
        plane.kill()
        loop.close()

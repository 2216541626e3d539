"""A discovery client over a real gRPC stream that acknowledges whatever it gets, and keeps all of it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import grpc

from xds.ads import SERVICE
from xds.resource import Kind
from xds.wire import discovery_pb2 as wire

_DEADLINE = 10.0


@dataclass(frozen=True)
class Got:
    """One response, either variant's."""

    kind: Kind
    nonce: str
    version: str
    resources: dict[str, bytes]
    versions: dict[str, str] = field(default_factory=dict)
    """By name; the incremental variant's alone."""
    removed: tuple[str, ...] = ()


class Client:
    """One ADS stream. `names` is what it is subscribed to, by kind; absent: not at all."""

    def __init__(self, channel: grpc.Channel, *, delta: bool, role: str = "mcp-gateway") -> None:
        self.delta = delta
        self.received: list[Got] = []
        self.names: dict[Kind, tuple[str, ...]] = {}
        self.ended: grpc.StatusCode | None = None
        """How the server ended the stream, if it did."""
        self._role = role
        self._nonces: dict[Kind, str] = {}
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._news = threading.Condition()
        method = "DeltaAggregatedResources" if delta else "StreamAggregatedResources"
        self.call = channel.stream_stream(f"/{SERVICE}/{method}")(iter(self._outbox.get, None))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def subscribe(self, kind: Kind, *names: str) -> None:
        """Subscribe to `names` besides what is subscribed to (delta), or to exactly them (SotW)."""
        if self.delta:
            self.names[kind] = tuple(dict.fromkeys((*self.names.get(kind, ()), *names)))
            self._delta(kind, subscribe=names)
        else:
            self.names[kind] = names
            self._sotw(kind)

    def unsubscribe(self, kind: Kind, *names: str) -> None:
        left = tuple(name for name in self.names[kind] if name not in names)
        self.names[kind] = left
        if self.delta:
            self._delta(kind, unsubscribe=names)
        else:
            self._sotw(kind)

    def say(self, message: wire.DiscoveryRequest | wire.DeltaDiscoveryRequest) -> None:
        self._outbox.put(message.SerializeToString())

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _DEADLINE
        with self._news:
            while not condition():
                left = end - time.monotonic()
                assert left > 0, f"not received within {_DEADLINE:g} s: {what}; got {self.received}"
                self._news.wait(left)

    def of(self, kind: Kind) -> list[Got]:
        return [got for got in self.received if got.kind is kind]

    def close(self) -> None:
        self._outbox.put(None)
        self.call.cancel()
        self._reader.join(_DEADLINE)

    def _sotw(self, kind: Kind, nonce: str | None = None) -> None:
        self.say(
            wire.DiscoveryRequest(
                node=wire.Node(id="test", cluster=self._role),
                type_url=kind,
                resource_names=self.names[kind],
                response_nonce=self._nonces.get(kind, "") if nonce is None else nonce,
            )
        )

    def _delta(
        self, kind: Kind, subscribe: tuple[str, ...] = (), unsubscribe: tuple[str, ...] = (), nonce: str = ""
    ) -> None:
        self.say(
            wire.DeltaDiscoveryRequest(
                node=wire.Node(id="test", cluster=self._role),
                type_url=kind,
                resource_names_subscribe=subscribe,
                resource_names_unsubscribe=unsubscribe,
                response_nonce=nonce,
            )
        )

    def _read(self) -> None:
        try:
            for data in self.call:
                got = self._parse(data)
                with self._news:
                    self.received.append(got)
                    self._nonces[got.kind] = got.nonce
                    self._news.notify_all()
                if self.delta:
                    self._delta(got.kind, nonce=got.nonce)
                else:
                    self._sotw(got.kind)
        except grpc.RpcError:
            with self._news:
                self.ended = self.call.code()
                self._news.notify_all()

    def _parse(self, data: bytes) -> Got:
        if self.delta:
            delta = wire.DeltaDiscoveryResponse.FromString(data)
            return Got(
                Kind(delta.type_url),
                delta.nonce,
                delta.system_version_info,
                {r.name: r.resource.value for r in delta.resources},
                {r.name: r.version for r in delta.resources},
                tuple(delta.removed_resources),
            )
        sotw = wire.DiscoveryResponse.FromString(data)
        resources = {any_.value.split()[0].decode(): any_.value for any_ in sotw.resources}
        return Got(Kind(sotw.type_url), sotw.nonce, sotw.version_info, resources)


def channel_to(port: int) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel

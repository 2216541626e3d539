"""The aggregated discovery service: gRPC streams around `Stream`, which decides everything.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#aggregated-discovery-service
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import grpc
import grpc.aio

from pdp.deployment import Address
from xds.codec import DELTA, SOTW, MessageError, Received, Variant
from xds.metrics import Metrics
from xds.publication import Publication
from xds.stream import Stream, Turn
from xds.subscription import Answer

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
# A reconnecting Envoy names every resource it has, with its version.
_MAX_REQUEST_BYTES = 16 * 1024 * 1024
# Envoy pings idle connections; gRPC's defaults take that for abuse and hang up (measured: every 43 s).
_OPTIONS = (
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    # Whether Envoy is still there: a machine that vanished closes nothing.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
    # A second control plane on one port would share its Envoys at random; let it fail instead.
    ("grpc.so_reuseport", 0),
)

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. The authority is not optional: a control plane that serves anybody tells everybody."""

    certificate: Path
    key: Path
    client_ca: Path


class AdsService:
    """Serves each Envoy what is published for its role, the `cluster` of its node."""

    def __init__(
        self,
        roles: Mapping[str, Publication],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roles = roles
        self._metrics = metrics
        self._clock = clock

    def handlers(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        methods = {variant.method: self._handler(variant) for variant in (SOTW, DELTA)}
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _handler(self, variant: Variant) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def serve(_: object, context: Context) -> None:
            try:
                await self._serve(variant, context)
            except MessageError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

        return grpc.stream_stream_rpc_method_handler(serve)

    async def _serve(self, variant: Variant, context: Context) -> None:
        data = await _read(context)
        if data is None:
            return
        first = variant.decode(data)
        publication = self._roles.get(first.role)
        if publication is None:
            _logger.warning("refused node %r of role %r", first.node, first.role)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "the node's cluster is no known role")
        with publication.watch() as changed, self._metrics.connection():
            session = _Session(variant, context, first.node, self._metrics, self._clock)
            await session.run(first, publication, changed)


class _Session:
    """One open stream: what it waits for, and what it writes."""

    def __init__(
        self,
        variant: Variant,
        context: Context,
        node: str,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._variant = variant
        self._context = context
        self._node = node
        self._metrics = metrics
        self._clock = clock
        self._stream = Stream(delta=variant.delta)

    async def run(self, first: Received, publication: Publication, changed: asyncio.Event) -> None:
        """Serve until the client goes away."""
        if publication.current is not None:
            self._stream.publish(publication.current, self._clock())
        await self._receive(first)
        reading = asyncio.ensure_future(_read(self._context))
        waking = asyncio.ensure_future(changed.wait())
        try:
            while True:
                await asyncio.wait(
                    (reading, waking), timeout=self._patience(), return_when=asyncio.FIRST_COMPLETED
                )
                if waking.done():
                    changed.clear()
                    waking = asyncio.ensure_future(changed.wait())
                    if publication.current is not None:
                        await self._send(self._stream.publish(publication.current, self._clock()))
                if reading.done():
                    data = reading.result()
                    if data is None:
                        return
                    await self._receive(self._variant.decode(data))
                    reading = asyncio.ensure_future(_read(self._context))
                await self._send(self._stream.tick(self._clock()))
        finally:
            reading.cancel()
            waking.cancel()

    def _patience(self) -> float | None:
        now = self._clock()
        deadline = self._stream.deadline(now)
        return None if deadline is None else max(0.0, deadline - now)

    async def _receive(self, received: Received) -> None:
        request = received.request
        if request is None:  # a type that we don't serve: silence, as for one that has no resources yet
            return
        turn = self._stream.receive(request, self._clock())
        if turn.answer is Answer.NACK:
            self._metrics.nacked(request.kind)
            _logger.error("node %r refused %s: %s", self._node, request.kind.label, request.error)
        await self._send(turn)

    async def _send(self, turn: Turn) -> None:
        for response in turn.responses:
            await self._context.write(self._variant.encode(response))
            self._metrics.pushed(response.kind)


async def _read(context: Context) -> bytes | None:
    """The client's next message; None once it has said its last."""
    data: object = await context.read()
    return data if isinstance(data, bytes) else None


class AdsServer:
    """The listening gRPC server."""

    def __init__(self, service: AdsService, address: Address, tls: Tls | None = None) -> None:
        """Bind `address`; TCP port 0 takes any. Call it on the event loop that will serve.

        Raises:
            ValueError: `address` can be reached from elsewhere, and there is no TLS.
            OSError: the address is taken, or a TLS file can't be read.

        """
        if tls is None and not address.is_local:
            raise ValueError(f"{address}: off loopback TLS is required")
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((service.handlers(),))
        self.address = self._bind(address, tls)

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Close the streams; Envoys keep what they have and look for us again."""
        await self._server.stop(grace)

    def _bind(self, address: Address, tls: Tls | None) -> Address:
        try:
            if tls is None:
                port = self._server.add_insecure_port(str(address))
            else:
                port = self._server.add_secure_port(str(address), _credentials(tls))
        except RuntimeError as error:
            raise OSError(f"{address}: {error}") from error
        return address if address.unix else Address(address.host, port)


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    """Read the files again for each handshake that finds them changed: a renewal needs no restart."""
    seen = _stamps(tls)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal seen
        stamps = _stamps(tls)
        if stamps == seen:
            return None
        try:
            fresh = _configuration(tls)
        except OSError:
            return None
        seen = stamps
        return fresh

    return grpc.dynamic_ssl_server_credentials(
        _configuration(tls),
        fetch,  # type: ignore[arg-type]  # None is "unchanged", which the stubs don't know
        require_client_authentication=True,
    )


def _configuration(tls: Tls) -> grpc.ServerCertificateConfiguration:
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    return grpc.ssl_server_certificate_configuration([pair], tls.client_ca.read_bytes())


def _stamps(tls: Tls) -> tuple[tuple[int, int] | None, ...]:
    def stamp(path: Path) -> tuple[int, int] | None:
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    return tuple(map(stamp, (tls.certificate, tls.key, tls.client_ca)))

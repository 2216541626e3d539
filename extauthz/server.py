"""The gRPC server around a `CheckService`: transport, health, drain. It knows nothing of decisions.

Messages pass as bytes, and parsing is the service's own step, so that a request that doesn't parse is
refused like any other instead of failing inside gRPC.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from pdp.deployment import Address

SERVICE: Final = "envoy.service.auth.v3.Authorization"
THREADS: Final = 8
MAX_REQUEST_BYTES: Final = 256 * 1024
MAX_WAITING: Final = 1024
"""Checks in work or waiting. More are refused at once (Envoy answers 503): they would wait for longer than
the half second that Envoy gives a check."""

_logger = logging.getLogger(__name__)

_Status = health_pb2.HealthCheckResponse

# Envoy pings its idle connections; gRPC's defaults take that for abuse and hang up (measured: every 43 s).
_OPTIONS: Final = (
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    # Two processes on one port would share its connections at random; let the second one fail instead.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. With a client CA, only its clients may connect."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class Server:
    """Listens from `start` on; not serving, as gRPC health has it, until `ready`."""

    def __init__(self, check: Callable[[bytes], bytes], address: Address, tls: Tls | None = None) -> None:
        """Serve `check` at `address`; TCP port 0 takes any.

        Raises:
            ValueError: `address` can be reached from elsewhere, and there is no TLS.
            OSError: the address is taken, or a TLS file can't be read.

        """
        if tls is None and not address.is_local:
            raise ValueError(f"{address}: off loopback TLS is required")
        self._health = health.HealthServicer()
        self.ready(False)
        self._server = grpc.server(
            ThreadPoolExecutor(THREADS, "check"), options=_OPTIONS, maximum_concurrent_rpcs=MAX_WAITING
        )
        self._server.add_generic_rpc_handlers((_handler(check),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.address = self._bind(address, tls)

    def _bind(self, address: Address, tls: Tls | None) -> Address:
        try:
            if tls is None:
                port = self._server.add_insecure_port(str(address))
            else:
                port = self._server.add_secure_port(str(address), _credentials(tls))
        except RuntimeError as error:
            raise OSError(f"{address}: can't listen there") from error
        return address if address.unix else Address(address.host, port)

    def start(self) -> None:
        """Accept connections."""
        self._server.start()

    def ready(self, serving: bool) -> None:
        """Say through gRPC health whether checks can be decided."""
        status = _Status.SERVING if serving else _Status.NOT_SERVING
        for name in ("", SERVICE):
            self._health.set(name, status)

    def drain(self, seconds: float) -> None:
        """Turn unhealthy for good, refuse new checks, and finish those in work within `seconds`."""
        self._health.enter_graceful_shutdown()
        stopped: threading.Event = self._server.stop(seconds)
        stopped.wait()


def _handler(check: Callable[[bytes], bytes]) -> grpc.GenericRpcHandler[bytes, bytes]:
    def answer(request: bytes, _context: grpc.ServicerContext) -> bytes:
        return check(request)

    # Without (de)serializers gRPC hands over the bytes as they are.
    return grpc.method_handlers_generic_handler(
        SERVICE, {"Check": grpc.unary_unary_rpc_method_handler(answer)}
    )


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    """Credentials that follow their files: a renewed certificate serves from the next handshake on."""
    stamp, current = _stamp(tls), _configuration(tls)

    def latest() -> grpc.ServerCertificateConfiguration:
        nonlocal stamp, current
        try:
            if (now := _stamp(tls)) != stamp:
                current, stamp = _configuration(tls), now
        except OSError as error:
            _logger.warning("TLS files can't be read again: %s", error)
        return current

    return grpc.dynamic_ssl_server_credentials(
        current, latest, require_client_authentication=tls.client_ca is not None
    )


def _stamp(tls: Tls) -> tuple[tuple[int, int], ...]:
    files = [file for file in (tls.certificate, tls.key, tls.client_ca) if file is not None]
    return tuple((status.st_mtime_ns, status.st_ino) for status in map(Path.stat, files))


def _configuration(tls: Tls) -> grpc.ServerCertificateConfiguration:
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    authority = tls.client_ca.read_bytes() if tls.client_ca is not None else None
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=authority)

"""Where a server listens: loopback, or TLS. Run by uvicorn, stopped by SIGTERM without cutting calls off."""

from __future__ import annotations

import gc
import ipaddress
import json
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

DRAIN = 10
"""Seconds that running calls get to end after SIGTERM."""

# Envoy keeps idle connections to us for an hour. If we closed one first, the request that Envoy has just put
# on it would fail.
_KEEP_ALIVE = 3700


class StartError(Exception):
    """The server can't start as it was told to; the message is one clear line."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One address, with the files for TLS where it has TLS."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None

    @classmethod
    def parse(
        cls,
        text: str,
        certificate: Path | None = None,
        key: Path | None = None,
        client_ca: Path | None = None,
    ) -> Listener:
        """Read `HOST:PORT`, where HOST is an IP address (IPv6 in brackets) or `localhost`.

        Raises:
            StartError: it is not of that form, or plain HTTP is asked for off loopback.

        """
        host, _, port = text.rpartition(":")
        host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise StartError(f"--listen {text}: expected ADDRESS:PORT") from None
        if not port.isdigit() or int(port) > 65535:
            raise StartError(f"--listen {text}: the port is a number up to 65535")
        if (certificate is None) != (key is None):
            raise StartError("TLS needs both a certificate and its key")
        if client_ca is not None and certificate is None:
            raise StartError("a client CA needs TLS: give a certificate and its key")
        if certificate is None and not address.is_loopback:
            raise StartError(f"--listen {text}: plain HTTP is for loopback only; give TLS files")
        return cls(host, int(port), certificate, key, client_ca)

    def bind(self) -> socket.socket:
        """Bind now, so that port 0 becomes a number.

        Raises:
            StartError: the address is taken, or not ours.

        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # The protocol is named because asyncio sets TCP_NODELAY only on sockets that name it. Without it each
        # answer waits 40 ms for the delayed acknowledgement of its headers.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((self.host, self.port))
        except OSError as error:
            bound.close()
            raise StartError(f"can't listen on {self.host}:{self.port}: {error.strerror}") from None
        return bound


class _Server(uvicorn.Server):
    """uvicorn, saying where it listens once it does, and exiting with 0 when it was asked to stop."""

    def __init__(self, config: uvicorn.Config, ready: str) -> None:
        super().__init__(config)
        self._ready_line = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            _collect_seldom()
            sys.stdout.write(self._ready_line + "\n")
            sys.stdout.flush()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        self.force_exit = self.should_exit  # asked a second time: now
        self.should_exit = True


def _collect_seldom() -> None:
    """Keep the garbage collector from walking through policy and schemas, which stay, for every few calls.

    A call leaves hardly any cycles behind; Python's own thresholds cost a tenth of all calls here.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def configure(application: ASGIApp, listener: Listener) -> uvicorn.Config:
    """Return uvicorn's configuration for one server."""
    return uvicorn.Config(
        application,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=DRAIN,
        ssl_certfile=listener.certificate,
        ssl_keyfile=listener.key,
        ssl_ca_certs=str(listener.client_ca) if listener.client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if listener.client_ca else ssl.CERT_NONE,
    )


def serve_forever(application: ASGIApp, listener: Listener, component: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    bound = listener.bind()
    host, port = bound.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    ready = json.dumps({"component": component, "listen": address, "metrics": address})
    with bound:
        _Server(configure(application, listener), ready).run(sockets=[bound])

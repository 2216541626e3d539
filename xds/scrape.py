"""`/metrics` for Prometheus and `/healthz` for probes, on the event loop that serves Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pdp.deployment import Address

_READ_SECONDS = 5.0
_TEXT = "text/plain; charset=utf-8"


class Scrape:
    """An HTTP/1.1 port of two pages; each answer closes its connection."""

    def __init__(self, registry: CollectorRegistry, healthy: Callable[[], bool]) -> None:
        self._registry = registry
        self._healthy = healthy
        self._server: asyncio.Server | None = None

    async def start(self, address: Address) -> Address:
        """Listen; gives the address with its port.

        Raises:
            OSError: it is taken.

        """
        self._server = await asyncio.start_server(self._serve, address.host, address.port)
        return Address(address.host, self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = self._answer(head.split(b"\r\n", 1)[0])
                lines = (
                    f"HTTP/1.1 {status.value} {status.phrase}",
                    f"content-type: {kind}",
                    f"content-length: {len(body)}",
                    "connection: close",
                )
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked has gone, or never asked
        finally:
            writer.close()

    def _answer(self, request_line: bytes) -> tuple[HTTPStatus, str, bytes]:
        if request_line.startswith(b"GET /metrics "):
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        if not request_line.startswith(b"GET /healthz "):
            return HTTPStatus.NOT_FOUND, _TEXT, b"not found\n"
        if self._healthy():
            return HTTPStatus.OK, _TEXT, b"ok\n"
        return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b"nothing published yet\n"

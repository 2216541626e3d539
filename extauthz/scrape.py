"""The HTTP port for Prometheus and for probes: `/metrics`, `/healthz`. It tells nothing of any caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pdp.deployment import Address

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Probes are not news."""


class ScrapeServer:
    """Serves a registry's metrics, and 200 at `/healthz` while `ready` says so, else 503."""

    def __init__(self, registry: CollectorRegistry, ready: Callable[[], bool], address: Address) -> None:
        """Listen at once; port 0 takes any.

        Raises:
            OSError: the address is taken.

        """

        def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                return _answer(start, HTTPStatus.OK, generate_latest(registry), CONTENT_TYPE_LATEST)
            if path != "/healthz":
                return _answer(start, HTTPStatus.NOT_FOUND, b"")
            if ready():
                return _answer(start, HTTPStatus.OK, b"serving\n")
            return _answer(start, HTTPStatus.SERVICE_UNAVAILABLE, b"not serving\n")

        self._server = make_server(address.host, address.port, application, _Server, _Quiet)
        self.address = Address(address.host, self._server.server_port)
        self._thread = threading.Thread(target=self._server.serve_forever, name="scrape", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _answer(
    start: StartResponse, status: HTTPStatus, body: bytes, content_type: str = "text/plain"
) -> Iterable[bytes]:
    start(
        f"{status.value} {status.phrase}",
        [("Content-Type", content_type), ("Content-Length", str(len(body)))],
    )
    return [body]

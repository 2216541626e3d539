"""An issuer's JWKS endpoint that can misbehave in every way a real one does."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

from identity.principal import JsonValue

Behaviour: TypeAlias = "Callable[[BaseHTTPRequestHandler], None]"


class KeyServer:
    """Listens on loopback from its construction on; `behave` changes how it answers."""

    def __init__(self) -> None:
        self._behaviour: Behaviour = unreachable
        self._asked = 0
        self._more = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/jwks"

    def behave(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour

    def publish(self, *keys: JsonValue) -> None:
        """Serve these public JWKs, as a good endpoint does."""
        self.behave(answer(json.dumps({"keys": list(keys)}).encode()))

    @property
    def asked(self) -> int:
        with self._more:
            return self._asked

    def wait_asked(self, since: int, seconds: float = 5.0) -> None:
        """Wait until somebody has asked after `since` requests had come."""
        with self._more:
            assert self._more.wait_for(lambda: self._asked > since, seconds), "nobody asked for the keys"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with outer._more:
                    outer._asked += 1
                    outer._more.notify_all()
                self.close_connection = True
                # The client may have had enough, which is what some of these tests are about.
                with contextlib.suppress(OSError):
                    outer._behaviour(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def answer(body: bytes, headers: Sequence[tuple[str, str]] = (), status: int = 200) -> Behaviour:
    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(body)))
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def unreachable(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without a word."""


def redirect_to(uri: str) -> Behaviour:
    return answer(b"", [("location", uri)], 302)


def drip(body: bytes, released: threading.Event) -> Behaviour:
    """Send the first half at once and the rest when `released`: no read ever times out by itself for long."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        half = len(body) // 2
        handler.wfile.write(body[:half])
        handler.wfile.flush()
        released.wait(30)
        handler.wfile.write(body[half:])

    return behave


def endless(total: int) -> Behaviour:
    """`total` bytes of a JSON document that never becomes one, without saying how long it is."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("connection", "close")
        handler.end_headers()
        handler.wfile.write(b'{"keys":[')
        block = b" " * 65_536
        for _ in range(total // len(block)):
            handler.wfile.write(block)

    return behave

"""A registry's ingest address over real HTTP: keeps events by id, and fails as a test tells it to."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Registry:
    """What was posted, and how the next posts are answered."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.kept: dict[str, dict[str, Any]] = {}
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        """Statuses of the next posts; 200 where there is none."""
        self.always: int | None = None
        self.retry_after: str | None = None
        self.go_on = threading.Event()
        """Cleared: every post waits."""
        self.go_on.set()
        self.keeps_and_fails = False
        """Keep the events and then drop the connection: an answer that never arrives."""
        self.url = ""

    def answer(self, headers: dict[str, str], body: bytes) -> int:
        self.go_on.wait(20)
        with self.lock:
            self.posts.append((headers, body))
            status = self.always or (self.answers.pop(0) if self.answers else 200)
            if status < 300:
                events = json.loads(body)["events"]
                self.kept |= {event["id"]: event for event in events}
            self.lock.notify_all()
        return status

    def wait_for(self, events: int, seconds: float = 10) -> list[dict[str, Any]]:
        with self.lock:
            assert self.lock.wait_for(lambda: len(self.kept) >= events, seconds), (
                f"only {len(self.kept)} came"
            )
            return list(self.kept.values())

    def wait_for_posts(self, posts: int, seconds: float = 10) -> None:
        with self.lock:
            assert self.lock.wait_for(lambda: len(self.posts) >= posts, seconds), (
                f"only {len(self.posts)} posts"
            )


class _Handler(BaseHTTPRequestHandler):
    registry: Registry
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status = self.registry.answer({k.lower(): v for k, v in self.headers.items()}, body)
        if self.registry.keeps_and_fails:
            self.registry.keeps_and_fails = False
            self.close_connection = True
            return
        self.send_response(status)
        if self.registry.retry_after and status >= 300:
            self.send_header("retry-after", self.registry.retry_after)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def registry(
    port: int = 0, tls: ssl.SSLContext | None = None, known: Registry | None = None
) -> Iterator[Registry]:
    made = known or Registry()
    handler = type("Handler", (_Handler,), {"registry": made})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        made.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}/usage/v1/events"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.go_on.set()
            server.shutdown()
            thread.join(10)

"""A History Server over real HTTP that knows what a real one answered, and how its parameters choose."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.servers.spark.record import RECORDED

API = "/api/v1"


class FakeHistory(ThreadingHTTPServer):
    """Serves recorded answers, until a test has it answer something else."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Any] = json.loads(gzip.decompress(RECORDED.read_bytes()))
        self.raw: tuple[int, dict[str, str], bytes] | None = None
        """What it answers to everything instead: status, headers, body."""
        self.asked: list[str] = []
        self.authorization: list[str | None] = []
        self.hold: threading.Event | None = None
        """Waits for this before it answers."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str, query: dict[str, str]) -> Any:
        """Return what stands below the API's root; None for what is not there."""
        known = self.answers.get(path)
        if path == "/applications":
            return known[: int(query.get("limit", "1000000"))]
        if path.endswith("/taskList"):
            return _tasks(known or [], query)
        if path.endswith("/stages") and known is not None and query.get("withSummaries") != "true":
            return [{k: v for k, v in one.items() if k != "taskMetricsDistributions"} for one in known]
        if path.endswith("/sql") and known is not None:
            return known[: int(query.get("length", "20"))]
        return known


def _tasks(tasks: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    """As `OneStageResource.taskList` does: by status, sorted by ID or run time, 20 unless told."""
    status = query.get("status", "").upper()
    chosen = [task for task in tasks if not status or task["status"] == status]
    if query.get("sortBy") == "-runtime":
        chosen.sort(key=lambda task: -task["taskMetrics"]["executorRunTime"])
    else:
        chosen.sort(key=lambda task: task["taskId"])
    return chosen[: int(query.get("length", "20"))]


class _Handler(BaseHTTPRequestHandler):
    server: FakeHistory

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.authorization.append(self.headers.get("authorization"))
        if self.server.hold is not None:
            self.server.hold.wait(20)
        if self.server.raw is not None:
            self._send(*self.server.raw)
            return
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        found = self.server.answer(parts.path.removeprefix(API), query)
        if found is None or not parts.path.startswith(API):
            self._send(404, {"content-type": "text/plain"}, b"no such app")
        else:
            self._send(200, {"content-type": "application/json"}, json.dumps(found).encode())

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:  # the client had enough
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def history() -> Iterator[FakeHistory]:
    with FakeHistory() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)

"""What stands where the deployment says that the servers are: it records everything that gets through Envoy.

A denied call must not show up here. The path `/mcp` is handed on to a real server where there is one; every
other path is answered at once with what was received.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import anyio
import httpx
import uvicorn
from starlette.types import Message, Receive, Scope, Send

_HOP_BY_HOP = frozenset({b"connection", b"host", b"keep-alive", b"transfer-encoding", b"te", b"upgrade"})


@dataclass(frozen=True, slots=True)
class Hit:
    """One request that reached a server."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def one(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    @property
    def names(self) -> set[str]:
        return {key for key, _ in self.headers}


class Upstream:
    """Listens on a free loopback port in a thread of its own."""

    def __init__(self) -> None:
        self._hits: list[Hit] = []
        self._more = threading.Condition()
        self._target: str | None = None
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            http="h11",
            proxy_headers=False,  # what Envoy sent is what is recorded
            log_config=None,
            access_log=False,
            lifespan="off",
            h11_max_incomplete_event_size=1 << 20,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="upstream", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def forward_to(self, url: str | None) -> None:
        """Hand `/mcp` on to a real server from now on."""
        self._target = url

    def close(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(5)
        self._socket.close()

    def mark(self) -> int:
        with self._more:
            return len(self._hits)

    def since(self, mark: int) -> list[Hit]:
        with self._more:
            return self._hits[mark:]

    def wait_for(self, mark: int, count: int, seconds: float = 5.0) -> list[Hit]:
        """The hits since `mark`, once there are `count` of them."""
        deadline = time.monotonic() + seconds
        with self._more:
            arrived = self._more.wait_for(
                lambda: len(self._hits) - mark >= count, max(0.0, deadline - time.monotonic())
            )
            assert arrived, f"{len(self._hits) - mark} of {count} requests arrived within {seconds:g} s"
            return self._hits[mark:]

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        body = await _body(receive)
        hit = Hit(
            scope["method"],
            (scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")).decode(
                "latin-1"
            ),
            tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]),
            body,
        )
        with self._more:
            self._hits.append(hit)
            self._more.notify_all()
        if self._target is not None and scope["path"] == "/mcp":
            await self._hand_on(self._target, hit, scope["headers"], receive, send)
        else:
            await _echo(hit, send)

    async def _hand_on(
        self, url: str, hit: Hit, raw: Iterable[tuple[bytes, bytes]], receive: Receive, send: Send
    ) -> None:
        headers = [(k, v) for k, v in raw if k not in _HOP_BY_HOP]

        async def leave_with_client(scope: anyio.CancelScope) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            scope.cancel()

        # Plain HTTP, so nothing to verify: making a context for it would be the slowest part.
        client = httpx.AsyncClient(timeout=None, trust_env=False, verify=False)
        async with client, anyio.create_task_group() as group:
            group.start_soon(leave_with_client, group.cancel_scope)
            async with client.stream(hit.method, url, headers=headers, content=hit.body) as response:
                kept = [(k.lower(), v) for k, v in response.headers.raw if k.lower() not in _HOP_BY_HOP]
                await send({"type": "http.response.start", "status": response.status_code, "headers": kept})
                async for chunk in response.aiter_raw():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            group.cancel_scope.cancel()


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        event: Message = await receive()
        parts.append(event.get("body", b""))
        if not event.get("more_body", False):
            return b"".join(parts)


async def _echo(hit: Hit, send: Send) -> None:
    """A JSON-RPC result that says which request it is of."""
    try:
        asked = json.loads(hit.body)
        request_id = asked.get("id") if isinstance(asked, dict) else None
    except ValueError:
        request_id = None
    answer = {"jsonrpc": "2.0", "id": request_id, "result": {"reached": hit.path}}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

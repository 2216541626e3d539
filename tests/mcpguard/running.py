"""A guarded server over real HTTP on loopback, in a thread, with the SDK's own client to call it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer
from starlette.types import ASGIApp

from identity.assertion import Assertion, Minter
from identity.signing import SigningKeys, generate_signing_key
from mcpguard import Settings, app
from mcpguard.confirmation_setup import ConfirmationOptions
from mcpguard.listener import Listener, configure
from tests.mcpguard.world import World

MODERN = "2026-07-28"
LEGACY = "2025-11-25"


class Running:
    """One server that listens."""

    def __init__(self, world: World, keys: SigningKeys, port: int, name: str) -> None:
        self.world = world
        self.url = f"http://127.0.0.1:{port}"
        self.name = name
        self._minter = Minter(keys)
        self.http = httpx.Client(trust_env=False, timeout=20)

    def mint(self, who: Assertion, now: float | None = None) -> str:
        return self._minter.mint(who, time.time() if now is None else now)

    def headers(self, who: Assertion | None, **more: str) -> dict[str, str]:
        base = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        if who is not None:
            base["x-forwarded-identity"] = self.mint(who)
        return base | {name.replace("_", "-"): value for name, value in more.items()}

    def post(self, body: bytes | dict[str, Any], who: Assertion | None, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(f"{self.url}/mcp", content=content, headers=self.headers(who, **headers))

    def call(
        self, tool: str, who: Assertion | None, arguments: dict[str, Any] | None = None, **headers: str
    ) -> httpx.Response:
        """Send one tools/call of 2026-07-28, with its headers unless others are given."""
        body = modern("tools/call", {"name": tool, "arguments": arguments or {}})
        given = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": tool} | headers
        return self.post(body, who, **given)

    @contextlib.asynccontextmanager
    async def client(self, who: Assertion | None, era: str = MODERN, **options: Any) -> AsyncIterator[Client]:
        headers = {"x-forwarded-identity": self.mint(who)} if who is not None else {}
        async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=20) as http:
            transport = streamable_http_client(f"{self.url}/mcp", http_client=http)
            mode = "legacy" if era == LEGACY else era
            async with Client(transport, mode=mode, **options) as client:
                yield client

    def metrics(self) -> str:
        return self.http.get(f"{self.url}/metrics").text


def modern(method: str, params: dict[str, Any] | None = None, request_id: int = 1) -> dict[str, Any]:
    """Build one request of 2026-07-28."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {**(params or {}), "_meta": meta}}


def legacy(method: str, params: dict[str, Any] | None = None, request_id: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}}


def reason(answer: httpx.Response) -> str:
    """Return the reason code of a refusal."""
    found: str = answer.json()["error"]["data"]["reason"]
    return found


@contextlib.contextmanager
def serving(
    mcp: MCPServer[Any],
    world: World,
    root: Path,
    name: str = "toy",
    *,
    strict: bool = False,
    settings: Settings | None = None,
    clock: Callable[[], float] = time.time,
    keys: SigningKeys | None = None,
    confirmations: ConfirmationOptions | None = None,
) -> Iterator[Running]:
    keys = keys or generate_signing_key()
    public = root / f"{name}-identity.jwks"
    public.write_bytes(keys.public_jwks())
    guarded = app(
        mcp,
        server=name,
        policies=world.policies,
        reviewers=world.reviewers,
        identity_keys=public,
        strict=strict,
        confirmations=confirmations or ConfirmationOptions(),
        settings=settings or Settings(),
        clock=clock,
    )
    with listening(guarded) as port:
        running = Running(world, keys, port, name)
        with running.http:
            yield running


@contextlib.contextmanager
def listening(guarded: ASGIApp) -> Iterator[int]:
    """Run an application in a thread; yields its port."""
    listener = Listener.parse("127.0.0.1:0")
    with listening_on(configure(guarded, listener), listener) as port:
        yield port


@contextlib.contextmanager
def listening_on(config: uvicorn.Config, listener: Listener) -> Iterator[int]:
    bound = listener.bind()
    server = uvicorn.Server(config)
    ready = threading.Event()
    startup = server.startup

    async def started(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets=sockets)
        ready.set()

    server.startup = started  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    assert ready.wait(20), "the server did not start"
    try:
        yield bound.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        bound.close()

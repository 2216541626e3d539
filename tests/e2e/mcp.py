"""MCP messages as bytes, of both eras."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from identity.principal import JsonValue
from tests.e2e import wire

LEGACY = "2025-11-25"
STATELESS = "2026-07-28"

Headers: TypeAlias = "Iterable[tuple[str | bytes, str | bytes]]"
Message: TypeAlias = "Mapping[str, JsonValue] | bytes"


def message(
    method: str, params: Mapping[str, JsonValue] | None = None, **more: JsonValue
) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {"jsonrpc": "2.0", "id": 1, "method": method}
    if params is not None:
        found["params"] = dict(params)
    return found | more


def call(tool: JsonValue, **arguments: JsonValue) -> dict[str, JsonValue]:
    return message("tools/call", {"name": tool, "arguments": arguments})


def initialize(version: str = LEGACY) -> dict[str, JsonValue]:
    client: JsonValue = {"name": "e2e", "version": "0"}
    return message("initialize", {"protocolVersion": version, "capabilities": {}, "clientInfo": client})


def stateless(sent: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The same message as a client of 2026-07-28 sends it: every request says of whom it is."""
    params = sent.get("params")
    meta: JsonValue = {
        "io.modelcontextprotocol/protocolVersion": STATELESS,
        "io.modelcontextprotocol/clientInfo": {"name": "e2e", "version": "0"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return {**sent, "params": {**(params if isinstance(params, dict) else {}), "_meta": meta}}


def stateless_headers(method: str, name: str | None = None) -> list[tuple[str | bytes, str | bytes]]:
    found: list[tuple[str | bytes, str | bytes]] = [
        ("mcp-protocol-version", STATELESS),
        ("mcp-method", method),
    ]
    return [*found, ("mcp-name", name)] if name is not None else found


def post(sent: Message, path: str, host: str, *, token: str | None = None, headers: Headers = ()) -> bytes:
    """A whole POST. A protocol version header is added unless one is given."""
    body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    given = list(headers)
    names = {name.lower() if isinstance(name, str) else name.lower().decode("latin-1") for name, _ in given}
    usual: list[tuple[str | bytes, str | bytes]] = []
    if "content-type" not in names:
        usual.append(("content-type", "application/json"))
    usual.append(("accept", "application/json, text/event-stream"))
    if "mcp-protocol-version" not in names:
        usual.append(("mcp-protocol-version", LEGACY))
    if token is not None:
        usual.append(("authorization", f"Bearer {token}"))
    return wire.request("POST", path, host, [*usual, *given], body)

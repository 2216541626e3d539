"""The tools that a server really has, with a digest of each schema: what it is, not what its docs say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Protocol

import rfc8785

from identity.principal import JsonValue
from mcpguard.times import rfc3339
from mcpguard.usage import VERSION, new_id


class Described(Protocol):
    """A tool as the SDK describes it."""

    name: str
    title: str | None
    description: str
    parameters: dict[str, Any]

    @property
    def output_schema(self) -> dict[str, Any] | None:
        """The JSON Schema of its structured results."""


def schema_digest(schema: dict[str, Any] | None) -> str | None:
    """Return `sha256:` and the digest of a schema's RFC 8785 form; None where there is no schema."""
    return None if schema is None else f"sha256:{hashlib.sha256(rfc8785.dumps(schema)).hexdigest()}"


def tools(offered: Iterable[Described]) -> list[JsonValue]:
    """Return one entry a tool, by name."""
    return [
        {
            "name": tool.name,
            "title": tool.title,
            "description": tool.description,
            "input_schema": schema_digest(tool.parameters),
            "output_schema": schema_digest(tool.output_schema),
        }
        for tool in sorted(offered, key=lambda tool: tool.name)
    ]


def event(server: str, entries: list[JsonValue], policy: str | None, now: float) -> dict[str, JsonValue]:
    """Return the inventory as it travels beside usage events."""
    return {
        "version": VERSION,
        "kind": "inventory",
        "id": new_id(),
        "time": rfc3339(now),
        "server": server,
        "digest": f"sha256:{hashlib.sha256(rfc8785.dumps(entries)).hexdigest()}",
        "tools": entries,
        "policy": policy,
    }

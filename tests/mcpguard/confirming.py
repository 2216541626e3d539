"""A server with tools that need a confirmation, its replicas, and a client that counts what it was asked."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import httpx
from mcp import Client
from mcp.server.mcpserver import Elicit, MCPServer, Resolve
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ElicitRequestParams, ElicitResult
from pydantic import BaseModel, Field

from identity.assertion import Assertion
from identity.signing import SigningKeys, generate_signing_key
from mcpguard import app, authorize_tool
from mcpguard.confirmation_setup import ConfirmationOptions
from tests.mcpguard.running import MODERN, Running, listening, modern
from tests.mcpguard.world import World, assertion

KEY = "gatehouse-confirmation"
POLICY = """\
apiVersion: gatehouse/v1
kind: Server
name: vault
title: Vault
description: For tests.
owner: {team: toys, support: "#vault-help"}
lifecycle: experimental
environment: dev
listing_requires: surface
access:
  - {id: people, surfaces: [ide], groups: [ads], tools: all}
  - {id: reports, services: [report-bot], tools: all}
tools:
  peek:      {side_effect: none, risk: low}
  overwrite: {side_effect: destroy, risk: high, confirm: caller}
  erase:     {side_effect: destroy, risk: high, confirm: caller}
  wizard:    {side_effect: write, risk: high, confirm: caller}
  launch:    {side_effect: destroy, risk: high, confirm: approver, approvers: [ads-eng]}
"""


class Name(BaseModel):
    name: str


def whose() -> Elicit[Name]:
    return Elicit("Whose?", Name)


class Clock:
    """The time, as far as this test has moved it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Vault:
    """What ran, over all replicas."""

    def __init__(self) -> None:
        self.ran: list[tuple[object, ...]] = []
        self.previewed = 0
        self._lock = Lock()

    def run(self, *what: object) -> str:
        with self._lock:
            self.ran.append(what)
        return "done"

    def preview(self, table: str) -> str:
        self.previewed += 1
        if table == "missing":
            raise ToolError("There is no table 'missing'.")
        return f"Replaces the 42 rows of {table}."

    def server(self) -> MCPServer[Any]:
        mcp: MCPServer[Any] = MCPServer("vault", log_level="WARNING")

        @mcp.tool()
        def peek() -> str:
            """Look."""
            return self.run("peek")

        @mcp.tool()
        @authorize_tool(preview=self.preview)
        def overwrite(
            table: Annotated[str, Field(max_length=5000)], keep: int = 3, note: str | None = None
        ) -> str:
            """Overwrite."""
            return self.run("overwrite", table, keep, note)

        @mcp.tool()
        def erase() -> str:
            """Erase."""
            return self.run("erase")

        @mcp.tool()
        def wizard(name: Annotated[Name, Resolve(whose)]) -> str:
            """Ask for more once it is confirmed."""
            return self.run("wizard", name.name)

        @mcp.tool()
        def launch() -> str:
            """Needs an approver."""
            return self.run("launch")

        return mcp


class Replica(Running):
    """One process's worth of server; its clock is the test's."""

    def __init__(self, world: World, keys: SigningKeys, port: int, clock: Clock) -> None:
        super().__init__(world, keys, port, "vault")
        self._now = clock

    def mint(self, who: Assertion, now: float | None = None) -> str:
        return super().mint(who, self._now() if now is None else now)

    def ask(
        self,
        arguments: dict[str, Any] | None = None,
        who: Assertion | None = None,
        *,
        tool: str = "overwrite",
        elicitation: dict[str, Any] | None = None,
        **more: Any,
    ) -> httpx.Response:
        """Send one tools/call of 2026-07-28 that could answer an elicitation."""
        params = {"name": tool, "arguments": {"table": "revenue"} if arguments is None else arguments, **more}
        body = modern("tools/call", params)
        able = {"form": {}} if elicitation is None else elicitation
        body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = {"elicitation": able}
        headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": tool}
        return self.post(body, eva() if who is None else who, **headers)

    def asked(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the question's result, which this call must get."""
        answer = self.ask(*args, **kwargs)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()["result"]
        assert result["resultType"] == "input_required", result
        return result

    @contextlib.asynccontextmanager
    async def person(self, says: Person, era: str, who: Assertion | None = None) -> AsyncIterator[Client]:
        who = eva() if who is None else who
        async with self.client(who, era, elicitation_callback=says) as client:
            yield client


class Person:
    """Answers what its client shows it."""

    def __init__(self, action: str = "accept", *, tick: bool | None = True) -> None:
        self.shown: list[ElicitRequestParams] = []
        self._action = action
        self._content = None if tick is None else {"confirm": tick}

    async def __call__(self, context: object, params: ElicitRequestParams) -> ElicitResult:
        self.shown.append(params)
        content = self._content if self._action == "accept" else None
        return ElicitResult(action=self._action, content=content)  # type: ignore[arg-type]


YES = {KEY: {"action": "accept", "content": {"confirm": True}}}


def eva() -> Assertion:
    return assertion(server="vault")


@contextlib.contextmanager
def replica(
    vault: Vault,
    world: World,
    keys: SigningKeys,
    root: Path,
    options: ConfirmationOptions | None = None,
    clock: Clock | None = None,
) -> Iterator[Replica]:
    public = root / "identity.jwks"
    public.write_bytes(keys.public_jwks())
    clock = clock or Clock()
    guarded = app(
        vault.server(),
        server="vault",
        policies=world.policies,
        reviewers=world.reviewers,
        identity_keys=public,
        confirmations=options or ConfirmationOptions(),
        clock=clock,
    )
    with listening(guarded) as port:
        found = Replica(world, keys, port, clock)
        with found.http:
            yield found


@contextlib.contextmanager
def alone(
    root: Path, options: ConfirmationOptions | None = None, clock: Clock | None = None
) -> Iterator[tuple[Replica, Vault]]:
    """One replica in a world of its own."""
    vault, keys = Vault(), generate_signing_key()
    with replica(vault, vault_world(root), keys, root, options, clock) as server:
        yield server, vault


def vault_world(root: Path) -> World:
    world = World(root)
    world.write_server(POLICY, "vault")
    return world


def outcomes(server: Running) -> dict[str, float]:
    """What `mcp_confirmations_total` says, over all tools."""
    counts: dict[str, float] = {}
    for line in server.metrics().splitlines():
        if line.startswith("mcp_confirmations_total{"):
            outcome = line.partition('outcome="')[2].partition('"')[0]
            counts[outcome] = counts.get(outcome, 0) + float(line.rpartition(" ")[2])
    return counts

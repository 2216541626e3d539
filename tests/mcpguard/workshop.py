"""A server whose tools do what tools do: succeed, fail, crash, take long, bring too much, ask a backend."""

from __future__ import annotations

import threading
import time
import urllib.request
from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field
from typing_extensions import TypedDict

from mcpguard import authorize_tool, backend, limits, trace_headers

NAME = "workshop"
POLICY = """\
apiVersion: gatehouse/v1
kind: Server
name: workshop
title: Workshop
description: For tests.
owner: {team: toys, support: "#toy-help"}
lifecycle: experimental
environment: dev
listing_requires: user
access:
  - {id: people, surfaces: [ide], groups: [ads], tools: all}
tools:
  echo:    {side_effect: none, risk: low, minutes_saved: 7.5}
  login:   {side_effect: write, risk: low, minutes_saved: 1}
  rows:    {side_effect: none, risk: low}
  fail:    {side_effect: none, risk: low, minutes_saved: 9}
  crash:   {side_effect: destroy, risk: low, minutes_saved: 9}
  wait:    {side_effect: none, risk: low}
  hang:    {side_effect: none, risk: low}
  gate:    {side_effect: none, risk: low}
  ask:     {side_effect: none, risk: low}
  secret:  {side_effect: none, risk: low, policy: nobody}
tool_policies:
  nobody: {groups: [finance]}
"""
PASSWORD = "hunter2-in-a-crash"


class Rows(TypedDict):
    """Rows."""

    rows: list[str]
    truncated: bool


class Workshop:
    """The server, and what tests hold in their hands of it."""

    def __init__(self, backend_url: str = "") -> None:
        self.mcp: MCPServer[Any] = MCPServer(NAME, log_level="WARNING")
        self.backend_url = backend_url
        self.go_on = threading.Event()
        self.begun = threading.Event()
        self._quick()
        self._slow()

    def _quick(self) -> None:
        @self.mcp.tool(annotations=ToolAnnotations(title="Echo", read_only_hint=False, open_world_hint=True))
        @authorize_tool()
        def echo(text: Annotated[str, Field(description="Said back")]) -> str:
            """Say it back."""
            return text

        @self.mcp.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
        def login(
            user: Annotated[str, Field(description="Whom")],
            password: Annotated[str, Field(description="What only they know")],
        ) -> dict[str, str]:
            """Sign in."""
            return {"user": user, "session_token": "t0p-s3cret"}

        @self.mcp.tool()
        def rows(
            count: Annotated[int, Field(description="How many")],
            truncated: Annotated[bool, Field(description="Whether there are more")] = False,
        ) -> Rows:
            """Bring rows."""
            return {"rows": ["x" * 100] * count, "truncated": truncated}

        @self.mcp.tool()
        def fail() -> str:
            """Say what is wrong."""
            raise ToolError("There is no table 'ads'. list_tables says what there is.")

        @self.mcp.tool()
        def crash(name: Annotated[str, Field(description="Whose")] = "x") -> str:
            """Crash."""
            raise ZeroDivisionError(f"password={PASSWORD} of {name}")

        @self.mcp.tool()
        @authorize_tool(policy="nobody")
        def secret() -> str:
            """Keep."""
            return "secret"

    def _slow(self) -> None:
        @self.mcp.tool()
        @limits(seconds=0.2)
        async def wait() -> str:
            """Wait for longer than it may."""
            await anyio.sleep_forever()
            return ""

        @self.mcp.tool()
        @limits(seconds=0.2, at_once=1)
        def hang() -> str:
            """Hang in a thread."""
            self.go_on.wait(20)
            return "went on"

        @self.mcp.tool()
        async def gate() -> str:
            """Wait until a test says so."""
            self.begun.set()
            while not self.go_on.is_set():  # noqa: ASYNC110 - a thread's event
                await anyio.sleep(0.01)
            return "open"

        @self.mcp.tool()
        def ask() -> str:
            """Ask the backend."""
            with backend("workbench"):
                request = urllib.request.Request(self.backend_url, headers=trace_headers())
                with urllib.request.urlopen(request, timeout=10) as answer:
                    time.sleep(0)
                    return str(answer.read().decode())

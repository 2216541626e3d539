"""A server whose tools count how often they ran."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from mcp.server.mcpserver import Elicit, MCPServer, Resolve
from pydantic import BaseModel, Field

from mcpguard import authorize_tool


class Yes(BaseModel):
    yes: bool


def ask() -> Elicit[Yes]:
    return Elicit("Really?", Yes)


class Toy:
    """The server, and what it did."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.mcp: MCPServer[Any] = MCPServer("toy", log_level="WARNING")
        self._annotated()
        self._plain()

    def _run(self, name: str) -> str:
        self.ran[name] += 1
        return f"{name} ran"

    def _annotated(self) -> None:
        mcp = self.mcp

        @mcp.tool()
        @authorize_tool(policy="eng-only")
        def eng_tool() -> str:
            """Annotated below."""
            return self._run("eng_tool")

        @authorize_tool(policy="eng-only")
        @mcp.tool()
        def quiet_tool() -> str:
            """Annotated above."""
            return self._run("quiet_tool")

        @mcp.tool()
        @authorize_tool(policy="somebody-else")
        def other_tool() -> str:
            """The code and the YAML disagree."""
            return self._run("other_tool")

        @mcp.tool()
        @authorize_tool()
        def unnamed_tool() -> str:
            """The YAML doesn't name it."""
            return self._run("unnamed_tool")

    def _plain(self) -> None:
        mcp = self.mcp

        @mcp.tool()
        def open_tool(text: Annotated[str, Field(description="Said back")] = "") -> str:
            """Say that it ran."""
            return self._run("open_tool") + text

        @mcp.tool()
        def confirm_tool() -> str:
            """Needs a confirmation."""
            return self._run("confirm_tool")

        @mcp.tool()
        def ask_tool(answer: Annotated[Yes, Resolve(ask)]) -> str:
            """Ask its user."""
            return self._run("ask_tool") + f" {answer.yes}"

        @mcp.resource("toy://open")
        def open_resource() -> str:
            return self._run("toy://open")

        @mcp.resource("toy://closed")
        def closed_resource() -> str:
            return self._run("toy://closed")

        @mcp.resource("toy://item/{name}")
        def template(name: str) -> str:
            return self._run("toy://item")

        @mcp.prompt()
        def greet() -> str:
            return self._run("greet")

        @mcp.prompt()
        def curse() -> str:
            return self._run("curse")

"""`@modelcontextprotocol/inspector --cli` lists and calls every server through Envoy, in both eras."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from tests.clients.conftest import Stack
from tests.clients.node import Node

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

ERAS = ("legacy", "modern")
CALLS: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "presto": ("run_query", ("sql=SELECT 6 * 7 AS answer",), "42"),
    "spark": ("diagnose_failure", ("application=local-1795383804511",), "ValueError"),
    "knowledge": ("search", ("query=business group",), "gatehouse/"),
    "airflow": ("list_dags", (), "clean_prices"),
}
"""By server: a tool, its arguments, and what its answer holds."""


def inspect(
    node: Node, stack: Stack, server: str, era: str, user: str, *arguments: str
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    command = node.command(
        "mcp-inspector", "--cli", stack.addresses["servers"][server], "--transport", "http",
        "--protocol-era", era, "--header", f"Authorization: Bearer {stack.token(user)}", *arguments,
    )  # fmt: skip
    environment = node.environment(NODE_EXTRA_CA_CERTS=os.fspath(stack.state.server_ca))
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("server", CALLS)
def test_it_lists_the_tools_of(node: Node, stack: Stack, server: str, era: str) -> None:
    code, out, err = inspect(node, stack, server, era, "ana", "--method", "tools/list")
    assert code == 0, err
    tools: list[dict[str, Any]] = json.loads(out)["tools"]
    assert CALLS[server][0] in {tool["name"] for tool in tools}
    assert all(tool["description"] and tool["inputSchema"] and tool["outputSchema"] for tool in tools)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("server", CALLS)
def test_it_calls_a_tool_of(node: Node, stack: Stack, server: str, era: str) -> None:
    tool, arguments, holds = CALLS[server]
    given = [part for argument in arguments for part in ("--tool-arg", argument)]
    code, out, err = inspect(
        node, stack, server, era, "ana", "--method", "tools/call", "--tool-name", tool, *given
    )
    assert code == 0, err
    result = json.loads(out)
    assert result.get("isError") is not True
    assert holds in json.dumps(result["structuredContent"])


@pytest.mark.parametrize(
    ("era", "says"),
    [
        ("legacy", "None of the caller's groups may use this server from here"),
        ("modern", "HTTP 403"),  # this client puts its own sentence there
    ],
)
def test_it_is_told_that_it_is_refused(node: Node, stack: Stack, era: str, says: str) -> None:
    code, out, err = inspect(node, stack, "presto", era, "hana", "--method", "tools/list")
    assert code != 0
    assert says in out + err

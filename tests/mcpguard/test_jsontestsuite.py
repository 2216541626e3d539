"""JSONTestSuite as request bodies: whatever it is, no tool runs and nothing crashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mcpguard.running import LEGACY, MODERN, Running, reason
from tests.mcpguard.toy import Toy
from tests.mcpguard.world import assertion

VECTORS = Path(__file__).parent.parent / "vectors" / "jsontestsuite"
FILES = sorted(VECTORS.glob("test_*/*.json"))


def test_the_vectors_are_there() -> None:
    assert len(FILES) == 340


@pytest.mark.parametrize("version", [MODERN, LEGACY])
def test_as_a_whole_body(server: Running, toy: Toy, version: str) -> None:
    for file in FILES:
        answer = server.post(file.read_bytes(), assertion(), mcp_protocol_version=version)
        assert (answer.status_code, reason(answer)) == (400, "malformed_body"), file.name
    assert not toy.ran


@pytest.mark.parametrize("version", [MODERN, LEGACY])
def test_as_an_argument_of_a_call(server: Running, toy: Toy, version: str) -> None:
    """An `n_` file is no JSON, so the call that holds it is none either."""
    meta = f',"_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN}",' if version == MODERN else ""
    meta += '"io.modelcontextprotocol/clientCapabilities":{}}' if version == MODERN else ""
    start = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"open_tool","arguments":{"text":'
    headers = {"mcp_method": "tools/call", "mcp_name": "open_tool"} if version == MODERN else {}
    for file in FILES:
        body = start + file.read_bytes() + b"}" + meta.encode() + b"}}"
        answer = server.post(body, assertion(), mcp_protocol_version=version, **headers)
        assert answer.status_code < 500, file.name
        if file.name.startswith("n_") and file.name not in _COMPLETED:
            assert (answer.status_code, reason(answer)) == (400, "malformed_body"), file.name
            assert not toy.ran, file.name
        toy.ran.clear()


# Files that the text around them completes to JSON.
_COMPLETED = frozenset[str]()

"""What a server has is told by digests that anybody can compute anew."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import jsonschema
from mcp.server.mcpserver import MCPServer
from pydantic import Field

from mcpguard import inventory

SCHEMA = json.loads(Path("docs/schema/inventory.v1.json").read_text())


def b(n: Annotated[int, Field(description="How many")]) -> list[str]:
    """Do b."""
    return ["b"] * n


def other_b(n: Annotated[int, Field(description="How often")]) -> list[str]:
    """Do b."""
    return ["b"] * n


def a() -> str:
    """Do a."""
    return "a"


def offered(second: Any = b) -> Any:
    mcp: MCPServer[Any] = MCPServer("toy")
    mcp.add_tool(second, "b", title="Second")
    mcp.add_tool(a, structured_output=False)
    return mcp._tool_manager.list_tools()


def test_an_inventory_is_as_its_schema_says() -> None:
    said = inventory.event("toy", inventory.tools(offered()), "sha256:" + "0" * 64, 1_790_000_000.0)
    jsonschema.validate(said, SCHEMA)
    jsonschema.validate(inventory.event("toy", [], None, 0.0), SCHEMA)
    first, second = said["tools"]  # type: ignore[misc]
    assert (first["name"], first["output_schema"]) == ("a", None)
    assert (second["name"], second["title"], second["description"]) == ("b", "Second", "Do b.")
    assert second["input_schema"] != second["output_schema"]


def test_a_digest_is_of_the_schema_alone() -> None:
    assert inventory.tools(offered()) == inventory.tools(offered())
    before, after = inventory.tools(offered()), inventory.tools(offered(other_b))
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_a_digest_is_of_the_rfc_8785_form() -> None:
    schema = {"b": 1.0, "a": ["\u20ac", True, None]}
    canonical = '{"a":["\u20ac",true,null],"b":1}'.encode()
    assert inventory.schema_digest(schema) == "sha256:" + hashlib.sha256(canonical).hexdigest()
    assert inventory.schema_digest(None) is None

"""One answer of a tool, as structure and as text, and errors in a model's words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent

from servers.spark.engine import EngineError
from servers.spark.records import RecordsError


def result(value: Mapping[str, object]) -> CallToolResult:
    """Return one result. The SDK's own text is indented: a line for every value."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=dict(value))


@contextmanager
def told() -> Iterator[None]:
    """Turn what an engine or a store refuses into what the model is told."""
    try:
        yield
    except EngineError as error:
        raise ToolError(str(error)) from None
    except RecordsError:  # its words are for the operator
        raise ToolError("The store of root causes can't be used right now. Try again in a minute.") from None

"""The warehouse as an MCP server: its tools by what they are about, and what a model is told first."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import MCPServer

from servers.presto.queries import Queries
from servers.presto.tools_catalogue import add_catalogue
from servers.presto.tools_overwrite import add_overwrite
from servers.presto.tools_queries import Timing, add_queries

_INSTRUCTIONS = (
    "A SQL warehouse. Start with list_tables, look at columns with describe_table, then run_query. "
    "It speaks {title} SQL{caution} A result says when rows were left out and how to get them."
)
_EMBEDDED = ", not Presto's or Trino's: 5/2 is 2.5."


def build(queries: Queries, timing: Timing | None = None) -> MCPServer[dict[str, Any]]:
    """Build the MCP server on an open engine."""
    engine = queries.engine
    caution = _EMBEDDED if engine.dialect == "duckdb" else "."
    mcp: MCPServer[dict[str, Any]] = MCPServer(
        "presto",
        title="Presto",
        instructions=_INSTRUCTIONS.format(title=engine.title, caution=caution),
        log_level="WARNING",
    )
    add_catalogue(mcp, engine)
    add_queries(mcp, queries, timing or Timing())
    add_overwrite(mcp, engine, timing or Timing())
    return mcp

"""The warehouse's tools. Results are short, say whether something was left out, and how to get the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field
from typing_extensions import TypedDict

from mcpguard import authorize_tool
from servers.presto.engine import EngineError, Limits, Parameters, Rows, Table
from servers.presto.metrics import MAX_DIMENSIONS, Dimension, Metric, MetricsRefused, query
from servers.presto.running import Runner
from servers.presto.sqlguard import MAX_LENGTH, SqlRefused, guard

DEFAULT_ROWS = 100
MAX_ROWS = 500
MAX_BYTES = 48 * 1024
MAX_SECONDS = 20.0

_READ_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False)
_INSTRUCTIONS = (
    "A read-only SQL warehouse. Start with list_tables, look at columns with describe_table, then run_query. "
    "The embedded engine is DuckDB and speaks DuckDB's dialect, not Presto's or Trino's: 5/2 is 2.5."
)


class TableSummary(TypedDict):
    """One table."""

    name: str
    rows: Annotated[int, Field(description="An estimate")]
    description: str


class TableList(TypedDict):
    """All tables that run_query may read."""

    dialect: Annotated[str, Field(description="The SQL dialect that run_query speaks")]
    tables: list[TableSummary]


class ColumnSummary(TypedDict):
    """One column."""

    name: str
    type: str
    description: str


class TableDescription(TypedDict):
    """One table with its columns."""

    name: str
    description: str
    rows: Annotated[int, Field(description="An estimate")]
    columns: list[ColumnSummary]


class QueryResult(TypedDict):
    """Rows, as arrays in the order of `columns`."""

    columns: list[str]
    rows: list[list[bool | int | float | str | None]]
    row_count: Annotated[int, Field(description="How many rows are here")]
    truncated: Annotated[bool, Field(description="Whether rows were left out")]
    more: Annotated[str, Field(description="How to get what was left out; empty if nothing was")]


def build(runner: Runner) -> MCPServer[dict[str, Any]]:
    """Build the MCP server on an open engine."""
    mcp: MCPServer[dict[str, Any]] = MCPServer(
        "presto", title="Presto", instructions=_INSTRUCTIONS, log_level="WARNING"
    )
    tables = {table.name.lower(): table for table in runner.engine.tables()}
    _add_catalogue(mcp, tables, runner.engine.dialect)
    _add_queries(mcp, tables, runner)
    return mcp


def _add_catalogue(mcp: MCPServer[dict[str, Any]], tables: Mapping[str, Table], dialect: str) -> None:
    @mcp.tool(title="List tables", annotations=_READ_ONLY)
    @authorize_tool()
    async def list_tables() -> Annotated[CallToolResult, TableList]:
        """List the warehouse's tables with what each holds and about how many rows it has."""
        return _result(
            {
                "dialect": dialect,
                "tables": [
                    {"name": table.name, "rows": table.rows, "description": table.description}
                    for table in tables.values()
                ],
            }
        )

    @mcp.tool(title="Describe a table", annotations=_READ_ONLY)
    @authorize_tool()
    async def describe_table(
        table: Annotated[str, Field(description="A table's name, as list_tables gives it", max_length=128)],
    ) -> Annotated[CallToolResult, TableDescription]:
        """Describe one table: its columns with their types and meaning."""
        found = tables.get(table.lower().removeprefix("main."))
        if found is None:
            raise ToolError(f"There is no table {table!r}. list_tables says what there is.")
        columns = [{"name": c.name, "type": c.type, "description": c.description} for c in found.columns]
        return _result(
            {
                "name": found.name,
                "description": found.description,
                "rows": found.rows,
                "columns": columns,
            }
        )


def _add_queries(mcp: MCPServer[dict[str, Any]], tables: Mapping[str, Table], runner: Runner) -> None:
    names = frozenset(tables)

    @mcp.tool(title="Run a query", annotations=_READ_ONLY)
    @authorize_tool()
    async def run_query(
        sql: Annotated[
            str,
            Field(description="One SELECT in DuckDB's dialect. No other statement.", max_length=MAX_LENGTH),
        ],
        max_rows: Annotated[
            int, Field(description="Return at most this many rows", ge=1, le=MAX_ROWS)
        ] = DEFAULT_ROWS,
    ) -> Annotated[CallToolResult, QueryResult]:
        """Run one read-only SQL query over the tables that list_tables names.

        Aggregate in SQL rather than asking for many rows. A query is stopped after 20 seconds.
        """
        try:
            guarded = guard(sql, names, max_rows, runner.engine.dialect)
        except SqlRefused as refused:
            raise ToolError(str(refused)) from None
        rows = await _run(runner, guarded.sql, {}, guarded.limit)
        return _result(_rows(rows, guarded.limit))

    @mcp.tool(title="Revenue metrics", annotations=_READ_ONLY)
    @authorize_tool(policy="ads-eng-only")
    async def get_revenue_metrics(
        metric: Annotated[
            Metric,
            Field(
                description="roas: revenue per dollar spent; ctr: clicks per impression; cpo: spend per order"
            ),
        ],
        start: Annotated[date, Field(description="First day, YYYY-MM-DD; it counts")],
        end: Annotated[date, Field(description="Last day, YYYY-MM-DD; it counts")],
        dimensions: Annotated[
            list[Dimension],
            Field(
                description="Break the metric down by these; none gives one number", max_length=MAX_DIMENSIONS
            ),
        ] = [],  # noqa: B006 - the SDK copies it into the schema; nothing changes it
    ) -> Annotated[CallToolResult, QueryResult]:
        """Get one advertising metric over a span of days, broken down by up to three dimensions."""
        try:
            sql = query(metric, start, end, dimensions)
        except MetricsRefused as refused:
            raise ToolError(str(refused)) from None
        days: Parameters = {"start": start.isoformat(), "end": end.isoformat()}
        return _result(_rows(await _run(runner, sql, days, MAX_ROWS), MAX_ROWS))


async def _run(runner: Runner, sql: str, parameters: Parameters, limit: int) -> Rows:
    try:
        return await runner.run(sql, parameters, Limits(limit, MAX_BYTES, MAX_SECONDS))
    except EngineError as error:
        raise ToolError(str(error)) from None


def _rows(rows: Rows, limit: int) -> dict[str, object]:
    more = ""
    if rows.cut_by == "rows":
        more = (
            f"Only the first {limit} rows are here. Aggregate or filter; or order by a key and add "
            f"OFFSET {len(rows.rows)} for the next ones."
        )
    elif rows.cut_by == "bytes":
        more = (
            f"Only the first {len(rows.rows)} rows are here: more would be over {MAX_BYTES // 1024} KiB. "
            "Select fewer columns, or shorten long texts with left(text, 200)."
        )
    return {
        "columns": [column.name for column in rows.columns],
        "rows": [list(row) for row in rows.rows],
        "row_count": len(rows.rows),
        "truncated": rows.cut_by is not None,
        "more": more,
    }


def _result(value: dict[str, object]) -> CallToolResult:
    """Return one result as structure and as text. The SDK's own text is indented: a line for every cell."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=value)

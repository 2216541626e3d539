"""Ask the warehouse: check a query, estimate it, run it, wait for it, read on, stop it."""

# No `from __future__ import annotations` here: the descriptions in them name the engine, which is known only
# when the tools are added.

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ToolAnnotations
from pydantic import Field

from mcpguard import authorize_tool
from servers.presto.asking import asker
from servers.presto.blocking import ask
from servers.presto.engine import Asker, EngineError, Limits
from servers.presto.metrics import MAX_DIMENSIONS, Dimension, Metric, MetricsRefused
from servers.presto.metrics import query as metrics_query
from servers.presto.queries import Queries, Query, State, UnknownQuery
from servers.presto.results import (
    DEFAULT_ROWS,
    KEPT_BYTES,
    KEPT_ROWS,
    MAX_ROWS,
    EstimateResult,
    QueryResult,
    QueryStatus,
    Validation,
    page,
    result,
    status,
)
from servers.presto.sqlguard import MAX_LENGTH, Guarded, SqlRefused, guard, guard_whole
from servers.presto.tools_catalogue import READ_ONLY

LONGEST_WAIT = 40
_STOP = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_STOPPING = 2.0
"""Seconds that cancel_query waits to see the query stop."""

MaxRows = Annotated[int, Field(description="Return at most this many rows", ge=1, le=MAX_ROWS)]
QueryId = Annotated[str, Field(description="The query_id that run_query gave you", max_length=64)]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take, in seconds."""

    query: float = 60.0
    """From run_query to the query's end."""
    wait: float = 20.0
    """That run_query waits for the end if not told otherwise."""
    overwrite: float = 300.0


def add_queries(mcp: MCPServer[dict[str, Any]], queries: Queries, timing: Timing) -> None:
    """Add the tools."""
    sql_field = Field(
        description=f"One SELECT in {queries.engine.title} SQL. No other statement.", max_length=MAX_LENGTH
    )
    _add_foresight(mcp, queries, sql_field)
    _add_running(mcp, queries, timing, sql_field)
    _add_following(mcp, queries)
    _add_metrics(mcp, queries, timing)


def _add_foresight(mcp: MCPServer[dict[str, Any]], queries: Queries, sql_field: Any) -> None:
    engine = queries.engine

    @mcp.tool(title="Check a query", annotations=READ_ONLY)
    @authorize_tool()
    async def validate_sql(
        sql: Annotated[str, sql_field],
    ) -> Annotated[CallToolResult, Validation]:
        """Check a query without running it: may it run here, do its tables and columns exist?"""
        who, tables, problem = asker(), list[str](), ""
        try:
            guarded = guard_whole(sql, engine.namespace, engine.dialect)
            tables = sorted(map(str, guarded.tables))
            await ask(engine, lambda: engine.check(who, guarded.sql))
        except (SqlRefused, ToolError) as wrong:
            problem = str(wrong)
        return result({"valid": not problem, "problem": problem, "tables": tables, "dialect": engine.dialect})

    @mcp.tool(title="Estimate a query", annotations=READ_ONLY)
    @authorize_tool()
    async def estimate_query(
        sql: Annotated[str, sql_field],
    ) -> Annotated[CallToolResult, EstimateResult]:
        """Estimate what a query would read and give, without running it. Worth a call before a large one."""
        who, guarded = asker(), _guarded(queries, sql, None)
        found = await ask(engine, lambda: engine.estimate(who, guarded.sql))
        return result(
            {
                "rows": found.rows,
                "scanned_rows": found.scanned_rows,
                "scanned_bytes": found.scanned_bytes,
                "tables": sorted(map(str, guarded.tables)),
                "dialect": engine.dialect,
            }
        )


def _add_running(mcp: MCPServer[dict[str, Any]], queries: Queries, timing: Timing, sql_field: Any) -> None:
    wait_field = Field(
        description="Wait so long for the end; then the query goes on and query_id stands for it",
        ge=0,
        le=LONGEST_WAIT,
    )

    @mcp.tool(
        title="Run a query",
        annotations=READ_ONLY,
        description=(
            f"Run one read-only query, in {queries.engine.title} SQL, over the tables that list_tables names."
            "\n\nAggregate in SQL rather than asking for many rows. "
            f"A query is stopped after {timing.query:g} seconds."
        ),
    )
    @authorize_tool()
    async def run_query(
        sql: Annotated[str, sql_field],
        max_rows: MaxRows = DEFAULT_ROWS,
        wait_seconds: Annotated[float, wait_field] = min(timing.wait, LONGEST_WAIT),
    ) -> Annotated[CallToolResult, QueryResult]:
        guarded = _guarded(queries, sql, KEPT_ROWS)
        query = await _run(queries, asker(), guarded.sql, timing, wait_seconds)
        return result(page(query, queries.engine.dialect, 0, max_rows))


def _add_following(mcp: MCPServer[dict[str, Any]], queries: Queries) -> None:
    @mcp.tool(title="Query status", annotations=READ_ONLY)
    @authorize_tool()
    async def get_query_status(query_id: QueryId) -> Annotated[CallToolResult, QueryStatus]:
        """Say where one of your queries is: queued, running, finished, failed or cancelled."""
        query = _find(queries, query_id)
        return result(status(query, queries.seconds(query)))

    @mcp.tool(title="Fetch more rows", annotations=READ_ONLY)
    @authorize_tool()
    async def fetch_more(
        query_id: QueryId,
        start: Annotated[int, Field(description="Number of the first row wanted, from 0", ge=0)] = 0,
        max_rows: MaxRows = DEFAULT_ROWS,
    ) -> Annotated[CallToolResult, QueryResult]:
        """Read on in the rows of one of your queries. Rows keep their numbers, so a call can be repeated."""
        query = _find(queries, query_id)
        if query.over and query.rows is None:
            raise ToolError(query.problem)
        return result(page(query, queries.engine.dialect, start, max_rows))

    @mcp.tool(title="Cancel a query", annotations=_STOP)
    @authorize_tool()
    async def cancel_query(query_id: QueryId) -> Annotated[CallToolResult, QueryStatus]:
        """Stop one of your queries. One that is over stays as it is."""
        query = _find(queries, query_id)
        queries.cancel(query)
        await queries.wait(query, _STOPPING)
        return result(status(query, queries.seconds(query)))


def _add_metrics(mcp: MCPServer[dict[str, Any]], queries: Queries, timing: Timing) -> None:
    @mcp.tool(title="Revenue metrics", annotations=READ_ONLY)
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
            sql = metrics_query(metric, start, end, dimensions)
        except MetricsRefused as refused:
            raise ToolError(str(refused)) from None
        query = await _run(queries, asker(), sql, timing, LONGEST_WAIT)
        return result(page(query, queries.engine.dialect, 0, MAX_ROWS))


async def _run(queries: Queries, who: Asker, sql: str, timing: Timing, wait: float) -> Query:
    """Start a query and wait for its end. Where the caller goes away it is stopped: nobody knows its id."""
    limits = Limits(KEPT_ROWS, KEPT_BYTES, timing.query)
    try:
        query = queries.submit(who, sql, limits)
    except EngineError as error:
        raise ToolError(str(error)) from None
    try:
        await queries.wait(query, wait)
    except anyio.get_cancelled_exc_class():
        queries.cancel(query)
        raise
    if query.over and query.state is not State.FINISHED:
        raise ToolError(query.problem)
    return query


def _guarded(queries: Queries, sql: str, rows: int | None) -> Guarded:
    engine = queries.engine
    try:
        if rows is None:
            return guard_whole(sql, engine.namespace, engine.dialect)
        return guard(sql, engine.namespace, rows, engine.dialect)
    except SqlRefused as refused:
        raise ToolError(str(refused)) from None


def _find(queries: Queries, query_id: str) -> Query:
    try:
        return queries.find(asker().key, query_id)
    except UnknownQuery as unknown:
        raise ToolError(str(unknown)) from None

"""Overwrite a table: the one tool that destroys, so a person confirms exactly what runs."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ToolAnnotations
from pydantic import Field
from typing_extensions import TypedDict

from mcpguard import authorize_tool
from mcpguard.limits import limits
from servers.presto.asking import asker
from servers.presto.blocking import ask
from servers.presto.engine import Asker, Engine, Overwrite
from servers.presto.results import OverwriteResult, result
from servers.presto.sqlguard import MAX_LENGTH, guard_whole
from servers.presto.tools_queries import Timing

MOST_ROWS = 10_000_000_000
_DESTROY = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)
_GRACE = 30.0
"""Seconds beyond the overwrite's own that its call may last: the engine's deadline comes first and tells."""


class RowRange(TypedDict):
    """How many rows the query should give, both ends included."""

    min: Annotated[int, Field(ge=0, le=MOST_ROWS)]
    max: Annotated[int, Field(ge=0, le=MOST_ROWS)]


def order(engine: Engine, target: str, select_sql: str, expected: RowRange, seconds: float) -> Overwrite:
    """Check what is asked for.

    Raises:
        ToolError: the range is none.
        UnknownName: there is no such table.
        SqlRefused: the query is none that may run.

    """
    if expected["max"] < expected["min"]:
        raise ToolError("expected_row_range: `max` is below `min`. Swap them.")
    guarded = guard_whole(select_sql, engine.namespace, engine.dialect)
    name = engine.namespace.parse(target)
    return Overwrite(name, guarded.sql, expected["min"], expected["max"], seconds)


def preview(engine: Engine, who: Asker, asked: Overwrite, select_sql: str) -> str:
    """Say what an overwrite would touch, for the person who confirms it: a few lines, nothing changed."""
    rows = engine.count(who, asked.target)
    estimate = engine.estimate(who, asked.sql).rows
    expected = "no idea how many" if estimate is None else f"about {estimate}"
    digest = hashlib.sha256(select_sql.encode()).hexdigest()
    return "\n".join(
        (
            f"Table: {asked.target} ({engine.title})",
            f"Rows now: {rows}. All of them are replaced.",
            f"New rows: {expected} by the engine's estimate. Unless they are {asked.least} to {asked.most}, "
            "nothing changes.",
            f"SQL: SHA-256 {digest}",
        )
    )


def add_overwrite(mcp: MCPServer[dict[str, Any]], engine: Engine, timing: Timing) -> None:
    """Add the tool."""

    async def shown(target: str, select_sql: str, expected_row_range: RowRange) -> str:
        who = asker()
        return await ask(
            engine,
            lambda: preview(
                engine,
                who,
                order(engine, target, select_sql, expected_row_range, timing.overwrite),
                select_sql,
            ),
        )

    @mcp.tool(
        title="Overwrite a table",
        annotations=_DESTROY,
        description=(
            f"Replace all rows of a table by those of a SELECT in {engine.title} SQL. A person is asked "
            "first.\n\nThe query must give the table's columns by name. Nothing changes unless the number of "
            "new rows is in expected_row_range, so find that number with run_query before."
        ),
    )
    @authorize_tool(policy="table-writers", preview=shown)
    @limits(seconds=timing.overwrite + _GRACE, at_once=2)
    async def overwrite_table(
        target: Annotated[
            str, Field(description="table, schema.table or catalog.schema.table", max_length=400)
        ],
        select_sql: Annotated[
            str, Field(description="One SELECT that gives the new rows", max_length=MAX_LENGTH)
        ],
        expected_row_range: Annotated[
            RowRange, Field(description="How many new rows are right; any other number changes nothing")
        ],
    ) -> Annotated[CallToolResult, OverwriteResult]:
        who = asker()
        # Not abandoned where the caller goes away: a person confirmed it, and it has its own deadline.
        done = await ask(
            engine,
            lambda: engine.overwrite(
                who, order(engine, target, select_sql, expected_row_range, timing.overwrite)
            ),
            abandon=False,
        )
        return result(
            {
                "target": str(engine.namespace.parse(target)),
                "rows_before": done.rows_before,
                "rows_after": done.rows_after,
                "dialect": engine.dialect,
                "note": done.note,
            }
        )

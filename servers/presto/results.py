"""What the tools give: short, typed, and honest about what was left out and how to get it."""

from __future__ import annotations

import json
from typing import Annotated

from mcp_types import CallToolResult, TextContent
from pydantic import Field
from typing_extensions import TypedDict

from servers.presto.engine import Cell, Rows
from servers.presto.queries import Query, State

DEFAULT_ROWS = 100
MAX_ROWS = 500
"""Of one result."""
MAX_BYTES = 48 * 1024
"""Of one result's rows, as JSON."""
KEPT_ROWS = 5000
"""Of one query, for fetch_more."""
KEPT_BYTES = 1024 * 1024

Dialect = Annotated[str, Field(description="Whose SQL the queries are in: duckdb, trino or presto")]


class CatalogList(TypedDict):
    """The catalogs that may be read."""

    dialect: Dialect
    default: Annotated[str, Field(description="Where a table's name without a catalog is looked up")]
    catalogs: list[str]


class SchemaList(TypedDict):
    """One catalog's schemas."""

    dialect: Dialect
    catalog: str
    default: Annotated[str, Field(description="Where a table's name without a schema is looked up")]
    schemas: list[str]
    truncated: bool
    more: Annotated[str, Field(description="How to get what was left out; empty if nothing was")]


class TableSummary(TypedDict):
    """One table."""

    name: str
    rows: Annotated[int | None, Field(description="An estimate; null where the engine gives none")]
    description: str


class TableList(TypedDict):
    """One schema's tables."""

    dialect: Dialect
    catalog: str
    schema: str
    tables: list[TableSummary]
    truncated: bool
    more: Annotated[str, Field(description="How to get what was left out; empty if nothing was")]


class ColumnSummary(TypedDict):
    """One column."""

    name: str
    type: str
    description: str


class TableDescription(TypedDict):
    """One table with its columns."""

    dialect: Dialect
    name: Annotated[str, Field(description="catalog.schema.table")]
    description: str
    rows: Annotated[int | None, Field(description="An estimate; null where the engine gives none")]
    columns: list[ColumnSummary]


class Validation(TypedDict):
    """Whether a query would run."""

    valid: bool
    problem: Annotated[str, Field(description="What is wrong and how to mend it; empty if nothing is")]
    tables: Annotated[list[str], Field(description="The tables that it reads")]
    dialect: Dialect


class EstimateResult(TypedDict):
    """What the engine expects of a query. Estimates are often wrong by a factor, seldom by three digits."""

    rows: Annotated[int | None, Field(description="Rows of the result; null where the engine has no idea")]
    scanned_rows: Annotated[int | None, Field(description="Rows read from tables")]
    scanned_bytes: Annotated[int | None, Field(description="Bytes read from tables")]
    tables: list[str]
    dialect: Dialect


class QueryResult(TypedDict):
    """Rows, as arrays in the order of `columns`."""

    query_id: Annotated[str, Field(description="For get_query_status, fetch_more and cancel_query")]
    state: Annotated[str, Field(description="queued or running: no rows yet; finished: they are here")]
    dialect: Dialect
    columns: list[str]
    rows: list[list[bool | int | float | str | None]]
    row_count: Annotated[int, Field(description="How many rows are here")]
    truncated: Annotated[bool, Field(description="Whether rows were left out")]
    more: Annotated[str, Field(description="How to get what was left out; empty if nothing was")]


class QueryStatus(TypedDict):
    """Where a query is."""

    query_id: str
    state: Annotated[str, Field(description="queued, running, finished, failed or cancelled")]
    seconds: Annotated[float, Field(description="How long it has taken")]
    rows: Annotated[int, Field(description="Rows that fetch_more can give")]
    progress: Annotated[str, Field(description="In the engine's words; empty where it doesn't tell")]
    problem: Annotated[str, Field(description="Why it failed; empty if it didn't")]
    next: Annotated[str, Field(description="What to do next")]


class OverwriteResult(TypedDict):
    """What was overwritten."""

    target: str
    rows_before: int
    rows_after: int
    dialect: Dialect
    note: Annotated[str, Field(description="What is left to do; empty if nothing is")]


def page(query: Query, dialect: str, start: int, max_rows: int) -> dict[str, object]:
    """Return a finished query's rows from `start` on, as many as fit."""
    rows = query.rows
    if rows is None:
        return _shaped(query, dialect, [], [], _patience(query))
    shown: list[list[Cell]] = []
    size = 0
    for row in rows.rows[start : start + max_rows]:
        size += len(json.dumps(row, ensure_ascii=False).encode())
        if size > MAX_BYTES:
            break
        shown.append(list(row))
    more = _more(rows, start, len(shown))
    return _shaped(query, dialect, [column.name for column in rows.columns], shown, more)


def status(query: Query, seconds: float) -> dict[str, object]:
    """Return where a query is."""
    kept = len(query.rows.rows) if query.rows is not None else 0
    return {
        "query_id": query.id,
        "state": query.state.value,
        "seconds": round(seconds, 3),
        "rows": kept,
        "progress": "" if query.over else query.execution.progress(),
        "problem": query.problem,
        "next": _next(query, kept),
    }


def result(value: dict[str, object]) -> CallToolResult:
    """Return one result as structure and as text. The SDK's own text is indented: a line for every cell."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=value)


def _shaped(
    query: Query, dialect: str, columns: list[str], rows: list[list[Cell]], more: str
) -> dict[str, object]:
    return {
        "query_id": query.id,
        "state": query.state.value,
        "dialect": dialect,
        "columns": columns,
        "rows": rows,
        "row_count": len(rows),
        "truncated": bool(more),
        "more": more,
    }


def _more(rows: Rows, start: int, shown: int) -> str:
    end, kept = start + shown, len(rows.rows)
    if not shown and start < kept:
        return (
            f"Row {start} alone is over {MAX_BYTES // 1024} KiB. Select fewer columns, or shorten long texts "
            "with substr(text, 1, 200)."
        )
    if end < kept:
        cut = rows.cut_by is not None
        return f"Rows {end} to {kept - 1}{' and more' if cut else ''}: fetch_more(query_id, start={end})."
    if rows.cut_by == "bytes" and not kept:
        return "The first row alone is too large. Select fewer columns, or shorten long texts."
    if rows.cut_by is not None:
        return (
            f"Only the first {kept} rows were kept. Aggregate or filter in SQL; or order by a key and go on "
            "after its last value here."
        )
    return ""


def _patience(query: Query) -> str:
    return f"It is {query.state.value}. Call get_query_status in some seconds, then fetch_more."


def _next(query: Query, kept: int) -> str:
    if query.state is State.FINISHED:
        return "fetch_more gives the rows." if kept else "It gave no rows."
    if query.over:
        return "Mend the query and call run_query again."
    return "Call again in some seconds; cancel_query stops it."

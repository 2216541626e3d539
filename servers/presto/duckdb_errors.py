"""DuckDB's errors, for a model: one short line, and what to do next."""

from __future__ import annotations

import duckdb

LONGEST = 300


def first_line(error: Exception) -> str:
    """Return the first line, cut: a message may quote the value it is about, and a value may be long."""
    return str(error).partition("\n")[0][:LONGEST]


def advice(error: duckdb.Error) -> str:
    """Say what went wrong and what to do."""
    message = first_line(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        return "The query needs too much memory. Filter more, or aggregate over fewer columns."
    if isinstance(error, duckdb.BinderException):
        return f"{message} Look at the columns with describe_table and try again."
    return f"{message} The SQL here is DuckDB's dialect; mend the query and try again."

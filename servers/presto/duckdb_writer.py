"""The process that writes: one overwrite of one table of one DuckDB file, then it is gone.

It is a process of its own so that it can be killed at any instant, and so that the server's process never
holds the file for writing. A line of JSON comes in (`Job`), the rows are staged in a file beside the
warehouse, which stays open to readers; a line goes out that says how many there are; and only at the line
`swap` is the warehouse opened for writing and changed, in one transaction. At the end of input nothing is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from servers.presto.duckdb_errors import advice
from servers.presto.names import quoted

SWAP = "swap"
_STAGED = "gatehouse_staged"
_ROWS = f"{_STAGED}.main.staged_rows"


class JobError(Exception):
    """The job can't be done. The message is for the model."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to write."""

    database: str
    staging: str
    """A file that does not exist yet, on the same disk."""
    catalog: str
    schema: str
    table: str
    columns: tuple[str, ...]
    sql: str
    """A guarded SELECT."""
    memory_limit: str

    def dumps(self) -> str:
        """Return the line that `read` reads."""
        return json.dumps(asdict(self))

    @staticmethod
    def read(line: str) -> Job:
        """Read what `dumps` wrote."""
        found = json.loads(line)
        return Job(**{**found, "columns": tuple(found["columns"])})

    @property
    def target(self) -> str:
        """The table as SQL."""
        return ".".join(quoted(part) for part in (self.catalog, self.schema, self.table))


def main() -> int:
    """Do one job; 0 where it is done, 1 where it failed, 2 where it was given up before the swap."""
    job = Job.read(sys.stdin.readline())
    try:
        _say({"staged": stage(job)})
        if sys.stdin.readline().strip() != SWAP:
            return 2
        before, after = swap(job)
    except (duckdb.Error, JobError) as error:
        _say({"error": advice(error) if isinstance(error, duckdb.Error) else str(error)})
        return 1
    finally:
        for suffix in ("", ".wal"):
            Path(job.staging + suffix).unlink(missing_ok=True)
    _say({"before": before, "after": after})
    return 0


def stage(job: Job) -> int:
    """Write the query's rows to the staging file and return how many they are; the warehouse is only read."""
    with duckdb.connect(":memory:", config=_settings(job)) as connection:
        connection.execute(f"attach {_text(job.database)} as {quoted(job.catalog)} (read_only)")
        connection.execute(f"attach {_text(job.staging)} as {_STAGED}")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        connection.execute(f"use {quoted(job.catalog)}.main")
        connection.execute(f"create table {_ROWS} as {job.sql}")
        names = [str(row[0]) for row in connection.execute(f"describe {_ROWS}").fetchall()]
        _same_columns(names, job.columns)
        return int(str(_one(connection, f"select count(*) from {_ROWS}")))  # noqa: S608 - our own name


def swap(job: Job) -> tuple[int, int]:
    """Put the staged rows in place of the table's own, in one transaction; return how many were and are.

    Emptied and filled rather than dropped and renamed: its constraints hold for the new rows, and its
    indexes, comments and columns stay as they are.
    """
    with duckdb.connect(job.database, config=_settings(job)) as connection:
        if str(_one(connection, "select current_database()")).lower() != job.catalog:
            raise JobError("The warehouse is not the file it was. Nothing was changed.")
        connection.execute(f"attach {_text(job.staging)} as {_STAGED} (read_only)")
        connection.execute("set enable_external_access = false")
        connection.execute("begin transaction")
        try:
            before = int(str(_one(connection, f"select count(*) from {job.target}")))  # noqa: S608
            connection.execute(f"delete from {job.target}")  # noqa: S608
            connection.execute(
                f"insert into {job.target} by name select * from {_ROWS}"  # noqa: S608
            )
            after = int(str(_one(connection, f"select count(*) from {job.target}")))  # noqa: S608
            connection.execute("commit")
        except duckdb.Error:
            _undo(connection)
            raise
        return before, after


def _undo(connection: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.TransactionException):  # a commit that failed has rolled back already
        connection.execute("rollback")


def _same_columns(found: Sequence[str], wanted: Sequence[str]) -> None:
    if sorted(name.lower() for name in found) != sorted(name.lower() for name in wanted):
        raise JobError(
            f"The query gives the columns {', '.join(found)[:300]}; the table has {', '.join(wanted)[:300]}. "
            "Give each of them once, by name, in any order. Nothing was changed."
        )


def _settings(job: Job) -> dict[str, str | bool | int | float | list[str]]:
    return {
        "memory_limit": job.memory_limit,
        "threads": 2,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,
        "max_temp_directory_size": "0MB",
    }


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> object:
    row = connection.execute(sql).fetchone()
    return row[0] if row else None


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _say(value: dict[str, object]) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    sys.exit(main())

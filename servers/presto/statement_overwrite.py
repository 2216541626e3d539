"""Overwrite a table of a cluster: stage beside it, count, then swap the names.

Most connectors have no transaction over several statements, so the swap is two renames: the old table keeps
its rows under another name until the new one has its own. If the second fails, the first is taken back.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from servers.presto.engine import EngineError, Overwrite, Overwritten, Rows
from servers.presto.names import TableName, quoted

_log = logging.getLogger("servers.presto")

Run: TypeAlias = Callable[[str, float], Rows]
"""Runs one statement within so many seconds."""
_RENAME_SECONDS = 60.0
"""A rename gets its own time: the swap isn't begun late, and once begun it is finished or taken back."""


def overwrite(run: Run, order: Overwrite, columns: Sequence[str]) -> Overwritten:
    """Replace the target's rows.

    Raises:
        EngineError: it says what has become of the table; in all but the last resort nothing has changed.

    """
    mark = secrets.token_hex(4)
    staging = replace(order.target, name=f"{order.target.name}__new_{mark}")
    old = replace(order.target, name=f"{order.target.name}__old_{mark}")
    deadline = time.monotonic() + order.seconds

    def timed(sql: str) -> Rows:
        return run(sql, max(1.0, deadline - time.monotonic()))

    before = _number(timed(f"SELECT count(*) FROM {order.target.sql()}"))  # noqa: S608 - quoted
    _same_columns(timed(f"SELECT * FROM ({order.sql}) AS rows_wanted LIMIT 0"), columns)  # noqa: S608 - guarded
    try:
        # LIKE ... INCLUDING PROPERTIES: its partitions and file format are the old table's.
        timed(f"CREATE TABLE {staging.sql()} (LIKE {order.target.sql()} INCLUDING PROPERTIES)")
        names = ", ".join(quoted(column) for column in columns)
        timed(
            f"INSERT INTO {staging.sql()} ({names}) "  # noqa: S608 - quoted, guarded
            f"SELECT {names} FROM ({order.sql}) AS rows_wanted"
        )
        after = _number(timed(f"SELECT count(*) FROM {staging.sql()}"))  # noqa: S608 - quoted
        if not order.least <= after <= order.most:
            raise EngineError(
                f"The query gives {after} rows, and {order.least} to {order.most} were expected. Check it "
                "with run_query, or expect another number."
            )
        _swap(run, order.target, staging, old)
    except EngineError as error:
        _drop(run, staging)
        raise EngineError(f"{error} The table is as it was.") from None
    except _Unsure as unsure:
        raise EngineError(str(unsure)) from None
    note = "" if _drop(run, old) else f"The old rows are still there as {old}; it can be dropped."
    return Overwritten(before, after, note)


class _Unsure(Exception):
    """Nobody knows how far the swap went, so nothing is dropped."""


def _swap(run: Run, target: TableName, staging: TableName, old: TableName) -> None:
    try:
        run(f"ALTER TABLE {target.sql()} RENAME TO {old.sql()}", _RENAME_SECONDS)
        run(f"ALTER TABLE {staging.sql()} RENAME TO {target.sql()}", _RENAME_SECONDS)
    except EngineError:
        _take_back(run, target, old)
        raise


def _take_back(run: Run, target: TableName, old: TableName) -> None:
    try:
        # IF EXISTS: where the first rename is what failed, there is nothing to take back.
        run(f"ALTER TABLE IF EXISTS {old.sql()} RENAME TO {target.sql()}", _RENAME_SECONDS)
    except EngineError as error:
        _log.error("an overwrite could not be taken back: look for %s and %s", target, old)
        raise _Unsure(
            f"The swap failed half-way and could not be taken back ({error}) The old rows are whole, as "
            f"{target} or as {old}. Change nothing; tell the table's owner."
        ) from None


def _same_columns(found: Rows, wanted: Sequence[str]) -> None:
    names = [column.name for column in found.columns]
    if sorted(name.lower() for name in names) != sorted(name.lower() for name in wanted):
        raise EngineError(
            f"The query gives the columns {', '.join(names)[:300]}; the table has {', '.join(wanted)[:300]}. "
            "Give each of them once, by name, in any order. Nothing was changed."
        )


def _drop(run: Run, table: TableName) -> bool:
    try:
        run(f"DROP TABLE IF EXISTS {table.sql()}", _RENAME_SECONDS)
    except EngineError:
        _log.warning("a table was left behind: %s", table)
        return False
    return True


def _number(found: Rows) -> int:
    return int(str(found.rows[0][0]))

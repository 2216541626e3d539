"""The record of confirmations in PostgreSQL, for replicas on several hosts. Needs the extra `postgres`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from mcpguard.confirmation_records import (
    KEEP,
    MAX_OPEN,
    Record,
    RecordsUnavailable,
    Step,
    TooManyOpen,
    record_of,
    standing,
)

# Seconds to connect, milliseconds for a statement: a call would rather be refused than hang. A commit is
# on the server's disk when it returns, whatever the database's default is.
_CONNECT = 2
_SESSION = "-c statement_timeout=2000 -c lock_timeout=2000 -c synchronous_commit=on"

_SCHEMA = """
create table if not exists gatehouse_confirmations (
  id text primary key, person text not null, server text not null, tool text not null, message text not null,
  step text not null, expires double precision not null)
"""
_COLUMNS = "id, person, server, tool, message, expires, step"
# Two replicas that start at once would both try to create the table, and one of them would fail.
_SCHEMA_LOCK = 0x6761746568


class PostgresRecords:
    """Records in one PostgreSQL table. A connection serves one step: people are asked seldom."""

    def __init__(self, url: str) -> None:
        """Make the table where there is none. `url` is a libpq one; name a `passfile` rather than a password.

        Raises:
            RecordsUnavailable: the database can't be reached, or refuses.

        """
        self._url = url
        with self._transaction() as rows:
            rows.execute("select pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            rows.execute(_SCHEMA)

    def add(self, record: Record, now: float) -> None:
        with self._transaction() as rows:
            rows.execute("delete from gatehouse_confirmations where expires < %s", (now - KEEP,))
            counted = rows.execute(
                "select count(*) from gatehouse_confirmations"
                " where person = %s and server = %s and step = 'open' and expires > %s",
                (record.person, record.server, now),
            ).fetchone()
            if counted is None or counted[0] >= MAX_OPEN:
                raise TooManyOpen
            rows.execute(
                f"insert into gatehouse_confirmations ({_COLUMNS})"  # noqa: S608 - a constant
                " values (%s, %s, %s, %s, %s, %s, %s)",
                (
                    record.id,
                    record.person,
                    record.server,
                    record.tool,
                    record.message,
                    record.expires,
                    record.step.value,
                ),
            )

    def move(self, record_id: str, before: Step, after: Step, now: float) -> Step:
        with self._transaction() as rows:
            row = rows.execute(
                "select step, expires from gatehouse_confirmations where id = %s for update", (record_id,)
            ).fetchone()
            stood = standing(row, now)
            if stood is before:
                rows.execute(
                    "update gatehouse_confirmations set step = %s where id = %s", (after.value, record_id)
                )
            return stood

    def find(self, record_id: str, now: float) -> Record | None:
        with self._transaction() as rows:
            row = rows.execute(
                f"select {_COLUMNS} from gatehouse_confirmations where id = %s",  # noqa: S608 - a constant
                (record_id,),
            ).fetchone()
        return None if row is None else record_of(row, now)

    def close(self) -> None:
        """Nothing is held between two steps."""

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection]:
        try:
            with psycopg.connect(
                self._url, connect_timeout=_CONNECT, options=_SESSION, application_name="gatehouse"
            ) as connection:
                yield connection
        except psycopg.Error as error:
            # The first line alone: it never holds the address's password, and the rest is libpq's advice.
            raise RecordsUnavailable(f"PostgreSQL: {str(error).partition(chr(10))[0]}") from None

"""Root causes in PostgreSQL, for several replicas of this server."""

from __future__ import annotations

import threading

import psycopg
from psycopg.rows import TupleRow

from servers.spark.records import NewRecord, Record, RecordsError, words, written

_COLUMNS = "id, fingerprint, title, cause, fix, application, author, recorded"
# `simple` keeps identifiers as they are, `english` finds "skewed" by "skew": a record is found by both.
_SCHEMA = """
create table if not exists spark_root_causes (
  id bigint generated always as identity primary key,
  fingerprint text not null, title text not null, cause text not null, fix text not null,
  application text not null, author text not null, recorded text not null,
  words tsvector generated always as (
    setweight(to_tsvector('english', title), 'A') || setweight(to_tsvector('simple', title), 'A') ||
    to_tsvector('english', cause || ' ' || fix) ||
    to_tsvector('simple', cause || ' ' || fix || ' ' || fingerprint)
  ) stored
);
create index if not exists spark_root_causes_fingerprint on spark_root_causes (fingerprint);
create index if not exists spark_root_causes_words on spark_root_causes using gin (words);
"""
_CREATING = 5_243_016
"""Key of the lock under which replicas that start together create the table one after the other."""


class PostgresRecords:
    """A `Records` on one connection, made anew after it was lost."""

    def __init__(self, url: str) -> None:
        """Connect, and make the table where there is none.

        Raises:
            RecordsError: the database can't be reached or used. The URL, which may hold a password, is not in
                the message.

        """
        self._url = url
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[TupleRow] | None = None
        try:
            with self._lock, self._connected().transaction():
                self._connected().execute("select pg_advisory_xact_lock(%s)", (_CREATING,))
                self._connected().execute(_SCHEMA)
        except psycopg.Error as error:
            raise RecordsError(f"PostgreSQL: {_said(error)}") from None

    def add(self, record: NewRecord, now: float) -> Record:
        """Keep one."""
        sql = (
            "insert into spark_root_causes (fingerprint, title, cause, fix, application, author, recorded)"  # noqa: S608
            f" values (%s, %s, %s, %s, %s, %s, %s) returning {_COLUMNS}"
        )
        values = (record.fingerprint, record.title, record.cause, record.fix, record.application)
        # Not twice: it may have been written before the connection was lost.
        added = self._run(sql, (*values, record.author, written(now)), again=False)
        return added[0]

    def by_fingerprint(self, fingerprint: str, limit: int) -> list[Record]:
        """Return those of one fingerprint, newest first."""
        return self._run(
            f"select {_COLUMNS} from spark_root_causes where fingerprint = %s order by id desc limit %s",  # noqa: S608
            (fingerprint, limit),
        )

    def by_words(self, query: str, limit: int) -> list[Record]:
        """Return those that hold any of the words, the best first; a title weighs more."""
        asked = " | ".join(f"'{word}'" for word in words(query))
        if not asked:
            return []
        return self._run(
            f"select {_COLUMNS} from spark_root_causes,"  # noqa: S608
            " (select to_tsquery('english', %s) || to_tsquery('simple', %s) as asked) as question"
            " where words @@ asked order by ts_rank(words, asked) desc, id desc limit %s",
            (asked, asked, limit),
        )

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _run(self, sql: str, values: tuple[str | int, ...], *, again: bool = True) -> list[Record]:
        """Run one statement; with `again` once more where the connection was lost, as after a restart."""
        try:
            with self._lock:
                connection = self._connected()
                try:
                    rows = connection.execute(sql.encode(), values).fetchall()
                except psycopg.OperationalError:
                    if not again or not connection.broken:
                        raise
                    rows = self._connected().execute(sql.encode(), values).fetchall()
            return [Record(*row) for row in rows]
        except psycopg.Error as error:
            raise RecordsError(f"PostgreSQL: {_said(error)}") from None

    def _connected(self) -> psycopg.Connection[TupleRow]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
        return self._connection


def _said(error: psycopg.Error) -> str:
    """Return what the database said; without the connection's parameters, which libpq never repeats whole."""
    return error.diag.message_primary or type(error).__name__

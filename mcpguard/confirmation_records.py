"""The record that makes a confirmation count once, shared by all replicas of a server.

One row per question, written when it is asked and moved on exactly once per step. A row moves under a lock of
the database, so of any number of replays of one state, in any number of processes, one finds it open.
A state without a row (another store, a restored backup) is refused: replicas that share keys but no
records refuse each other's confirmations rather than run one twice.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Protocol

MAX_OPEN = 50
"""Questions that one user may leave open at one server."""
KEEP = 600.0
"""Seconds that a row outlives its expiry, so that a late answer is told apart from a made-up one."""

_BUSY = 2.0
_SCHEMA = """
create table if not exists gatehouse_confirmations (
  id text primary key, person text not null, server text not null, tool text not null, message text not null,
  step text not null, expires real not null) without rowid
"""


class Step(StrEnum):
    """How far a question has come. It never goes back."""

    OPEN = "open"
    APPROVED = "approved"
    """On the confirmation page (URL mode); the call may now use it."""
    SPENT = "spent"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Its time is up, whether or not anybody wrote that down."""
    UNKNOWN = "unknown"
    """Never written: there is no such row."""


@dataclass(frozen=True, slots=True)
class Record:
    """One question."""

    id: str
    person: str
    """Who was asked, as `person_of` writes it."""
    server: str
    tool: str
    message: str
    """What the confirmation page shows; empty in form mode, where the client shows it."""
    expires: float
    step: Step = Step.OPEN


class RecordsUnavailable(Exception):
    """Nothing can be recorded, so nothing may run. The message is for the log."""


class TooManyOpen(Exception):
    """One user has left too many questions open here."""


class Records(Protocol):
    """Where questions are recorded. Its methods block; each raises `RecordsUnavailable`."""

    def add(self, record: Record, now: float) -> None:
        """Record a question that is about to be asked, and forget what is long over.

        Raises:
            TooManyOpen: this user has left too many open.

        """

    def move(self, record_id: str, before: Step, after: Step, now: float) -> Step:
        """Move a question on if it stands at `before`; returns where it stood.

        Of many callers at once, one gets `before`.
        """

    def find(self, record_id: str, now: float) -> Record | None:
        """Return a question as it stands."""

    def close(self) -> None:
        """Let go of the store."""


def person_of(issuer: str, subject: str) -> str:
    """Write a user as one text. No policy lets an issuer's name hold a line break, so no two are alike."""
    return f"{issuer}\n{subject}"


class SqliteRecords:
    """Records in one SQLite file, for the processes of one host; without a file, for this process alone."""

    def __init__(self, path: Path | None) -> None:
        """Open the file, or make it.

        Raises:
            RecordsUnavailable: it can't be opened, or is something else.

        """
        self._path = path
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        with self._transaction() as _:
            pass

    def add(self, record: Record, now: float) -> None:
        with self._transaction() as rows:
            rows.execute("delete from gatehouse_confirmations where expires < ?", (now - KEEP,))
            counted = rows.execute(
                "select count(*) from gatehouse_confirmations"
                " where person = ? and server = ? and step = 'open' and expires > ?",
                (record.person, record.server, now),
            ).fetchone()
            if counted[0] >= MAX_OPEN:
                raise TooManyOpen
            rows.execute(
                "insert into gatehouse_confirmations (id, person, server, tool, message, step, expires)"
                " values (?, ?, ?, ?, ?, ?, ?)",
                (
                    record.id,
                    record.person,
                    record.server,
                    record.tool,
                    record.message,
                    record.step.value,
                    record.expires,
                ),
            )

    def move(self, record_id: str, before: Step, after: Step, now: float) -> Step:
        with self._transaction() as rows:
            row = rows.execute(
                "select step, expires from gatehouse_confirmations where id = ?", (record_id,)
            ).fetchone()
            stood = standing(row, now)
            if stood is before:
                rows.execute(
                    "update gatehouse_confirmations set step = ? where id = ?", (after.value, record_id)
                )
            return stood

    def find(self, record_id: str, now: float) -> Record | None:
        with self._transaction() as rows:
            row = rows.execute(
                "select id, person, server, tool, message, expires, step from gatehouse_confirmations"
                " where id = ?",
                (record_id,),
            ).fetchone()
        return None if row is None else record_of(row, now)

    def close(self) -> None:
        with self._lock:
            self._drop()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction that holds the file's write lock from its beginning."""
        with self._lock:
            try:
                connection = self._open()
                connection.execute("begin immediate")
                try:
                    yield connection
                except BaseException:
                    connection.execute("rollback")
                    raise
                connection.execute("commit")
            except (sqlite3.Error, OSError) as error:
                if self._path is not None:  # the next one tries with a fresh connection
                    self._drop()
                raise RecordsUnavailable(f"{self._path or 'memory'}: {error}") from None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._path is not None:  # born with its final mode: what people are asked is nobody else's
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(
                self._path or ":memory:", timeout=_BUSY, isolation_level=None, check_same_thread=False
            )
            self._connection = connection
            # The default too, but said: a row that was spent is on the disk before the tool runs.
            connection.execute("pragma synchronous = full")
            connection.execute(_SCHEMA)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def record_of(row: tuple[str, str, str, str, str, float, str], now: float) -> Record:
    """Read a row: id, person, server, tool, message, expires, step."""
    *_, expires, step = row
    return Record(row[0], row[1], row[2], row[3], row[4], expires, standing((step, expires), now))


def standing(row: tuple[str, float] | None, now: float) -> Step:
    """Where a row (step, expires) stands at `now`: what was used or answered stays so after its time."""
    if row is None:
        return Step.UNKNOWN
    step = Step(row[0])
    over = now >= row[1] and step in (Step.OPEN, Step.APPROVED)
    return Step.EXPIRED if over else step

"""Root causes that people found, kept so that the next one finds them: by fingerprint, or by words."""

from __future__ import annotations

import re
import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

MAX_WORDS = 16

_WORD = re.compile(r"\w+")


class RecordsError(Exception):
    """The store can't be used. The message is for the operator."""


@dataclass(frozen=True, slots=True)
class NewRecord:
    """What somebody wants to be remembered."""

    fingerprint: str
    title: str
    cause: str
    fix: str
    application: str
    author: str


@dataclass(frozen=True, slots=True)
class Record:
    """What was recorded."""

    id: int
    fingerprint: str
    title: str
    cause: str
    fix: str
    application: str
    author: str
    recorded: str
    """When, in ISO 8601 with its zone."""


class Records(Protocol):
    """A store. Its methods block and may be called from several threads; each may raise `RecordsError`."""

    def add(self, record: NewRecord, now: float) -> Record:
        """Keep one."""

    def by_fingerprint(self, fingerprint: str, limit: int) -> list[Record]:
        """Return those of one fingerprint, newest first."""

    def by_words(self, query: str, limit: int) -> list[Record]:
        """Return those that hold any of the words, the best first."""

    def close(self) -> None:
        """Let go of the store."""


def words(query: str) -> list[str]:
    """Return a query's words; what else stands in it is no syntax to anybody."""
    return list(dict.fromkeys(word.lower() for word in _WORD.findall(query)))[:MAX_WORDS]


def written(now: float) -> str:
    """Return a time as records have it."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")


_COLUMNS = "id, fingerprint, title, cause, fix, application, author, recorded"
_SCHEMA = """
create table if not exists root_causes (
  id integer primary key, fingerprint text not null, title text not null, cause text not null,
  fix text not null, application text not null, author text not null, recorded text not null
);
create index if not exists root_causes_fingerprint on root_causes (fingerprint);
create virtual table if not exists root_causes_words using fts5 (
  title, cause, fix, fingerprint, content='root_causes', content_rowid='id', tokenize='porter unicode61'
);
create trigger if not exists root_causes_added after insert on root_causes begin
  insert into root_causes_words (rowid, title, cause, fix, fingerprint)
  values (new.id, new.title, new.cause, new.fix, new.fingerprint);
end;
"""


class SqliteRecords:
    """The embedded store: one SQLite file, which several processes of one host may share."""

    def __init__(self, path: Path) -> None:
        """Open the file; it is made where there is none.

        Raises:
            RecordsError: it can't be made, or is no SQLite file.

        """
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
            self._connection.execute("pragma journal_mode = wal")
            self._connection.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise RecordsError(f"can't open {path}: {error}") from None

    def add(self, record: NewRecord, now: float) -> Record:
        """Keep one."""
        values = (*_values(record), written(now))
        try:
            with self._lock, self._connection as connection:
                cursor = connection.execute(
                    "insert into root_causes (fingerprint, title, cause, fix, application, author, recorded)"
                    " values (?, ?, ?, ?, ?, ?, ?)",
                    values,
                )
        except sqlite3.Error as error:
            raise RecordsError(str(error)) from None
        return Record(cursor.lastrowid or 0, *values)

    def by_fingerprint(self, fingerprint: str, limit: int) -> list[Record]:
        """Return those of one fingerprint, newest first."""
        return self._select("where fingerprint = ? order by id desc limit ?", (fingerprint, limit))

    def by_words(self, query: str, limit: int) -> list[Record]:
        """Return those that hold any of the words, the best first; a title weighs twice."""
        # Quoted, so that no word is an operator; OR, since all the words of a question never stand together.
        match = " OR ".join(f'"{word}"' for word in words(query))
        if not match:
            return []
        ranked = (
            "join (select rowid as hit, bm25(root_causes_words, 2.0, 1.0, 1.0, 1.0) as score"
            " from root_causes_words where root_causes_words match ?) on hit = id"
        )
        return self._select(f"{ranked} order by score, id desc limit ?", (match, limit))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _select(self, rest: str, values: tuple[str | int, ...]) -> list[Record]:
        sql = f"select {_COLUMNS} from root_causes {rest}"  # noqa: S608 - from this class alone
        try:
            with self._lock, closing(self._connection.execute(sql, values)) as cursor:
                return [Record(*row) for row in cursor.fetchall()]
        except sqlite3.Error as error:
            raise RecordsError(str(error)) from None


def _values(record: NewRecord) -> tuple[str, str, str, str, str, str]:
    return (
        record.fingerprint,
        record.title,
        record.cause,
        record.fix,
        record.application,
        record.author,
    )

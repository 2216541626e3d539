"""The embedded engine: SQLite's FTS5, one index a scope, in the catalogue's own file.

FTS5's `bm25` weighs a word by how rare it is in one index. Here it is asked about one word at a time, and its
weight is exchanged for the one over all scopes that are searched together: the ranking is then that of one
index with exactly these documents, but for the average length, which stays each scope's own.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence

from servers.knowledge.database import Database
from servers.knowledge.engine import TITLE_WEIGHT, Change, Entry, Filters, Hit, Query, idf, ranked

_SIZES = """
CREATE TABLE IF NOT EXISTS fts_sizes (scope TEXT PRIMARY KEY, passages INTEGER NOT NULL) WITHOUT ROWID
"""


class Fts5Engine:
    """An `Engine` beside the catalogue; `apply` joins the transaction that changes it."""

    name = "fts5"

    def __init__(self, database: Database) -> None:
        """Keep the index in `database`."""
        self._database = database
        database.writer.execute(_SIZES)

    def holds(self, scope: str) -> bool:
        """Whether this scope has a table."""
        row = self._database.writer.execute("SELECT 1 FROM fts_sizes WHERE scope = ?", (scope,)).fetchone()
        return row is not None

    def apply(self, changes: Sequence[Change]) -> None:
        """Take changes into the open transaction. FTS5 needs the old text to take it out."""
        connection = self._database.writer
        for change in changes:
            if change.before is not None:
                _write(connection, change.before, -1)
        for change in changes:
            if change.after is not None:
                _write(connection, change.after, 1)
        for (scope,) in connection.execute("SELECT scope FROM fts_sizes WHERE passages = 0").fetchall():
            connection.execute(f"DROP TABLE {_table(scope)}")
            connection.execute("DELETE FROM fts_sizes WHERE scope = ?", (scope,))

    def search(self, query: Query) -> list[Hit]:
        """Rank within each scope by the statistics of all, and merge."""
        with self._database.reading() as connection:
            sizes: dict[str, int] = dict(connection.execute("SELECT scope, passages FROM fts_sizes"))
            scopes = [scope for scope in query.scopes if scope in sizes]
            total = sum(sizes[scope] for scope in scopes)
            counts = {
                (scope, word): _count(connection, scope, word) for scope in scopes for word in query.words
            }
            weights = {word: idf(total, sum(counts[scope, word] for scope in scopes)) for word in query.words}
            hits: list[Hit] = []
            for scope in scopes:
                factors = {
                    word: weights[word] / _fts5_idf(sizes[scope], counts[scope, word])
                    for word in query.words
                    if counts[scope, word]
                }
                if factors:
                    hits += _best(connection, scope, factors, query.filters, query.limit)
        return ranked(hits, query.limit)

    def close(self) -> None:
        """Leave the file to the catalogue, whose it is."""


def _table(scope: str) -> str:
    """The name of a scope's table. A scope is hexadecimal, so this is an identifier."""
    if not scope.isalnum():
        raise ValueError(scope)
    return f"fts_{scope}"


def _phrase(word: str) -> str:
    """One word in FTS5's syntax, where everything between double quotes is text."""
    return '"' + word.replace('"', '""') + '"'


def _write(connection: sqlite3.Connection, entry: Entry, by: int) -> None:
    table = _table(entry.scope)
    if by > 0:
        # Without content: the text is in the catalogue, and FTS5 needs it only to index.
        connection.execute(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS {table} USING fts5"
            " (title, body, content = '', tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        statement = f"INSERT INTO {table} (rowid, title, body) VALUES (?, ?, ?)"  # noqa: S608
    else:
        statement = f"INSERT INTO {table} ({table}, rowid, title, body) VALUES ('delete', ?, ?, ?)"  # noqa: S608
    connection.executemany(statement, [(p.number, entry.headline(p), p.text) for p in entry.passages])
    connection.execute(
        "INSERT INTO fts_sizes VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET passages = passages + excluded.passages",
        (entry.scope, by * len(entry.passages)),
    )


def _count(connection: sqlite3.Connection, scope: str, word: str) -> int:
    table = _table(scope)
    sql = f"SELECT count(*) FROM {table} WHERE {table} MATCH ?"  # noqa: S608
    found: int = connection.execute(sql, (_phrase(word),)).fetchone()[0]
    return found


def _fts5_idf(documents: int, containing: int) -> float:
    """The weight that FTS5 gives a word, to be divided out."""
    return max(math.log((documents - containing + 0.5) / (containing + 0.5)), 1e-6)


def _best(
    connection: sqlite3.Connection, scope: str, factors: dict[str, float], filters: Filters, limit: int
) -> list[Hit]:
    table = _table(scope)
    one = (
        f"SELECT rowid AS id, -bm25({table}, {TITLE_WEIGHT}, 1.0) * ? AS score"  # noqa: S608
        f" FROM {table} WHERE {table} MATCH ?"
    )
    where, values = _where(filters)
    sql = (
        f"WITH found AS MATERIALIZED ({' UNION ALL '.join([one] * len(factors))}),"  # noqa: S608
        f" best AS (SELECT id, sum(score) AS score FROM found {where} GROUP BY id"
        " ORDER BY round(sum(score), 6) DESC, id LIMIT ?)"
        " SELECT path, ordinal, score FROM best JOIN passages p USING (id)"
        " JOIN documents d ON d.id = p.document"
    )
    parameters: list[float | str | int] = []
    for word, factor in factors.items():
        parameters += [factor, _phrase(word)]
    return [Hit(*row) for row in connection.execute(sql, [*parameters, *values, limit])]


def _where(filters: Filters) -> tuple[str, list[float | str]]:
    tests: list[str] = []
    values: list[float | str] = []
    if filters.folder is not None:  # `0` follows `/`: everything below the folder, and nothing like it
        tests.append("path > ? AND path < ?")
        values += [f"{filters.folder}/", f"{filters.folder}0"]
    if filters.kind is not None:
        tests.append("kind = ?")
        values.append(filters.kind)
    if filters.updated_since is not None:
        tests.append("updated >= ?")
        values.append(filters.updated_since)
    if not tests:
        return "", []
    return (
        "WHERE id IN (SELECT p.id FROM documents d JOIN passages p ON p.document = d.id"  # noqa: S608
        f" WHERE {' AND '.join(tests)})",
        values,
    )

"""Every document that is indexed, in SQLite: its text, its scope and the stamp it was read at.

The engine ranks; what is shown comes from here, and only for the scopes that a caller may see. So a hit that
an engine still has of a document that is gone, or went out of sight, leads nowhere.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from servers.knowledge.acl import Acl
from servers.knowledge.database import Database
from servers.knowledge.engine import Change, Entry, Hit, Kind, Passage
from servers.knowledge.folder import Stamp
from servers.knowledge.reading import Page

_SCHEMA = """
CREATE TABLE IF NOT EXISTS scopes (key TEXT PRIMARY KEY, levels TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
  id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, title TEXT NOT NULL, kind TEXT NOT NULL,
  updated REAL NOT NULL,
  scope TEXT NOT NULL REFERENCES scopes (key), folder_scope TEXT NOT NULL, digest BLOB NOT NULL,
  modified INTEGER NOT NULL, changed INTEGER NOT NULL, size INTEGER NOT NULL, inode INTEGER NOT NULL,
  text TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS documents_by_scope ON documents (scope);
CREATE TABLE IF NOT EXISTS passages (
  id INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
  ordinal INTEGER NOT NULL, heading TEXT NOT NULL, text TEXT NOT NULL, UNIQUE (document, ordinal)
);
"""


@dataclass(frozen=True, slots=True)
class Known:
    """What was indexed of one file, and when."""

    stamp: Stamp
    digest: bytes
    scope: str
    folder_scope: str


@dataclass(frozen=True, slots=True)
class Incoming:
    """A document to be indexed, in place of what is there under its path."""

    path: str
    page: Page
    acl: Acl
    known: Known
    updated: float


@dataclass(frozen=True, slots=True)
class Document:
    """One document, whole."""

    path: str
    title: str
    kind: Kind
    updated: float
    text: str


@dataclass(frozen=True, slots=True)
class Citation:
    """One passage with the document it is from."""

    path: str
    title: str
    kind: Kind
    updated: float
    heading: str
    text: str


class Catalogue:
    """The documents. One thread writes; any reads."""

    def __init__(self, database: Database) -> None:
        self.database = database
        database.writer.executescript(_SCHEMA)

    def known(self) -> dict[str, Known]:
        """Return what is indexed, by path."""
        rows = self.database.writer.execute(
            "SELECT path, modified, changed, size, inode, digest, scope, folder_scope FROM documents"
        )
        return {row[0]: Known(Stamp(*row[1:5]), *row[5:]) for row in rows}

    def scopes(self) -> dict[str, Acl]:
        """Return every scope that has documents."""
        with self.database.reading() as connection:
            rows = connection.execute("SELECT key, levels FROM scopes").fetchall()
        return {key: Acl.from_text(levels) for key, levels in rows}

    @contextmanager
    def changing(self, incoming: Sequence[Incoming], gone: Collection[str]) -> Iterator[list[Change]]:
        """Change the catalogue, in a transaction that ends well only if what is done within does."""
        with self.database.writing() as connection:
            changes = [Change(_entry(connection, path), None) for path in gone]
            changes += [Change(_entry(connection, new.path), None) for new in incoming]
            for path in (*gone, *(new.path for new in incoming)):
                connection.execute("DELETE FROM documents WHERE path = ?", (path,))
            entries = [_insert(connection, new) for new in incoming]
            connection.execute("DELETE FROM scopes WHERE key NOT IN (SELECT scope FROM documents)")
            offset = len(gone)
            for index, entry in enumerate(entries):
                changes[offset + index] = Change(changes[offset + index].before, entry)
            yield [change for change in changes if change.before is not None or change.after is not None]

    def touch(self, path: str, stamp: Stamp) -> None:
        """Note that a file was written and says the same."""
        with self.database.writing() as connection:
            connection.execute(
                "UPDATE documents SET modified = ?, changed = ?, size = ?, inode = ? WHERE path = ?",
                (stamp.modified, stamp.changed, stamp.size, stamp.inode, path),
            )

    def document(self, path: str, scopes: Collection[str]) -> Document | None:
        """Return a document of these scopes; None alike for one of others and for one that isn't there."""
        marks = ",".join("?" * len(scopes))
        with self.database.reading() as connection:
            row = connection.execute(
                "SELECT path, title, kind, updated, text FROM documents"  # noqa: S608 - marks alone
                f" WHERE path = ? AND scope IN ({marks})",
                (path, *scopes),
            ).fetchone()
        return None if row is None else Document(*row)

    def citations(self, hits: Sequence[Hit], scopes: Collection[str]) -> list[Citation]:
        """Return the passages of hits, in their order, but for those that left these scopes."""
        marks = ",".join("?" * len(scopes))
        found: list[Citation] = []
        with self.database.reading() as connection:
            for hit in hits:
                row = connection.execute(
                    "SELECT path, title, kind, updated, heading, p.text FROM documents d"  # noqa: S608 - marks
                    " JOIN passages p ON p.document = d.id"
                    f" WHERE path = ? AND ordinal = ? AND scope IN ({marks})",
                    (hit.path, hit.ordinal, *scopes),
                ).fetchone()
                if row is not None:
                    found.append(Citation(*row))
        return found

    def count(self) -> int:
        """Return how many documents are indexed."""
        with self.database.reading() as connection:
            return cast("int", connection.execute("SELECT count(*) FROM documents").fetchone()[0])


def _entry(connection: sqlite3.Connection, path: str) -> Entry | None:
    row = connection.execute(
        "SELECT id, path, title, kind, updated, scope FROM documents WHERE path = ?", (path,)
    ).fetchone()
    if row is None:
        return None
    pieces = connection.execute(
        "SELECT ordinal, heading, text, id FROM passages WHERE document = ? ORDER BY ordinal", (row[0],)
    )
    _, name, title, kind, updated, scope = row
    return Entry(name, title, kind, updated, scope, tuple(Passage(*piece) for piece in pieces))


def _insert(connection: sqlite3.Connection, new: Incoming) -> Entry:
    page, known, stamp = new.page, new.known, new.known.stamp
    connection.execute("INSERT OR IGNORE INTO scopes VALUES (?, ?)", (new.acl.key, new.acl.text))
    document = connection.execute(
        "INSERT INTO documents (path, title, kind, updated, scope, folder_scope, digest, modified, changed,"
        " size, inode, text) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (new.path, page.title, page.kind, new.updated, known.scope, known.folder_scope, known.digest,
         stamp.modified, stamp.changed, stamp.size, stamp.inode, page.text),
    ).lastrowid  # fmt: skip
    numbered = []
    for piece in page.passages:
        number = connection.execute(
            "INSERT INTO passages (document, ordinal, heading, text) VALUES (?, ?, ?, ?)",
            (document, piece.ordinal, piece.heading, piece.text),
        ).lastrowid
        numbered.append(Passage(piece.ordinal, piece.heading, piece.text, number or 0))
    return Entry(new.path, page.title, page.kind, new.updated, known.scope, tuple(numbered))

"""A folder of documents with its index, for tests: write files, scan, search."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from servers.knowledge.connection import connect
from servers.knowledge.engine import Filters, Query
from servers.knowledge.indexer import Scan
from servers.knowledge.library import Library
from servers.knowledge.opening import MakeEngine, Opened, fts5, open_index, tantivy
from servers.knowledge.opensearch import OpenSearchEngine
from servers.knowledge.words import words_of
from tests.servers.knowledge.fake_opensearch import CREDENTIALS, FakeOpenSearch, running

ENGINES = ("fts5", "tantivy", "opensearch")
EVERYTHING = Filters()
NOBODY: frozenset[str] = frozenset()


class Shelf:
    def __init__(self, root: Path, name: str = "fts5", fake: FakeOpenSearch | None = None) -> None:
        self.root = root
        self.documents = root / "documents"
        self.documents.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.fake = fake
        self._open()

    def _open(self) -> None:
        self.opened: Opened = open_index(self.documents, self.root / "index", self.name, self._make())
        self.library = Library(self.opened.catalogue, self.opened.engine, "https://wiki.corp.example/")

    def _make(self) -> MakeEngine:
        if self.name != "opensearch":
            return tantivy if self.name == "tantivy" else fts5
        assert self.fake is not None
        secret = self.root / "opensearch.secret"
        secret.write_text(CREDENTIALS + "\n")
        engine = OpenSearchEngine(connect(self.fake.url, credentials=secret))
        return lambda *_: engine

    def reopen(self) -> None:
        self.opened.close()
        self._open()

    def write(self, path: str, content: str | bytes) -> Path:
        file = self.documents / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def scan(self) -> Scan:
        return self.opened.indexer.scan()

    def find(self, text: str, *groups: str, filters: Filters = EVERYTHING, limit: int = 10) -> list[str]:
        found, _ = self.library.documents(text, frozenset(groups), filters, limit)
        return [one.path for one in found]

    def scores(self, text: str, *groups: str) -> dict[tuple[str, int], float]:
        """What the engine itself says of the scopes that these groups see."""
        scopes = self.library._visible(frozenset(groups))
        hits = self.opened.engine.search(Query(words_of(text), scopes, EVERYTHING, 100))
        return {(hit.path, hit.ordinal): pytest.approx(hit.score, rel=1e-5) for hit in hits}

    def sees(self, path: str, *groups: str) -> bool:
        return self.library.fetch(path, frozenset(groups)) is not None

    def close(self) -> None:
        self.opened.close()


def age(file: Path, seconds: float = 60) -> None:
    """Make a file look written some time ago."""
    found = file.stat()
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns - int(seconds * 1e9)))


@contextmanager
def shelf_of(root: Path, name: str) -> Iterator[Shelf]:
    if name != "opensearch":
        shelf = Shelf(root, name)
        yield shelf
        shelf.close()
        return
    with running() as fake:
        shelf = Shelf(root, name, fake)
        yield shelf
        shelf.close()

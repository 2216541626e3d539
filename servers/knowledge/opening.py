"""Put the parts together: the catalogue, the engine over it, and what keeps both like the folder."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from servers.knowledge.catalogue import Catalogue
from servers.knowledge.database import Database
from servers.knowledge.engine import Engine, EngineError
from servers.knowledge.folder import Folder
from servers.knowledge.fts5 import Fts5Engine
from servers.knowledge.indexer import Indexer

MakeEngine = Callable[[Database, Path], Engine]
"""Given the catalogue's database and a folder beside it that the engine may use."""

FORMAT = 1
"""Of what is kept. Another one is another file, indexed anew."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An index that is ready to be brought up to date and searched."""

    catalogue: Catalogue
    engine: Engine
    indexer: Indexer
    lock: IO[bytes]

    def close(self) -> None:
        """Close it."""
        self.engine.close()
        self.catalogue.database.close()
        self.lock.close()


def fts5(database: Database, _: Path) -> Engine:
    """The embedded engine."""
    return Fts5Engine(database)


def tantivy(_: Database, folder: Path) -> Engine:
    """The engine of the extra `knowledge-tantivy`, imported only here."""
    try:
        from servers.knowledge.tantivy_engine import TantivyEngine
    except ImportError:
        raise EngineError("tantivy is an extra: pip install 'gatehouse[knowledge-tantivy]'") from None
    return TantivyEngine(folder)


def open_index(documents: Path, index: Path, name: str, make: MakeEngine = fts5) -> Opened:
    """Open or create an index of `documents` in the folder `index`, in files of the engine `name`.

    Raises:
        OSError: the folder can't be made.
        sqlite3.Error: the catalogue is no SQLite file.
        EngineError: the engine's part can't be opened, or another process has the index.

    """
    index.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as undone:
        lock = undone.enter_context(_locked(index / "lock"))
        database = undone.enter_context(closing(Database(index / f"{name}-{FORMAT}.sqlite")))
        catalogue = Catalogue(database)
        engine = make(database, index / f"{name}-{FORMAT}")
        undone.pop_all()  # it is whole, and stays open
    return Opened(catalogue, engine, Indexer(Folder(documents), catalogue, engine), lock)


def _locked(path: Path) -> IO[bytes]:
    """Hold the index for this process alone; it is free again when the process ends, however it does."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise EngineError(f"another process uses the index {path.parent}; give each its own") from None
    return file

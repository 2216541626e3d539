"""Put the parts together: the catalogue, the engine over it, and what keeps both like the folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from servers.knowledge.catalogue import Catalogue
from servers.knowledge.database import Database
from servers.knowledge.engine import Engine
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

    def close(self) -> None:
        """Close it."""
        self.engine.close()
        self.catalogue.database.close()


def fts5(database: Database, _: Path) -> Engine:
    """The embedded engine."""
    return Fts5Engine(database)


def tantivy(_: Database, folder: Path) -> Engine:
    """The engine of the extra `knowledge-tantivy`, imported only here."""
    from servers.knowledge.tantivy_engine import TantivyEngine

    return TantivyEngine(folder)


def open_index(documents: Path, index: Path, name: str, make: MakeEngine = fts5) -> Opened:
    """Open or create an index of `documents` in the folder `index`, in files of the engine `name`.

    Raises:
        OSError: the folder can't be made.
        sqlite3.Error: the catalogue is no SQLite file.
        EngineError: the engine's part can't be opened.

    """
    index.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(index / f"{name}-{FORMAT}.sqlite")
    engine = make(database, index / f"{name}-{FORMAT}")
    catalogue = Catalogue(database)
    return Opened(catalogue, engine, Indexer(Folder(documents), catalogue, engine))

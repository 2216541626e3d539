"""Keep the index like the folder: look again and again, read what changed, take out first what is gone."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

from servers.knowledge.catalogue import Catalogue, Incoming, Known
from servers.knowledge.engine import Engine, EngineError
from servers.knowledge.folder import Folder, FolderError, Found, Stamp
from servers.knowledge.reading import ReadingRefused, read

BATCH = 200
"""Documents a transaction."""
_SETTLED = 2_000_000_000
"""Nanoseconds. A file written less than that before it was read may be written again within one tick of its
file system's clock, so its stamp isn't trusted and it is read again the next time."""
_UNSETTLED = -1

_T = TypeVar("_T")
_log = logging.getLogger("servers.knowledge")


@dataclass(slots=True)
class Scan:
    """What one look at the folder did."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    """Why, by path."""

    @property
    def did_something(self) -> bool:
        return bool(self.added or self.changed or self.removed)


class Indexer:
    """Brings what is in a folder into the catalogue and the engine, from one thread."""

    def __init__(
        self,
        folder: Folder,
        catalogue: Catalogue,
        engine: Engine,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Forget what was indexed where the engine has lost a part of it."""
        self._folder = folder
        self._catalogue = catalogue
        self._engine = engine
        self._clock = clock
        self._refused: dict[str, tuple[Stamp, str, str]] = {}
        self._reported: dict[str, str] = {}
        self._begun = False
        self.stopping = threading.Event()
        """Set from another thread, it ends a scan after the batch that runs; the next goes on from there."""

    def scan(self) -> Scan:
        """Look at the folder once.

        Raises:
            FolderError: its root can't be read; what was indexed stays.
            EngineError: the engine refused a part; the next scan tries it again.

        """
        self._begin()
        known, result = self._catalogue.known(), Scan()
        here: dict[str, Found] = {}
        for seen in self._folder.walk():
            if isinstance(seen, Found):
                here[seen.path] = seen
            else:
                result.skipped[seen.path] = seen.why
        # First whatever must go out of sight: no document waits there for others to be read.
        closed = [path for path, was in known.items() if path not in here or _moved(was, here[path])]
        for batch in _batches(iter(closed)):
            self._apply([], batch)
        result.removed = sum(path not in here for path in closed)
        for path in closed:
            known.pop(path)
        self._refused = {path: what for path, what in self._refused.items() if path in here}
        fresh = (found for path, found in here.items() if not _same(known.get(path), found))
        result.unchanged = sum(_same(known.get(path), found) for path, found in here.items())
        for group in _batches(fresh):
            if self.stopping.is_set():
                break
            self._read(group, known, result)
        self._report(result, set(closed))
        return result

    def _begin(self) -> None:
        if not self._begun:
            if not all(self._engine.holds(scope) for scope in self._catalogue.scopes()):
                _log.warning("the index of the engine %s is not whole: indexing anew", self._engine.name)
                for batch in _batches(iter(self._catalogue.known())):
                    with self._catalogue.changing([], batch):
                        pass
            self._begun = True

    def _read(self, group: list[Found], known: dict[str, Known], result: Scan) -> None:
        incoming: list[Incoming] = []
        gone: list[str] = []
        for found in group:
            was = known.get(found.path)
            new, why = self._incoming(found)
            if new is not None and was is not None and was.digest == new.known.digest:
                self._catalogue.touch(found.path, new.known.stamp)
                result.unchanged += 1
            elif new is not None:
                incoming.append(new)
                result.added += was is None
                result.changed += was is not None
            else:
                result.skipped[found.path] = why
                if was is not None:
                    gone.append(found.path)
                    result.removed += 1
        if incoming or gone:
            self._apply(incoming, gone)

    def _incoming(self, found: Found) -> tuple[Incoming | None, str]:
        refused = self._refused.get(found.path)
        if refused is not None and refused[:2] == (found.stamp, found.acl.key):
            return None, refused[2]
        try:
            content, stamp = self._folder.read(found.path)
            page = read(found.path, found.kind, content)
        except OSError as error:
            return None, f"can't be read: {error.strerror or error}"
        except ReadingRefused as error:
            self._refused[found.path] = (self._settled(found.stamp), found.acl.key, str(error))
            return None, str(error)
        if page.level is not None and not page.level:
            return None, "its front matter names no group, so it is nobody's"
        acl = found.acl if page.level is None else found.acl.narrowed(page.level)
        digest = hashlib.sha256(content).digest()
        known = Known(self._settled(stamp), digest, acl.key, found.acl.key)
        updated = page.updated if page.updated is not None else stamp.modified / 1e9
        return Incoming(found.path, page, acl, known, updated), ""

    def _settled(self, stamp: Stamp) -> Stamp:
        written = max(stamp.modified, stamp.changed)
        return stamp if self._clock() * 1e9 - written > _SETTLED else replace(stamp, inode=_UNSETTLED)

    def _apply(self, incoming: list[Incoming], gone: list[str]) -> None:
        with self._catalogue.changing(incoming, gone) as changes:
            self._engine.apply(changes)

    def _report(self, result: Scan, closed: set[str]) -> None:
        """Log what is passed over once, not at every look."""
        for path, why in result.skipped.items():
            if self._reported.get(path) != why:
                _log.warning("not indexed: %s: %s", path, why)
        self._reported = dict(result.skipped)
        if result.did_something or closed:
            _log.info(
                "indexed: %d added, %d changed, %d removed, %d unchanged",
                result.added, result.changed, result.removed, result.unchanged,
            )  # fmt: skip


class Watch:
    """A thread that scans every so many seconds."""

    def __init__(self, indexer: Indexer, seconds: float) -> None:
        self._indexer = indexer
        self._seconds = seconds
        self._stop = indexer.stopping
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)

    def start(self) -> None:
        """Scan now, beside the caller, and again and again."""
        self._thread.start()

    def close(self) -> None:
        """Stop, after the batch that is being indexed."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self._indexer.scan()
            except (FolderError, EngineError, sqlite3.Error, OSError) as error:
                _log.error("the folder could not be indexed: %s", error)
            if self._stop.wait(self._seconds):
                return


def _moved(was: Known, found: Found) -> bool:
    """Whether a folder's ACL changed above a document, which is then read as if it were new."""
    return was.folder_scope != found.acl.key


def _same(was: Known | None, found: Found) -> bool:
    return was is not None and was.stamp == found.stamp


def _batches(items: Iterable[_T]) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch

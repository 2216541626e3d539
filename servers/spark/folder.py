"""The embedded engine: a folder of event logs, as applications write them with `spark.eventLog.dir`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cachetools import LRUCache

from servers.spark import logfile
from servers.spark.engine import EngineError, Listing, NoApplication, Selection
from servers.spark.logfile import LogFile
from servers.spark.model import Application, Run, Stage, Task
from servers.spark.replay import Replay, Replayed

MAX_LOG = 2 * 1024**3
"""Bytes of one log that are read, after decompression."""
MAX_HEAD = 8 * 1024**2
"""Bytes in which the application must say who it is: a few events and its environment."""
MAX_LOGS = 5_000
KEPT_RUNS = 8

_END = b'{"Event":"SparkListenerApplicationEnd"'
_QUIET = (b'{"Event":"SparkListenerTask', b'{"Event":"org.apache.spark.sql', b'{"Event":"SparkListenerJob')


@dataclass(frozen=True, slots=True)
class _Head:
    """What a log says about itself, without what happened in it."""

    log: LogFile
    application: Application
    events: int
    whole: bool = False
    """Whether the log's end was looked for as well."""


class FolderEngine:
    """An `Engine` on a folder that other programs write to."""

    name = "event-logs"

    def __init__(self, folder: Path, max_log: int = MAX_LOG) -> None:
        """Look into the folder.

        Raises:
            EngineError: it is none, or can't be read.

        """
        self._folder = folder
        self._max_log = max_log
        self._lock = threading.Lock()
        self._heads: LRUCache[LogFile, _Head] = LRUCache(MAX_LOGS)
        self._runs: LRUCache[LogFile, Replayed] = LRUCache(KEPT_RUNS)
        self._find()

    def applications(self, name: str, limit: int) -> Listing:
        """Return the newest logs' applications; what is no event log is said in the notes."""
        wanted = name.lower()
        shown: list[Application] = []
        strange: list[str] = []
        for head in self._known():
            application = head.application
            if wanted not in f"{application.key}\n{application.name}".lower():
                continue
            if not head.events and not _looks_like_log(head.log):
                strange.append(head.log.parts[0].name if head.log.parts else head.log.stem)
            elif len(shown) < limit:
                shown.append(self._ended(head))
        notes = [f"No event logs, left out: {', '.join(strange[:5])}."] if strange else []
        ordered = sorted(shown, key=lambda application: -(application.started or 0))
        return Listing(tuple(ordered), tuple(notes))

    def run(self, key: str) -> Run:
        """Read one log, unless it was read before and has not changed."""
        return self._replayed(key).run

    def tasks(self, run: Run, stage: Stage, selection: Selection, limit: int) -> tuple[Task, ...]:
        """Return tasks that were kept: the first failures of each stage, and its slowest successes."""
        kept = self._replayed(run.application.key).tasks.get((stage.id, stage.attempt))
        if kept is None:
            return ()
        if selection == "slowest":
            return kept.slowest[:limit]
        return tuple(sorted(kept.failures, key=lambda task: task.id)[:limit])

    def close(self) -> None:
        """Forget what was read."""
        with self._lock:
            self._heads.clear()
            self._runs.clear()

    def _find(self) -> list[LogFile]:
        try:
            return logfile.find(self._folder)[:MAX_LOGS]
        except OSError as error:
            reason = error.strerror or str(error)
            raise EngineError(f"The folder of event logs can't be read: {reason}.") from None

    def _known(self) -> Iterator[_Head]:
        """Yield each application once, by its newest log."""
        seen: set[str] = set()
        for log in self._find():
            head = self._head(log)
            if head.application.key not in seen:
                seen.add(head.application.key)
                yield head

    def _head(self, log: LogFile) -> _Head:
        with self._lock:
            known = self._heads.get(log)
        if known is not None:
            return known
        replay = Replay(log.stem)
        for line in logfile.lines(log, MAX_HEAD, []):
            replay.take(line)
            if replay.known or line.startswith(_QUIET):
                break
        done = replay.finish()
        head = _Head(log, done.run.application, done.events)
        with self._lock:
            self._heads[log] = head
        return head

    def _ended(self, head: _Head) -> Application:
        """Return the application with its end, which stands in the log's last lines."""
        if head.whole:
            return head.application
        replay = Replay(head.log.stem)
        for line in logfile.lines(head.log, self._max_log, []):
            if not replay.known or line.startswith(_END):
                replay.take(line)
        application = replay.finish().run.application
        with self._lock:
            self._heads[head.log] = _Head(head.log, application, head.events, whole=True)
        return application

    def _replayed(self, key: str) -> Replayed:
        wanted, _, attempt = key.partition("/")
        for head in self._known():
            application = head.application
            if application.key == key or (application.id == wanted and not attempt):
                return self._read(head.log)
        raise NoApplication(key)

    def _read(self, log: LogFile) -> Replayed:
        with self._lock:
            known = self._runs.get(log)
        if known is not None:
            return known
        spoilt: list[str] = []
        replay = Replay(log.stem)
        replay.feed(logfile.lines(log, self._max_log, spoilt))
        replayed = replay.finish(spoilt)
        with self._lock:
            self._runs[log] = replayed
        return replayed


def _looks_like_log(log: LogFile) -> bool:
    """Whether it is worth showing although it holds no event: it was cut short, or is about to be written."""
    names = [part.name for part in log.parts]
    return log.in_progress or not names or names[0].endswith((".zstd", ".zst")) or log.signature[0][1] == 0

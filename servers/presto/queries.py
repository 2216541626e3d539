"""Queries on their way and their results, each its caller's own.

A query runs in a thread; what it gives is fetched at once, up to the limits, so that no engine holds anything
for a model that never comes back, and is then read page by page. All of it is in this process's memory, has
bounds, and is forgotten after a while.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum

from mcpguard.backends import backend
from servers.presto.engine import Asker, Engine, EngineError, Execution, Limits, Rows

_INSIST = 0.05
"""Seconds between two interrupts: one that comes just before a query begins is lost."""
_LATE = (
    "The query took longer than {:g} seconds and was stopped. Filter by day, aggregate, or join fewer rows."
)
_UNKNOWN = (
    "There is no query {} of yours here: it was forgotten {:g} minutes after its end, or the server has "
    "started anew. Run it again with run_query."
)


class UnknownQuery(Exception):
    """There is none of this id, or it is somebody else's: which of the two is not told."""


class State(StrEnum):
    """Where a query is."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Room:
    """How much there is room for."""

    at_once: int = 4
    waiting: int = 32
    """Queued and running ones, of everybody."""
    per_caller: int = 2
    """Queued and running ones."""
    kept_per_caller: int = 20
    kept: int = 100
    kept_seconds: float = 900.0


@dataclass(slots=True, eq=False)
class Query:
    """One query. Read it freely; only `Queries` changes it."""

    id: str
    owner: str
    execution: Execution
    limits: Limits
    began: float
    state: State = State.QUEUED
    rows: Rows | None = None
    problem: str = ""
    ended: float | None = None
    stop: State | None = None
    """As what it ends once it stops."""
    done: Future[None] = field(default_factory=Future)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.ended is not None


class Queries:
    """All queries of one server."""

    def __init__(
        self, engine: Engine, room: Room | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.engine = engine
        self._room = room or Room()
        self._clock = clock
        self._changed = threading.Condition()
        self._queries: dict[str, Query] = {}  # oldest first
        self._pool = ThreadPoolExecutor(self._room.at_once, thread_name_prefix="presto-query")
        self._watching: threading.Thread | None = None
        self._closed = False

    def submit(self, asker: Asker, sql: str, limits: Limits) -> Query:
        """Start a guarded query, or queue it; the wait counts as its time.

        Raises:
            EngineError: the engine refused it, or there is no room.

        """
        execution = self.engine.start(asker, sql)
        with self._changed:
            self._make_room(asker.key)
            query = Query(secrets.token_hex(16), asker.key, execution, limits, self._clock())
            self._queries[query.id] = query
            self._watch()
            self._changed.notify_all()
        self._pool.submit(self._run, query)
        return query

    def find(self, owner: str, query_id: str) -> Query:
        """Return a caller's own query.

        Raises:
            UnknownQuery: the caller has none of this id.

        """
        with self._changed:
            query = self._queries.get(query_id)
        if query is None or query.owner != owner:
            raise UnknownQuery(_UNKNOWN.format(query_id[:64], self._room.kept_seconds / 60))
        return query

    async def wait(self, query: Query, seconds: float) -> None:
        """Wait for a query's end, for so long. Whoever gives up waiting leaves the query running."""
        await asyncio.wait([asyncio.wrap_future(query.done)], timeout=seconds)

    def cancel(self, query: Query) -> None:
        """Stop a query; harmless where it is over. Doesn't wait for it to stop."""
        self._stop(query, State.CANCELLED)

    def seconds(self, query: Query) -> float:
        """Return how long it has taken."""
        return (self._clock() if query.ended is None else query.ended) - query.began

    def close(self) -> None:
        """Stop every query."""
        with self._changed:
            self._closed = True
            for query in self._queries.values():
                query.stop = query.stop or State.CANCELLED
            self._changed.notify_all()
        self._pool.shutdown(wait=True)
        if self._watching is not None:
            self._watching.join()

    # --- in the query's thread

    def _run(self, query: Query) -> None:
        with self._changed:
            if query.over:
                return
            query.state = State.RUNNING
        try:
            with backend(self.engine.name):
                rows = query.execution.fetch(query.limits)
        except EngineError as error:
            self._end(query, State.FAILED, problem=str(error))
        except BaseException:
            self._end(query, State.FAILED, problem="The query failed inside this server.")
            raise
        else:
            self._end(query, State.FINISHED, rows)

    def _end(self, query: Query, state: State, rows: Rows | None = None, problem: str = "") -> None:
        with self._changed:
            if query.over:
                return
            late = query.stop is State.FAILED
            if rows is None and query.stop is not None:
                state = query.stop
                problem = _LATE.format(query.limits.seconds) if late else "The query was cancelled."
            query.state, query.rows, query.problem = state, rows, problem
            query.ended = self._clock()
            self._changed.notify_all()
        query.done.set_result(None)

    # --- in the watching thread

    def _watch(self) -> None:
        if self._watching is None:
            self._watching = threading.Thread(target=self._watcher, name="presto-watch", daemon=True)
            self._watching.start()

    def _watcher(self) -> None:
        with self._changed:
            while True:
                running = [query for query in self._queries.values() if not query.over]
                if self._closed and not running:
                    return
                now = self._clock()
                for query in running:
                    if now >= query.began + query.limits.seconds:
                        query.stop = query.stop or State.FAILED
                    self._interrupt(query)
                self._forget(now)
                self._changed.wait(self._pause(now))

    def _interrupt(self, query: Query) -> None:
        if query.stop is None:
            return
        query.execution.interrupt()
        if query.state is State.QUEUED:
            self._end(query, query.stop)

    def _pause(self, now: float) -> float | None:
        times = []
        for query in self._queries.values():
            if query.ended is not None:
                times.append(query.ended + self._room.kept_seconds)
            else:
                times.append(now + _INSIST if query.stop else query.began + query.limits.seconds)
        return max(0.0, min(times) - now) if times else None

    def _forget(self, now: float) -> None:
        for query in list(self._queries.values()):
            if query.ended is not None and now >= query.ended + self._room.kept_seconds:
                del self._queries[query.id]

    # --- in anybody's

    def _stop(self, query: Query, how: State) -> None:
        with self._changed:
            if not query.over:
                query.stop = query.stop or how
                self._changed.notify_all()

    def _make_room(self, owner: str) -> None:
        if self._closed:
            raise EngineError("The server is stopping. Call again in some seconds.")
        running = [query for query in self._queries.values() if not query.over]
        if sum(query.owner == owner for query in running) >= self._room.per_caller:
            raise EngineError(
                f"You have {self._room.per_caller} queries running already. Wait for one, or stop one with "
                "cancel_query."
            )
        if len(running) >= self._room.waiting:
            raise EngineError("Too many queries are waiting. Call again in some seconds.")
        over = [query for query in self._queries.values() if query.over]
        theirs = [query for query in over if query.owner == owner]
        spare = theirs[: max(0, len(theirs) - self._room.kept_per_caller + 1)]
        spare += over[: max(0, len(over) - self._room.kept + 1)]
        for query in spare:
            self._queries.pop(query.id, None)

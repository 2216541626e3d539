"""The statement protocol that Trino and Presto share, driven page by page over either's client library.

Both libraries have a cursor on top, which isn't used: Presto's reads a whole result into memory before it
gives the first row. https://trino.io/docs/current/develop/client-protocol.html
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import requests

from servers.presto.cells import Collector
from servers.presto.cluster import Cluster
from servers.presto.engine import Asker, Column, EngineError, Execution, Limits, Rows
from servers.presto.transport import OtherPlace, session

_LONGEST_MESSAGE = 300
_USER_TYPES = frozenset({"USER_ERROR", "INSUFFICIENT_RESOURCES"})
"""Kinds of error whose message is about the query; others may tell of hosts and paths."""
_NEXT = {
    "TABLE_NOT_FOUND": "list_tables says what there is.",
    "SCHEMA_NOT_FOUND": "list_schemas says what there is.",
    "CATALOG_NOT_FOUND": "list_catalogs says what there is.",
    "COLUMN_NOT_FOUND": "Look at the columns with describe_table.",
    "PERMISSION_DENIED": "The cluster's own rules refuse it to you; its owner can grant it.",
    "EXCEEDED_TIME_LIMIT": "Filter by day, aggregate, or join fewer rows.",
}


class Status(Protocol):
    """One answer of the coordinator."""

    id: str
    stats: Mapping[str, Any]
    next_uri: str | None
    rows: Any
    columns: Sequence[Mapping[str, Any]] | None


class Client(Protocol):
    """What `TrinoRequest` and `PrestoRequest` have in common."""

    max_attempts: int

    def post(self, sql: str) -> Any:
        """Submit a statement."""

    def get(self, url: str) -> Any:
        """Ask for the next page."""

    def delete(self, url: str) -> Any:
        """Give a statement up."""

    def process(self, response: Any) -> Any:
        """Read an answer; raises one of `Library.errors`."""


class Library(Protocol):
    """One of the two client libraries."""

    name: str
    title: str
    dialect: str
    query_error: type[Exception]
    """Has `message`, `error_name`, `error_type`, `query_id`."""
    errors: tuple[type[Exception], ...]
    """What else the library raises."""

    def client(self, cluster: Cluster, asker: Asker, seconds: float, session: requests.Session) -> Client:
        """Return a client for one statement."""


class Statement(Execution):
    """One statement. `fetch` may be called once."""

    def __init__(
        self, library: Library, cluster: Cluster, asker: Asker, sql: str, *, changes: bool = False
    ) -> None:
        self._library = library
        self._cluster = cluster
        self._asker = asker
        self._sql = sql
        self._changes = changes
        self._stopped = False
        # An answer that isn't the protocol's ends in one of the last three, within the library or here.
        self._failures: tuple[type[Exception], ...] = (
            requests.RequestException,
            *library.errors,
            ValueError,
            KeyError,
            TypeError,
        )
        self._next: str | None = None
        self._progress = ""

    def fetch(self, limits: Limits) -> Rows:
        """Run it and fetch its rows."""
        deadline = time.monotonic() + limits.seconds
        cluster = self._cluster
        with session(cluster, deadline, lambda: self._stopped) as http:
            client = self._library.client(cluster, self._asker, limits.seconds, http)
            try:
                return self._paged(client, limits)
            except self._library.query_error as error:
                self._next = None  # the coordinator has ended it
                raise self._told(error) from None
            except self._failures as error:
                raise self._broken(error, late=time.monotonic() >= deadline) from None
            finally:
                self._give_up(client)

    def interrupt(self) -> None:
        """Stop it: before its next request, which comes within a second or so, and tell the coordinator."""
        self._stopped = True

    def progress(self) -> str:
        """Return the coordinator's own words."""
        return self._progress

    def _paged(self, client: Client, limits: Limits) -> Rows:
        collector, columns = Collector(limits), list[Column]()
        # A statement that changes something is sent once: a second POST could be a second change.
        client.max_attempts = 1 if self._changes else 3
        status = client.process(client.post(self._sql))
        client.max_attempts = 3
        while True:
            self._next = status.next_uri
            self._note(status)
            columns = [_column(found) for found in status.columns or ()] or columns
            if not isinstance(status.rows, list):
                raise ValueError("rows in an encoding that was not asked for")
            if not collector.take(status.rows) or status.next_uri is None:
                return collector.result(columns)
            status = client.process(client.get(status.next_uri))

    def _note(self, status: Status) -> None:
        stats = status.stats
        done = stats.get("progressPercentage")
        share = f", {done:.0f} %" if isinstance(done, (int, float)) else ""
        self._progress = f"{status.id} {stats.get('state', '')}{share}"[:_LONGEST_MESSAGE]

    def _give_up(self, client: Client) -> None:
        """Cancel at the coordinator what didn't run to its end; if that fails, its own limit ends it."""
        if self._next is not None:
            with suppress(*self._failures):
                client.max_attempts = 1
                client.delete(self._next)
            self._next = None

    def _told(self, error: Exception) -> EngineError:
        name, kind = str(getattr(error, "error_name", "")), getattr(error, "error_type", "")
        if kind in _USER_TYPES:
            said = " ".join(str(getattr(error, "message", "")).split())[:_LONGEST_MESSAGE]
            return EngineError(
                f"{said.rstrip('.')}. "
                + _NEXT.get(name, f"The SQL here is {self._library.title}'s; mend the query and try again.")
            )
        return EngineError(
            f"The cluster failed with {name or 'an error'} in query {getattr(error, 'query_id', '')}. Try "
            "once more; if it fails again, give its owner that id."
        )

    def _broken(self, error: Exception, *, late: bool) -> EngineError:
        if self._stopped:
            return EngineError("The query was stopped.")
        if late:
            return EngineError("The query's time was up. Filter by day, aggregate, or join fewer rows.")
        if isinstance(error, (OtherPlace, requests.TooManyRedirects)):
            return EngineError("The cluster sent this server elsewhere, where it doesn't go. Tell its owner.")
        if str(error).startswith(("error 401", "error 403")):
            return EngineError("The cluster refuses this server's credentials. Tell its owner.")
        return EngineError("The cluster can't be reached, or answers nonsense. Try again in a minute.")


def _column(found: Mapping[str, Any]) -> Column:
    return Column(str(found["name"]), str(found["type"]))

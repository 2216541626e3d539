"""The real engine: a Spark History Server, version 3.1 or later, by its REST API.

https://spark.apache.org/docs/latest/monitoring.html#rest-api
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import quote

import httpx

from servers.spark.engine import EngineError, Listing, NoApplication, Selection
from servers.spark.fields import Fields, Json, fields, objects
from servers.spark.historyjson import (
    application,
    executor,
    job,
    newest_attempt,
    properties,
    query,
    stage,
    task,
)
from servers.spark.model import Application, Run, Stage, Task

API = "/api/v1"
MAX_BODY = 64 * 1024**2
SEARCHED = 2_000
"""Among how many of the newest applications a name is looked for."""

_ID = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_PAGE = 1_000


class HistoryEngine:
    """An `Engine` on a History Server. It keeps nothing: the server has its own cache."""

    name = "history-server"

    def __init__(self, client: httpx.Client) -> None:
        """Take a client whose base URL is the server's, with its timeouts and credentials."""
        self._client = client

    def applications(self, name: str, limit: int) -> Listing:
        """Return the newest applications; a name is looked for among the newest `SEARCHED`."""
        wanted = name.lower()
        asked = SEARCHED if wanted else limit
        found = [
            application(item, attempt)
            for item in self._list("/applications", {"limit": str(asked)})
            for attempt in objects(item, "attempts")
        ]
        matching = [a for a in found if wanted in f"{a.key}\n{a.name}".lower()]
        return Listing(tuple(matching[:limit]))

    def run(self, key: str) -> Run:
        """Return one run, from five requests."""
        known = self._application(key)
        path = _path(known)
        stages = self._list(f"{path}/stages", {"withSummaries": "true", "quantiles": "0.5,1.0"})
        built = [stage(item) for item in stages]
        notes = []
        if any(s is not None and s.succeeded and s.spreads is None for s in built):
            notes.append("This History Server sends no task summaries, so skew can't be seen.")
        return Run(
            application=known,
            jobs=tuple(sorted((job(item) for item in self._list(f"{path}/jobs")), key=lambda j: j.id)),
            stages=tuple(sorted((s for s in built if s is not None), key=lambda s: (s.id, s.attempt))),
            executors=tuple(
                executor(item) for item in self._list(f"{path}/allexecutors") if item.get("id") != "driver"
            ),
            queries=tuple(query(item) for item in self._queries(path)),
            properties=properties(self._object(f"{path}/environment")),
            notes=tuple(notes),
        )

    def tasks(self, run: Run, stage: Stage, selection: Selection, limit: int) -> tuple[Task, ...]:
        """Return tasks of one stage, chosen and ordered by the server."""
        chosen = (
            {"status": "failed"} if selection == "failed" else {"status": "success", "sortBy": "-runtime"}
        )
        path = f"{_path(run.application)}/stages/{stage.id}/{stage.attempt}/taskList"
        return tuple(task(item) for item in self._list(path, {**chosen, "length": str(limit)}))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _application(self, key: str) -> Application:
        wanted, _, attempt = key.partition("/")
        if not _ID.fullmatch(wanted) or wanted.strip(".") == "" or (attempt and not _ID.fullmatch(attempt)):
            raise NoApplication(key)
        item = self._object(f"/applications/{wanted}", missing=NoApplication(key))
        found = newest_attempt(item, attempt)
        if found is None:
            raise NoApplication(key)
        return application(item, found)

    def _queries(self, path: str) -> list[Fields]:
        # Without SQL in an application some versions answer 404, which then is no answer either.
        asked = {"details": "false", "planDescription": "true", "length": str(_PAGE)}
        try:
            return self._list(f"{path}/sql", asked, missing=_NoSql())
        except _NoSql:
            return []

    def _list(
        self, path: str, query: Mapping[str, str] | None = None, missing: EngineError | None = None
    ) -> list[Fields]:
        found = self._get(path, query or {}, missing)
        if not isinstance(found, list):
            raise EngineError(_STRANGE)
        return [fields(item) for item in found if isinstance(item, dict)]

    def _object(self, path: str, missing: EngineError | None = None) -> Fields:
        found = self._get(path, {}, missing)
        if not isinstance(found, dict):
            raise EngineError(_STRANGE)
        return fields(found)

    def _get(self, path: str, query: Mapping[str, str], missing: EngineError | None) -> Json:
        try:
            with self._client.stream("GET", API + path, params=dict(query)) as answer:
                if answer.status_code == 404 and missing is not None:
                    raise missing
                if answer.status_code != 200:
                    raise EngineError(_refused(answer.status_code))
                body = bytearray()
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise EngineError("The History Server's answer is too large to read.")
        except httpx.TimeoutException:
            raise EngineError(
                "The History Server took too long. It may be reading a large log for the first time: "
                "try again in a minute."
            ) from None
        except httpx.HTTPError as error:
            raise EngineError(f"The History Server can't be reached ({type(error).__name__}).") from None
        except OSError:  # the token's file
            raise EngineError(_refused(401)) from None
        try:
            parsed: Json = json.loads(bytes(body))
        except (ValueError, RecursionError):
            raise EngineError(_STRANGE) from None
        return parsed


class _NoSql(EngineError):
    """The application has no SQL."""


_STRANGE = "The History Server answered with something that is not its REST API. Tell this server's support."


def _refused(status: int) -> str:
    if status in (401, 403):
        return "The History Server refused this server's credentials. Tell this server's support."
    if status == 503:
        return "The History Server is starting or busy: try again in a minute."
    return f"The History Server answered {status}. Tell this server's support if it lasts."


def _path(known: Application) -> str:
    base = f"/applications/{quote(known.id, safe='')}"
    return f"{base}/{quote(known.attempt, safe='')}" if known.attempt else base

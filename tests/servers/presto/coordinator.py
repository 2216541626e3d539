"""A coordinator, true to the statement protocol of Trino and of Presto, with DuckDB as its workers.

A statement is posted and answered with where to go on; every answer names the next one's address until the
last; a page that was given can be asked for once more, an older one is gone; errors come with status 200;
DELETE of the next address cancels; 503 means to try again. https://trino.io/docs/current/develop/client-protocol.html,
https://prestodb.io/docs/current/develop/client-protocol.html
"""

from __future__ import annotations

import datetime
import decimal
import json
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import duckdb

PAGE = 3
HELD = 0.02
"""Seconds that a running query's answer is held; real coordinators hold it for one second."""


def failure(name: str, kind: str = "USER_ERROR", message: str = "line 1:8: it is wrong") -> dict[str, Any]:
    return {
        "message": message,
        "errorCode": 1,
        "errorName": name,
        "errorType": kind,
        "errorLocation": {"lineNumber": 1, "columnNumber": 8},
        "failureInfo": {
            "type": "io.trino.spi.TrinoException",
            "message": message,
            "suppressed": [],
            "stack": [],
        },
    }


@dataclass
class Statement:
    id: str
    slug: str
    sql: str
    columns: list[dict[str, str]] = field(default_factory=list)
    pages: list[list[list[Any]]] = field(default_factory=list)
    error: dict[str, Any] | None = None
    runs_on: bool = False
    """Whether it ends only when it is cancelled."""
    cancelled: bool = False
    served: int = -1


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: str


class Coordinator:
    """The fake's state, and its knobs."""

    def __init__(self, kind: Literal["trino", "presto"]) -> None:
        self.kind = kind
        self.prefix = f"x-{kind}-"
        self.seen: list[Seen] = []
        self.statements: dict[str, Statement] = {}
        self.failing: list[tuple[str, dict[str, Any]]] = []
        """Statements that match fail, each entry once."""
        self.endless: str | None = None
        self.busy = 0
        """So many answers are 503 first."""
        self.unavailable: str | None = None
        """Statements that match are answered 503."""
        self.token: str | None = None
        self.elsewhere: str | None = None
        self.redirect: str | None = None
        self.nonsense = False
        self.cancelled = threading.Event()
        self.origin = ""
        self._lock = threading.Lock()
        self._workers = duckdb.connect()
        self._workers.execute("attach ':memory:' as hive; create schema hive.web; use hive.web")

    def run(self, sql: str) -> None:
        """Set something up in the workers."""
        with self._lock:
            self._workers.execute(sql)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Look into the workers."""
        with self._lock:
            return self._workers.execute(sql).fetchall()

    def sent(self) -> list[str]:
        """All statements, in order."""
        return [seen.body for seen in self.seen if seen.method == "POST"]

    # --- the protocol

    def submit(self, sql: str) -> dict[str, Any]:
        statement = Statement(f"20260101_000000_{len(self.statements):05}_abcde", secrets.token_hex(8), sql)
        self.statements[statement.id] = statement
        return self._answer(statement, "QUEUED", f"queued/{statement.id}/{statement.slug}/1")

    def page(self, phase: str, statement: Statement, token: int) -> dict[str, Any]:
        here = f"{statement.id}/{statement.slug}"
        if statement.cancelled:
            return self._answer(
                statement, "FAILED", None, error=failure("USER_CANCELED", message="Query was canceled")
            )
        if phase == "queued":
            if token == 1:
                return self._answer(statement, "QUEUED", f"queued/{here}/2")
            self._execute(statement)
            return self._answer(statement, "RUNNING", f"executing/{here}/0")
        if statement.error is not None:
            return self._answer(statement, "FAILED", None, error=statement.error)
        if statement.runs_on:
            threading.Event().wait(HELD)
            return self._answer(statement, "RUNNING", f"executing/{here}/{token + 1}")
        if token < len(statement.pages):
            data = statement.pages[token]
            return self._answer(
                statement, "RUNNING", f"executing/{here}/{token + 1}", statement.columns, data
            )
        return self._answer(statement, "FINISHED", None, statement.columns)

    def cancel(self, statement: Statement) -> None:
        statement.cancelled = True
        self.cancelled.set()

    def _answer(
        self,
        statement: Statement,
        state: str,
        following: str | None,
        columns: list[dict[str, str]] | None = None,
        data: list[list[Any]] | None = None,
        error: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "id": statement.id,
            "infoUri": f"{self.origin}/ui/query.html?{statement.id}",
            "stats": {"state": state, "queued": state == "QUEUED", "progressPercentage": 50.0, "nodes": 1},
            "warnings": [],
        }
        if following is not None:
            answer["nextUri"] = f"{self.elsewhere or self.origin}/v1/statement/{following}"
        if columns:
            answer["columns"] = columns
        if data:
            answer["data"] = data
        if error is not None:
            answer["error"] = error
        return answer

    # --- the workers

    def _execute(self, statement: Statement) -> None:
        for entry in self.failing:
            if re.search(entry[0], statement.sql):
                self.failing.remove(entry)
                statement.error = entry[1]
                return
        if self.endless is not None and re.search(self.endless, statement.sql):
            statement.runs_on = True
            return
        try:
            with self._lock:
                columns, rows = self._work(statement.sql)
        except duckdb.Error as error:
            name = "TABLE_NOT_FOUND" if isinstance(error, duckdb.CatalogException) else "SYNTAX_ERROR"
            statement.error = failure(name, message=str(error))
            return
        statement.columns = [
            {"name": name, "type": kind, "typeSignature": {"rawType": kind, "arguments": []}}  # type: ignore[dict-item]
            for name, kind in columns
        ]
        statement.pages = [rows[at : at + PAGE] for at in range(0, len(rows), PAGE)]

    def _work(self, sql: str) -> tuple[list[tuple[str, str]], list[list[Any]]]:
        if sql == "SHOW CATALOGS":
            return [("Catalog", "varchar")], [["hive"], ["system"], ["secret"]]
        if sql.startswith("EXPLAIN (TYPE VALIDATE) "):
            self._workers.execute("explain " + sql.partition(") ")[2])
            return [("Valid", "boolean")], [[True]]
        if sql.startswith("EXPLAIN (TYPE IO, FORMAT JSON) "):
            plan = {
                "inputTableColumnInfos": [
                    {"table": {}, "estimate": {"outputRowCount": 10.0, "outputSizeInBytes": 900.0}},
                    {"table": {}, "estimate": {"outputRowCount": 5.0, "outputSizeInBytes": "NaN"}},
                ],
                "estimate": {"outputRowCount": 12.0, "cpuCost": "NaN"},
            }
            return [("Query Plan", "varchar")], [[json.dumps(plan)]]
        if found := re.fullmatch(r"SHOW SCHEMAS FROM (.+)", sql):
            return [("Schema", "varchar")], [["information_schema"], ["web"]]
        if found := re.fullmatch(r'SHOW TABLES FROM "hive"."web"', sql):
            rows = self._workers.execute("select table_name from duckdb_tables() order by 1").fetchall()
            return [("Table", "varchar")], [list(row) for row in rows]
        if found := re.fullmatch(r"SHOW COLUMNS FROM (.+)", sql):
            rows = self._workers.execute(f"describe {found[1]}").fetchall()
            columns = [(name, "varchar") for name in ("Column", "Type", "Extra", "Comment")]
            return columns, [[row[0], row[1].lower(), "", f"about {row[0]}"] for row in rows]
        if found := re.fullmatch(r"SHOW STATS FOR (.+)", sql):
            ((count,),) = self._workers.execute(f"select count(*) from {found[1]}").fetchall()
            return [("column_name", "varchar")] * 7, [[None, None, None, None, float(count), None, None]]
        if found := re.fullmatch(r"CREATE TABLE (\S+) \(LIKE (\S+) INCLUDING PROPERTIES\)", sql):
            self._workers.execute(f"create table {found[1]} as select * from {found[2]} limit 0")
            return [], []
        if found := re.fullmatch(r'ALTER TABLE (IF EXISTS )?(\S+) RENAME TO \S+\.("[^."]+")', sql):
            self._workers.execute(f"alter table {found[1] or ''}{found[2]} rename to {found[3]}")
            return [], []
        result = self._workers.execute(sql)
        columns = [(str(d[0]), str(d[1]).lower()) for d in result.description or ()]
        return columns, [[_wire(value) for value in row] for row in result.fetchall()]


def _wire(value: object) -> object:
    return str(value) if isinstance(value, (decimal.Decimal, datetime.date)) else value


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    coordinator: Coordinator

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        if self._admitted(body) and self.path == "/v1/statement":
            self._json(self.coordinator.submit(body))

    def do_GET(self) -> None:
        found = self._admitted() and self._statement()
        if found:
            phase, statement, token = found
            if phase == "executing":
                if token < statement.served:
                    self._plain(410, "Gone")
                    return
                statement.served = token
            self._json(self.coordinator.page(phase, statement, token))

    def do_DELETE(self) -> None:
        found = self._admitted() and self._statement()
        if found:
            self.coordinator.cancel(found[1])
            self._plain(204, "")

    def _admitted(self, body: str = "") -> bool:
        fake = self.coordinator
        headers = {name.lower(): value for name, value in self.headers.items()}
        fake.seen.append(Seen(self.command, self.path, headers, body))
        if fake.redirect is not None:
            self.send_response(307)
            self.send_header("location", fake.redirect)
            self.send_header("content-length", "0")
            self.end_headers()
        elif fake.busy > 0 or (fake.unavailable and re.search(fake.unavailable, body)):
            fake.busy = max(0, fake.busy - 1)
            self._plain(503, "busy")
        elif fake.token is not None and headers.get("authorization") != f"Bearer {fake.token}":
            self._plain(401, "Unauthorized: internal-host-17")
        elif not headers.get(f"{fake.prefix}user"):
            self._plain(400, f"{fake.prefix}user must be set")
        elif fake.nonsense:
            self._plain(200, "<html>")
        else:
            return True
        return False

    def _statement(self) -> tuple[str, Statement, int] | None:
        found = re.fullmatch(r"/v1/statement/(queued|executing)/([^/]+)/([^/]+)/(\d+)", self.path)
        statement = self.coordinator.statements.get(found[2]) if found else None
        if found is None or statement is None or statement.slug != found[3]:
            self._plain(404, "no such query")
            return None
        return found[1], statement, int(found[4])

    def _json(self, value: dict[str, Any]) -> None:
        self._plain(200, json.dumps(value), "application/json")

    def _plain(self, status: int, text: str, kind: str = "text/plain") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def coordinating(kind: Literal["trino", "presto"]) -> Iterator[tuple[Coordinator, int]]:
    """Run one; yields it and its port."""
    fake = Coordinator(kind)
    handler = type("Handler", (_Handler,), {"coordinator": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    port = server.server_address[1]
    fake.origin = f"http://127.0.0.1:{port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake, port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""The part of Airflow 3.3's REST API v2 that we use, with its paths, its words and its oddities.

`test_rest.py` holds it to the real one: the same tests run on both.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

PAGE = 100
TASKS = {
    "good": {"extract": ["load"], "load": []},
    "failing": {"extract": ["transform"], "transform": ["load"], "load": []},
    "mixed": {"sh": [], "part": [], "big": []},
}
LIBRARY = "/venv/lib/python3.11/site-packages/airflow/sdk/execution_time/task_runner.py"


class Refused(Exception):
    def __init__(self, status: int, detail: object) -> None:
        super().__init__(status)
        self.answer = JSONResponse({"detail": detail}, status)


class FakeAirflow:
    """An ASGI application. Runs end the moment they begin."""

    username, password = "admin", "fake-password"

    def __init__(self) -> None:
        self.tokens: set[str] = set()
        self.runs: dict[tuple[str, str], dict[str, Any]] = {}
        self.instances: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.history: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.asked: list[str] = []
        """Method and raw path of every request."""
        self.bodies: list[Any] = []
        self.broken: Response | None = None
        """What to say instead of anything else."""
        self.extra_lines: Iterator[bytes] = iter(())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except Refused as refused:
            answer = refused.answer
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        raw: bytes = request.scope["raw_path"]
        self.asked.append(f"{request.method} {raw.decode().partition('?')[0]}")
        body = await request.body()
        value = json.loads(body) if body else None
        self.bodies.append(value)
        parts = [unquote(part) for part in raw.decode().partition("?")[0].strip("/").split("/")]
        if self.broken is not None and parts != ["auth", "token"]:
            return self.broken
        if parts == ["auth", "token"]:
            return self._sign_in(value)
        if parts[:2] != ["api", "v2"]:
            raise Refused(404, "Not Found")
        self._check(request.headers.get("authorization"))
        return self._route(request, parts[2:], value)

    def _sign_in(self, value: Any) -> Response:
        if value != {"username": self.username, "password": self.password}:
            raise Refused(401, "Invalid credentials")
        token = secrets.token_hex(8)
        self.tokens.add(token)
        return JSONResponse({"access_token": token}, 201)

    def _check(self, header: str | None) -> None:
        if header is None:
            raise Refused(401, "Not authenticated")
        if header.removeprefix("Bearer ") not in self.tokens:
            raise Refused(403, "Invalid JWT token")

    def _route(self, request: Request, parts: list[str], body: Any) -> Response:
        match [request.method, *parts]:
            case ["GET", "dags"]:
                return self._dags(request)
            case ["GET", "importErrors"]:
                return self._page(request, "import_errors", [_import_error()])
            case ["GET", "dags", dag_id, "tasks"]:
                tasks = [{"task_id": t, "downstream_task_ids": b} for t, b in self._dag(dag_id).items()]
                return JSONResponse({"tasks": tasks, "total_entries": len(tasks)})
            case ["GET", "dags", dag_id, "dagRuns"]:
                return self._list_runs(request, dag_id)
            case ["POST", "dags", dag_id, "dagRuns"]:
                return self._trigger(dag_id, body)
            case ["POST", "dags", dag_id, "clearTaskInstances"]:
                return self._clear(dag_id, body)
            case ["GET", "dags", dag_id, "dagRuns", run_id]:
                return JSONResponse(self._run(dag_id, run_id))
            case ["GET", "dags", dag_id, "dagRuns", run_id, "taskInstances"]:
                self._run(dag_id, run_id)
                state = request.query_params.get("state")
                tasks = [t for t in self.instances[dag_id, run_id] if state in (None, t["state"])]
                return self._page(request, "task_instances", tasks)
            case ["GET", "dags", dag_id, "dagRuns", run_id, "taskInstances", task_id, *rest]:
                return self._of_task(request, (dag_id, run_id, task_id), rest)
        raise Refused(404, "Not Found")

    def _of_task(self, request: Request, where: tuple[str, str, str], rest: list[str]) -> Response:
        dag_id, run_id, task_id = where
        self._run(dag_id, run_id)
        known = self.history[dag_id, run_id] + self.instances[dag_id, run_id]
        match rest:
            case ["tries"] | [_, "tries"]:
                index = int(rest[0]) if len(rest) == 2 else -1
                found = [t for t in known if (t["task_id"], t["map_index"]) == (task_id, index)]
                if not found:
                    raise Refused(404, f"The Task Instance with task_id: `{task_id}` was not found")
                return JSONResponse({"task_instances": found, "total_entries": len(found)})
            case ["logs", number]:
                index = int(request.query_params.get("map_index", "-1"))
                wanted = (task_id, index, int(number))
                if not any((t["task_id"], t["map_index"], t["try_number"]) == wanted for t in known):
                    raise Refused(404, "TaskInstance not found")
                return self._log(request, task_id, wanted)
        raise Refused(404, "Not Found")

    def _log(self, request: Request, task_id: str, wanted: tuple[str, int, int]) -> Response:
        if request.headers.get("accept") != "application/x-ndjson":
            raise Refused(406, "Only application/json or application/x-ndjson is supported")

        def lines() -> Iterator[bytes]:
            messages = _messages(task_id, wanted[2])
            yield b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in messages)
            yield from self.extra_lines

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    def _dags(self, request: Request) -> Response:
        pattern = request.query_params.get("dag_id_pattern", "%%").strip("%").lower()
        found = [_dag(dag_id) for dag_id in sorted(TASKS) if pattern in dag_id]
        return self._page(request, "dags", found)

    def _dag(self, dag_id: str) -> dict[str, list[str]]:
        if dag_id not in TASKS:
            raise Refused(404, f"The Dag with ID: `{dag_id}` was not found")
        return TASKS[dag_id]

    def _list_runs(self, request: Request, dag_id: str) -> Response:
        if dag_id != "~":
            self._dag(dag_id)
        state = request.query_params.get("state")
        if state not in (None, "queued", "running", "success", "failed"):
            raise Refused(422, "Invalid value for state. Valid values are queued, running, success, failed")
        runs = [
            run
            for run in self.runs.values()
            if dag_id in ("~", run["dag_id"]) and state in (None, run["state"])
        ]
        newest_first = request.query_params.get("order_by") == "-run_after"
        return self._page(request, "dag_runs", runs[::-1] if newest_first else runs)

    def _run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        if (dag_id, run_id) not in self.runs:
            raise Refused(404, f"The DagRun with dag_id: `{dag_id}` and run_id: `{run_id}` was not found")
        return self.runs[dag_id, run_id]

    def _trigger(self, dag_id: str, body: Any) -> Response:
        if dag_id not in TASKS:
            raise Refused(404, f"Dag with dag_id: '{dag_id}' not found")
        if "logical_date" not in body:
            missing = {
                "type": "missing",
                "loc": ["body", "logical_date"],
                "msg": "Field required",
                "input": body,
            }
            raise Refused(422, [missing])
        now = datetime.now(UTC).isoformat()
        run_id = f"manual__{now}"
        run = {
            "dag_run_id": run_id,
            "dag_id": dag_id,
            "logical_date": None,
            "queued_at": now,
            "start_date": None,
            "end_date": None,
            "duration": None,
            "run_type": "manual",
            "state": "queued",
            "conf": body.get("conf") or {},
            "note": body.get("note"),
        }
        self.runs[dag_id, run_id] = self._over(run, dag_id)
        self.instances[dag_id, run_id] = _instances(dag_id, 0)
        self.history[dag_id, run_id] = _history(dag_id, 0)
        return JSONResponse(run)

    @staticmethod
    def _over(run: dict[str, Any], dag_id: str) -> dict[str, Any]:
        state = "success" if dag_id == "good" else "failed"
        now = datetime.now(UTC).isoformat()
        return {**run, "state": state, "start_date": now, "end_date": now, "duration": 0.5}

    def _clear(self, dag_id: str, body: Any) -> Response:
        self._dag(dag_id)
        run_id = body["dag_run_id"]
        if (dag_id, run_id) not in self.runs:
            raise Refused(404, f"Dag Run id {run_id} not found in dag {dag_id}")
        wanted = body.get("task_ids")
        chosen = []
        for task in self.instances[dag_id, run_id]:
            named = wanted is None or task["task_id"] in _with_below(dag_id, wanted, body)
            if named and (not body["only_failed"] or task["state"] in ("failed", "upstream_failed")):
                chosen.append(task)
        if any(task["state"] == "running" for task in chosen) and body["prevent_running_task"]:
            raise Refused(409, "AirflowClearRunningTaskException: Disable this check to clear running tasks")
        if not body["dry_run"] and chosen:
            self.history[dag_id, run_id] += [t for t in chosen if t["try_number"]]
            self.history[dag_id, run_id] += _history(dag_id, 2)
            self.instances[dag_id, run_id] = _instances(dag_id, 2)
        cleared = [{**task, "state": None} for task in chosen]
        return JSONResponse({"task_instances": cleared, "total_entries": len(cleared)})

    @staticmethod
    def _page(request: Request, key: str, items: list[dict[str, Any]]) -> Response:
        limit = min(int(request.query_params.get("limit", "50")), PAGE)
        offset = int(request.query_params.get("offset", "0"))
        return JSONResponse({key: items[offset : offset + limit], "total_entries": len(items)})


def _with_below(dag_id: str, wanted: list[str], body: Any) -> set[str]:
    found = set(wanted)
    if body.get("include_downstream"):
        for task in TASKS[dag_id]:  # they stand in order
            if task in found:
                found |= set(TASKS[dag_id][task])
    return found


def _dag(dag_id: str) -> dict[str, Any]:
    return {
        "dag_id": dag_id,
        "is_paused": False,
        "relative_fileloc": f"{dag_id}.py",
        "description": "Works." if dag_id == "good" else None,
        "timetable_summary": None,
        "tags": [{"name": "sample", "dag_id": dag_id}] if dag_id == "good" else [],
        "has_import_errors": False,
    }


def _import_error() -> dict[str, Any]:
    trace = (
        'Traceback (most recent call last):\n  File "<frozen importlib._bootstrap>", line 241, in _call\n'
        '  File "/dags/broken.py", line 3, in <module>\n    import no_such_module_here\n'
        "ModuleNotFoundError: No module named 'no_such_module_here'\n"
    )
    return {
        "import_error_id": 1,
        "timestamp": "2026-11-23T01:09:21.745567Z",
        "filename": "broken.py",
        "bundle_name": "dags-folder",
        "stack_trace": trace,
    }


def _task(task_id: str, state: str, tries: int = 1, most: int = 0, index: int = -1) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {
        "task_id": task_id,
        "map_index": index,
        "state": state,
        "try_number": tries,
        "max_tries": most,
        "start_date": now,
        "end_date": now,
        "duration": 0.1,
    }


def _instances(dag_id: str, before: int) -> list[dict[str, Any]]:
    if dag_id == "good":
        return [_task("extract", "success", before + 1), _task("load", "success", before + 1)]
    if dag_id == "failing":
        return [
            _task("extract", "success"),
            _task("load", "upstream_failed", 0),
            _task("transform", "failed", before + 2, before + 1),
        ]
    mapped = [_task("part", "success", index=0), _task("part", "failed", index=1)]
    return [_task("sh", "failed"), _task("big", "failed"), *mapped]


def _history(dag_id: str, before: int) -> list[dict[str, Any]]:
    return [_task("transform", "failed", before + 1, before + 1)] if dag_id == "failing" else []


def _messages(task_id: str, number: int) -> Iterator[dict[str, Any]]:
    yield {"timestamp": None, "event": "::group::Log message source details"}
    yield {"timestamp": None, "event": f"/logs/task_id={task_id}/attempt={number}.log"}
    yield {"timestamp": None, "event": "::endgroup::"}
    yield _say("::group::Pre Execute", logger="task")
    yield _say("DAG bundles loaded: dags-folder", logger="airflow.dag_processing.bundles.manager")
    yield _say("::endgroup::", logger="task")
    yield from _own_messages(task_id)
    yield _say("::group::Post Execute", logger="task")
    yield _say("::endgroup::", logger="task")


def _own_messages(task_id: str) -> Iterator[dict[str, Any]]:
    hook = "airflow.task.hooks.airflow.providers.standard.hooks.subprocess.SubprocessHook"
    if task_id == "transform":
        yield _say("row 0")
        yield _failed(
            [_raised("ValueError", "could not convert string to float: 'n/a'", "failing.py", 18, task_id)]
        )
        yield _say("row 1")
    elif task_id == "sh":
        for text in ("Output:", "working", "cat: nothing", "Command exited with return code 3"):
            yield _say(text, logger=hook)
        words = "Bash command failed. The command returned a non-zero exit code 3."
        yield _failed([{**_raised("AirflowException", words), "frames": [_frame(LIBRARY, 1579, "run")]}])
    elif task_id == "part":
        first = _raised("RuntimeError", "no part\nsecond line", "mixed.py", 15, "part")
        yield _failed([first, {**_raised("KeyError", "'k'", "mixed.py", 13, "part"), "is_cause": True}])
    elif task_id == "big":
        for line in range(20000):
            yield _say(f"line {line} {'x' * 80}")
        yield {**_say("Task exited", "error", "task"), "exit_code": 4}
    else:
        yield _say("rows: 3")


def _say(event: str, level: str = "info", logger: str = "task.stdout") -> dict[str, Any]:
    return {"timestamp": "2026-11-23T01:09:28.798952Z", "event": event, "level": level, "logger": logger}


def _failed(detail: list[dict[str, Any]]) -> dict[str, Any]:
    return {**_say("Task failed with exception", "error", "task"), "error_detail": detail}


def _raised(kind: str, words: str, file: str = "", line: int = 0, name: str = "") -> dict[str, Any]:
    frames = [_frame(LIBRARY, 1579, "_run_task"), _frame(f"/dags/{file}", line, name)]
    return {"exc_type": kind, "exc_value": words, "exc_notes": [], "is_cause": False, "frames": frames}


def _frame(file: str, line: int, name: str) -> dict[str, Any]:
    return {"filename": file, "lineno": line, "name": name}

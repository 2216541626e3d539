"""Airflow 3 as an `Engine`, by its REST API v2, which Airflow promises to keep stable.

https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence

from servers.airflow.engine import (
    FAILED,
    UNMAPPED,
    Attempt,
    Dag,
    EngineError,
    ImportFailure,
    LogLine,
    Page,
    Run,
    RunState,
    TaskInstance,
)
from servers.airflow.rest import decode
from servers.airflow.rest.client import Client, Json, Params, segment

PAGE = 100
"""Airflow's own maximum; a larger limit is silently taken as this."""
MAX_INSTANCES = 1000
"""Task instances of one run that are looked at; of more, those that failed come first."""


class RestEngine:
    """Asks one Airflow."""

    name = "airflow"

    def __init__(self, client: Client) -> None:
        self._client = client

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def dags(self, search: str, limit: int, offset: int) -> Page[Dag]:
        """Return DAGs whose id contains `search`; `_` and `%` in it are Airflow's wildcards."""
        params: dict[str, str | int] = {"limit": limit, "offset": offset, "order_by": "dag_id"}
        if search:
            params["dag_id_pattern"] = f"%{search}%"
        answer = self._client.get("/dags", params)
        found = tuple(decode.dag(each) for each in decode.objects(answer, "dags"))
        return Page(found, decode.total(answer, len(found)))

    def runs(self, dag_id: str | None, state: RunState | None, limit: int, offset: int) -> Page[Run]:
        """Return runs, the newest first."""
        where = segment(dag_id) if dag_id is not None else "~"
        params: dict[str, str | int] = {"limit": limit, "offset": offset, "order_by": "-run_after"}
        if state is not None:
            params["state"] = state
        answer = self._client.get(f"/dags/{where}/dagRuns", params)
        found = tuple(decode.run(each) for each in decode.objects(answer, "dag_runs"))
        return Page(found, decode.total(answer, len(found)))

    def run(self, dag_id: str, run_id: str) -> Run:
        """Return one run."""
        return decode.run(self._client.get(_run_path(dag_id, run_id)))

    def task_instances(self, dag_id: str, run_id: str) -> Page[TaskInstance]:
        """Return a run's task instances; of very many, first those that failed."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances"
        page = self._pages(path, {}, MAX_INSTANCES)
        if page.total <= len(page.items):
            return page
        failed = self._pages(path, {"state": FAILED}, PAGE).items
        known = {(each.task_id, each.map_index) for each in failed}
        others = (each for each in page.items if (each.task_id, each.map_index) not in known)
        return Page((*failed, *others), page.total)

    def _pages(self, path: str, params: Params, most: int) -> Page[TaskInstance]:
        found: list[TaskInstance] = []
        while True:
            answer = self._client.get(path, {**params, "limit": PAGE, "offset": len(found)})
            part = [decode.task_instance(each) for each in decode.objects(answer, "task_instances")]
            found += part
            total = decode.total(answer, len(found))
            if not part or len(found) >= min(total, most):
                return Page(tuple(found), total)

    def upstream(self, dag_id: str, run_id: str) -> Mapping[str, frozenset[str]]:  # noqa: ARG002
        """Return what each task depends on, by the DAG as Airflow knows it now."""
        with contextlib.suppress(EngineError):  # the DAG may be gone, and its runs still there
            return decode.upstream(
                decode.objects(self._client.get(f"/dags/{segment(dag_id)}/tasks"), "tasks")
            )
        return {}

    def tries(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> Sequence[TaskInstance]:
        """Return a task's attempts so far."""
        mapped = "" if map_index == UNMAPPED else f"/{map_index}"
        answer = self._client.get(
            f"{_run_path(dag_id, run_id)}/taskInstances/{segment(task_id)}{mapped}/tries"
        )
        found = (decode.task_instance(each) for each in decode.objects(answer, "task_instances"))
        return sorted((each for each in found if each.try_number > 0), key=lambda each: each.try_number)

    def log(self, attempt: Attempt) -> Generator[LogLine, None, None]:
        """Yield the lines of one attempt's log, as they come."""
        path = (
            f"{_run_path(attempt.dag_id, attempt.run_id)}/taskInstances/{segment(attempt.task_id)}"
            f"/logs/{attempt.try_number}"
        )
        params: Params = {"map_index": attempt.map_index, "full_content": "true"}
        with contextlib.closing(self._client.lines(path, params)) as lines:
            yield from decode.log_lines(lines)

    def import_errors(self, limit: int, offset: int) -> Page[ImportFailure]:
        """Return the files that can't be read as DAGs."""
        answer = self._client.get("/importErrors", {"limit": limit, "offset": offset})
        found = tuple(decode.import_failure(each) for each in decode.objects(answer, "import_errors"))
        return Page(found, decode.total(answer, len(found)))

    def trigger(self, dag_id: str, conf: Mapping[str, object], note: str) -> Run:
        """Begin a run. `logical_date` must be there and may be null: the run stands for no time."""
        body: dict[str, object] = {"logical_date": None, "conf": dict(conf), "note": note or None}
        return decode.run(self._client.post(f"/dags/{segment(dag_id)}/dagRuns", body))

    def clear(self, dag_id: str, run_id: str, task_ids: Sequence[str]) -> Sequence[TaskInstance]:
        """Run tasks again, with what depends on them."""
        segment(run_id)  # in the body, where `~` and the like must not get either
        body: dict[str, object] = {
            "dry_run": False,
            "dag_run_id": run_id,
            "only_failed": not task_ids,
            "include_downstream": bool(task_ids),
            "reset_dag_runs": True,
            "prevent_running_task": True,
        }
        if task_ids:
            body["task_ids"] = list(task_ids)
        answer = self._client.post(f"/dags/{segment(dag_id)}/clearTaskInstances", body)
        return self._cleared(answer, task_ids)

    @staticmethod
    def _cleared(answer: Mapping[str, Json], task_ids: Sequence[str]) -> list[TaskInstance]:
        found = [decode.task_instance(each) for each in decode.objects(answer, "task_instances")]
        if found:
            return found
        if task_ids:
            raise EngineError(f"The run has none of these tasks: {', '.join(task_ids)}. Nothing was cleared.")
        raise EngineError("Nothing failed in this run. Name the tasks to run again.")


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{segment(dag_id)}/dagRuns/{segment(run_id)}"

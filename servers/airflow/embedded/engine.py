"""The embedded engine: a folder of DAG files, a runner, and the store, as an `Engine`."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from servers.airflow.embedded import plan
from servers.airflow.embedded.attempt import Surroundings
from servers.airflow.embedded.dagfile import parse
from servers.airflow.embedded.folder import Contents, Folder, Loaded
from servers.airflow.embedded.runner import Runner
from servers.airflow.embedded.store import RunRow, Store, TaskRow
from servers.airflow.engine import (
    FAILED,
    NO_STATUS,
    UNMAPPED,
    UPSTREAM_FAILED,
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

_BATCH = 500


class EmbeddedEngine:
    """Runs the DAG files of one folder on this machine."""

    name = "embedded"

    def __init__(
        self,
        dags: Path,
        state: Path,
        *,
        environment: Mapping[str, str],
        at_once: int = 4,
        pass_env: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the state file, and go on with what is queued in it.

        Raises:
            EngineError: the state file is in use or unusable, or there is no such folder.

        """
        if not dags.is_dir():
            raise EngineError(f"there is no folder {dags}")
        self._folder = Folder(dags.resolve(), pass_env)
        self._store = Store(state)
        around = Surroundings(self._store, self._folder.root, environment, pass_env, clock)
        self._runner = Runner(self._folder, around, at_once)
        self._runner.start()

    def close(self) -> None:
        """Kill what runs, note it, and close the state file."""
        self._runner.close()
        self._store.close()

    def dags(self, search: str, limit: int, offset: int) -> Page[Dag]:
        """Return DAGs whose id contains `search`, in the order of their ids."""
        found = sorted(
            (loaded for dag_id, loaded in self._contents().dags.items() if search.lower() in dag_id.lower()),
            key=lambda loaded: loaded.spec.dag_id,
        )
        return Page(tuple(_dag(loaded) for loaded in found[offset : offset + limit]), len(found))

    def runs(self, dag_id: str | None, state: RunState | None, limit: int, offset: int) -> Page[Run]:
        """Return runs, the newest first."""
        rows, total = self._store.runs(dag_id, state, limit, offset)
        if total == 0 and dag_id is not None:
            self._loaded_or_known(dag_id)
        return Page(tuple(_run(row) for row in rows), total)

    def run(self, dag_id: str, run_id: str) -> Run:
        """Return one run."""
        return _run(self._row(dag_id, run_id))

    def task_instances(self, dag_id: str, run_id: str) -> Page[TaskInstance]:
        """Return a run's task instances, in an order that their dependencies allow."""
        order = list(parse(self._row(dag_id, run_id).document, None).tasks)
        rows = self._store.tasks(dag_id, run_id)
        return Page(tuple(_instance(rows[name]) for name in order if name in rows), len(rows))

    def upstream(self, dag_id: str, run_id: str) -> Mapping[str, frozenset[str]]:
        """Return what each task directly depends on, as it was when the run began."""
        return parse(self._row(dag_id, run_id).document, None).upstream()

    def tries(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> Sequence[TaskInstance]:
        """Return a task's attempts so far."""
        if map_index != UNMAPPED or task_id not in self._store.tasks(
            dag_id, self._row(dag_id, run_id).run_id
        ):
            raise EngineError(
                f"There is no task {task_id!r} in this run. diagnose_dag_run says which failed."
            )
        return [_instance(row) for row in self._store.attempts(dag_id, run_id, task_id)]

    def log(self, attempt: Attempt) -> Generator[LogLine, None, None]:
        """Yield the lines of one attempt's log; a gap says how much was dropped in it."""
        key = self._store.attempt(attempt.dag_id, attempt.run_id, attempt.task_id, attempt.try_number)
        if key is None:
            raise EngineError(
                f"There is no attempt {attempt.try_number} of {attempt.task_id} in this run. "
                "diagnose_dag_run says which attempts there are."
            )
        return self._lines(key)

    def _lines(self, key: int) -> Generator[LogLine, None, None]:
        last = 0
        while rows := self._store.lines(key, last, _BATCH):
            for row in rows:
                if row.line > last + 1:
                    yield LogLine(f"[{row.line - last - 1} lines were dropped here: the log is too long]")
                yield LogLine(row.text, _moment(row.time), row.level)
                last = row.line

    def import_errors(self, limit: int, offset: int) -> Page[ImportFailure]:
        """Return what is wrong in the folder's files, problem by problem."""
        failures = [
            ImportFailure(f.file, f.problem.line, _moment(f.modified), f.problem.message)
            for f in self._contents().failures
        ]
        return Page(tuple(failures[offset : offset + limit]), len(failures))

    def trigger(self, dag_id: str, conf: Mapping[str, object], note: str) -> Run:
        """Queue a run."""
        return _run(self._runner.trigger(self._loaded(dag_id), "manual", conf, note))

    def clear(self, dag_id: str, run_id: str, task_ids: Sequence[str]) -> Sequence[TaskInstance]:
        """Run tasks again, by the DAG as its file is now, so that what was mended counts."""
        row = self._row(dag_id, run_id)
        loaded = self._loaded(dag_id)
        tasks = self._store.tasks(dag_id, run_id)
        if gone := sorted(set(tasks) - set(loaded.spec.tasks)):
            raise EngineError(
                f"{dag_id} has changed since this run: it has no task {', '.join(gone)} any more. "
                "Trigger a new run instead."
            )
        chosen = plan.downstream(loaded.spec.upstream(), _chosen(task_ids, tasks, row.state)) & set(tasks)
        return [_instance(each) for each in self._runner.clear(row, loaded, chosen)]

    def _contents(self) -> Contents:
        try:
            return self._folder.read()
        except OSError as error:
            raise EngineError(f"The DAG folder can't be read: {error.strerror}. Tell its owner.") from None

    def _loaded(self, dag_id: str) -> Loaded:
        loaded = self._contents().dags.get(dag_id)
        if loaded is None:
            raise EngineError(
                f"There is no DAG {dag_id!r}. list_dags says which there are, "
                "list_import_errors which files can't be read."
            )
        return loaded

    def _loaded_or_known(self, dag_id: str) -> None:
        if self._store.runs(dag_id, None, 1, 0)[1] == 0:
            self._loaded(dag_id)

    def _row(self, dag_id: str, run_id: str) -> RunRow:
        row = self._store.run(dag_id, run_id)
        if row is None:
            raise EngineError(
                f"There is no run {run_id!r} of {dag_id!r}. list_dag_runs says which there are."
            )
        return row


def _chosen(task_ids: Sequence[str], tasks: Mapping[str, TaskRow], run_state: str) -> frozenset[str]:
    if unknown := sorted(set(task_ids) - set(tasks)):
        raise EngineError(f"The run has no task {', '.join(unknown)}; it has {', '.join(sorted(tasks))}.")
    if task_ids:
        return frozenset(task_ids)
    # A server that was killed leaves a failed run with tasks that never had their turn.
    wanted = {FAILED, UPSTREAM_FAILED} | ({NO_STATUS} if run_state == FAILED else set())
    failed = frozenset(name for name, row in tasks.items() if row.state in wanted)
    if not failed:
        raise EngineError("Nothing failed in this run. Name the tasks to run again.")
    return failed


def _dag(loaded: Loaded) -> Dag:
    spec = loaded.spec
    return Dag(
        dag_id=spec.dag_id,
        description=spec.description,
        schedule=_schedule(spec.every),
        tags=spec.tags,
        file=loaded.file,
        broken=loaded.broken,
    )


def _schedule(every: float | None) -> str:
    if every is None:
        return ""
    unit, seconds = next((u, s) for u, s in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)) if every >= s)
    return f"every {every / seconds:g}{unit}"


def _run(row: RunRow) -> Run:
    return Run(
        dag_id=row.dag_id,
        run_id=row.run_id,
        state=row.state,
        run_type=row.run_type,
        queued=_moment(row.queued),
        started=_moment(row.started),
        ended=_moment(row.ended),
        seconds=_span(row.started, row.ended),
        note=row.note,
    )


def _instance(row: TaskRow) -> TaskInstance:
    return TaskInstance(
        task_id=row.task_id,
        state=row.state or NO_STATUS,
        try_number=row.try_number,
        max_tries=row.max_tries,
        started=_moment(row.started),
        ended=_moment(row.ended),
        seconds=_span(row.started, row.ended),
    )


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _span(started: float | None, ended: float | None) -> float | None:
    return round(ended - started, 3) if started is not None and ended is not None else None

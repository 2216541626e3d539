"""Carry runs out: one thread that decides what is next, and one for each attempt that is under way.

Deciding is `plan.advance`; here is only what happens because of it. The store is the truth: whatever is in
memory could be lost at any moment, and a start finds its way from the store alone.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache, partial

from servers.airflow.embedded import plan
from servers.airflow.embedded.attempt import Surroundings, Work, carry_out
from servers.airflow.embedded.dagfile import DagSpec, TaskSpec, parse
from servers.airflow.embedded.folder import Folder, Loaded
from servers.airflow.embedded.process import Ended, Job, Process, kill_left_over
from servers.airflow.embedded.store import RunRow, TaskRow, encode_conf
from servers.airflow.embedded.tasklog import TaskLog
from servers.airflow.engine import FAILED, NO_STATUS, UPSTREAM_FAILED, EngineError

MAX_QUEUED = 100
"""Runs that may wait or run; another trigger is refused."""
_LOOK = 5.0
"""Seconds between two looks at the folder, for DAGs that run by themselves."""

_log = logging.getLogger("servers.airflow")


class Runner:
    """Runs what the store says is queued. `start` begins its thread, `close` ends everything."""

    def __init__(self, folder: Folder, around: Surroundings, at_once: int = 4) -> None:
        """`at_once` bounds the tasks that run at the same time, of all runs together."""
        self._store = around.store
        self._folder = folder
        self._around = around
        self._clock = around.clock
        self._at_once = at_once
        # What a run may pass on was judged when its file was read, and is looked at again on each attempt.
        self._spec = lru_cache(maxsize=128)(partial(parse, passable=None))
        self._changed = threading.Condition()
        self._closing = False
        self._again = True
        self._active: dict[str, Process | None] = {}
        """By token; None until the process has started."""
        self._looked = float("-inf")
        self._thread = threading.Thread(target=self._work, name="airflow-runner", daemon=True)

    def start(self) -> None:
        """Bring what an earlier process left running to an end, then go on with what is queued."""
        for attempt, pid, token in self._store.left_running():
            if pid is not None:
                kill_left_over(pid, token)
            log = TaskLog(self._store, attempt, clock=self._clock, after=self._store.last_line(attempt))
            log.say("Task failed: the server was killed while it ran", "error")
            log.flush()
        if failed := self._store.fail_left_running(self._clock()):
            _log.warning("%d runs were left running by a server that was killed; they failed", failed)
        self._thread.start()

    def close(self) -> None:
        """Kill what runs, wait until that is noted, and end."""
        with self._changed:
            self._closing = True
            for process in self._active.values():
                if process is not None:
                    process.stop()
            self._changed.notify_all()
        self._thread.join()

    def trigger(self, loaded: Loaded, run_type: str, conf: Mapping[str, object], note: str) -> RunRow:
        """Queue a run.

        Raises:
            EngineError: too many wait already.

        """
        dag_id, now = loaded.spec.dag_id, self._clock()
        with self._changed:
            if len(self._store.at_work()) >= MAX_QUEUED:
                raise EngineError(f"{MAX_QUEUED} runs wait or run already. Try again when some have ended.")
            while self._store.run(dag_id, run_id := _run_id(run_type, now)) is not None:
                now += 1e-6
            run = RunRow(
                dag_id=dag_id,
                run_id=run_id,
                state="queued",
                run_type=run_type,
                queued=now,
                started=None,
                ended=None,
                conf=encode_conf(conf),
                note=note,
                document=loaded.text,
            )
            self._store.add_run(run, {name: task.retries for name, task in loaded.spec.tasks.items()})
            self._wake()
        return run

    def clear(self, run: RunRow, loaded: Loaded, chosen: frozenset[str]) -> list[TaskRow]:
        """Make these tasks of a run run again, and queue the run, by the DAG as its file is now.

        Raises:
            EngineError: one of them runs now.

        """
        with self._changed, self._store.transaction():
            rows = self._store.tasks(run.dag_id, run.run_id)
            if busy := sorted(name for name in chosen if rows[name].state == plan.RUNNING):
                raise EngineError(f"{', '.join(busy)} is running now. Wait for its end, then clear it.")
            cleared = []
            for name, task in loaded.spec.tasks.items():
                tried = rows[name].try_number if name in rows else 0
                if name in chosen or name not in rows:
                    fresh = TaskRow(name, NO_STATUS, tried, tried + task.retries, None, None, None)
                    self._store.set_task(run, fresh)
                    cleared.append(fresh)
            self._store.reopen(run, loaded.text, self._clock())
            self._wake()
        return cleared

    def _wake(self) -> None:
        self._again = True
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._closing and not self._active:
                    return
                self._again = False
                due = self._try_step() if not self._closing else None
                if not self._again:
                    self._changed.wait(_LOOK if due is None else max(0.0, min(_LOOK, due - self._clock())))

    def _try_step(self) -> float | None:
        try:
            return self._step()
        except (OSError, sqlite3.Error) as error:  # a full disk may have room again later
            _log.error("the runner can't go on, and tries again in %g s: %s", _LOOK, error)
            return None

    def _step(self) -> float | None:
        """Do everything that can be done now; return when there is more to do, if only time is missing."""
        now = self._clock()
        if now - self._looked >= _LOOK:
            self._looked = now
            self._begin_scheduled(now)
            now = self._clock()
        due: list[float] = []
        at_work = self._store.at_work()
        running = Counter(run.dag_id for run in at_work if run.state == plan.RUNNING)
        for run in at_work:
            spec = self._spec(run.document)
            if run.state == "queued":
                if running[run.dag_id] >= spec.max_active_runs:
                    continue
                running[run.dag_id] += 1
            step = self._advance(run, spec, now)
            if step.due is not None:
                due.append(step.due)
        return min(due, default=None)

    def _begin_scheduled(self, now: float) -> None:
        waiting = {run.dag_id for run in self._store.at_work()}
        for dag_id, loaded in self._folder.read().dags.items():
            if loaded.spec.every is None or loaded.broken or dag_id in waiting:
                continue
            last = self._store.last_of_type(dag_id, "scheduled")
            if last is None or now - last >= loaded.spec.every:
                try:
                    self.trigger(loaded, "scheduled", {}, "")
                except EngineError as error:
                    _log.warning("no scheduled run of %s: %s", dag_id, error)

    def _advance(self, run: RunRow, spec: DagSpec, now: float) -> plan.Step:
        rows = self._store.tasks(run.dag_id, run.run_id)
        step = plan.advance(spec.upstream(), {name: row.plain() for name, row in rows.items()}, now)
        if run.state == "queued":
            run = replace(run, state=plan.RUNNING, started=now)
            self._store.set_run(run)
        for name in step.doomed:
            doomed = replace(rows[name], state=UPSTREAM_FAILED, started=now, ended=now, due=None)
            self._store.set_task(run, doomed)
        if step.outcome is not None:
            self._store.set_run(replace(run, state=step.outcome, ended=now))
            self._wake()  # a run of this DAG that waited for its end may begin
        for name in step.start[: max(0, self._at_once - len(self._active))]:
            self._begin(run, spec.tasks[name], rows[name], now)
        return step

    def _begin(self, run: RunRow, task: TaskSpec, row: TaskRow, now: float) -> None:
        token = secrets.token_hex(16)
        number = row.try_number + 1
        row = replace(row, state=plan.RUNNING, try_number=number, started=now, ended=None, due=None)
        with self._store.transaction():
            self._store.set_task(run, row)
            key = self._store.add_attempt(run, row, token)
        work = Work(run, task, row, key, token)
        self._active[token] = None
        threading.Thread(target=self._attempt, args=(work,), name=f"attempt-{key}", daemon=True).start()

    def _attempt(self, work: Work) -> None:
        ended: Ended | None = None
        try:
            ended = carry_out(self._around, work, partial(self._launch, work.token))
        finally:
            self._finish(work, ok=ended is not None and ended.ok)

    def _launch(self, token: str, job: Job) -> Process | None:
        with self._changed:  # so that closing either sees the process or keeps it from starting
            if self._closing:
                return None
            process = Process(job)
            self._active[token] = process
            return process

    def _finish(self, work: Work, *, ok: bool) -> None:
        with self._changed:
            del self._active[work.token]
            now, row, state = self._clock(), work.row, plan.SUCCESS if ok else FAILED
            self._store.end_attempt(work.key, state, now)
            after = plan.TaskState(state, row.try_number, row.max_tries)
            if not ok and not self._closing:
                after = plan.after_failure(after, now, work.task.retry_delay)
            self._store.set_task(work.run, replace(row, state=after.state, ended=now, due=after.due))
            if self._closing:
                self._store.set_run(replace(work.run, state=FAILED, ended=now))
            self._wake()


def _run_id(run_type: str, now: float) -> str:
    return f"{run_type}__{datetime.fromtimestamp(now, UTC).isoformat(timespec='microseconds')}"

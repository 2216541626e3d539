"""One attempt at one task, from its environment to the last line of its log."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from servers.airflow.embedded.dagfile import TaskSpec
from servers.airflow.embedded.process import Ended, Job, NotStarted, Process
from servers.airflow.embedded.store import RunRow, Store, TaskRow
from servers.airflow.embedded.tasklog import TaskLog

STOPPED = Ended(False, "Task was killed: the server stopped")
_UNATTENDED = Ended(False, "Task failed: the server could not look after it")
_ALWAYS_PASSED = ("PATH", "LANG", "LC_ALL", "TZ")


@dataclass(frozen=True, slots=True)
class Work:
    """An attempt that is due."""

    run: RunRow
    task: TaskSpec
    row: TaskRow
    """The task as this attempt finds it, its number counted in."""
    key: int
    token: str
    """Stands in the process's environment, by which it is known again after a crash."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every attempt needs: where it runs, and what it may see of the server's environment."""

    store: Store
    folder: Path
    environment: Mapping[str, str]
    pass_env: frozenset[str]
    clock: Callable[[], float]

    def environment_of(self, work: Work, scratch: Path, conf: Path) -> dict[str, str]:
        """Build a task's whole environment; nothing else of the server's own gets through.

        The names of the context are those that Airflow sets, so a script runs the same in both.
        """
        return (
            {"PATH": os.defpath}
            | {name: self.environment[name] for name in _ALWAYS_PASSED if name in self.environment}
            | self._passed(work.task)
            | dict(work.task.env)
            | {
                "AIRFLOW_CTX_DAG_ID": work.run.dag_id,
                "AIRFLOW_CTX_DAG_RUN_ID": work.run.run_id,
                "AIRFLOW_CTX_TASK_ID": work.task.task_id,
                "AIRFLOW_CTX_TRY_NUMBER": str(work.row.try_number),
                "DAG_RUN_CONF": str(conf),
                "GATEHOUSE_ATTEMPT": work.token,
                "HOME": str(scratch),
                "TMPDIR": str(scratch),
                # or a log would have its traceback before what was printed earlier
                "PYTHONUNBUFFERED": "1",
            }
        )

    def log(self, work: Work) -> TaskLog:
        """Begin the attempt's log; what it was passed is kept out of it."""
        return TaskLog(self.store, work.key, self._passed(work.task).values(), clock=self.clock)

    def _passed(self, task: TaskSpec) -> dict[str, str]:
        allowed = (name for name in task.pass_env if name in self.pass_env)
        return {name: self.environment[name] for name in allowed if name in self.environment}


def carry_out(around: Surroundings, work: Work, launch: Callable[[Job], Process | None]) -> Ended:
    """Run one attempt to its end and log it. `launch` starts the process, or says that it is too late."""
    log = around.log(work)
    ended = _UNATTENDED
    try:
        with tempfile.TemporaryDirectory(prefix="gatehouse-task-", ignore_cleanup_errors=True) as name:
            scratch = Path(name)
            conf = scratch / "conf.json"
            conf.write_text(work.run.conf, "utf-8")
            environment = around.environment_of(work, scratch, conf)
            process = launch(Job(work.task.command, around.folder, environment, work.task.timeout))
            if process is None:
                ended = STOPPED
            else:
                around.store.set_pid(work.key, process.pid)
                ended = process.follow(log.take)
    except NotStarted as error:
        ended = Ended(False, str(error))
    finally:
        around.store.set_pid(work.key, None)
        log.say(ended.words, "info" if ended.ok else "error")
        log.flush()
    return ended

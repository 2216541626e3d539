"""The memory of the embedded engine: one SQLite file, owned by one process."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from importlib import resources
from pathlib import Path

from servers.airflow.embedded.plan import RUNNING, TaskState
from servers.airflow.engine import FAILED, NO_STATUS, EngineError

KEPT_RUNS = 200
"""Of each DAG; older ones are forgotten together with their logs."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run as it is stored."""

    dag_id: str
    run_id: str
    state: str
    run_type: str
    queued: float
    started: float | None
    ended: float | None
    conf: str
    note: str
    document: str


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task of a run as it is stored."""

    task_id: str
    state: str
    try_number: int
    max_tries: int
    started: float | None
    ended: float | None
    due: float | None

    def plain(self) -> TaskState:
        """Return what deciding needs of it."""
        return TaskState(self.state, self.try_number, self.max_tries, self.due)


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of an attempt's log."""

    line: int
    time: float
    level: str
    text: str


class Store:
    """Runs, tasks, attempts and logs. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            EngineError: another process has it, or it is no such file.

        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._owner = _own(path.with_name(path.name + ".lock"))
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            path.chmod(0o600)
            self._db.executescript(
                "pragma journal_mode = wal; pragma synchronous = normal; pragma foreign_keys = on;"
            )
            self._db.executescript(resources.files(__package__).joinpath("schema.sql").read_text("utf-8"))
        except sqlite3.Error as error:
            os.close(self._owner)
            raise EngineError(f"can't open the state file {path}: {error}") from None

    def close(self) -> None:
        """Close the file and let another process have it."""
        with self._lock:
            self._db.close()
            os.close(self._owner)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything within it happen, or none of it."""
        with self._lock:
            self._db.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")

    def _all(self, sql: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def _do(self, sql: str, values: Sequence[object] = ()) -> int:
        with self._lock:
            return self._db.execute(sql, values).rowcount

    def add_run(self, run: RunRow, tasks: Mapping[str, int]) -> None:
        """Add a queued run with its tasks and how often each may be retried; forget the oldest."""
        with self.transaction():
            self._do(
                "insert into runs values (?,?,?,?,?,?,?,?,?,?)",
                astuple(run),
            )
            for task_id, retries in tasks.items():
                self._do(
                    "insert into tasks (dag_id, run_id, task_id, state, max_tries) values (?,?,?,?,?)",
                    (run.dag_id, run.run_id, task_id, NO_STATUS, retries),
                )
            self._do(
                "delete from runs where dag_id = ? and state in ('success', 'failed') and run_id not in "
                "(select run_id from runs where dag_id = ? order by queued desc limit ?)",
                (run.dag_id, run.dag_id, KEPT_RUNS),
            )

    def run(self, dag_id: str, run_id: str) -> RunRow | None:
        """Return one run."""
        rows = self._all("select * from runs where dag_id = ? and run_id = ?", (dag_id, run_id))
        return RunRow(*rows[0]) if rows else None  # type: ignore[arg-type]

    def runs(
        self, dag_id: str | None, state: str | None, limit: int, offset: int
    ) -> tuple[list[RunRow], int]:
        """Return runs, the newest first, and how many there are."""
        where = "where (? is null or dag_id = ?) and (? is null or state = ?)"
        values = (dag_id, dag_id, state, state)
        total = self._all(f"select count(*) from runs {where}", values)[0][0]  # noqa: S608 - our own words
        rows = self._all(
            f"select * from runs {where} order by queued desc, run_id desc limit ? offset ?",  # noqa: S608
            (*values, limit, offset),
        )
        return [RunRow(*row) for row in rows], int(str(total))  # type: ignore[arg-type]

    def at_work(self) -> list[RunRow]:
        """Return the runs that are queued or running, the oldest first."""
        rows = self._all("select * from runs where state in ('queued', 'running') order by queued, run_id")
        return [RunRow(*row) for row in rows]  # type: ignore[arg-type]

    def last_of_type(self, dag_id: str, run_type: str) -> float | None:
        """Return when the latest run of this type was queued."""
        rows = self._all("select max(queued) from runs where dag_id = ? and run_type = ?", (dag_id, run_type))
        return float(str(rows[0][0])) if rows[0][0] is not None else None

    def set_run(self, run: RunRow) -> None:
        """Store a run's state and times."""
        self._do(
            "update runs set state = ?, started = ?, ended = ? where dag_id = ? and run_id = ?",
            (run.state, run.started, run.ended, run.dag_id, run.run_id),
        )

    def reopen(self, run: RunRow, document: str, now: float) -> None:
        """Queue a run again, by the DAG as it is now."""
        self._do(
            "update runs set state = 'queued', queued = ?, started = null, ended = null, document = ? "
            "where dag_id = ? and run_id = ?",
            (now, document, run.dag_id, run.run_id),
        )

    def tasks(self, dag_id: str, run_id: str) -> dict[str, TaskRow]:
        """Return a run's tasks."""
        rows = self._all(
            "select task_id, state, try_number, max_tries, started, ended, due from tasks "
            "where dag_id = ? and run_id = ?",
            (dag_id, run_id),
        )
        return {str(row[0]): TaskRow(*row) for row in rows}  # type: ignore[arg-type]

    def set_task(self, run: RunRow, task: TaskRow) -> None:
        """Change a task, or add one that the DAG got since."""
        self._do(
            "insert or replace into tasks values (?,?,?,?,?,?,?,?,?)",
            (run.dag_id, run.run_id, *astuple(task)),
        )

    def add_attempt(self, run: RunRow, task: TaskRow, token: str) -> int:
        """Add an attempt that begins; returns its key."""
        with self._lock:
            cursor = self._db.execute(
                "insert into attempts (dag_id, run_id, task_id, try_number, state, started, token) "
                "values (?,?,?,?,?,?,?)",
                (run.dag_id, run.run_id, task.task_id, task.try_number, task.state, task.started, token),
            )
            return int(cursor.lastrowid or 0)

    def end_attempt(self, attempt: int, state: str, now: float) -> None:
        """Note how an attempt ended."""
        self._do("update attempts set state = ?, ended = ? where attempt = ?", (state, now, attempt))

    def attempts(self, dag_id: str, run_id: str, task_id: str) -> list[TaskRow]:
        """Return a task's attempts, the first one first, as if each were the task."""
        rows = self._all(
            "select task_id, a.state, a.try_number, t.max_tries, a.started, a.ended, null "
            "from attempts a join tasks t using (dag_id, run_id, task_id) "
            "where dag_id = ? and run_id = ? and task_id = ? order by a.try_number",
            (dag_id, run_id, task_id),
        )
        return [TaskRow(*row) for row in rows]  # type: ignore[arg-type]

    def set_pid(self, attempt: int, pid: int | None) -> None:
        """Note which process an attempt is, or that there is none any more."""
        self._do("update attempts set pid = ? where attempt = ?", (pid, attempt))

    def left_running(self) -> list[tuple[int, int | None, str]]:
        """Return attempts (key, process, token) that are said to be running."""
        rows = self._all("select attempt, pid, token from attempts where state = ?", (RUNNING,))
        return [(int(str(a)), int(str(p)) if p is not None else None, str(t)) for a, p, t in rows]

    def fail_left_running(self, now: float) -> int:
        """Mark what a killed process left running as failed, its runs too; returns how many runs."""
        with self.transaction():
            for table in ("tasks", "attempts"):
                self._do(f"update {table} set state = ?, ended = ? where state = ?", (FAILED, now, RUNNING))  # noqa: S608
            return self._do("update runs set state = ?, ended = ? where state = ?", (FAILED, now, RUNNING))

    def attempt(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> int | None:
        """Return the key of one attempt."""
        rows = self._all(
            "select attempt from attempts where dag_id = ? and run_id = ? and task_id = ? and try_number = ?",
            (dag_id, run_id, task_id, try_number),
        )
        return int(str(rows[0][0])) if rows else None

    def add_lines(self, attempt: int, lines: Iterable[LogRow]) -> None:
        """Append to an attempt's log."""
        with self.transaction():
            self._db.executemany(
                "insert into log_lines values (?,?,?,?,?)",
                [(attempt, row.line, row.time, row.level, row.text) for row in lines],
            )

    def drop_lines(self, attempt: int, first: int, last: int) -> None:
        """Forget lines from the middle of a log, both ends counted."""
        self._do("delete from log_lines where attempt = ? and line between ? and ?", (attempt, first, last))

    def last_line(self, attempt: int) -> int:
        """Return the number of a log's last line, 0 where it is empty."""
        return int(
            str(self._all("select coalesce(max(line), 0) from log_lines where attempt = ?", (attempt,))[0][0])
        )

    def lines(self, attempt: int, after: int, limit: int) -> list[LogRow]:
        """Return some lines of a log, those after the line numbered `after`."""
        rows = self._all(
            "select line, time, level, text from log_lines "
            "where attempt = ? and line > ? order by line limit ?",
            (attempt, after, limit),
        )
        return [LogRow(*row) for row in rows]  # type: ignore[arg-type]


def encode_conf(conf: Mapping[str, object]) -> str:
    """Return a run's conf as it is stored and as its tasks read it."""
    return json.dumps(conf, ensure_ascii=False, separators=(",", ":"))


def _own(lock: Path) -> int:
    """Take the lock that a process holds for as long as it lives; the system frees it when it dies."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise EngineError(f"another process uses {lock.with_suffix('')}; give each its own --state") from None
    return handle

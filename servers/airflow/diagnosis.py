"""Why did a run fail? The root causes, told apart from what only fell with them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from servers.airflow.engine import (
    FAILED,
    UNMAPPED,
    UPSTREAM_FAILED,
    Attempt,
    Engine,
    EngineError,
    Run,
    TaskInstance,
)
from servers.airflow.loglines import Found, find, same_error

MAX_CAUSES = 5
MAX_ATTEMPTS = 3
"""Of one task, the latest ones, whose logs are read."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt that failed, and why."""

    number: int
    found: Found | None


@dataclass(frozen=True, slots=True)
class Cause:
    """One task that failed by itself."""

    task: TaskInstance
    attempts: tuple[Tried, ...]
    """The latest first, at least one, at most `MAX_ATTEMPTS`."""
    blocked: tuple[str, ...]
    """Tasks that never began because of it."""

    @property
    def always_alike(self) -> bool:
        """Whether there was more than one attempt, and each failed in the same way."""
        first, *others = [each.found for each in self.attempts]
        if first is None or not others:
            return False
        return all(other is not None and same_error(first, other) for other in others)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One run, looked into."""

    run: Run
    unseen: int
    """Tasks of the run that the engine left out, since there are very many."""
    states: Mapping[str, int]
    causes: tuple[Cause, ...]
    other_failures: int
    """Tasks that failed by themselves and are not among the causes."""
    blocked: tuple[str, ...]
    """Every task that never began because something before it failed."""


def diagnose(engine: Engine, run: Run) -> Diagnosis:
    """Look into one run: its tasks, and the logs of those that failed.

    Raises:
        EngineError: the engine can't say which tasks there are.

    """
    page = engine.task_instances(run.dag_id, run.run_id)
    states: dict[str, int] = {}
    for task in page.items:
        states[task.state] = states.get(task.state, 0) + 1
    failed = sorted((t for t in page.items if t.state == FAILED), key=lambda t: (t.ended or "~", t.task_id))
    blocked = tuple(dict.fromkeys(t.task_id for t in page.items if t.state == UPSTREAM_FAILED))
    upstream = engine.upstream(run.dag_id, run.run_id) if blocked else {}
    causes = tuple(
        Cause(task, _attempts(engine, run, task), _below(upstream, task.task_id, blocked))
        for task in failed[:MAX_CAUSES]
    )
    return Diagnosis(run, page.total - len(page.items), states, causes, len(failed) - len(causes), blocked)


def pick_run(engine: Engine, dag_id: str) -> Run:
    """Return the latest run that failed, or else the latest.

    Raises:
        EngineError: it never ran.

    """
    for page in (engine.runs(dag_id, "failed", 1, 0), engine.runs(dag_id, None, 1, 0)):
        if page.items:
            return page.items[0]
    raise EngineError(f"{dag_id} has never run. trigger_dag runs it.")


def _attempts(engine: Engine, run: Run, task: TaskInstance) -> tuple[Tried, ...]:
    """Read the logs of the attempts since the task last succeeded, the latest ones of them."""
    numbers: list[int] = []
    for each in reversed(engine.tries(run.dag_id, run.run_id, task.task_id, task.map_index)):
        if each.state != FAILED or len(numbers) == MAX_ATTEMPTS:
            break
        numbers.append(each.try_number)
    return tuple(Tried(number, _found(engine, run, task, number)) for number in numbers or [task.try_number])


def _found(engine: Engine, run: Run, task: TaskInstance, number: int) -> Found | None:
    attempt = Attempt(run.dag_id, run.run_id, task.task_id, number, task.map_index)
    try:
        with contextlib.closing(engine.log(attempt)) as lines:
            return find(lines)
    except EngineError:
        return None  # the rest of the diagnosis is worth having without this log


def _below(upstream: Mapping[str, frozenset[str]], task_id: str, blocked: Sequence[str]) -> tuple[str, ...]:
    reached = {task_id}
    while more := {name for name, before in upstream.items() if before & reached} - reached:
        reached |= more
    return tuple(name for name in blocked if name in reached)


def label(task: TaskInstance) -> str:
    """Return a task instance's name, with its map index where it has one."""
    return task.task_id if task.map_index == UNMAPPED else f"{task.task_id}[{task.map_index}]"

"""What a run needs next, from the states of its tasks: pure, so that every case is a plain test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from servers.airflow.engine import FAILED, NO_STATUS, UPSTREAM_FAILED

SUCCESS = "success"
RUNNING = "running"
UP_FOR_RETRY = "up_for_retry"
FINISHED = frozenset({SUCCESS, FAILED, UPSTREAM_FAILED})
WAITING = frozenset({NO_STATUS, UP_FOR_RETRY})


@dataclass(frozen=True, slots=True)
class TaskState:
    """One task of one run, as far as deciding goes."""

    state: str
    try_number: int = 0
    max_tries: int = 0
    due: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now."""

    start: tuple[str, ...] = ()
    """Tasks that may begin, as far as there is room."""
    doomed: tuple[str, ...] = ()
    """Tasks that never begin, since something that they depend on failed."""
    outcome: str | None = None
    """How the run ended, where it did."""
    due: float | None = None
    """When the next retry may begin, if waiting is all there is to do about it."""


def advance(upstream: Mapping[str, frozenset[str]], tasks: Mapping[str, TaskState], now: float) -> Step:
    """Decide the next step of one run. `upstream` names tasks in an order that dependencies allow."""
    states = {name: task.state for name, task in tasks.items()}
    start: list[str] = []
    doomed: list[str] = []
    due: list[float] = []
    for name in upstream:
        task = tasks[name]
        if task.state not in WAITING:
            continue
        before = {states[other] for other in upstream[name]}
        if before & {FAILED, UPSTREAM_FAILED}:
            states[name] = UPSTREAM_FAILED
            doomed.append(name)
        elif before <= {SUCCESS}:
            if task.due is not None and task.due > now:
                due.append(task.due)
            else:
                start.append(name)
    return Step(tuple(start), tuple(doomed), _outcome(states), min(due, default=None))


def after_failure(task: TaskState, now: float, retry_delay: float) -> TaskState:
    """Return the task after an attempt that failed: to be tried again, or failed for good."""
    if task.try_number <= task.max_tries:
        return TaskState(UP_FOR_RETRY, task.try_number, task.max_tries, now + retry_delay)
    return TaskState(FAILED, task.try_number, task.max_tries)


def downstream(upstream: Mapping[str, frozenset[str]], of: Iterable[str]) -> frozenset[str]:
    """Return these tasks and everything that depends on them, near or far; unordered input is fine."""
    found = set(of)
    while True:
        more = {name for name, before in upstream.items() if before & found} - found
        if not more:
            return frozenset(found)
        found |= more


def _outcome(states: Mapping[str, str]) -> str | None:
    if not set(states.values()) <= FINISHED:
        return None
    return SUCCESS if set(states.values()) == {SUCCESS} else FAILED

"""One run of a Spark application, as far as finding out what went wrong needs it.

Times are milliseconds since 1970, durations milliseconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

StageStatus: TypeAlias = Literal["active", "complete", "failed"]
JobStatus: TypeAlias = Literal["running", "succeeded", "failed"]
TaskStatus: TypeAlias = Literal["success", "failed", "killed", "running"]


@dataclass(frozen=True, slots=True)
class Application:
    """One application, or one attempt of it where the cluster manager counts attempts."""

    id: str
    name: str = ""
    attempt: str = ""
    user: str = ""
    spark_version: str = ""
    started: int | None = None
    ended: int | None = None
    completed: bool = False
    """Whether its end is known. A driver that was killed never says that it ended."""

    @property
    def key(self) -> str:
        """What callers name it by."""
        return f"{self.id}/{self.attempt}" if self.attempt else self.id

    @property
    def duration(self) -> int | None:
        """From start to end, where both are known."""
        return None if self.started is None or self.ended is None else max(0, self.ended - self.started)


@dataclass(frozen=True, slots=True)
class Spread:
    """How one figure is spread over the tasks of a stage that succeeded."""

    median: int
    """The upper one of an even number, as Spark's own summaries have it."""
    maximum: int

    @property
    def ratio(self) -> float:
        """How often the median fits into the maximum."""
        return self.maximum / max(1, self.median)


@dataclass(frozen=True, slots=True)
class Spreads:
    """A stage's figures, task by task. A failed task's are zeros or absent, so only successes count."""

    run_time: Spread
    shuffle_read: Spread
    input: Spread


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all tasks of a stage that reported metrics."""

    run_time: int = 0
    gc_time: int = 0
    input: int = 0
    output: int = 0
    shuffle_read: int = 0
    shuffle_write: int = 0
    memory_spilled: int = 0
    disk_spilled: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """One attempt of a stage that ran; skipped stages are left out."""

    id: int
    attempt: int
    name: str
    status: StageStatus
    tasks: int
    """How many it has."""
    succeeded: int = 0
    failed: int = 0
    """Task attempts; a task that is tried again counts again."""
    killed: int = 0
    submitted: int | None = None
    completed: int | None = None
    failure: str = ""
    totals: Totals = field(default_factory=Totals)
    spreads: Spreads | None = None
    """None where no task succeeded, or nobody summed them up."""

    @property
    def duration(self) -> int | None:
        """From submission to completion."""
        return (
            None
            if self.submitted is None or self.completed is None
            else max(0, self.completed - self.submitted)
        )


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt of a task."""

    id: int
    index: int
    """Which partition, in most stages."""
    attempt: int
    executor: str
    host: str
    status: TaskStatus
    duration: int
    error: str = ""
    """As Spark prints it: class, message and stack."""
    run_time: int = 0
    gc_time: int = 0
    shuffle_read: int = 0
    input: int = 0
    memory_spilled: int = 0
    disk_spilled: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """One job."""

    id: int
    status: JobStatus
    stages: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Executor:
    """One executor other than the driver."""

    id: str
    host: str
    removed: str = ""
    """Why it was removed, as Spark says it; empty while it is there."""


@dataclass(frozen=True, slots=True)
class Query:
    """One SQL execution."""

    id: int
    description: str
    plan: str
    error: str
    jobs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Everything about one application but its single tasks."""

    application: Application
    jobs: tuple[Job, ...] = ()
    stages: tuple[Stage, ...] = ()
    executors: tuple[Executor, ...] = ()
    queries: tuple[Query, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What could not be read, in sentences for the model."""

    @property
    def incomplete(self) -> bool:
        """Whether there may be more to know: the application's end is missing, or part was unreadable."""
        return not self.application.completed or bool(self.notes)

"""What a workflow engine is to the tools: DAGs, their runs, the logs of their tasks, and two ways to act."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

RunState: TypeAlias = Literal["queued", "running", "success", "failed"]
RUN_STATES: tuple[RunState, ...] = ("queued", "running", "success", "failed")

NO_STATUS = "no_status"
"""A task instance that nothing has happened to yet; Airflow's API has null there."""
FAILED = "failed"
UPSTREAM_FAILED = "upstream_failed"
UNMAPPED = -1
"""The map index of a task that isn't mapped, as in Airflow."""

Item_co = TypeVar("Item_co", covariant=True)


class EngineError(Exception):
    """The engine refused, or can't be asked now. The message is for the model: it says what to do next."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item_co]):
    """Some of a list, and how long the list is."""

    items: tuple[Item_co, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Dag:
    """One workflow."""

    dag_id: str
    description: str = ""
    schedule: str = ""
    """In words; empty where runs only begin by hand."""
    paused: bool = False
    tags: tuple[str, ...] = ()
    file: str = ""
    broken: bool = False
    """Its file has an import error now; what runs is what was read before."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a DAG. Times are RFC 3339 in UTC, empty where there is none yet."""

    dag_id: str
    run_id: str
    state: str
    run_type: str
    queued: str = ""
    started: str = ""
    ended: str = ""
    seconds: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class TaskInstance:
    """One task within one run."""

    task_id: str
    state: str
    map_index: int = UNMAPPED
    try_number: int = 0
    """Of the latest attempt; 0 where it never started."""
    max_tries: int = 0
    """The number of the last attempt that may follow a failure is one more, as in Airflow."""
    started: str = ""
    ended: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one task: what a log belongs to."""

    dag_id: str
    run_id: str
    task_id: str
    try_number: int
    map_index: int = UNMAPPED


@dataclass(frozen=True, slots=True)
class Raised:
    """One exception of a chain, as a structured log tells it."""

    type: str
    message: str
    frames: tuple[str, ...] = ()
    """`file:line in name`, the innermost last."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a task's log."""

    text: str
    time: str = ""
    level: str = ""
    raised: tuple[Raised, ...] = field(default=())
    """The exception that the line reports, and then its causes."""
    chatter: bool = False
    """The engine's own words about its own work, which tell nothing about the task."""


@dataclass(frozen=True, slots=True)
class ImportFailure:
    """One file that could not be read as DAGs."""

    file: str
    line: int | None
    time: str
    message: str


class Engine(Protocol):
    """A workflow engine. Every method blocks, so call it in a thread, and may raise `EngineError`."""

    @property
    def name(self) -> str:
        """Return what the engine is called in metrics."""

    def dags(self, search: str, limit: int, offset: int) -> Page[Dag]:
        """Return DAGs whose id contains `search`, in the order of their ids."""

    def runs(self, dag_id: str | None, state: RunState | None, limit: int, offset: int) -> Page[Run]:
        """Return runs, the newest first; of every DAG where none is named."""

    def run(self, dag_id: str, run_id: str) -> Run:
        """Return one run."""

    def task_instances(self, dag_id: str, run_id: str) -> Page[TaskInstance]:
        """Return a run's task instances, perhaps not all of very many."""

    def upstream(self, dag_id: str, run_id: str) -> Mapping[str, frozenset[str]]:
        """Return, for each task, those that it directly depends on; empty where nobody knows any more."""

    def tries(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> Sequence[TaskInstance]:
        """Return a task's attempts so far, the first one first, each with its own state and times."""

    def log(self, attempt: Attempt) -> Generator[LogLine, None, None]:
        """Yield the lines of one attempt's log. Close it, or read it to its end."""

    def import_errors(self, limit: int, offset: int) -> Page[ImportFailure]:
        """Return the files that can't be read as DAGs."""

    def trigger(self, dag_id: str, conf: Mapping[str, object], note: str) -> Run:
        """Begin a run. `conf` reaches the tasks as data, never as part of a command."""

    def clear(self, dag_id: str, run_id: str, task_ids: Sequence[str]) -> Sequence[TaskInstance]:
        """Run these tasks of a run again, and all that depend on them; without any, all that failed.

        Returns what will run again, in its state after the clearing.
        """

    def close(self) -> None:
        """Stop what runs and let go of everything."""

"""The shapes of the tools' answers. Each becomes an output schema that a model reads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

Truncated = Annotated[bool, Field(description="Whether something was left out")]
More = Annotated[str, Field(description="How to get what was left out; empty if nothing was")]
Moment = Annotated[str, Field(description="RFC 3339 in UTC; empty if not yet")]
Seconds = Annotated[float | None, Field(description="How long it took; null if it has not ended")]


class DagSummary(TypedDict):
    """One DAG."""

    dag_id: str
    description: str
    schedule: Annotated[str, Field(description="When it runs by itself; empty if only by hand")]
    paused: Annotated[bool, Field(description="A paused DAG's runs wait until somebody unpauses it")]
    tags: list[str]
    file: str
    has_import_error: Annotated[bool, Field(description="Its file can't be read now; see list_import_errors")]


class DagList(TypedDict):
    """DAGs by id."""

    dags: list[DagSummary]
    total: Annotated[int, Field(description="How many there are in all")]
    truncated: Truncated
    more: More


class RunSummary(TypedDict):
    """One run of a DAG."""

    dag_id: str
    run_id: str
    state: Annotated[str, Field(description="queued, running, success or failed")]
    run_type: str
    queued: Moment
    started: Moment
    ended: Moment
    seconds: Seconds
    note: str


class RunList(TypedDict):
    """Runs, the newest first."""

    runs: list[RunSummary]
    total: Annotated[int, Field(description="How many there are in all")]
    truncated: Truncated
    more: More


class AttemptFailure(TypedDict):
    """An earlier attempt that failed too."""

    attempt: int
    error: str


class RootCause(TypedDict):
    """One task that failed by itself."""

    task_id: str
    map_index: Annotated[int, Field(description="Of a mapped task; -1 if it is not mapped")]
    attempt: Annotated[int, Field(description="The number of the attempt that the lines are from, the last")]
    started: Moment
    seconds: Seconds
    error: Annotated[str, Field(description="What went wrong, in one line")]
    place: Annotated[str, Field(description="Innermost line of the task's own code, if known")]
    lines: Annotated[list[str], Field(description="The lines of the log that matter")]
    earlier_attempts: list[AttemptFailure]
    blocked: Annotated[list[str], Field(description="Tasks that never began because of this one")]


class RunDiagnosis(TypedDict):
    """Why a run failed."""

    dag_id: str
    run_id: str
    state: str
    started: Moment
    ended: Moment
    summary: Annotated[str, Field(description="The finding in a sentence or two, and what to do next")]
    task_states: Annotated[dict[str, int], Field(description="How many tasks are in each state")]
    root_causes: Annotated[list[RootCause], Field(description="Tasks that failed by themselves, first first")]
    upstream_failed: Annotated[
        list[str], Field(description="Tasks that never began; they need no mending of their own")
    ]
    truncated: Truncated
    more: More


class TaskLog(TypedDict):
    """Part of one attempt's log."""

    dag_id: str
    run_id: str
    task_id: str
    attempt: int
    state: Annotated[str, Field(description="How this attempt stands")]
    attempts: Annotated[list[int], Field(description="The attempts that there are")]
    first_line: Annotated[int, Field(description="The number of the first line here")]
    total_lines: int
    lines: list[str]
    truncated: Truncated
    more: More


class ImportErrorSummary(TypedDict):
    """One file that can't be read as DAGs."""

    file: str
    line: Annotated[int | None, Field(description="Where in the file, if known")]
    time: Moment
    message: str


class ImportErrorList(TypedDict):
    """Files that can't be read as DAGs."""

    import_errors: list[ImportErrorSummary]
    total: Annotated[int, Field(description="How many there are in all")]
    truncated: Truncated
    more: More


class Triggered(TypedDict):
    """A run that was begun."""

    dag_id: str
    run_id: str
    state: str
    next: Annotated[str, Field(description="What to do next")]


class ClearedTask(TypedDict):
    """A task that will run again."""

    task_id: str
    map_index: int
    state: str


class Cleared(TypedDict):
    """Tasks that will run again."""

    dag_id: str
    run_id: str
    cleared: list[ClearedTask]
    total: Annotated[int, Field(description="How many tasks will run again")]
    truncated: Truncated
    next: Annotated[str, Field(description="What to do next")]

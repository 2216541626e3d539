"""Turn what an engine says into answers: short, with a word on what was left out and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from servers.airflow.answers import (
    AttemptFailure,
    Cleared,
    DagList,
    DagSummary,
    ImportErrorList,
    ImportErrorSummary,
    RootCause,
    RunDiagnosis,
    RunList,
    RunSummary,
    TaskLog,
)
from servers.airflow.diagnosis import Cause, Diagnosis, label
from servers.airflow.engine import Attempt, Dag, ImportFailure, LogLine, Page, Run, TaskInstance
from servers.airflow.loglines import cut

MAX_BYTES = 32 * 1024
"""Of a log's lines in one answer."""
MAX_NAMES = 50
MAX_MESSAGE = 2000

Item = TypeVar("Item")


def dag_list(page: Page[Dag], offset: int) -> DagList:
    """Shape a page of DAGs."""
    dags = [
        DagSummary(
            dag_id=dag.dag_id,
            description=cut(dag.description, 300),
            schedule=cut(dag.schedule, 200),
            paused=dag.paused,
            tags=list(dag.tags[:20]),
            file=dag.file,
            has_import_error=dag.broken,
        )
        for dag in page.items
    ]
    more = _more(page, offset)
    return DagList(dags=dags, total=page.total, truncated=bool(more), more=more)


def run_list(page: Page[Run], offset: int) -> RunList:
    """Shape a page of runs."""
    runs = [
        RunSummary(
            dag_id=run.dag_id,
            run_id=run.run_id,
            state=run.state,
            run_type=run.run_type,
            queued=run.queued,
            started=run.started,
            ended=run.ended,
            seconds=run.seconds,
            note=cut(run.note, 300),
        )
        for run in page.items
    ]
    more = _more(page, offset)
    return RunList(runs=runs, total=page.total, truncated=bool(more), more=more)


def import_error_list(page: Page[ImportFailure], offset: int) -> ImportErrorList:
    """Shape a page of import errors. Of a long traceback the end is what counts."""
    errors = [
        ImportErrorSummary(
            file=failure.file,
            line=failure.line,
            time=failure.time,
            message=failure.message
            if len(failure.message) <= MAX_MESSAGE
            else f"[…] {failure.message[-MAX_MESSAGE:]}",
        )
        for failure in page.items
    ]
    more = _more(page, offset)
    return ImportErrorList(import_errors=errors, total=page.total, truncated=bool(more), more=more)


def diagnosis(found: Diagnosis) -> RunDiagnosis:
    """Shape a diagnosis."""
    run = found.run
    more = ""
    if found.other_failures:
        more = f"{found.other_failures} more tasks failed by themselves; get_task_log reads any task's log."
    elif len(found.blocked) > MAX_NAMES:
        more = f"Only the first {MAX_NAMES} of {len(found.blocked)} tasks that never began are named."
    elif found.unseen:
        more = f"{found.unseen} of the run's tasks were not looked at: there are too many."
    return RunDiagnosis(
        dag_id=run.dag_id,
        run_id=run.run_id,
        state=run.state,
        started=run.started,
        ended=run.ended,
        summary=_summary(found),
        task_states=dict(found.states),
        root_causes=[_cause(cause) for cause in found.causes],
        upstream_failed=list(found.blocked[:MAX_NAMES]),
        truncated=bool(more),
        more=more,
    )


def _cause(cause: Cause) -> RootCause:
    last, *earlier = cause.attempts
    return RootCause(
        task_id=cause.task.task_id,
        map_index=cause.task.map_index,
        attempt=last.number,
        started=cause.task.started,
        seconds=cause.task.seconds,
        error=last.found.error if last.found else "The log says nothing about it.",
        place=last.found.place if last.found else "",
        lines=list(last.found.lines) if last.found else [],
        earlier_attempts=[
            AttemptFailure(attempt=each.number, error=each.found.error if each.found else "not known")
            for each in earlier
        ],
        blocked=list(cause.blocked[:MAX_NAMES]),
    )


def _summary(found: Diagnosis) -> str:
    if not found.causes:
        return _nothing_failed(found)
    first = found.causes[0]
    last = first.attempts[0]
    error = last.found.error if last.found else "its log says nothing"
    parts = [f"{label(first.task)} failed in attempt {last.number}: {error}"]
    others = len(found.causes) + found.other_failures - 1
    if others:
        parts.append(f"{others} other {_tasks(others)} failed by themselves too.")
    if found.blocked:
        parts.append(f"{len(found.blocked)} {_tasks(len(found.blocked))} never began because of that.")
    if first.always_alike:
        parts.append(
            f"Each of the last {len(first.attempts)} attempts failed alike, "
            "so mend the cause before running it again."
        )
    if found.run.state == "failed":
        parts.append("Once it is mended, clear_task_instances runs what failed again.")
    return " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts)


def _nothing_failed(found: Diagnosis) -> str:
    state = found.run.state
    if state == "success":
        return "Nothing failed: the run succeeded."
    if state != "failed":
        return f"Nothing has failed so far: the run is {state}. Look again later."
    return (
        "The run failed, but none of its tasks did by itself: it was marked failed, or stopped from outside. "
        "clear_task_instances runs again what did not succeed."
    )


def log(attempt: Attempt, tries: Sequence[TaskInstance], part: tuple[list[LogLine], int, int]) -> TaskLog:
    """Shape part of a log. Where it is too long, its end is what counts."""
    lines, first, total = part
    texts: list[str] = []
    size = 0
    for line in reversed(lines):
        text = "\n".join([_line(line), *(f"  {each}" for each in _raised(line))])
        size += len(text.encode()) + 4
        if size > MAX_BYTES and texts:
            break
        texts.append(text)
    first += len(lines) - len(texts)
    more = ""
    if texts and first > 1:
        more = f"Lines before {first} are left out: ask again with before={first}."
    state = next((each.state for each in tries if each.try_number == attempt.try_number), "")
    return TaskLog(
        dag_id=attempt.dag_id,
        run_id=attempt.run_id,
        task_id=attempt.task_id,
        attempt=attempt.try_number,
        state=state,
        attempts=[each.try_number for each in tries],
        first_line=first,
        total_lines=total,
        lines=texts[::-1],
        truncated=bool(more),
        more=more,
    )


def _line(line: LogLine) -> str:
    mark = f"{line.level.upper()}: " if line.level in ("warning", "error", "critical") else ""
    return mark + cut(line.text, MAX_MESSAGE)


def _raised(line: LogLine) -> list[str]:
    shown = []
    for number, raised in enumerate(line.raised):
        shown += [f"at {frame}" for frame in raised.frames[-5:]]
        shown.append(cut(f"{'caused by ' if number else ''}{raised.type}: {raised.message}"))
    return shown


def cleared(run: Run, tasks: Sequence[TaskInstance]) -> Cleared:
    """Shape what will run again."""
    return Cleared(
        dag_id=run.dag_id,
        run_id=run.run_id,
        cleared=[
            {"task_id": task.task_id, "map_index": task.map_index, "state": task.state}
            for task in tasks[:MAX_NAMES]
        ],
        total=len(tasks),
        truncated=len(tasks) > MAX_NAMES,
        next=f"The run is {run.state}. In a while, diagnose_dag_run says how it went.",
    )


def _more(page: Page[Item], offset: int) -> str:
    end = offset + len(page.items)
    if end >= page.total or not page.items:
        return ""
    return f"There are {page.total - end} more: ask again with offset={end}."


def _tasks(count: int) -> str:
    return "task" if count == 1 else "tasks"

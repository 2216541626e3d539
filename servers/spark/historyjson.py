"""The History Server's JSON as runs. Its names are those of Spark's `status/api/v1/api.scala`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from servers.spark.fields import Fields, fields, flag, items, number, numbers, objects, sub, text
from servers.spark.model import (
    Application,
    Executor,
    Job,
    JobStatus,
    Query,
    Spread,
    Spreads,
    Stage,
    StageStatus,
    Task,
    TaskStatus,
    Totals,
)
from servers.spark.properties import public_properties
from servers.spark.replay import MAX_PLAN
from servers.spark.stagetasks import MAX_ERROR

_JOBS: Mapping[str, JobStatus] = {"SUCCEEDED": "succeeded", "FAILED": "failed"}
_STAGES: Mapping[str, StageStatus] = {"COMPLETE": "complete", "FAILED": "failed", "ACTIVE": "active"}
_TASKS: Mapping[str, TaskStatus] = {"SUCCESS": "success", "FAILED": "failed", "KILLED": "killed"}


def newest_attempt(item: Fields, attempt: str) -> Fields | None:
    """Return an application's attempt of that name, or the newest one, which stands first."""
    attempts = objects(item, "attempts")
    if attempt:
        attempts = [one for one in attempts if text(one, "attemptId") == attempt]
    return attempts[0] if attempts else None


def application(item: Fields, attempt: Fields) -> Application:
    """Read one attempt of an `ApplicationInfo`."""
    completed = flag(attempt, "completed")
    ended = number(attempt, "endTimeEpoch")
    return Application(
        id=text(item, "id"),
        name=text(item, "name"),
        attempt=text(attempt, "attemptId"),
        user=text(attempt, "sparkUser"),
        spark_version=text(attempt, "appSparkVersion"),
        started=number(attempt, "startTimeEpoch"),
        ended=ended if completed and ended > 0 else None,
        completed=completed,
    )


def job(item: Fields) -> Job:
    """Read one `JobData`."""
    status = _JOBS.get(text(item, "status"), "running")
    return Job(number(item, "jobId"), status, numbers(item, "stageIds"))


def stage(item: Fields) -> Stage | None:
    """Read one `StageData`; None for a stage that did not run."""
    status = _STAGES.get(text(item, "status"))
    if status is None:
        return None
    return Stage(
        id=number(item, "stageId"),
        attempt=number(item, "attemptId"),
        name=text(item, "name"),
        status=status,
        tasks=number(item, "numTasks"),
        succeeded=number(item, "numCompleteTasks"),
        failed=number(item, "numFailedTasks"),
        killed=number(item, "numKilledTasks"),
        submitted=time(text(item, "submissionTime")),
        completed=time(text(item, "completionTime")),
        failure=text(item, "failureReason"),
        totals=Totals(
            run_time=number(item, "executorRunTime"),
            gc_time=number(item, "jvmGcTime"),
            input=number(item, "inputBytes"),
            output=number(item, "outputBytes"),
            shuffle_read=number(item, "shuffleReadBytes"),
            shuffle_write=number(item, "shuffleWriteBytes"),
            memory_spilled=number(item, "memoryBytesSpilled"),
            disk_spilled=number(item, "diskBytesSpilled"),
        ),
        spreads=_spreads(sub(item, "taskMetricsDistributions")),
    )


def _spreads(item: Fields) -> Spreads | None:
    run_time = _spread(item, "executorRunTime")
    read = _spread(sub(item, "shuffleReadMetrics"), "readBytes")
    taken = _spread(sub(item, "inputMetrics"), "bytesRead")
    return None if run_time is None or read is None or taken is None else Spreads(run_time, read, taken)


def _spread(item: Fields, name: str) -> Spread | None:
    found = numbers(item, name)
    return Spread(found[0], found[1]) if len(found) == 2 else None


def task(item: Fields) -> Task:
    """Read one `TaskData`."""
    metrics = sub(item, "taskMetrics")
    read = sub(metrics, "shuffleReadMetrics")
    return Task(
        id=number(item, "taskId"),
        index=number(item, "index"),
        attempt=number(item, "attempt"),
        executor=text(item, "executorId"),
        host=text(item, "host"),
        status=_TASKS.get(text(item, "status"), "running"),
        duration=number(item, "duration"),
        error=text(item, "errorMessage")[:MAX_ERROR],
        run_time=number(metrics, "executorRunTime"),
        gc_time=number(metrics, "jvmGcTime"),
        shuffle_read=number(read, "remoteBytesRead") + number(read, "localBytesRead"),
        input=number(sub(metrics, "inputMetrics"), "bytesRead"),
        memory_spilled=number(metrics, "memoryBytesSpilled"),
        disk_spilled=number(metrics, "diskBytesSpilled"),
    )


def executor(item: Fields) -> Executor:
    """Read one `ExecutorSummary`."""
    host = text(item, "hostPort").rpartition(":")[0]
    return Executor(text(item, "id"), host, text(item, "removeReason"))


def query(item: Fields) -> Query:
    """Read one `ExecutionData`."""
    jobs = (*numbers(item, "successJobIds"), *numbers(item, "failedJobIds"), *numbers(item, "runningJobIds"))
    return Query(
        id=number(item, "id"),
        description=text(item, "description"),
        plan=text(item, "planDescription")[:MAX_PLAN],
        error=text(item, "errorMessage"),
        jobs=tuple(sorted(jobs)),
    )


def properties(item: Fields) -> dict[str, str]:
    """Read the Spark properties of an `ApplicationEnvironmentInfo`: pairs."""
    pairs = (pair for pair in items(item, "sparkProperties") if isinstance(pair, list) and len(pair) == 2)
    return public_properties(fields({str(name): value for name, value in pairs}))


def time(said: str) -> int | None:
    """Read a time such as 2026-11-22T21:44:09.884GMT, in milliseconds since 1970."""
    try:
        read = datetime.fromisoformat(said.removesuffix("GMT") + "+00:00")
    except ValueError:
        return None
    return round(read.timestamp() * 1000)

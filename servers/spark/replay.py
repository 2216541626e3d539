"""An event log's events, added up to a run.

The names are those of Spark's `JsonProtocol`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from servers.spark.fields import Fields, fields, number, numbers, optional, sub, text
from servers.spark.model import Application, Executor, Job, JobStatus, Query, Run, Task
from servers.spark.properties import public_properties
from servers.spark.stagetasks import StageTasks
from servers.spark.taskend import error_text

SQL = "org.apache.spark.sql.execution.ui."
MAX_PLAN = 256 * 1024
_PREFIX = b'{"Event":"'


@dataclass(slots=True)
class _Query:
    description: str
    plan: str
    error: str = ""
    jobs: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Job:
    stages: tuple[int, ...]
    status: JobStatus = "running"


@dataclass(frozen=True, slots=True)
class Replayed:
    """A run, with those of its tasks that were kept."""

    run: Run
    tasks: Mapping[tuple[int, int], StageTasks]
    """By stage and attempt."""
    events: int
    """How many lines were events, known or not."""


class Replay:
    """Takes one log's lines in order."""

    def __init__(self, stem: str) -> None:
        self._application = Application(stem)
        self._stages: dict[tuple[int, int], StageTasks] = {}
        self._jobs: dict[int, _Job] = {}
        self._executors: dict[str, Executor] = {}
        self._queries: dict[int, _Query] = {}
        self._properties: dict[str, str] = {}
        self._events = self._unreadable = 0
        self._torn = False
        self._handlers: dict[str, Callable[[Fields], None]] = {
            "SparkListenerLogStart": self._log_start,
            "SparkListenerApplicationStart": self._application_start,
            "SparkListenerApplicationEnd": self._application_end,
            "SparkListenerEnvironmentUpdate": self._environment,
            "SparkListenerJobStart": self._job_start,
            "SparkListenerJobEnd": self._job_end,
            "SparkListenerStageSubmitted": self._stage,
            "SparkListenerStageCompleted": self._stage,
            "SparkListenerTaskEnd": self._task_end,
            "SparkListenerExecutorAdded": self._executor_added,
            "SparkListenerExecutorRemoved": self._executor_removed,
            f"{SQL}SparkListenerSQLExecutionStart": self._query_start,
            f"{SQL}SparkListenerSQLAdaptiveExecutionUpdate": self._query_plan,
            f"{SQL}SparkListenerSQLExecutionEnd": self._query_end,
        }

    @property
    def application(self) -> Application:
        """The application as far as it is known by now."""
        return self._application

    @property
    def known(self) -> bool:
        """Whether the application has said who it is."""
        return self._application.started is not None

    def feed(self, lines: Iterable[bytes]) -> None:
        """Take lines. One that is no event is counted and left out."""
        for line in lines:
            self.take(line)

    def take(self, line: bytes) -> None:
        """Take one line. Most events aren't needed, and parsing them is what would take the time."""
        if line.startswith(_PREFIX):
            name = line[len(_PREFIX) : line.find(b'"', len(_PREFIX))].decode("ascii", "replace")
            if name not in self._handlers and line.endswith(b"}"):
                self._events += 1
                self._torn = False
                return
        elif not line.strip():
            return
        try:
            event = fields(json.loads(line))
        except (ValueError, RecursionError):
            event = {}
        name = text(event, "Event")
        self._torn = not name and line.startswith(b"{")
        if not name:
            self._unreadable += 1
            return
        self._events += 1
        handler = self._handlers.get(name)
        if handler is not None:
            handler(event)

    def finish(self, spoilt: Iterable[str] = ()) -> Replayed:
        """Return what came of it."""
        notes = [*dict.fromkeys(spoilt)]
        unreadable = self._unreadable
        if not self._events and not unreadable:
            notes.append("The log is empty.")
        elif self._torn and unreadable:
            unreadable -= 1
            notes.append("The log ends in the middle of an event: it was cut, or is still being written.")
        if unreadable:
            notes.append(f"{unreadable} of {self._events + self._unreadable} lines are no events; left out.")
        run = Run(
            application=self._application,
            jobs=tuple(Job(key, job.status, job.stages) for key, job in sorted(self._jobs.items())),
            stages=tuple(stage.build() for _, stage in sorted(self._stages.items())),
            executors=tuple(self._executors.values()),
            queries=tuple(
                Query(key, query.description, query.plan, query.error, tuple(query.jobs))
                for key, query in sorted(self._queries.items())
            ),
            properties=self._properties,
            notes=tuple(notes),
        )
        return Replayed(run, self._stages, self._events)

    def _log_start(self, event: Fields) -> None:
        self._application = replace(self._application, spark_version=text(event, "Spark Version"))

    def _application_start(self, event: Fields) -> None:
        self._application = replace(
            self._application,
            id=text(event, "App ID") or self._application.id,
            name=text(event, "App Name"),
            attempt=text(event, "App Attempt ID"),
            user=text(event, "User"),
            started=number(event, "Timestamp"),
        )

    def _application_end(self, event: Fields) -> None:
        self._application = replace(self._application, ended=number(event, "Timestamp"), completed=True)

    def _environment(self, event: Fields) -> None:
        self._properties |= public_properties(sub(event, "Spark Properties"))

    def _job_start(self, event: Fields) -> None:
        job = number(event, "Job ID")
        self._jobs[job] = _Job(numbers(event, "Stage IDs"))
        query = text(sub(event, "Properties"), "spark.sql.execution.id")
        if query.isdecimal() and int(query) in self._queries:
            self._queries[int(query)].jobs.append(job)

    def _job_end(self, event: Fields) -> None:
        job = self._jobs.get(number(event, "Job ID"))
        if job is not None:
            succeeded = text(sub(event, "Job Result"), "Result") == "JobSucceeded"
            job.status = "succeeded" if succeeded else "failed"

    def _stage(self, event: Fields) -> None:
        info = sub(event, "Stage Info")
        self._stage_tasks(number(info, "Stage ID"), number(info, "Stage Attempt ID")).info(
            name=text(info, "Stage Name"),
            tasks=number(info, "Number of Tasks"),
            submitted=optional(info, "Submission Time"),
            completed=optional(info, "Completion Time"),
            failure=text(info, "Failure Reason"),
        )

    def _stage_tasks(self, stage: int, attempt: int) -> StageTasks:
        return self._stages.setdefault((stage, attempt), StageTasks(stage, attempt))

    def _task_end(self, event: Fields) -> None:
        info, metrics = sub(event, "Task Info"), sub(event, "Task Metrics")
        end = sub(event, "Task End Reason")
        read = sub(metrics, "Shuffle Read Metrics")
        stage = self._stage_tasks(number(event, "Stage ID"), number(event, "Stage Attempt ID"))
        killed, failed = info.get("Killed") is True, info.get("Failed") is True
        task = Task(
            id=number(info, "Task ID"),
            index=number(info, "Index"),
            attempt=number(info, "Attempt"),
            executor=text(info, "Executor ID"),
            host=text(info, "Host"),
            status="killed" if killed else "failed" if failed else "success",
            duration=max(0, number(info, "Finish Time") - number(info, "Launch Time")),
            error=error_text(end) if failed else "",
            run_time=number(metrics, "Executor Run Time"),
            gc_time=number(metrics, "JVM GC Time"),
            shuffle_read=number(read, "Remote Bytes Read") + number(read, "Local Bytes Read"),
            input=number(sub(metrics, "Input Metrics"), "Bytes Read"),
            memory_spilled=number(metrics, "Memory Bytes Spilled"),
            disk_spilled=number(metrics, "Disk Bytes Spilled"),
        )
        stage.add(
            task,
            output=number(sub(metrics, "Output Metrics"), "Bytes Written"),
            shuffle_write=number(sub(metrics, "Shuffle Write Metrics"), "Shuffle Bytes Written"),
        )

    def _executor_added(self, event: Fields) -> None:
        key = text(event, "Executor ID")
        if key != "driver":
            self._executors[key] = Executor(key, text(sub(event, "Executor Info"), "Host"))

    def _executor_removed(self, event: Fields) -> None:
        known = self._executors.get(text(event, "Executor ID"))
        if known is not None:
            self._executors[known.id] = replace(known, removed=text(event, "Removed Reason"))

    def _query_start(self, event: Fields) -> None:
        plan = text(event, "physicalPlanDescription")[:MAX_PLAN]
        self._queries[number(event, "executionId")] = _Query(text(event, "description"), plan)

    def _query_plan(self, event: Fields) -> None:
        query = self._queries.get(number(event, "executionId"))
        if query is not None:
            query.plan = text(event, "physicalPlanDescription")[:MAX_PLAN] or query.plan

    def _query_end(self, event: Fields) -> None:
        query = self._queries.get(number(event, "executionId"))
        if query is not None:
            query.error = text(event, "errorMessage")

"""Runs and findings in the shape that the tools answer with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from servers.spark.comparison import Comparison, Step, total
from servers.spark.diagnosis import Failure, fatal, notes
from servers.spark.errors import TaskError
from servers.spark.findings import Diagnosis, Finding
from servers.spark.model import Application, Run, Stage
from servers.spark.records import Record
from servers.spark.results import (
    ApplicationSummary,
    ComparisonResult,
    DiagnosisResult,
    ErrorDetail,
    FailedStage,
    FailureGroup,
    FindingDetail,
    LogSummary,
    RootCause,
    SkewedStage,
    StagePressure,
    StageSummary,
    StepSide,
)
from servers.spark.skew import Skew

MAX_NAME = 200
MAX_REASON = 300
SHOWN_TASKS = 5
SHOWN_STAGES = 10
SHOWN_QUERIES = 10
SHOWN_REMOVED = 10

_SHAPING = (
    *("spark.master", "spark.submit.deployMode", "spark.executor.instances", "spark.executor.cores"),
    *("spark.executor.memory", "spark.executor.memoryOverhead", "spark.driver.memory"),
    *("spark.memory.fraction",),
    *("spark.dynamicAllocation.enabled", "spark.sql.adaptive.enabled", "spark.sql.shuffle.partitions"),
    *("spark.task.maxFailures", "spark.speculation", "spark.serializer"),
)
_LAST_MOMENT = 253_402_300_799_000
"""The end of the year 9999: later, a log's clock is broken."""


def application(of: Application) -> ApplicationSummary:
    """Shape one application."""
    return {
        "id": of.key,
        "name": of.name[:MAX_NAME],
        "user": of.user[:MAX_NAME],
        "spark_version": of.spark_version[:MAX_NAME],
        "started": moment(of.started),
        "seconds": None if of.duration is None else of.duration / 1000,
        "completed": of.completed,
    }


def moment(milliseconds: int | None) -> str | None:
    """Write a time; None for one that can't be."""
    if milliseconds is None or not 0 <= milliseconds < _LAST_MOMENT:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def error(of: TaskError) -> ErrorDetail:
    """Shape one error."""
    place = of.place
    return {
        "exception": of.exception[:MAX_NAME],
        "message": of.message,
        "file": place.file[:MAX_NAME] if place else None,
        "line": place.line if place else None,
        "function": place.function[:MAX_NAME] if place else None,
        "code": place.code if place and place.code else None,
        "row": of.row or None,
        "exit_code": of.exit_code,
        "stack": [line[:MAX_NAME] for line in of.stack],
    }


def finding(of: Finding, known: Sequence[Record] = ()) -> FindingDetail:
    """Shape one finding, with what was recorded for its fingerprint."""
    return {
        "kind": of.kind,
        "severity": of.severity,
        "title": of.title,
        "stage": of.stage,
        "evidence": list(of.evidence),
        "suggestions": list(of.suggestions),
        "fingerprint": of.fingerprint,
        "error": error(of.error) if of.error is not None else None,
        "known_root_causes": [root_cause(record) for record in known],
    }


def diagnosis(run: Run, of: Diagnosis, known: Mapping[str, Sequence[Record]]) -> DiagnosisResult:
    """Shape a diagnosis; `known` is by fingerprint."""
    return {
        "application": application(run.application),
        "verdict": of.verdict,
        "summary": of.summary,
        "findings": [finding(one, known.get(one.fingerprint, ())) for one in of.findings],
        "incomplete": run.incomplete,
        "notes": list(of.notes),
    }


def failed_stage(run: Run, stage: Stage) -> FailedStage:
    """Shape one stage in which something failed."""
    return {
        "stage": stage.id,
        "attempt": stage.attempt,
        "name": stage.name[:MAX_NAME],
        "status": stage.status,
        "tasks": stage.tasks,
        "failed": stage.failed,
        "killed": stage.killed,
        "succeeded": stage.succeeded,
        "cost_a_job": fatal(run, stage),
        "reason": stage.failure.partition("\n")[0][:MAX_REASON],
    }


def failure(of: Failure, fingerprint: str) -> FailureGroup:
    """Shape task attempts that failed alike."""
    return {
        "stage": of.stage.id,
        "stage_attempt": of.stage.attempt,
        "kind": of.error.kind,
        "count": len(of.tasks),
        "fingerprint": fingerprint,
        "error": error(of.error),
        "tasks": [
            {
                "task": task.index,
                "attempt": task.attempt,
                "executor": task.executor,
                "host": task.host,
                "milliseconds": task.duration,
            }
            for task in of.tasks[:SHOWN_TASKS]
        ],
    }


def skewed(of: Skew, told: Finding) -> SkewedStage:
    """Shape one uneven stage."""
    return {
        "stage": of.stage.id,
        "name": of.stage.name[:MAX_NAME],
        "tasks": of.stage.tasks,
        "median_ms": of.run_time.median,
        "slowest_ms": of.run_time.maximum,
        "ratio": round(of.run_time.ratio, 1),
        "data": of.data_kind,
        "median_bytes": of.data.median if of.data else None,
        "largest_bytes": of.data.maximum if of.data else None,
        "keys": list(of.keys),
        "finding": finding(told),
    }


def pressed(stage: Stage) -> StagePressure:
    """Shape one stage's memory figures."""
    totals = stage.totals
    return {
        "stage": stage.id,
        "name": stage.name[:MAX_NAME],
        "tasks": stage.tasks,
        "run_time_ms": totals.run_time,
        "gc_time_ms": totals.gc_time,
        "gc_share": round(totals.gc_time / totals.run_time, 3) if totals.run_time else 0.0,
        "memory_spilled_bytes": totals.memory_spilled,
        "disk_spilled_bytes": totals.disk_spilled,
        "shuffle_read_bytes": totals.shuffle_read,
    }


def _side(of: Step | None) -> StepSide | None:
    if of is None:
        return None
    return {
        "stages": of.stages,
        "milliseconds": of.duration,
        "run_time_ms": of.totals.run_time,
        "gc_time_ms": of.totals.gc_time,
        "shuffle_read_bytes": of.totals.shuffle_read,
        "disk_spilled_bytes": of.totals.disk_spilled,
        "input_bytes": of.totals.input,
    }


def comparison(
    before: tuple[Run, Diagnosis], after: tuple[Run, Diagnosis], changed: Comparison, summary: str
) -> ComparisonResult:
    """Shape what changed between two runs."""
    left_out = changed.steps_left_out + changed.settings_left_out
    return {
        "before": application(before[0].application),
        "after": application(after[0].application),
        "summary": summary,
        "verdict_before": before[1].verdict,
        "verdict_after": after[1].verdict,
        "steps": [
            {
                "name": step.name[:MAX_NAME],
                "before": _side(step.before),
                "after": _side(step.after),
                "difference_ms": step.difference,
            }
            for step in changed.steps
        ],
        "settings": [{"name": s.name, "before": s.before, "after": s.after} for s in changed.settings],
        "incomplete": before[0].incomplete or after[0].incomplete,
        "notes": [
            *(f"before: {note}" for note in notes(before[0])),
            *(f"after: {note}" for note in notes(after[0])),
        ],
        "truncated": left_out > 0,
        "more": f"{left_out} smaller differences were left out." if left_out else "",
    }


def log(run: Run) -> LogSummary:
    """Shape what happened in a run."""
    longest = sorted(run.stages, key=lambda stage: -stage.totals.run_time)
    left_out = len(longest) > SHOWN_STAGES or len(run.queries) > SHOWN_QUERIES
    removed = [f"{e.id}: {e.removed[:MAX_REASON]}" for e in run.executors if e.removed]
    return {
        "application": application(run.application),
        "jobs": _counted(job.status for job in run.jobs),
        "stages": _counted(stage.status for stage in run.stages),
        "task_attempts": {
            "succeeded": sum(stage.succeeded for stage in run.stages),
            "failed": sum(stage.failed for stage in run.stages),
            "killed": sum(stage.killed for stage in run.stages),
        },
        "totals": asdict(total(run.stages)),
        "longest_stages": [_stage(stage) for stage in longest[:SHOWN_STAGES]],
        "executors_added": len(run.executors),
        "executors_removed": removed[:SHOWN_REMOVED],
        "queries": [query.description[:MAX_NAME] for query in run.queries[:SHOWN_QUERIES]],
        "settings": {name: run.properties[name] for name in _SHAPING if name in run.properties},
        "incomplete": run.incomplete,
        "notes": notes(run),
        "truncated": left_out or len(removed) > SHOWN_REMOVED,
        "more": "Only the longest stages and first queries are here." if left_out else "",
    }


def _stage(stage: Stage) -> StageSummary:
    return {
        "stage": stage.id,
        "attempt": stage.attempt,
        "name": stage.name[:MAX_NAME],
        "status": stage.status,
        "tasks": stage.tasks,
        "failed": stage.failed,
        "milliseconds": stage.duration,
        "run_time_ms": stage.totals.run_time,
    }


def _counted(statuses: Iterable[str]) -> dict[str, int]:
    return dict(Counter(statuses))


def root_cause(of: Record) -> RootCause:
    """Shape one record."""
    return {
        "id": of.id,
        "fingerprint": of.fingerprint,
        "title": of.title,
        "cause": of.cause,
        "fix": of.fix,
        "application": of.application,
        "author": of.author,
        "recorded": of.recorded,
    }

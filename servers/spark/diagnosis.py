"""From a run to what is wrong with it.

An exception that a task threw says more than the loss of its executor, which often only follows from it; a
task that was killed because its stage was cancelled says nothing. Failed tasks carry no metrics or zeros, so
a failure is known by its words alone, and only successes count for skew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from servers.spark import advice, errors, pressure, skew
from servers.spark.engine import Selection
from servers.spark.errors import LOST, ErrorKind, TaskError
from servers.spark.findings import Diagnosis, Finding, Severity, Verdict
from servers.spark.model import Query, Run, Stage, Task

TasksOf: TypeAlias = Callable[[Stage, Selection, int], tuple[Task, ...]]
"""Returns tasks of one stage, as `Engine.tasks` does."""

MAX_STAGES = 8
MAX_FAILURES = 50
MAX_FINDINGS = 8
MAX_SKEWS = 3

# A cause stands before what follows from it.
_ORDER: Mapping[ErrorKind, int] = {
    "out_of_memory": 0,
    "python_exception": 0,
    "exception": 1,
    "fetch_failed": 2,
    "executor_lost": 3,
    "other": 4,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Task attempts of one stage that failed alike."""

    stage: Stage
    error: TaskError
    tasks: tuple[Task, ...]
    """Of those that were looked at; none where only the stage itself says why."""


def diagnose(run: Run, tasks_of: TasksOf) -> Diagnosis:
    """Find out what is wrong with a run, the cause of its failure first."""
    failures = [failure for stage in failing(run) for failure in group(stage, tasks_of)]
    found = [_finding(run, failure) for failure in failures]
    found += [_query_finding(query) for query in _unexplained(run)]
    found.sort(key=lambda finding: (finding.severity != "failure", _rank(finding)))
    for one in skew.find(run)[:MAX_SKEWS]:
        slowest = tasks_of(one.stage, "slowest", 1)
        found.append(skew.finding(run, one, slowest[0] if slowest else None))
    found += pressure.find(run)
    verdict = _verdict(run, found)
    shown = tuple(found[:MAX_FINDINGS])
    return Diagnosis(verdict, _summary(run, verdict, found), shown, tuple(notes(run)))


def failing(run: Run) -> list[Stage]:
    """Return stages in which something failed, those that failed themselves first; not all if many."""
    bad = [stage for stage in run.stages if stage.failed or stage.status == "failed"]
    return sorted(bad, key=lambda s: (s.status != "failed", -s.failed, s.id, s.attempt))[:MAX_STAGES]


def group(stage: Stage, tasks_of: TasksOf) -> list[Failure]:
    """Return a stage's failures, one for each mistake, the most telling first."""
    alike: dict[str, list[tuple[Task, TaskError]]] = {}
    for task in tasks_of(stage, "failed", MAX_FAILURES) if stage.failed else ():
        error = errors.read(task.error)
        # Running out of memory shows in many ways, wherever the next allocation happened to be.
        key = "out_of_memory" if error.kind == "out_of_memory" else error.fingerprint
        alike.setdefault(key, []).append((task, error))
    if not alike:
        return [Failure(stage, errors.read(stage.failure), ())] if stage.failure else []
    failures = []
    for members in alike.values():
        telling = min(members, key=lambda member: member[1].exception == LOST)[1]
        codes = [error.exit_code for _, error in members if error.exit_code is not None]
        telling = replace(telling, exit_code=codes[0] if codes else None)
        failures.append(Failure(stage, telling, tuple(task for task, _ in members)))
    return sorted(failures, key=lambda f: (_ORDER[f.error.kind], -len(f.tasks)))


def notes(run: Run) -> list[str]:
    """Say what can't be known, and why."""
    said = list(run.notes)
    if not run.application.completed:
        said.append(
            "The application's end is missing: it still runs, its driver was killed, or the log is cut."
        )
    return said


def fatal(run: Run, stage: Stage) -> bool:
    """Whether a stage's failure cost a job, rather than being tried again with success."""
    jobs = [job for job in run.jobs if stage.id in job.stages]
    if any(job.status == "failed" for job in jobs):
        return True
    return stage.status == "failed" and not any(job.status == "succeeded" for job in jobs)


def _finding(run: Run, failure: Failure) -> Finding:
    stage, error = failure.stage, failure.error
    severity: Severity = "failure" if fatal(run, stage) else "warning"
    return Finding(
        kind=error.kind,
        severity=severity,
        title=advice.title(failure.error, stage),
        fingerprint=fingerprint(failure),
        stage=stage.id,
        evidence=tuple(_evidence(run, failure, severity)),
        suggestions=advice.suggestions(error, run),
        error=error,
    )


def fingerprint(failure: Failure) -> str:
    """Return the failure's name across runs."""
    if failure.error.kind == "out_of_memory":  # its place is chance; the stage ran out of memory
        return errors.fingerprint("out_of_memory", failure.error.message, failure.stage.name)
    return failure.error.fingerprint


def _evidence(run: Run, failure: Failure, severity: Severity) -> list[str]:
    stage, tasks = failure.stage, failure.tasks
    said = [
        f"Stage {stage.id} ({stage.name}) {'failed' if stage.status == 'failed' else 'had failures'}: "
        f"{stage.failed} task attempts failed, {stage.killed} were killed, {stage.succeeded} succeeded."
    ]
    if tasks:
        where = ", ".join(dict.fromkeys(f"task {task.index}" for task in tasks[:5]))
        said.append(f"{len(tasks)} of the failures are this one, first in {where}.")
    if failure.error.kind == "out_of_memory":
        said += _memory_evidence(run, failure)
    if severity == "warning":
        said.append("It was tried again with success, or its job did not fail.")
    return said


def _memory_evidence(run: Run, failure: Failure) -> list[str]:
    said = []
    lost = [task for task in failure.tasks if errors.read(task.error).exception == LOST]
    told = len(failure.tasks) - len(lost)
    if lost and told:
        said.append(f"{told} attempts said so themselves, {len(lost)} were lost with their executor.")
    gone = [(e, code) for e in run.executors if (code := errors.exit_code(e.removed)) is not None]
    for code in sorted({code for _, code in gone}):
        names = ", ".join(executor.id for executor, its in gone if its == code)
        said.append(f"Executors that exited with code {code} ({advice.exit_meaning(code)}): {names}.")
    memory = run.properties.get("spark.executor.memory")
    said.append(f"spark.executor.memory is {memory}." if memory else "spark.executor.memory is not set: 1g.")
    if all(task.memory_spilled == 0 and task.shuffle_read == 0 for task in failure.tasks):
        said.append("The failed tasks carry no metrics of use: they died before they could report them.")
    return said


def _unexplained(run: Run) -> list[Query]:
    """Return queries that failed though none of their jobs did: in planning, say, or in a broadcast."""
    failed = {job.id for job in run.jobs if job.status == "failed"}
    return [query for query in run.queries if query.error and not failed & set(query.jobs)][:MAX_STAGES]


def _query_finding(query: Query) -> Finding:
    error = errors.read(query.error)
    return Finding(
        kind=error.kind,
        severity="failure",
        title=f"SQL query {query.id} ({query.description[:100]}) failed: {advice.what(error)}",
        fingerprint=error.fingerprint,
        evidence=("None of its jobs failed: it failed on the driver.",),
        suggestions=("Read the driver's log around that time.",),
        error=error,
    )


def _rank(finding: Finding) -> int:
    return _ORDER[finding.error.kind] if finding.error is not None else len(_ORDER)


def _verdict(run: Run, found: list[Finding]) -> Verdict:
    if any(finding.severity == "failure" for finding in found) or any(j.status == "failed" for j in run.jobs):
        return "failed"
    if found:
        return "slow"
    return "unknown" if run.incomplete else "healthy"


def _summary(run: Run, verdict: Verdict, found: list[Finding]) -> str:
    ran = f"{len(run.jobs)} jobs and {len(run.stages)} stages"
    if verdict == "failed":
        return found[0].title if found else "A job failed, and nothing says why: read the driver's log."
    if verdict == "slow":
        return f"It did not fail. {found[0].title}"
    if verdict == "healthy":
        return f"Nothing is wrong: {ran} ended well, without skew, spill or much garbage collection."
    return f"Nothing is wrong in the part that could be read ({ran}), but that is not all there is."

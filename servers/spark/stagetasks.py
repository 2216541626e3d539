"""One stage's tasks, added up while its log is read: figures of all, themselves only the telling ones."""

from __future__ import annotations

import heapq
from array import array
from dataclasses import dataclass, field, replace

from servers.spark.model import Spread, Spreads, Stage, Task, Totals

KEPT_FAILURES = 200
KEPT_SLOWEST = 20
MAX_ERROR = 16 * 1024


@dataclass(slots=True)
class StageTasks:
    """Counts, sums and columns of one attempt of a stage."""

    stage: int
    attempt: int
    name: str = ""
    tasks: int = 0
    submitted: int | None = None
    completed: int | None = None
    failure: str = ""
    succeeded: int = 0
    failed: int = 0
    killed: int = 0
    totals: Totals = field(default_factory=Totals)
    failures: list[Task] = field(default_factory=list)
    _slowest: list[tuple[int, int, int, Task]] = field(default_factory=list)
    _run_times: array[int] = field(default_factory=lambda: array("q"))
    _reads: array[int] = field(default_factory=lambda: array("q"))
    _inputs: array[int] = field(default_factory=lambda: array("q"))

    def info(
        self, *, name: str, tasks: int, submitted: int | None, completed: int | None, failure: str
    ) -> None:
        """Take what the stage's own events say; a later one knows more."""
        self.name, self.tasks, self.submitted = name, tasks, submitted
        self.completed, self.failure = completed, failure

    def add(self, task: Task, *, output: int, shuffle_write: int) -> None:
        """Take one task that ended."""
        sums = self.totals
        self.totals = Totals(
            run_time=sums.run_time + task.run_time,
            gc_time=sums.gc_time + task.gc_time,
            input=sums.input + task.input,
            output=sums.output + output,
            shuffle_read=sums.shuffle_read + task.shuffle_read,
            shuffle_write=sums.shuffle_write + shuffle_write,
            memory_spilled=sums.memory_spilled + task.memory_spilled,
            disk_spilled=sums.disk_spilled + task.disk_spilled,
        )
        if task.status == "killed":
            self.killed += 1
        elif task.status == "failed":
            self.failed += 1
            if len(self.failures) < KEPT_FAILURES:
                self.failures.append(replace(task, error=task.error[:MAX_ERROR]))
        else:
            self._succeeded(task)

    def _succeeded(self, task: Task) -> None:
        self.succeeded += 1
        self._run_times.append(_fits(task.run_time))
        self._reads.append(_fits(task.shuffle_read))
        self._inputs.append(_fits(task.input))
        entry = (task.run_time, -task.id, self.succeeded, task)
        if len(self._slowest) < KEPT_SLOWEST:
            heapq.heappush(self._slowest, entry)
        elif entry > self._slowest[0]:
            heapq.heapreplace(self._slowest, entry)

    @property
    def slowest(self) -> tuple[Task, ...]:
        """The slowest successes, the slowest one first."""
        return tuple(task for *_, task in sorted(self._slowest, reverse=True))

    def build(self) -> Stage:
        """Return the stage as it stands."""
        return Stage(
            id=self.stage,
            attempt=self.attempt,
            name=self.name,
            status="failed" if self.failure else "active" if self.completed is None else "complete",
            tasks=self.tasks,
            succeeded=self.succeeded,
            failed=self.failed,
            killed=self.killed,
            submitted=self.submitted,
            completed=self.completed,
            failure=self.failure,
            totals=self.totals,
            spreads=self._spreads(),
        )

    def _spreads(self) -> Spreads | None:
        if not self.succeeded:
            return None
        return Spreads(_spread(self._run_times), _spread(self._reads), _spread(self._inputs))


def _fits(value: int) -> int:
    return min(max(value, 0), 2**63 - 1)


def _spread(column: array[int]) -> Spread:
    ordered = sorted(column)
    return Spread(ordered[len(ordered) // 2], ordered[-1])

"""Uneven work: one task of a stage that runs much longer than the others do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from servers.spark.errors import fingerprint
from servers.spark.figures import size, span
from servers.spark.findings import Finding
from servers.spark.model import Run, Spread, Stage, Task
from servers.spark.properties import adaptive

MIN_TASKS = 4
MIN_RATIO = 4.0
MIN_SLOWEST = 1_000
"""Milliseconds: below, nobody waits for it."""
MIN_STRAGGLER = 10_000
"""A task that is slow without having more to do may just have been unlucky, so more is asked of it."""
MIN_BYTES = 1_000_000

_PARTITIONING = re.compile(r"\b(?:hash|range)partitioning\(([^\n]*?), (\d+)\)")
_ATTRIBUTE = re.compile(r"([A-Za-z_][\w.]*)#\d+L?")


@dataclass(frozen=True, slots=True)
class Skew:
    """One stage whose slowest task stands out."""

    stage: Stage
    run_time: Spread
    data: Spread | None
    """What its tasks read, where that is uneven too; None for a straggler."""
    data_kind: str
    """`shuffle read` or `input`."""
    keys: tuple[str, ...]
    """Columns that the query spreads its rows by; the one at fault is among them."""


def find(run: Run) -> list[Skew]:
    """Return the stages that are skewed, the one that costs most time first."""
    found = [skew for stage in run.stages if (skew := _of(run, stage)) is not None]
    return sorted(found, key=lambda skew: skew.run_time.median - skew.run_time.maximum)


def finding(run: Run, skew: Skew, slowest: Task | None) -> Finding:
    """Put a skew into words."""
    stage, times = skew.stage, skew.run_time
    evidence = [
        f"Stage {stage.id} ({stage.name}): median task {times.median} ms, slowest {times.maximum:,} ms "
        f"({times.ratio:.0f} times), over {stage.succeeded} tasks."
    ]
    if skew.data is not None:
        evidence.append(
            f"{skew.data_kind.capitalize()} per task: median {size(skew.data.median)}, "
            f"largest {size(skew.data.maximum)}."
        )
    if slowest is not None:
        evidence.append(
            f"The slowest is task {slowest.index} on executor {slowest.executor} ({slowest.host})."
        )
    on = adaptive(run.properties, run.application.spark_version)
    evidence.append(f"Adaptive query execution is {'on' if on else 'off'} (spark.sql.adaptive.enabled).")
    lost = span(times.maximum - times.median)
    keys = f" on {', '.join(skew.keys)}" if skew.keys else ""
    if skew.data is None:
        title = f"Stage {stage.id} waits {lost} for one slow task that has no more to read than the others."
        kind = "straggler"
    else:
        title = f"Stage {stage.id} is skewed{keys}: one task reads {skew.data.ratio:.0f} times the median."
        kind = "skew"
    return Finding(
        kind="straggler" if skew.data is None else "skew",
        severity="warning",
        title=title,
        fingerprint=fingerprint(kind, stage.name, ",".join(skew.keys)),
        stage=stage.id,
        evidence=tuple(evidence),
        suggestions=_suggestions(skew, on),
    )


def _of(run: Run, stage: Stage) -> Skew | None:
    spreads = stage.spreads
    if spreads is None or stage.succeeded < MIN_TASKS:
        return None
    times = spreads.run_time
    if times.maximum < MIN_SLOWEST or times.ratio < MIN_RATIO:
        return None
    for spread, kind in ((spreads.shuffle_read, "shuffle read"), (spreads.input, "input")):
        if spread.maximum >= MIN_BYTES and spread.ratio >= MIN_RATIO:
            keys = shuffle_keys(run, stage) if kind == "shuffle read" else ()
            return Skew(stage, times, spread, kind, keys)
    return Skew(stage, times, None, "", ()) if times.maximum >= MIN_STRAGGLER else None


def shuffle_keys(run: Run, stage: Stage) -> tuple[str, ...]:
    """Return the columns that the stage's query spreads rows by, at most five.

    Those whose partitions are as many as the stage's tasks count alone, where there are any.
    """
    jobs = {job.id for job in run.jobs if stage.id in job.stages}
    found: dict[str, list[str]] = {}
    for query in run.queries:
        if jobs & set(query.jobs):
            for columns, partitions in _PARTITIONING.findall(query.plan):
                names = [name.rpartition(".")[2] for name in _ATTRIBUTE.findall(columns)]
                found.setdefault(partitions, []).extend(names)
    exact = found.get(str(stage.tasks))
    chosen = exact if exact is not None else [name for names in found.values() for name in names]
    return tuple(dict.fromkeys(chosen))[:5]


def _suggestions(skew: Skew, on: bool) -> tuple[str, ...]:
    if skew.data is None:
        return (
            "Look at that executor's host and garbage collection: the data is even, so the machine was slow.",
            "Set spark.speculation=true to have such a task tried elsewhere.",
        )
    if skew.data_kind == "input":
        return ("Make the input files of even size, or splittable (Parquet, not gzip).",)
    column = skew.keys[0] if len(skew.keys) == 1 else "the key"
    switch = (
        "Lower spark.sql.adaptive.skewJoin.skewedPartitionThresholdInBytes: this partition was not split."
        if on
        else "Set spark.sql.adaptive.enabled=true: it splits skewed partitions of joins by itself."
    )
    return (
        f"Count rows by {column}: a few values, often null or a default, hold most of them. "
        "Filter them out or treat them apart.",
        switch,
        f"Salt {column} (add a random suffix, aggregate twice) where the operation is no join.",
    )

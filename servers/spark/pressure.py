"""Memory that was too tight to be fast: spilling to disk, and time lost to garbage collection."""

from __future__ import annotations

import math

from servers.spark.errors import fingerprint
from servers.spark.figures import share, size, span
from servers.spark.findings import Finding
from servers.spark.model import Run, Stage

MIN_SPILL = 64 * 10**6
MIN_GC = 5_000
MIN_GC_SHARE = 0.1
_WANTED_PARTITION = 128 * 10**6
DEFAULT_PARTITIONS = 200


def spilled(stage: Stage) -> bool:
    """Whether a stage spilled enough to say so."""
    return stage.totals.disk_spilled >= MIN_SPILL


def collected(stage: Stage) -> bool:
    """Whether a stage spent much of its time on garbage."""
    totals = stage.totals
    return totals.gc_time >= MIN_GC and totals.gc_time >= MIN_GC_SHARE * totals.run_time


def find(run: Run) -> list[Finding]:
    """Return what a run lost to tight memory, the largest spill first."""
    spills = sorted((s for s in run.stages if spilled(s)), key=lambda s: -s.totals.disk_spilled)
    pauses = sorted((s for s in run.stages if collected(s)), key=lambda s: -s.totals.gc_time)
    return [*(_spill(run, stage) for stage in spills), *(_collection(run, stage) for stage in pauses)]


def _spill(run: Run, stage: Stage) -> Finding:
    totals = stage.totals
    evidence = [
        f"Stage {stage.id} ({stage.name}) spilled {size(totals.memory_spilled)} of memory as "
        f"{size(totals.disk_spilled)} on disk, over {stage.tasks} tasks.",
    ]
    if totals.shuffle_read:
        evidence.append(
            f"It read {size(totals.shuffle_read)} of shuffle, "
            f"{size(totals.shuffle_read // max(1, stage.tasks))} a task."
        )
    return Finding(
        kind="spill",
        severity="warning",
        title=f"Stage {stage.id} did not fit into memory: {size(totals.disk_spilled)} went to disk and back.",
        fingerprint=fingerprint("spill", stage.name),
        stage=stage.id,
        evidence=tuple(evidence),
        suggestions=(_more_partitions(run, stage), _more_memory(run)),
    )


def _collection(run: Run, stage: Stage) -> Finding:
    totals = stage.totals
    part = share(totals.gc_time, totals.run_time)
    return Finding(
        kind="garbage_collection",
        severity="warning",
        title=f"Stage {stage.id} spent {part} of its task time on garbage collection.",
        fingerprint=fingerprint("garbage_collection", stage.name),
        stage=stage.id,
        evidence=(
            f"Stage {stage.id} ({stage.name}): {span(totals.gc_time)} of {span(totals.run_time)} task time.",
        ),
        suggestions=(
            _more_memory(run),
            "Keep fewer objects: avoid collect_list and UDFs on large groups, and cache less.",
        ),
    )


def _more_partitions(run: Run, stage: Stage) -> str:
    setting = run.properties.get("spark.sql.shuffle.partitions", "")
    now = int(setting) if setting.isdecimal() and len(setting) < 9 else DEFAULT_PARTITIONS
    # What a task holds in memory is what it spilled, decompressed: more than what it read.
    held = max(stage.totals.memory_spilled, stage.totals.shuffle_read)
    wanted = max(math.ceil(held / _WANTED_PARTITION), 2 * stage.tasks)
    return f"Raise spark.sql.shuffle.partitions from {now} to about {wanted}, so that a task holds less."


def _more_memory(run: Run) -> str:
    now = run.properties.get("spark.executor.memory", "1g, the default")
    return f"Raise spark.executor.memory (now {now}), or lower spark.executor.cores: fewer tasks share it."

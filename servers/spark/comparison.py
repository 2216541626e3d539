"""Two runs of what should be the same: what changed, the largest loss of time first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from servers.spark.model import Run, Stage, Totals

MAX_STAGES = 10
MAX_SETTINGS = 20
MAX_VALUE = 200

# Settings that differ between any two runs, or that say nothing about how a run goes.
_ALWAYS_OTHER = re.compile(
    r"spark\.(app\.|driver\.(port|host|bindAddress|extraJavaOptions)|executor\.(id|extraJavaOptions)|ui\.|"
    r"eventLog\.|history\.|yarn\.(app|historyServer)\.|org\.apache\.hadoop\.|submit\.|repl\.|blockManager\.port)"
)


@dataclass(frozen=True, slots=True)
class Step:
    """What one stage, or several of one name, came to in one run."""

    stages: int
    duration: int
    totals: Totals


@dataclass(frozen=True, slots=True)
class StepChange:
    """One step in both runs; None where a run has none of that name."""

    name: str
    before: Step | None
    after: Step | None

    @property
    def difference(self) -> int:
        """How much longer it took, in ms."""
        return (self.after.duration if self.after else 0) - (self.before.duration if self.before else 0)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting that differs; empty where it is not set."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that changed."""

    steps: tuple[StepChange, ...]
    settings: tuple[Setting, ...]
    steps_left_out: int
    settings_left_out: int


def compare(before: Run, after: Run) -> Comparison:
    """Compare two runs, stages by their names: their numbers change with the smallest edit."""
    one, other = _steps(before.stages), _steps(after.stages)
    names = dict.fromkeys([*one, *other])
    steps = sorted(
        (StepChange(name, one.get(name), other.get(name)) for name in names),
        key=lambda change: -abs(change.difference),
    )
    settings = list(_settings(before.properties, after.properties))
    return Comparison(
        tuple(steps[:MAX_STAGES]),
        tuple(settings[:MAX_SETTINGS]),
        max(0, len(steps) - MAX_STAGES),
        max(0, len(settings) - MAX_SETTINGS),
    )


def total(stages: Iterable[Stage]) -> Totals:
    """Add up stages."""
    sums: Counter[str] = Counter()
    for stage in stages:
        for name in Totals.__slots__:
            sums[name] += getattr(stage.totals, name)
    return Totals(**sums)


def _steps(stages: Iterable[Stage]) -> Mapping[str, Step]:
    named: dict[str, list[Stage]] = {}
    for stage in stages:
        named.setdefault(stage.name, []).append(stage)
    return {
        name: Step(len(members), sum(stage.duration or 0 for stage in members), total(members))
        for name, members in named.items()
    }


def _settings(before: Mapping[str, str], after: Mapping[str, str]) -> Iterable[Setting]:
    for name in sorted({*before, *after}):
        one, other = before.get(name, ""), after.get(name, "")
        if one != other and not _ALWAYS_OTHER.match(name):
            yield Setting(name, one[:MAX_VALUE], other[:MAX_VALUE])

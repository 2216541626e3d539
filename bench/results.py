"""What a measurement says, and how it is shown: rows of a table, and items of `bench/results.json`."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Result:
    """One figure. `bound` is what it must keep, None where it is only reported."""

    name: str
    value: float
    unit: str
    better: Literal["lower", "higher"]
    bound: float | None = None

    @property
    def kept(self) -> bool:
        if self.bound is None:
            return True
        return self.value <= self.bound if self.better == "lower" else self.value >= self.bound


def median_us(work: Callable[[], object], *, rounds: int = 60, calls: int = 500) -> float:
    """The median over rounds of one call's mean time, in microseconds; no collections, as in `timeit`."""
    for _ in range(calls):
        work()
    times = []
    gc.disable()
    try:
        for _ in range(rounds):
            start = time.perf_counter_ns()
            for _ in range(calls):
                work()
            times.append((time.perf_counter_ns() - start) / calls / 1000)
    finally:
        gc.enable()
    return statistics.median(times)


def table(results: Iterable[Result]) -> str:
    """The results as a table for a terminal."""
    rows = [("measurement", "value", "unit", "bound", "")]
    for result in results:
        sign = "<=" if result.better == "lower" else ">="
        bound = "" if result.bound is None else f"{sign} {result.bound:g}"
        verdict = "" if result.bound is None else ("ok" if result.kept else "MISSED")
        rows.append(
            (
                result.name,
                f"{result.value:.3g}" if result.value < 100 else f"{result.value:,.0f}",
                result.unit,
                bound,
                verdict,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {unit:<{widths[2]}}  {bound:>{widths[3]}}  {verdict}".rstrip()
        for name, value, unit, bound, verdict in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def save(results: Iterable[Result], path: Path) -> None:
    """Write `results.json`: a list of objects with name, value, unit, better and bound."""
    path.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")

"""Where runs come from: a folder of event logs, or a Spark History Server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from servers.spark.model import Application, Run, Stage, Task

Selection: TypeAlias = Literal["failed", "slowest"]


class EngineError(Exception):
    """The engine can't answer. The message is for the model: it says what to do next."""


class NoApplication(EngineError):
    """There is no such application."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"There is no application {key[:100]!r}. list_applications says which there are; "
            "give its `id` exactly as it stands there."
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """Applications, newest first."""

    applications: tuple[Application, ...]
    notes: tuple[str, ...] = ()


class Engine(Protocol):
    """Reads runs. Its methods block and may be called from several threads.

    Each raises `EngineError` where it can't answer.
    """

    @property
    def name(self) -> str:
        """Return what the engine is called in metrics."""

    def applications(self, name: str, limit: int) -> Listing:
        """Return at most `limit` applications whose name or id holds `name` in any case, newest first."""

    def run(self, key: str) -> Run:
        """Return one application's run; without an attempt in its key, the newest attempt."""

    def tasks(self, run: Run, stage: Stage, selection: Selection, limit: int) -> tuple[Task, ...]:
        """Return tasks of one stage: failed ones in the order they began, or the slowest successes first."""

    def close(self) -> None:
        """Let go of what it holds."""

"""What a query engine is to the tools: tables, and one read-only query at a time under limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Cell: TypeAlias = "bool | int | float | str | None"
Parameters: TypeAlias = Mapping[str, Cell]


class EngineError(Exception):
    """The engine refused a query or gave it up. The message is for the model: it says what to do next."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table or of a result."""

    name: str
    type: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table that queries may name."""

    name: str
    description: str
    rows: int
    """An estimate."""
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one query may cost and bring."""

    rows: int
    bytes: int
    """Of the rows as JSON."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Rows:
    """A result, as much of it as the limits let through."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    cut_by: Literal["rows", "bytes"] | None = None
    """Which limit left rows out."""


class Execution(Protocol):
    """One query, on its way."""

    def fetch(self, limits: Limits) -> Rows:
        """Run it and fetch its rows. Blocks; call it in a thread.

        Raises:
            EngineError: the engine refused it, or it was interrupted.

        """

    def interrupt(self) -> None:
        """Stop it from another thread, running or not yet; harmless afterwards."""


class Engine(Protocol):
    """A warehouse that is only read."""

    @property
    def name(self) -> str:
        """Return what the engine is called in metrics."""

    @property
    def dialect(self) -> str:
        """Return sqlglot's name of the SQL that it speaks."""

    def tables(self) -> Sequence[Table]:
        """Return every table that a query may name."""

    def start(self, sql: str, parameters: Parameters) -> Execution:
        """Prepare one guarded query; nothing runs before `Execution.fetch`."""

    def close(self) -> None:
        """Let go of the warehouse."""

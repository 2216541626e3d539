"""What a query engine is to the tools: names, one read-only query at a time under limits, and one write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from servers.presto.names import Namespace, TableName

Cell: TypeAlias = "bool | int | float | str | None"


class EngineError(Exception):
    """The engine refused a query or gave it up. The message is for the model: it says what to do next."""


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose behalf the engine works."""

    key: str
    """Names one caller and nobody else; results belong to it."""
    issuer: str | None = None
    user: str | None = None
    """The user's name at that issuer; None where a service calls for itself."""
    surface: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the trace that the call belongs to."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table or of a result."""

    name: str
    type: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table that queries may name."""

    name: TableName
    description: str = ""
    rows: int | None = None
    """An estimate; None where the engine gives none."""
    columns: tuple[Column, ...] = ()
    """Empty in a list of tables."""


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


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the engine expects of a query; None where it has no idea."""

    rows: int | None
    scanned_rows: int | None
    scanned_bytes: int | None


@dataclass(frozen=True, slots=True)
class Overwrite:
    """Replace all rows of `target` by those of a guarded SELECT, if their number is as expected."""

    target: TableName
    sql: str
    least: int
    most: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Overwritten:
    """What an overwrite did."""

    rows_before: int
    rows_after: int
    note: str = ""


class Execution(Protocol):
    """One query, on its way."""

    def fetch(self, limits: Limits) -> Rows:
        """Run it and fetch its rows. Blocks; call it in a thread.

        Raises:
            EngineError: the engine refused it, or it was interrupted.

        """

    def interrupt(self) -> None:
        """Stop it from another thread, running or not yet; harmless afterwards. Doesn't wait."""

    def progress(self) -> str:
        """Say in a few words how far it is; empty where the engine doesn't tell."""


class Engine(Protocol):
    """A warehouse. All methods but `start` block, so call them in a thread; all may raise EngineError."""

    @property
    def name(self) -> str:
        """Return what the engine is called in metrics."""

    @property
    def title(self) -> str:
        """Return what its SQL is called, as in "DuckDB SQL"."""

    @property
    def dialect(self) -> str:
        """Return sqlglot's name of the SQL that it speaks."""

    @property
    def namespace(self) -> Namespace:
        """Return which tables may be named."""

    def catalogs(self, asker: Asker) -> Sequence[str]:
        """Return the catalogs that may be named."""

    def schemas(self, asker: Asker, catalog: str) -> Sequence[str]:
        """Return a catalog's schemas."""

    def tables(self, asker: Asker, catalog: str, schema: str) -> Sequence[Table]:
        """Return a schema's tables, without their columns."""

    def table(self, asker: Asker, name: TableName) -> Table:
        """Return one table with its columns."""

    def check(self, asker: Asker, sql: str) -> None:
        """Ask the engine whether it would run a guarded query; runs nothing."""

    def estimate(self, asker: Asker, sql: str) -> Estimate:
        """Ask the engine what a guarded query would cost; runs nothing."""

    def start(self, asker: Asker, sql: str) -> Execution:
        """Prepare one guarded query; nothing runs before `Execution.fetch`."""

    def count(self, asker: Asker, name: TableName) -> int:
        """Count a table's rows."""

    def overwrite(self, asker: Asker, order: Overwrite) -> Overwritten:
        """Replace a table's rows. Whatever goes wrong, the old rows stay, all of them."""

    def close(self) -> None:
        """Let go of the warehouse."""

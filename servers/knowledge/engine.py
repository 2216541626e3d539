"""What a search engine is to the rest: it takes changes, and ranks the passages of some scopes.

A scope is all documents of one ACL, named by `Acl.key`. An engine keeps each scope apart and ranks with the
statistics of the scopes it is asked about, so what a caller may not see can't be told from what isn't there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Kind: TypeAlias = Literal["markdown", "html", "text"]

TITLE_WEIGHT = 2.0
"""A word in the title or headings counts this much; one in the text counts 1."""


class EngineError(Exception):
    """The engine can't answer. The message is for the model: it says what to do next."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document, the unit that is ranked."""

    ordinal: int
    heading: str
    """The headings above it, outermost first."""
    text: str
    number: int = 0
    """The catalogue's own; of no meaning elsewhere."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One document as an engine sees it."""

    path: str
    """Below the root, with `/`. It is the document's id."""
    title: str
    kind: Kind
    updated: float
    """Seconds since 1970."""
    scope: str
    passages: tuple[Passage, ...]

    @property
    def folders(self) -> tuple[str, ...]:
        """Every folder above it: `a/b/c.md` lies in `a` and in `a/b`."""
        parts = self.path.split("/")[:-1]
        return tuple("/".join(parts[: depth + 1]) for depth in range(len(parts)))

    def headline(self, passage: Passage) -> str:
        """What a passage's title field holds."""
        return f"{self.title}\n{passage.heading}"


@dataclass(frozen=True, slots=True)
class Change:
    """One document's way from what is indexed to what should be; at least one of both is there."""

    before: Entry | None
    after: Entry | None


@dataclass(frozen=True, slots=True)
class Filters:
    """Which documents count at all."""

    folder: str | None = None
    kind: Kind | None = None
    updated_since: float | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """Words to rank by, any of them; never a query language."""

    words: tuple[str, ...]
    scopes: tuple[str, ...]
    filters: Filters
    limit: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage that was found."""

    path: str
    ordinal: int
    score: float


class Engine(Protocol):
    """An index of passages. `search` may be called from several threads, `apply` from one."""

    @property
    def name(self) -> str:
        """Return what the engine is called in metrics and file names."""

    def holds(self, scope: str) -> bool:
        """Whether there is an index for this scope; where it was lost everything is indexed anew."""

    def apply(self, changes: Sequence[Change]) -> None:
        """Take changes; applying one twice is harmless.

        Raises:
            EngineError: it couldn't; the caller tries again later.

        """

    def search(self, query: Query) -> list[Hit]:
        """Return the best passages, the best first. Blocks; call it in a thread.

        Raises:
            EngineError: it can't answer.

        """

    def close(self) -> None:
        """Let go of the index."""


def idf(documents: int, containing: int) -> float:
    """How much a word says, by how few of the documents contain it; never negative."""
    return math.log(1 + (documents - containing + 0.5) / (containing + 0.5))


def ranked(hits: list[Hit], limit: int) -> list[Hit]:
    """Sort hits of several scopes. Equal ones go by path, so no order depends on what is hidden."""
    return sorted(hits, key=lambda hit: (-round(hit.score, 6), hit.path, hit.ordinal))[:limit]

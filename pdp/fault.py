"""A broken rule within one file, before its place in the text is known."""

from __future__ import annotations

from dataclasses import dataclass

from pdp.document import Path


@dataclass(frozen=True, slots=True)
class Fault:
    """A broken rule, by its path in the document. `key`: the place meant is the key, not the value."""

    path: Path
    message: str
    hint: str | None = None
    key: bool = False

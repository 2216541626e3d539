"""What is wrong with a policy file, said so that its author can mend it without asking anybody."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from pdp.model import Location

_LONGEST_NAME = 100
_FEW = 8


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, and what to do about it."""

    location: Location
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.location.file}:{self.location.line}:{self.location.column}"
        return f"{place}: {self.message}" + (f"; {self.hint}" if self.hint else "")


class PolicyError(Exception):
    """A policy folder, or one file of it, that cannot be enforced. `problems` has all of them, in order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def quoted(name: str) -> str:
    """A name as messages show it: cut short, and without anything that could move a terminal's cursor."""
    return repr(name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…")


def suggest(name: str, known: Iterable[str]) -> str | None:
    """The nearest known name; where none is near, all of them as long as they are few."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1) if len(name) <= _LONGEST_NAME else []
    if near:
        return f"did you mean {near[0]!r}?"
    if 0 < len(names) <= _FEW:
        return f"known: {', '.join(names)}"
    return None

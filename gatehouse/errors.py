"""What the command tells a person when it cannot go on."""

from __future__ import annotations

REFUSED = 1
"""Exit code: the thing asked for was refused, failed or is not there."""
USAGE = 2
"""Exit code: the command line itself is wrong."""


class Failure(Exception):
    """A command cannot go on. `str()` is the line that the user reads; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str | None = None, code: int = REFUSED) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


class UsageFailure(Failure):
    """The command line says something that cannot be meant."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint, USAGE)

"""The call that is running, for code that has no other way to know: limits, logs, crashes."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from mcpguard.admission import Admission


@dataclass(slots=True)
class Running:
    """One admitted call on its way through the SDK."""

    admission: Admission
    fault: str | None = None
    """Why it failed, where that is known inside and only shows as a tool error outside."""

    @property
    def who(self) -> str:
        """Return the key of the user, or of the workload where there is no user."""
        assertion = self.admission.assertion
        return assertion.user.key if assertion.user is not None else f"workload:{assertion.workload}"


RUNNING: ContextVar[Running | None] = ContextVar("mcpguard_running", default=None)
"""The current call, also in the threads that it starts through anyio."""


def current() -> Running | None:
    """Return the call that this code runs for."""
    return RUNNING.get()

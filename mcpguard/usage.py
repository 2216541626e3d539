"""One usage event a call: who used which tool from where, what became of it, and the minutes that saved.

`docs/schema/usage-event.v1.json` describes an event, `docs/schema/inventory.v1.json` its neighbour.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from identity.assertion import Assertion
from identity.principal import JsonValue

VERSION: Final = 1
LONGEST_NAME: Final = 128


@dataclass(frozen=True, slots=True)
class Use:
    """One `tools/call` that ended, by whatever end."""

    server: str
    tool: str
    assertion: Assertion
    decision_id: str
    outcome: str
    reason: str | None
    seconds: float
    minutes_saved: float
    """The owner's estimate out of policy; 0 unless the call succeeded."""
    policy: str | None
    """The digest of the policy that the server decided by."""


def event(use: Use, now: float) -> dict[str, JsonValue]:
    """Return the event, with an id of its own that makes sending it twice harmless."""
    user, workload = use.assertion.user, use.assertion.workload
    return {
        "version": VERSION,
        "kind": "usage",
        "id": secrets.token_hex(16),
        "time": timestamp(now),
        "server": use.server,
        "tool": use.tool[:LONGEST_NAME],
        "user": user.key if user is not None else None,
        "client": user.client if user is not None else None,
        "workload": str(workload) if workload is not None else None,
        "surface": use.assertion.surface,
        "channel": use.assertion.channel,
        "outcome": use.outcome,
        "reason": use.reason,
        "duration_ms": round(use.seconds * 1000, 3),
        "minutes_saved": use.minutes_saved,
        "policy": use.policy,
        "decision_id": use.decision_id,
    }


def timestamp(now: float) -> str:
    """Return a time as events have it: RFC 3339, UTC, to the millisecond."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

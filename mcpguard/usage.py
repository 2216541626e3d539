"""One usage event a call: who used which tool from where, what became of it, and the minutes that saved.

`docs/schema/usage-event.v1.json` describes an event, `docs/schema/inventory.v1.json` its neighbour.
"""

from __future__ import annotations

import itertools
import secrets
from typing import Final

from identity.assertion import Assertion
from identity.principal import JsonValue
from mcpguard.times import rfc3339

VERSION: Final = 1
LONGEST_NAME: Final = 128

_PROCESS: Final = secrets.token_hex(8)
_COUNT: Final = itertools.count()


def event(
    *,
    server: str,
    tool: str,
    assertion: Assertion,
    decision_id: str,
    outcome: str,
    reason: str | None,
    seconds: float,
    minutes_saved: float,
    policy: str | None,
    now: float,
) -> dict[str, JsonValue]:
    """Return the event of one `tools/call` that ended, with an id that makes sending it twice harmless.

    `minutes_saved` is the owner's estimate out of policy, 0 unless the call succeeded; `policy` the digest of
    what the server decided by.
    """
    user, workload = assertion.user, assertion.workload
    return {
        "version": VERSION,
        "kind": "usage",
        "id": new_id(),
        "time": rfc3339(now),
        "server": server,
        "tool": tool[:LONGEST_NAME],
        "user": user.key if user is not None else None,
        "client": user.client if user is not None else None,
        "workload": str(workload) if workload is not None else None,
        "surface": assertion.surface,
        "channel": assertion.channel,
        "outcome": outcome,
        "reason": reason,
        "duration_ms": round(seconds * 1000, 3),
        "minutes_saved": minutes_saved,
        "policy": policy,
        "decision_id": decision_id,
    }


def new_id() -> str:
    """Return an id that no other event has: 64 random bits of the process, and a count."""
    return f"{_PROCESS}{next(_COUNT):016x}"

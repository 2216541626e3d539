"""What is known of one check, gathered while it runs: what the decision log, the metrics and Envoy's access
log are told of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from extauthz.request import Call
from pdp.model import Allow, Caller, Decision, Deny, Surface


@dataclass(slots=True)
class Trail:
    """Filled in as a check goes on, and handed over when it is answered; nobody changes it afterwards."""

    decision_id: str
    time: float
    """When the check began, in seconds since the epoch."""
    server: str | None = None
    """As the route says it; whether policy knows it is another question."""
    policy: str | None = None
    """The digest of the snapshot that was asked."""
    call: Call | None = None
    caller: Caller | None = None
    decision: Decision | None = None
    nanoseconds: int = 0


def outcome(decision: Decision) -> str:
    """`allow`, `deny` or `unavailable`."""
    if isinstance(decision, Allow):
        return "allow"
    return "deny" if isinstance(decision, Deny) else "unavailable"


def reason_code(decision: Decision) -> str | None:
    """The reason's stable code; None for an allow, which needs none."""
    return None if isinstance(decision, Allow) else decision.reason.code


def surface_of(decision: Decision) -> Surface | None:
    """The surface, where the decision got as far as knowing it."""
    return decision.surface if isinstance(decision, (Allow, Deny)) else None


def rule_of(decision: Decision) -> str | None:
    """The rule, guardrail or lock that decided; None where the absence of one did."""
    return decision.rule if isinstance(decision, (Allow, Deny)) else None


def facts(trail: Trail) -> dict[str, str | None]:
    """For Envoy's access log, but for the decision's id: that differs between calls that are alike."""
    decision, call, caller = trail.decision, trail.call, trail.caller
    user = caller.user if caller is not None else None
    surface = surface_of(decision) if decision is not None else None
    return {
        "decision": outcome(decision) if decision is not None else None,
        "reason": reason_code(decision) if decision is not None else None,
        "rule": rule_of(decision) if decision is not None else None,
        "user": user.key if user is not None else None,
        "surface": surface.name if surface is not None else None,
        "server": trail.server,
        "tool": call.tool if call is not None else None,
        "policy": trail.policy,
    }

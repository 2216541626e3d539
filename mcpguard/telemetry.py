"""What a server reports: a log line a call, and metrics whose labels come from policy, not from callers."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from identity.assertion import Assertion
from mcpguard.logs import FIELDS
from mcpguard.message import Question
from pdp.methods import CLASSES
from pdp.model import Snapshot

Outcome: TypeAlias = Literal["ok", "asked", "tool_error", "error", "denied", "unavailable", "malformed"]

_log = logging.getLogger("mcpguard.calls")
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_LONGEST_NAME = 128


@dataclass(frozen=True, slots=True)
class Entry:
    """One call, as the log has it. Arguments and results are never in it."""

    decision_id: str
    outcome: Outcome
    seconds: float
    question: Question | None = None
    assertion: Assertion | None = None
    reason: str | None = None
    detail: str | None = None
    withheld: int | None = None
    """Of a list: how many entries this caller may not use and was not shown."""


class Telemetry:
    """One server's metrics and call log."""

    def __init__(self, server: str) -> None:
        self.registry = CollectorRegistry()
        self._server = server
        self._decisions = Counter(
            "mcp_authz_decisions",
            "Decisions of this server's own enforcement point.",
            ("server", "tool", "decision", "reason"),
            registry=self.registry,
        )
        self._durations = Histogram(
            "mcp_server_operation_duration_seconds",
            "How long an MCP operation took in this server.",
            ("server", "method", "tool", "outcome"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._withheld = Gauge(
            "mcp_tools_withheld",
            "Tools that nobody may use because code and policy disagree, or that policy names in vain.",
            ("server", "reason"),
            registry=self.registry,
        )
        self._ready = Gauge(
            "mcp_policy_in_force", "1 while a policy is in force.", ("server",), registry=self.registry
        )
        self._ready.labels(server).set(0)

    def decided(self, decision: Literal["allow", "deny", "unavailable"], tool: str, reason: str) -> None:
        """Count one decision; `tool` is a label that `tool_label` gave."""
        self._decisions.labels(self._server, tool, decision, reason).inc()

    def policy_in_force(self, withheld: dict[str, int]) -> None:
        """Note a policy that came into force, with the number of tools withheld by reason."""
        self._ready.labels(self._server).set(1)
        self._withheld.clear()
        for reason, count in withheld.items():
            self._withheld.labels(self._server, reason).set(count)

    def operated(self, question: Question, tool: str, outcome: Outcome, seconds: float) -> None:
        """Observe one operation that was let through."""
        method = question.method if question.method in CLASSES else "other"
        self._durations.labels(self._server, method, tool, outcome).observe(seconds)

    def log(self, entry: Entry) -> None:
        """Write one call's line."""
        question, assertion = entry.question, entry.assertion
        fields: dict[str, object] = {
            "event": "call",
            "server": self._server,
            "decision_id": entry.decision_id,
            "outcome": entry.outcome,
            "reason": entry.reason,
            "ms": round(entry.seconds * 1000, 3),
            "method": question.method[:_LONGEST_NAME] if question else None,
            "tool": (question.target or "")[:_LONGEST_NAME] or None if question else None,
        }
        if assertion is not None:
            fields["user"] = assertion.user.key if assertion.user else None
            fields["workload"] = str(assertion.workload) if assertion.workload else None
            fields["surface"] = assertion.surface
        if entry.detail:
            fields["detail"] = entry.detail
        if entry.withheld is not None:
            fields["withheld"] = entry.withheld
        level = logging.INFO if entry.outcome in ("ok", "asked", "tool_error") else logging.WARNING
        _log.log(level, "%s", entry.outcome, extra={FIELDS: fields})


def tool_label(snapshot: Snapshot | None, server: str, question: Question | None) -> str:
    """Return the tool's name where policy knows it, `other` where not, and nothing where no tool is meant."""
    if question is None or question.method != "tools/call":
        return ""
    described = snapshot.servers.get(server) if snapshot is not None else None
    known = described is not None and question.target in described.tools
    return question.target or "other" if known else "other"

"""What a server reports of its calls: a log line, metrics whose labels come from policy, a usage event."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from identity.assertion import Assertion
from identity.principal import JsonValue
from mcpguard.backends import BUCKETS
from mcpguard.logs import Light
from mcpguard.message import Question
from mcpguard.tracing import trace_id
from mcpguard.usage import LONGEST_NAME, event
from pdp.methods import CLASSES
from pdp.model import Snapshot

Outcome: TypeAlias = Literal["ok", "asked", "tool_error", "error", "denied", "unavailable", "malformed"]
Report: TypeAlias = Callable[[dict[str, JsonValue]], None]

_Metric = TypeVar("_Metric", Counter, Histogram)

_log = logging.getLogger("mcpguard.calls")
_SIZES = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576)
_CALL = "tools/call"
_NOTHING: Mapping[str, JsonValue] = {}


@dataclass(frozen=True, slots=True)
class Entry:
    """One call that ended."""

    decision_id: str
    outcome: Outcome
    seconds: float
    question: Question | None = None
    assertion: Assertion | None = None
    reason: str | None = None
    detail: str | None = None
    withheld: int | None = None
    """Of a list: how many entries this caller may not use and was not shown."""
    payloads: Mapping[str, JsonValue] = field(default_factory=lambda: _NOTHING)
    """Arguments and result, fit for a log."""


class Metrics:
    """The metrics of one server; `docs/telemetry.md` lists them."""

    def __init__(self, server: str) -> None:
        self.registry = CollectorRegistry()
        self.decisions = self._counter(
            "mcp_authz_decisions", "Decisions of this server's own enforcement point.",
            "server", "tool", "decision", "reason",
        )  # fmt: skip
        self.durations = Histogram(
            "mcp_server_operation_duration_seconds",
            "How long an MCP operation took in this server.",
            ("server", "method", "tool", "outcome"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.result_bytes = Histogram(
            "mcp_tool_result_bytes",
            "Size of tools' results as JSON.",
            ("server", "tool"),
            buckets=_SIZES,
            registry=self.registry,
        )
        self.truncations = self._counter(
            "mcp_tool_truncations", "Results that say that something was left out.", "server", "tool"
        )
        self.limits = self._counter("mcp_tool_limits", "Calls that met a limit.", "server", "tool", "limit")
        self.crashes = self._counter("mcp_tool_crashes", "Calls whose tool crashed.", "server", "tool")
        self.minutes = self._counter(
            "mcp_minutes_saved",
            "Minutes that successful calls saved their callers, by the owner's estimate in policy.",
            "server", "tool",
        )  # fmt: skip
        self.withheld = Gauge(
            "mcp_tools_withheld",
            "Tools that nobody may use because code and policy disagree, or that policy names in vain.",
            ("server", "reason"),
            registry=self.registry,
        )
        self.ready = Gauge(
            "mcp_policy_in_force", "1 while a policy is in force.", ("server",), registry=self.registry
        )
        self.ready.labels(server).set(0)

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(name, says, labels, registry=self.registry)


class Telemetry:
    """One server's metrics, call log and usage events."""

    def __init__(self, server: str, report: Report, clock: Callable[[], float]) -> None:
        self._server = server
        self._report = report
        self._clock = clock
        self._metrics = Metrics(server)

    @property
    def registry(self) -> CollectorRegistry:
        """The metrics, to be scraped and to be added to."""
        return self._metrics.registry

    def decided(self, decision: Literal["allow", "deny", "unavailable"], tool: str, reason: str) -> None:
        """Count one decision; `tool` is a label that `tool_label` gave."""
        _child(self._metrics.decisions, self._server, tool, decision, reason).inc()

    def policy_in_force(self, withheld: dict[str, int]) -> None:
        """Note a policy that came into force, with the number of tools withheld by reason."""
        self._metrics.ready.labels(self._server).set(1)
        self._metrics.withheld.clear()
        for reason, count in withheld.items():
            self._metrics.withheld.labels(self._server, reason).set(count)

    def answered(self, tool: str, size: int, *, truncated: bool) -> None:
        """Observe the result of a tool; `tool` is a label that `tool_label` gave."""
        _child(self._metrics.result_bytes, self._server, tool).observe(size)
        if truncated:
            self._metrics.truncations.labels(self._server, tool).inc()

    def ended(self, entry: Entry, snapshot: Snapshot | None) -> None:
        """Observe, log and report one operation that was let through."""
        question = entry.question
        if question is not None:
            tool = tool_label(snapshot, self._server, question)
            method = question.method if question.method in CLASSES else "other"
            _child(self._metrics.durations, self._server, method, tool, entry.outcome).observe(entry.seconds)
            if entry.outcome == "tool_error" and entry.reason is not None:
                self._failed(tool, entry.reason)
        self.log(entry)
        self._used(entry, snapshot)

    def refused(self, entry: Entry, snapshot: Snapshot | None) -> None:
        """Log and report one request that ended before the SDK saw it; its decision is counted already."""
        self.log(entry)
        self._used(entry, snapshot)

    def _failed(self, tool: str, reason: str) -> None:
        if reason == "tool_crashed":
            self._metrics.crashes.labels(self._server, tool).inc()
        else:
            self._metrics.limits.labels(self._server, tool, reason).inc()

    def _used(self, entry: Entry, snapshot: Snapshot | None) -> None:
        """Report a call of a tool, once: a call that asks its caller first comes back."""
        question, assertion = entry.question, entry.assertion
        if question is None or assertion is None or question.method != _CALL or entry.outcome == "asked":
            return
        minutes = _minutes(snapshot, self._server, question.target) if entry.outcome == "ok" else 0.0
        if minutes:
            _child(self._metrics.minutes, self._server, question.target or "").inc(minutes)
        said = event(
            server=self._server,
            tool=question.target or "",
            assertion=assertion,
            decision_id=entry.decision_id,
            outcome=entry.outcome,
            reason=entry.reason,
            seconds=entry.seconds,
            minutes_saved=minutes,
            policy=snapshot.digest if snapshot is not None else None,
            now=self._clock(),
        )
        self._report(said)

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
            "method": question.method[:LONGEST_NAME] if question else None,
            "tool": (question.target or "")[:LONGEST_NAME] or None if question else None,
        }
        if assertion is not None:
            fields["user"] = assertion.user.key if assertion.user else None
            fields["workload"] = str(assertion.workload) if assertion.workload else None
            fields["surface"] = assertion.surface
        trace = trace_id()
        if trace is not None:
            fields["trace_id"] = trace
        if entry.detail:
            fields["detail"] = entry.detail
        if entry.withheld is not None:
            fields["withheld"] = entry.withheld
        level = logging.INFO if entry.outcome in ("ok", "asked", "tool_error") else logging.WARNING
        if _log.isEnabledFor(level):
            _log.handle(Light(_log.name, level, entry.outcome, {**fields, **entry.payloads}))


@lru_cache(4096)  # found anew it costs as much as counting does
def _child(metric: _Metric, *labels: str) -> _Metric:
    return metric.labels(*labels)


def tool_label(snapshot: Snapshot | None, server: str, question: Question | None) -> str:
    """Return the tool's name where policy knows it, `other` where not, and nothing where no tool is meant."""
    if question is None or question.method != _CALL:
        return ""
    described = snapshot.servers.get(server) if snapshot is not None else None
    known = described is not None and question.target in described.tools
    return question.target or "other" if known else "other"


def _minutes(snapshot: Snapshot | None, server: str, tool: str | None) -> float:
    described = snapshot.servers.get(server) if snapshot is not None else None
    named = described.tools.get(tool or "") if described is not None else None
    return named.minutes_saved if named is not None else 0.0

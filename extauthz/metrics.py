"""What Prometheus sees. No label's value comes from a caller: decisions and reasons are ours, servers are
those that policy knows, issuers and digests are policy's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extauthz.log import LogStatus
from extauthz.trail import Trail, outcome, reason_code

# Our own part of a check, in seconds: from a check of a seen token to a cold one under load.
_BUCKETS: Final = (10e-6, 20e-6, 30e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 10e-3, 50e-3, 250e-3)


class Metrics:
    """The counters that checks and reloads move."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register everything in `registry`."""
        self._decisions = Counter(
            "gatehouse_decisions",
            "Decisions by outcome, reason (empty for an allow) and server (empty: none that policy knows).",
            ["decision", "reason", "server"],
            registry=registry,
        )
        self._check = Histogram(
            "gatehouse_check_seconds",
            "Time spent on a check, gRPC excluded.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._policy = Gauge(
            "gatehouse_policy_info", "1 for the digest of the policy in force.", ["digest"], registry=registry
        )
        self._reloaded = Gauge(
            "gatehouse_policy_reload_timestamp_seconds",
            "When a policy last came into force.",
            registry=registry,
        )
        # A child is found by its labels once; afterwards a check costs one dict look-up.
        self._children: dict[tuple[str, str | None, str], Counter] = {}

    def decided(self, trail: Trail, known_server: str) -> None:
        """Count one decision. `known_server` is empty unless policy knows the server."""
        decision = trail.decision
        if decision is None:
            return
        key = (outcome(decision), reason_code(decision), known_server)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._decisions.labels(key[0], key[1] or "", key[2])
        child.inc()
        self._check.observe(trail.nanoseconds / 1e9)

    def policy_in_force(self, digest: str, now: float) -> None:
        """A policy came into force."""
        self._policy.clear()
        self._policy.labels(digest).set(1)
        self._reloaded.set(now)


@dataclass(frozen=True, slots=True)
class Sources:
    """What is asked when Prometheus asks, so that it costs a check nothing."""

    log: Callable[[], LogStatus]
    policy_ok: Callable[[], bool]
    """Whether the policy folder as it is now is what is in force."""
    key_ages: Callable[[], Mapping[str, float | None]]
    """Seconds since each issuer's keys were last confirmed; None: never had any."""
    remembered_tokens: Callable[[], int]


class SourceCollector(Collector):
    """Reads `Sources` at scrape time."""

    def __init__(self, sources: Sources, registry: CollectorRegistry) -> None:
        """Register in `registry`."""
        self._sources = sources
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """One look at each source."""
        yield from _log_metrics(self._sources.log())
        yield GaugeMetricFamily(
            "gatehouse_policy_reload_ok",
            "1 where the policy folder as it is now is in force; 0 where the last good one is, or none.",
            int(self._sources.policy_ok()),
        )
        age = GaugeMetricFamily(
            "gatehouse_jwks_age_seconds", "Since an issuer's keys were last confirmed.", labels=["issuer"]
        )
        usable = GaugeMetricFamily(
            "gatehouse_jwks_loaded", "1 where an issuer's keys were ever fetched.", labels=["issuer"]
        )
        for issuer, seconds in self._sources.key_ages().items():
            usable.add_metric([issuer], 0 if seconds is None else 1)
            if seconds is not None:
                age.add_metric([issuer], seconds)
        yield from (age, usable)
        yield GaugeMetricFamily(
            "gatehouse_token_cache_entries", "Verified tokens remembered.", self._sources.remembered_tokens()
        )


def _log_metrics(status: LogStatus) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "gatehouse_decision_log_queue", "Decisions that wait to be written.", status.waiting
    )
    yield CounterMetricFamily("gatehouse_decision_log_written", "Decisions written.", status.written)
    dropped = CounterMetricFamily(
        "gatehouse_decision_log_dropped", "Decisions that were not written.", labels=["decision"]
    )
    dropped.add_metric(["allow"], status.dropped_allows)
    dropped.add_metric(["deny"], status.dropped_denials)
    yield dropped

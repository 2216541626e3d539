"""Metrics: what is counted, and that no caller can make a label."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from extauthz.log import LogStatus
from extauthz.metrics import Metrics, SourceCollector, Sources
from extauthz.scrape import ScrapeServer
from pdp.deployment import Address
from tests.extauthz.world import basis, bearer, check_request, token, world


def test_decisions_are_counted_by_outcome_reason_and_known_server(tmp_path: Path) -> None:
    room = world(tmp_path, basis())
    room.check(check_request(bearer(token())))
    room.check(check_request(bearer(token())))
    room.check(check_request(bearer(token(groups=["fin"]))))
    room.check(check_request(bearer(token()), server="made-up"))
    room.check(b"\xff")

    def count(decision: str, reason: str, server: str) -> float | None:
        labels = {"decision": decision, "reason": reason, "server": server}
        return room.registry.get_sample_value("gatehouse_decisions_total", labels)

    assert count("allow", "", "presto") == 2
    assert count("deny", "group_not_allowed", "presto") == 1
    assert count("deny", "server_unknown", "") == 1
    assert count("deny", "malformed_request", "") == 1
    assert room.registry.get_sample_value("gatehouse_check_seconds_count") == 5
    assert b"made-up" not in generate_latest(room.registry)


def test_the_policy_in_force_is_one() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.policy_in_force("sha256:a", 1.0)
    metrics.policy_in_force("sha256:b", 2.0)
    assert registry.get_sample_value("gatehouse_policy_info", {"digest": "sha256:b"}) == 1
    assert registry.get_sample_value("gatehouse_policy_info", {"digest": "sha256:a"}) is None
    assert registry.get_sample_value("gatehouse_policy_reload_timestamp_seconds") == 2


def test_sources_are_read_when_asked() -> None:
    registry = CollectorRegistry()
    status = LogStatus(waiting=3, dropped_allows=2, dropped_denials=1, written=9)
    sources = Sources(lambda: status, lambda: False, lambda: {"sso": 12.5, "new": None}, lambda: 7)
    SourceCollector(sources, registry)
    expected = {
        ("gatehouse_decision_log_queue", ()): 3,
        ("gatehouse_decision_log_written_total", ()): 9,
        ("gatehouse_decision_log_dropped_total", (("decision", "allow"),)): 2,
        ("gatehouse_decision_log_dropped_total", (("decision", "deny"),)): 1,
        ("gatehouse_policy_reload_ok", ()): 0,
        ("gatehouse_jwks_age_seconds", (("issuer", "sso"),)): 12.5,
        ("gatehouse_jwks_loaded", (("issuer", "sso"),)): 1,
        ("gatehouse_jwks_loaded", (("issuer", "new"),)): 0,
        ("gatehouse_token_cache_entries", ()): 7,
    }
    for (name, labels), value in expected.items():
        assert registry.get_sample_value(name, dict(labels)) == value
    assert registry.get_sample_value("gatehouse_jwks_age_seconds", {"issuer": "new"}) is None


def _get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize(
    ("path", "status"), [("/metrics", 200), ("/healthz", 503), ("/", 404), ("/metrics/", 404)]
)
def test_the_scrape_port(path: str, status: int) -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    server = ScrapeServer(registry, lambda: False, Address.parse("127.0.0.1:0"))
    try:
        found, body = _get(f"http://{server.address}{path}")
    finally:
        server.close()
    assert found == status
    assert (b"gatehouse_check_seconds" in body) == (path == "/metrics")


def test_healthz_says_when_it_serves() -> None:
    server = ScrapeServer(CollectorRegistry(), lambda: True, Address.parse("127.0.0.1:0"))
    try:
        assert _get(f"http://{server.address}/healthz") == (200, b"serving\n")
    finally:
        server.close()

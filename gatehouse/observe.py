"""What the running components say of themselves, read from their Prometheus pages."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

_POLL_SECONDS = 0.02
_DIRECT = urllib.request.ProxyHandler({})
"""A proxy of the machine's has no way to loopback."""


def fetch(url: str) -> bytes | None:
    """The body of a page on this machine; None where nobody answers, or not well."""
    try:
        with urllib.request.build_opener(_DIRECT).open(url, timeout=2) as response:
            body = response.read()
    except (urllib.error.URLError, OSError, http.client.HTTPException):
        return None
    return body if isinstance(body, bytes) else None


def policy_digest(metrics_url: str) -> str | None:
    """The digest of the policy that a component enforces; None where it has none, or isn't there."""
    for labels, value in _samples(metrics_url, "gatehouse_policy_info"):
        if value == 1 and labels.get("digest"):
            return labels["digest"]
    return None


def has_keys(metrics_url: str) -> bool:
    """Whether ext_authz has had the keys of every issuer."""
    loaded = _samples(metrics_url, "gatehouse_jwks_loaded")
    return bool(loaded) and all(value == 1 for _, value in loaded)


def wait_until(condition: Callable[[], bool], seconds: float) -> float | None:
    """Seconds until `condition` held; None where it didn't in time."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            return None
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - started


def _samples(url: str, name: str) -> list[tuple[dict[str, str], float]]:
    body = fetch(url)
    if body is None:
        return []
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(body.decode())
        if family.name == name
        for sample in family.samples
    ]

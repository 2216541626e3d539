"""`@modelcontextprotocol/conformance` against a server built on `mcpguard`, behind Envoy, in both eras.

What fails is named below and explained. Anything else that fails is a failure, and so is an explanation for
what passes.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.clients.node import Node

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

_ID = "A refusal of Envoy's or ext_authz's has `id: null`: neither reads the id out of it."
_BEFORE = (
    "Envoy's MCP filter reads `_meta` and the MCP headers before any server does. It refuses with the status "
    "that the specification wants, 400, and the JSON-RPC code of every refusal there, -32600."
)
_POLICY = (
    "A method that no rule grants is refused by policy, 403 with -32003, before a server could say that it "
    "doesn't know it: what exists is not told to who may not use it."
)
EXCEPTIONS: Mapping[str, Mapping[tuple[str, str], str]] = {
    "2025-11-25": {},
    "2026-07-28": {
        ("server-stateless", "sep-2575-http-server-error-jsonrpc-id"): _ID,
        ("server-stateless", "sep-2575-request-meta-invalid-missing-meta"): _BEFORE,
        ("server-stateless", "sep-2575-request-meta-invalid-missing-client-capabilities"): _BEFORE,
        ("server-stateless", "sep-2575-server-unsupported-version-error"): _BEFORE,
        ("server-stateless", "sep-2575-http-server-header-mismatch-400"): _BEFORE,
        ("server-stateless", "sep-2575-http-server-method-not-found-404-resources-subscribe"): _BEFORE,
        ("server-stateless", "sep-2575-http-server-method-not-found-404-resources-unsubscribe"): _BEFORE,
        ("server-stateless", "sep-2575-http-server-method-not-found-404"): _POLICY,
    },
}
"""By the version spoken: scenario and check, and why it fails."""

_EXTENSION = "tasks-"
"""Scenarios of the extension `tasks`, which no revision requires, and neither the SDK nor policy has."""

WHAT = {"2025-11-25": ("--spec-version", "2025-11-25"), "2026-07-28": ("--requirements", "2026-07-28")}
AT_LEAST = {"2025-11-25": 30, "2026-07-28": 35}
"""Scenarios that pass: a run that skipped most of them would prove nothing."""


@pytest.mark.parametrize("version", list(WHAT))
def test_a_guarded_server_behind_envoy_conforms(
    version: str, node: Node, fixture_url: str, tmp_path: Path
) -> None:
    command = node.command("conformance", "server", "--url", fixture_url, "-o", str(tmp_path), *WHAT[version])
    done = subprocess.run(
        command, env=node.environment(), capture_output=True, text=True, timeout=500, check=False
    )
    failed: dict[tuple[str, str], str] = {}
    passed: set[str] = set()
    for scenario, checks in results(tmp_path):
        bad = [check for check in checks if check["status"] == "FAILURE"]
        failed |= {(scenario, check["id"]): str(check.get("errorMessage")) for check in bad}
        if not bad and any(check["status"] == "SUCCESS" for check in checks):
            passed.add(scenario)
    assert failed.keys() == EXCEPTIONS[version].keys(), (failed, done.stdout[-2000:], done.stderr[-2000:])
    assert len(passed) >= AT_LEAST[version], sorted(passed)


def results(folder: Path) -> list[tuple[str, list[dict[str, str]]]]:
    """Each scenario's name and its checks, of those that are required."""
    found = []
    for file in sorted(folder.glob("server-*/checks.json")):
        # server-NAME-2026-11-23T02-13-20-983Z
        scenario = file.parent.name.removeprefix("server-").rpartition("-20")[0]
        if not scenario.startswith(_EXTENSION):
            found.append((scenario, json.loads(file.read_text())))
    return found

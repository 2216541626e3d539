"""What is generated for the shipped policies, as YAML that a reviewer can read: `tests/golden/`.

`pytest tests/xds/test_golden.py --rewrite-golden` writes it anew.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from betterproto2 import Casing, Message
from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls

from pdp.deployment import load_deployment
from pdp.store import PolicyStore
from xds.consistency import check
from xds.resource import Kind, ResourceSet
from xds.resources import build
from xds.secrets import files

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
MESSAGES: dict[Kind, type[Message]] = {
    Kind.CLUSTER: cluster.Cluster,
    Kind.ENDPOINT: endpoint.ClusterLoadAssignment,
    Kind.SECRET: tls.Secret,
    Kind.LISTENER: listener.Listener,
    Kind.ROUTE: route.RouteConfiguration,
}


@pytest.fixture(scope="module")
def generated() -> ResourceSet:
    deployment = load_deployment(ROOT / "envoy" / "deployment.local.yaml")
    snapshot = PolicyStore(ROOT / "policies", ROOT / "envoy" / "reviewers.local.yaml").load()
    # All of it is approved just after the last approval, so time changes nothing here.
    subjects = [snapshot.organization, *(server.in_force for server in snapshot.servers.values())]
    now = max(window.start for subject in subjects for window in subject.windows) + 1
    assert all(subject.at(now) for subject in subjects)
    material = {path: f"<{path.relative_to(ROOT)}>".encode() for path in files(deployment)}
    resources = build(snapshot, deployment, now, material)
    check(resources, snapshot, deployment)
    return resources


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.label)
def test_golden(kind: Kind, generated: ResourceSet, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / f"{kind.label}s.yaml"
    text = _as_yaml(kind, generated)
    if request.config.getoption("--rewrite-golden", default=False):
        path.write_text(text)
    assert path.read_text() == text, "what is generated changed: --rewrite-golden, and read the diff"


def _as_yaml(kind: Kind, resources: ResourceSet) -> str:
    documents = [
        MESSAGES[kind].parse(resource.body).to_dict(casing=Casing.SNAKE)
        for _, resource in sorted(resources.of_kind(kind).items())
    ]
    return _HEAD + yaml.dump_all(
        [_readable(document) for document in documents], sort_keys=False, width=110, allow_unicode=True
    )


_HEAD = "# Written by `pytest tests/xds/test_golden.py --rewrite-golden`; not edited by hand.\n"


def _readable(value: Any) -> Any:
    """Certificates as the text that stands for them here, instead of base64."""
    if isinstance(value, list):
        return [_readable(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"inline_bytes"}:
        return {"inline_bytes": _text(value["inline_bytes"])}
    return {key: _readable(item) for key, item in value.items()}


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()

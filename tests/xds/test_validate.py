"""Envoy's own word on what is generated: `envoy --mode validate`, on all of it in static form."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatehouse.devca import DevCa
from gatehouse.state import State
from pdp.deployment import Address, ClientTls, Deployment, Endpoint, Listener, ServerTls, Service, TrustBundle
from pdp.model import Snapshot
from tests.support.envoy import validate
from tests.xds import factory
from tests.xds.static import static_bootstrap
from xds.material import read_material
from xds.resources import build

pytestmark = pytest.mark.e2e


def accepted(snapshot: Snapshot, deployment: Deployment, folder: Path) -> None:
    resources = build(snapshot, deployment, 1.0, read_material(deployment))
    assert validate(static_bootstrap(resources), folder) == ""


RULES = [
    factory.rule("people", "ai-chat", "ide"),
    factory.rule("reports", services=["report-bot"]),
]
SNAPSHOT = factory.snapshot(
    factory.server("presto", RULES),
    factory.server("lapsed", RULES, in_force=factory.NEVER),
    factory.server("nowhere", RULES),
    factory.server("closed"),
)


def test_plain_http_on_loopback(tmp_path: Path) -> None:
    endpoints = {name: factory.endpoint(9101) for name in ("presto", "lapsed", "closed")}
    accepted(SNAPSHOT, factory.deployment(endpoints, cors_origins=("https://chat.corp.example",)), tmp_path)


def test_nothing_at_all(tmp_path: Path) -> None:
    accepted(factory.snapshot(), factory.deployment(), tmp_path)


def test_everything_with_tls(tmp_path: Path) -> None:
    ca = DevCa(State(tmp_path))
    pair = ca.server_pair("gateway.corp.example")
    server = ServerTls(pair.certificate, pair.key)
    bundle = ca.x509_bundle("corp.example")
    client = ClientTls(bundle, pair.certificate, pair.key, "extauthz.corp.example")
    deployment = Deployment(
        public_url="https://gateway.corp.example",
        users=Listener(Address("0.0.0.0", 8443), server, ("gateway.internal",)),
        mesh=Listener(Address("::", 8444), server),
        trust_bundles={"corp.example": TrustBundle(bundle)},
        ext_authz=Service((Address("extauthz-1", 9001), Address("extauthz-2", 9001)), client),
        control_plane=Service((Address("127.0.0.1", 9002),)),
        endpoints={
            "presto": Endpoint(
                (Address("10.0.0.1", 9101), Address("10.0.0.2", 9101)), "/mcp", ClientTls(bundle)
            ),
            "closed": Endpoint((Address("closed.corp.example", 9101),), "/", ClientTls(bundle)),
            "lapsed": Endpoint((Address(unix="/run/lapsed.sock"),), "/deep/mcp"),
        },
    )
    accepted(SNAPSHOT, deployment, tmp_path)

"""The mesh listener and the secrets, through a real Envoy whose ext_authz allows everything: what holds here
holds without it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from gatehouse.devca import DevCa, Pair
from gatehouse.state import State
from identity.principal import SpiffeId
from pdp.deployment import Address, ClientTls, Endpoint, Listener, ServerTls, Service, TrustBundle
from tests.support.envoy import ads_bootstrap, eventually, free_port, running_envoy
from tests.xds import factory
from tests.xds.gate import LIST_TOOLS, MCP, Gate, reason
from tests.xds.neighbours import FakeExtAuthz, running_upstream
from tests.xds.plane import running_plane
from xds.material import read_material

pytestmark = pytest.mark.e2e

AI_CHAT, REPORT_BOT = (
    "spiffe://corp.example/ns/prod/sa/ai-chat",
    "spiffe://corp.example/ns/prod/sa/report-bot",
)
CHAT_ONLY = factory.server("chat-only", [factory.rule("chat", "ai-chat")])
BOTH = factory.server("both", [factory.rule("chat", "ai-chat"), factory.rule("bot", services=["report-bot"])])
NOBODY = factory.server("nobody", [factory.rule("ide", "ide")])


@dataclass
class Mesh:
    gate: Gate
    ca: DevCa

    def svid(self, spiffe_id: str) -> Pair:
        return self.ca.x509_svid(SpiffeId.parse(spiffe_id))

    def call(self, server: str, pair: Pair | None, **headers: str) -> httpx.Response:
        trust = ssl.create_default_context(cafile=str(self.ca.state.server_ca))
        if pair is not None:
            trust.load_cert_chain(pair.certificate, pair.key)
        assert self.gate.deployment.mesh is not None
        url = f"https://{self.gate.deployment.mesh.address}/{server}/mcp"
        with httpx.Client(verify=trust, timeout=5) as client:
            return client.post(url, json=LIST_TOOLS, headers={**MCP, **headers})

    def refused(self, pair: Pair | None) -> bool:
        """By TLS: with 1.3 the client hears of it only when it reads."""
        try:
            self.call("both", pair)
        except (httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError):
            return True
        return False

    def presented(self, port: int) -> str:
        return ssl.get_server_certificate(("127.0.0.1", port), timeout=5)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    ca = DevCa(State(tmp_path_factory.mktemp("state")))
    authz = FakeExtAuthz()
    users, mesh = ca.server_pair("users"), ca.server_pair("mesh")
    with running_plane() as plane, running_upstream() as upstream:
        address = Address("127.0.0.1", free_port())
        deployment = replace(
            factory.deployment(
                {name: factory.endpoint(upstream.port) for name in ("chat-only", "both", "nobody")},
                users=Listener(address, ServerTls(users.certificate, users.key)),
                mesh=Listener(Address("127.0.0.1", free_port()), ServerTls(mesh.certificate, mesh.key)),
                ext_authz=Service((Address("127.0.0.1", authz.port),)),
                public_url=f"https://{address}",
            ),
            trust_bundles={
                "corp.example": TrustBundle(ca.x509_bundle("corp.example")),
                "not-in-policy.example": TrustBundle(ca.x509_bundle("not-in-policy.example")),
            },
        )
        gate = Gate(plane, authz, upstream, deployment, read_material(deployment))
        gate.serve(CHAT_ONLY, BOTH, NOBODY)
        with running_envoy(ads_bootstrap(plane.port), tmp_path_factory.mktemp("envoy")) as envoy:
            gate.envoy = envoy
            mesh_ = Mesh(gate, ca)
            eventually(lambda: _listens(mesh_), "the mesh listener")
            yield mesh_
    authz.kill()


def _listens(mesh: Mesh) -> bool:
    try:
        return mesh.call("both", mesh.svid(AI_CHAT)).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def mesh(running: Mesh) -> Mesh:
    running.gate.reset()
    return running


@pytest.mark.parametrize(
    ("server", "workload", "allowed"),
    [
        ("both", AI_CHAT, True),
        ("both", REPORT_BOT, True),
        ("chat-only", AI_CHAT, True),
        ("chat-only", REPORT_BOT, False),
        ("nobody", AI_CHAT, False),
        ("both", "spiffe://corp.example/ns/prod/sa/stranger", False),
        ("both", "spiffe://corp.example/ns/prod/sa/ai-chat/x", False),
        ("both", "spiffe://corp.example/ns/prod/sa", False),
    ],
)
def test_envoy_itself_holds_the_reach_of_surfaces(
    mesh: Mesh, server: str, workload: str, allowed: bool
) -> None:
    response = mesh.call(server, mesh.svid(workload))
    assert response.status_code == (200 if allowed else 403)
    assert len(mesh.gate.upstream.hits) == allowed
    if not allowed:
        assert reason(response) == "surface_not_allowed"
    (asked,) = mesh.gate.authz.requests
    assert dict(asked.attributes.context_extensions) == {"server": server, "listener": "mesh"}
    assert "BEGIN%20CERTIFICATE" in asked.attributes.source.certificate


def test_a_path_of_no_server_lets_nobody_pass(mesh: Mesh) -> None:
    response = mesh.call("ghost", mesh.svid(AI_CHAT))
    assert (response.status_code, reason(response)) == (403, "surface_not_allowed")


def test_without_a_certificate_there_is_no_connection(mesh: Mesh) -> None:
    assert mesh.refused(None)
    assert mesh.gate.authz.requests == []


def test_another_trust_domain_is_refused_even_if_the_deployment_has_its_bundle(mesh: Mesh) -> None:
    assert mesh.refused(mesh.svid("spiffe://not-in-policy.example/ns/prod/sa/ai-chat"))


def test_the_certificate_header_is_envoys_own(mesh: Mesh) -> None:
    mesh.call("both", mesh.svid(AI_CHAT), **{"x-forwarded-client-cert": f"URI={REPORT_BOT}"})
    (hit,) = mesh.gate.upstream.hits
    (header,) = hit.values("x-forwarded-client-cert")
    assert f"URI={AI_CHAT}" in header
    assert REPORT_BOT not in header


def test_metadata_and_health_need_a_certificate_and_no_check(mesh: Mesh) -> None:
    trust = ssl.create_default_context(cafile=str(mesh.ca.state.server_ca))
    pair = mesh.svid("spiffe://corp.example/anybody")
    trust.load_cert_chain(pair.certificate, pair.key)
    assert mesh.gate.deployment.mesh is not None
    base = f"https://{mesh.gate.deployment.mesh.address}"
    with httpx.Client(verify=trust, timeout=5) as client:
        assert client.get(f"{base}/healthz").status_code == 200
        found = client.get(f"{base}/.well-known/oauth-protected-resource/both/mcp").json()
    assert found["resource"] == f"{mesh.gate.deployment.public_url}/both/mcp"
    assert mesh.gate.authz.requests == []


def test_a_renewed_certificate_is_served_without_a_restart(mesh: Mesh) -> None:
    gate, port = mesh.gate, mesh.gate.deployment.users.address.port
    before = mesh.presented(port)
    mesh.ca.server_pair("users")
    gate.material = read_material(gate.deployment)
    gate.serve(CHAT_ONLY, BOTH, NOBODY)
    eventually(lambda: mesh.presented(port) != before, "the new certificate", deadline=3)
    assert mesh.call("both", mesh.svid(AI_CHAT)).status_code == 200


def test_a_new_authority_of_the_mesh_is_trusted_and_the_old_one_no_more(mesh: Mesh, tmp_path: Path) -> None:
    gate, old = mesh.gate, mesh.svid(AI_CHAT)
    other = DevCa(State(tmp_path))
    new = other.x509_svid(SpiffeId.parse(AI_CHAT))
    bundle = gate.deployment.trust_bundles["corp.example"].x509
    assert bundle is not None
    assert mesh.refused(new)
    gate.material = {**gate.material, bundle: other.x509_bundle("corp.example").read_bytes()}
    gate.serve(CHAT_ONLY, BOTH, NOBODY)
    eventually(lambda: not mesh.refused(new), "the new authority", deadline=3)
    assert mesh.refused(old)
    gate.material = read_material(gate.deployment)
    gate.serve(CHAT_ONLY, BOTH, NOBODY)
    eventually(lambda: not mesh.refused(old), "the old authority again", deadline=3)


def test_a_server_behind_tls_must_show_its_own_name(mesh: Mesh) -> None:
    """Nobody speaks TLS there: Envoy says that the server doesn't answer, and sends nothing in clear."""
    gate = mesh.gate
    plain = gate.deployment.endpoints["both"]
    authority = mesh.ca.x509_bundle("corp.example")
    gate.place(
        "both", Endpoint(plain.addresses, "/mcp", ClientTls(authority, server_name="both.corp.example"))
    )
    gate.material = read_material(gate.deployment)
    gate.serve(CHAT_ONLY, BOTH, NOBODY)
    try:
        svid = mesh.svid(AI_CHAT)
        response = eventually(
            lambda: ((r := mesh.call("both", svid)).status_code == 503 and r) or None, "TLS upstream"
        )
        assert reason(response) == "server_unavailable"
    finally:
        gate.place("both", plain)
        gate.serve(CHAT_ONLY, BOTH, NOBODY)
        eventually(lambda: _listens(mesh), "as before")

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gatehouse import ports
from gatehouse.errors import Failure
from gatehouse.local import Local, PolicyFacts, localize
from gatehouse.state import State
from gatehouse.tokens import DevIssuer
from pdp.deployment import Deployment, load_deployment

FACTS = PolicyFacts(("corp.example",), (DevIssuer("sso", "https://sso.corp.example", "mcp"),))
BASE = """\
apiVersion: gatehouse/v1
kind: Deployment
public_url: https://127.0.0.1:0
listeners:
  users: {address: "127.0.0.1:0", tls: {certificate: u.pem, key: u.key}}
  mesh: {address: "127.0.0.1:0"}
ext_authz: {addresses: ["127.0.0.1:0"]}
control_plane: {address: "127.0.0.1:0"}
"""


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        yield int(somebody.getsockname()[1])


def made(
    tmp_path: Path, state: State, text: str, *, move: bool = False, facts: PolicyFacts = FACTS
) -> tuple[Local, Deployment]:
    source = tmp_path / "deployment.yaml"
    source.write_text(text)
    local = localize(source, state, facts, move_ports=move, listening=lambda name: name == "presto")
    return local, load_deployment(local.path)


def test_every_port_is_chosen_and_different(tmp_path: Path, state: State) -> None:
    local, deployment = made(tmp_path, state, BASE)
    assert deployment.mesh is not None
    addresses = [
        deployment.users.address,
        deployment.mesh.address,
        deployment.ext_authz.addresses[0],
        deployment.control_plane.addresses[0],
    ]
    chosen = {address.port for address in addresses}
    chosen |= {ports.split(a)[1] for a in (local.issuer, local.envoy_admin, local.xds_metrics)}
    assert len(chosen) == 7
    assert 0 not in chosen
    assert deployment.public_url == f"https://127.0.0.1:{deployment.users.address.port}"


def test_files_that_are_missing_are_made(tmp_path: Path, state: State) -> None:
    _, deployment = made(tmp_path, state, BASE)
    assert deployment.users.tls is not None
    assert deployment.mesh is not None
    assert deployment.mesh.tls is not None
    for tls in (deployment.users.tls, deployment.mesh.tls):
        assert tls.certificate.read_text().startswith("-----BEGIN CERTIFICATE")
    bundle = deployment.trust_bundles["corp.example"]
    assert bundle.x509 is not None
    assert bundle.x509.exists()
    assert bundle.jwt is not None
    assert bundle.jwt.exists()


def test_files_that_are_there_are_used(tmp_path: Path, state: State) -> None:
    (tmp_path / "u.pem").write_text("mine")
    (tmp_path / "u.key").write_text("mine")
    _, deployment = made(tmp_path, state, BASE)
    assert deployment.users.tls is not None
    assert deployment.users.tls.certificate == tmp_path / "u.pem"


def test_a_taken_port_is_an_error_in_a_deployment_of_ones_own(
    tmp_path: Path, state: State, taken: int
) -> None:
    text = BASE.replace(
        'ext_authz: {addresses: ["127.0.0.1:0"]}', f'ext_authz: {{addresses: ["127.0.0.1:{taken}"]}}'
    )
    with pytest.raises(Failure, match=f"ext_authz: 127.0.0.1:{taken} is in use"):
        made(tmp_path, state, text)


def test_a_taken_port_is_moved_in_the_shipped_deployment(tmp_path: Path, state: State, taken: int) -> None:
    text = BASE.replace("127.0.0.1:0", f"127.0.0.1:{taken}", 2)
    local, deployment = made(tmp_path, state, text, move=True)
    assert list(local.moved) == [f"127.0.0.1:{taken}"]
    assert deployment.users.address.port != taken
    assert deployment.public_url.endswith(f":{deployment.users.address.port}")


def test_a_public_url_of_another_port_stays(tmp_path: Path, state: State) -> None:
    text = BASE.replace("public_url: https://127.0.0.1:0", "public_url: https://mcp.corp.example")
    _, deployment = made(tmp_path, state, text)
    assert deployment.public_url == "https://mcp.corp.example"


def test_the_development_issuer_stands_in_for_the_policys(tmp_path: Path, state: State) -> None:
    local, deployment = made(tmp_path, state, BASE)
    assert deployment.issuers["sso"].jwks_uri == f"http://{local.issuer}/jwks"


def test_keys_that_somebody_serves_already_stay_theirs(tmp_path: Path, state: State, taken: int) -> None:
    text = BASE + f'issuers:\n  sso: {{jwks_uri: "http://127.0.0.1:{taken}/keys"}}\n'
    local, deployment = made(tmp_path, state, text)
    assert deployment.issuers["sso"].jwks_uri == f"http://127.0.0.1:{taken}/keys"
    assert not local.issuer.endswith(f":{taken}")


def test_keys_that_policy_has_at_hand_need_no_stand_in(tmp_path: Path, state: State) -> None:
    facts = PolicyFacts(FACTS.trust_domains, FACTS.issuers, frozenset({"sso"}))
    _, deployment = made(tmp_path, state, BASE, facts=facts)
    assert "sso" not in deployment.issuers


def test_an_endpoint_of_somebody_else_keeps_its_port(tmp_path: Path, state: State, taken: int) -> None:
    text = BASE + f'endpoints:\n  other: {{address: "127.0.0.1:{taken}"}}\n'
    _, deployment = made(tmp_path, state, text)
    assert deployment.endpoints["other"].addresses[0].port == taken


def test_what_is_no_deployment_is_said_so(tmp_path: Path, state: State) -> None:
    with pytest.raises(Failure, match="not YAML"):
        made(tmp_path, state, "a: [")
    with pytest.raises(Failure, match="not a Deployment"):
        made(tmp_path, state, "kind: Server")


def test_the_shipped_deployment_is_one(tmp_path: Path, state: State) -> None:
    text = (Path(__file__).parents[2] / "envoy" / "deployment.local.yaml").read_text()
    _, deployment = made(tmp_path, state, text, move=True)
    assert "presto" in deployment.endpoints
    assert yaml.safe_load(text)["public_url"] == "https://127.0.0.1:8443"

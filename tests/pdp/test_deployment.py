# ruff: noqa: E501 - one case a line
from __future__ import annotations

from pathlib import Path

import pytest

from pdp.address import Address, AddressError
from pdp.deployment import load_deployment
from pdp.load import PolicyError
from tests.pdp.folder import ROOT

TEXT = """\
apiVersion: gatehouse/v1
kind: Deployment
public_url: https://mcp.corp.example/
listeners:
  users: {address: "0.0.0.0:8443", tls: {certificate: users.pem, key: users.key}}
  mesh: {address: "0.0.0.0:8444", tls: {certificate: mesh.pem, key: /etc/mesh.key}}
trust_bundles:
  corp.example: {x509: corp.pem, jwt: corp-jwt.json}
endpoints:
  presto: {address: "127.0.0.1:9101"}
  spark: {addresses: ["spark-1:9102", "[2001:db8::1]:9102"], path: /x/mcp, tls: {ca: ca.pem, server_name: spark.corp.example}}
issuers:
  sso: {jwks_uri: "http://127.0.0.1:9003/jwks"}
ext_authz: {addresses: ["127.0.0.1:9001", "127.0.0.1:9011"]}
control_plane: {address: "unix:/run/xds.sock"}
cors: {origins: ["https://chat.corp.example"]}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "deployment.yaml"
    path.write_text(text)
    return path


def test_all_of_it(tmp_path: Path) -> None:
    found = load_deployment(write(tmp_path, TEXT))
    assert found.public_url == "https://mcp.corp.example"
    assert found.resource_url("presto") == "https://mcp.corp.example/presto/mcp"
    assert found.users.tls is not None
    assert found.users.tls.certificate == tmp_path / "users.pem"
    assert found.mesh is not None
    assert found.mesh.tls is not None
    assert found.mesh.tls.key == Path("/etc/mesh.key")
    assert found.endpoints["presto"].path == "/mcp"
    assert found.endpoints["spark"].addresses == (Address("spark-1", 9102), Address("2001:db8::1", 9102))
    assert found.endpoints["spark"].tls is not None
    assert found.endpoints["spark"].tls.server_name == "spark.corp.example"
    assert found.control_plane.addresses == (Address(unix="/run/xds.sock"),)
    assert len(found.ext_authz.addresses) == 2
    assert found.trust_bundles["corp.example"].x509 == tmp_path / "corp.pem"
    assert found.issuers["sso"].jwks_uri == "http://127.0.0.1:9003/jwks"
    assert found.cors_origins == ("https://chat.corp.example",)


def test_the_shipped_one() -> None:
    assert load_deployment(ROOT / "envoy/deployment.local.yaml").mesh is not None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("https://mcp", "http://mcp", "3:13: expected an https:// address; http:// is for loopback only"),
        ("corp.example/\n", "corp.example/base\n", "expected an address without a path"),
        ('users: {address: "0.0.0.0:8443", tls: {certificate: users.pem, key: users.key}}', 'users: {address: "0.0.0.0:8443"}',
         "5:10: without tls this listener must be on loopback"),
        (', tls: {certificate: mesh.pem, key: /etc/mesh.key}', "", "the mesh listener needs tls"),
        ("x509: corp.pem, ", "", "needs a trust bundle with x509"),
        ("0.0.0.0:8443", "unix:/x", "a listener has a host and a port"),
        ("127.0.0.1:9101", "127.0.0.1", "10:21: expected host:port or unix:/path"),
        ("127.0.0.1:9101", "10.0.0.1:9101", "10.0.0.1:9101 is off loopback and needs tls"),
        ("127.0.0.1:9011", "10.0.0.1:9011", "10.0.0.1:9011 is off loopback and needs tls"),
        ("/x/mcp", "/x/../mcp", "expected a path, such as /mcp"),
        ("jwks_uri:", "jwks_url:", "unknown key 'jwks_url'; did you mean 'jwks_uri'?"),
        ("https://chat.corp.example", "https://chat.corp.example/x", "expected an origin"),
        ("server_name: spark", "certificate: spark", "certificate and key need each other"),
        ("presto: {", "Presto: {", "'Presto': expected a name"),
        ("control_plane:", "control_plain:", "unknown key 'control_plain'; did you mean 'control_plane'?"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert TEXT.count(old) == 1
    path = write(tmp_path, TEXT.replace(old, new))
    with pytest.raises(PolicyError) as refused:
        load_deployment(path)
    assert said in str(refused.value)
    assert str(refused.value).startswith(f"{path}:")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="can't be read: No such file"):
        load_deployment(tmp_path / "gone.yaml")


@pytest.mark.parametrize("text", ["127.0.0.1:9001", "[::1]:9001", "unix:/run/x.sock", "localhost:0"])
def test_addresses_round_trip_and_are_local(text: str) -> None:
    address = Address.parse(text)
    assert str(address) == text
    assert address.is_local


@pytest.mark.parametrize("text", ["", ":1", "h", "h:", "h:x", "h:65536", "::1:9001", "unix:x", "h:-1", "h:١"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(AddressError):
        Address.parse(text)

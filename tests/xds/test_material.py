from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gatehouse.devca import DevCa
from gatehouse.state import State
from pdp.deployment import Address, Deployment, Listener, ServerTls, TrustBundle
from tests.xds import factory
from xds.material import MaterialError, read_material


@pytest.fixture
def site(tmp_path: Path) -> Deployment:
    ca = DevCa(State(tmp_path))
    users, mesh = ca.server_pair("users"), ca.server_pair("mesh")
    return replace(
        factory.deployment(),
        users=Listener(Address("127.0.0.1", 1), ServerTls(users.certificate, users.key)),
        mesh=Listener(Address("127.0.0.1", 2), ServerTls(mesh.certificate, mesh.key)),
        trust_bundles={"corp.example": TrustBundle(ca.x509_bundle("corp.example"))},
    )


def test_every_file_is_read(site: Deployment) -> None:
    material = read_material(site)
    assert len(material) == 5
    assert all(b"-----BEGIN" in pem for pem in material.values())


def test_a_key_of_another_certificate_is_refused(site: Deployment) -> None:
    assert site.users.tls is not None
    assert site.mesh is not None
    assert site.mesh.tls is not None
    site.users.tls.key.write_bytes(site.mesh.tls.key.read_bytes())
    with pytest.raises(MaterialError, match="not the key of"):
        read_material(site)


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nx\n"])
def test_a_file_that_is_no_pem_is_refused_without_its_content(site: Deployment, content: bytes) -> None:
    bundle = site.trust_bundles["corp.example"].x509
    assert bundle is not None
    bundle.write_bytes(content)
    with pytest.raises(MaterialError, match=r"corp\.example\.pem: no PEM certificate"):
        read_material(site)


def test_a_missing_file_is_named(site: Deployment) -> None:
    assert site.users.tls is not None
    site.users.tls.key.unlink()
    with pytest.raises(MaterialError, match=r"users\.key: No such file"):
        read_material(site)

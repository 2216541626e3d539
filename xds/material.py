"""The certificate files that secrets are made of: read, checked, and read again when they change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from pdp.deployment import Deployment
from xds.secrets import files


class MaterialError(Exception):
    """A file can't be used; says which, and never what is in it."""


Stamp = tuple[int, int, int]


def stamps(paths: Iterable[Path]) -> Mapping[Path, Stamp | None]:
    """What tells that a file changed; None for one that isn't there."""
    return {path: _stamp(path) for path in paths}


def read_material(deployment: Deployment) -> Mapping[Path, bytes]:
    """The content of every file that the deployment's secrets need.

    A renewal writes two files, one after the other: a key that isn't its certificate's is refused here, so
    that Envoy keeps the pair it has until both are there.

    Raises:
        MaterialError: a file is missing or holds no PEM, or a key isn't its certificate's.

    """
    material = {path: _read(path) for path in files(deployment)}
    doors = [deployment.users.tls, deployment.mesh.tls if deployment.mesh else None]
    client = deployment.ext_authz.tls
    pairs = [(door.certificate, door.key) for door in doors if door is not None]
    if client is not None and client.certificate is not None and client.key is not None:
        pairs.append((client.certificate, client.key))
    for certificate, key in pairs:
        _check_pair(certificate, key, material)
    keys = {key for _, key in pairs}
    for path in sorted(material.keys() - keys):
        _certificates(path, material[path])
    return material


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MaterialError(f"{path}: {error.strerror or 'unreadable'}") from error


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise MaterialError(f"{path}: no PEM certificate") from error


def _check_pair(certificate: Path, key: Path, material: Mapping[Path, bytes]) -> None:
    leaf = _certificates(certificate, material[certificate])[0]
    try:
        private = load_pem_private_key(material[key], None)
    except (ValueError, TypeError) as error:
        raise MaterialError(f"{key}: no unencrypted PEM private key") from error
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise MaterialError(f"{key}: not the key of {certificate}")

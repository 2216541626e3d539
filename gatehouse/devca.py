"""A development CA: X.509-SVIDs, JWT-SVIDs and the listeners' certificates, for one machine.

Each trust domain has a CA and a JWT key of its own, so that a bundle vouches for its domain alone. The
listeners' certificates come from a further CA, which vouches for no workload. All keys lie in the state
folder, for their owner alone.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatehouse import keys
from gatehouse.errors import Failure, UsageFailure
from gatehouse.state import State, read_private, write, write_private
from identity.principal import SpiffeId

CA_DAYS = 30
LEAF_HOURS = 24
JWT_SVID_SECONDS = 300
_BACKDATED = datetime.timedelta(minutes=1)
"""How far before now a certificate begins: clocks differ a little."""
_LOCAL_NAMES = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


@dataclass(frozen=True, slots=True)
class Pair:
    """Files of one certificate and its key, PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """One CA: its certificate, which is its bundle, and the key that signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class DevCa:
    """The development CA of one state folder."""

    state: State

    def x509_bundle(self, trust_domain: str) -> Path:
        """PEM: the CA certificate of a trust domain. Made where it is absent or ends soon."""
        path = self.state.ca / f"{trust_domain}.pem"
        self._authority(path, f"{trust_domain} development CA", f"spiffe://{trust_domain}")
        return path

    def jwt_bundle(self, trust_domain: str) -> Path:
        """A SPIFFE bundle: the public JWT-SVID key of a trust domain (Trust Domain and Bundle 4)."""
        path = self.state.ca / f"{trust_domain}-jwt.json"
        public = keys.load_or_make(self._jwt_keys(trust_domain), "ES256").public("jwt-svid")
        write(path, json.dumps({"keys": [public], "spiffe_sequence": 1, "spiffe_refresh_hint": 300}))
        return path

    def server_pair(self, name: str, spiffe_id: str | None = None) -> Pair:
        """A server certificate for loopback, as `tls/NAME.pem` and `tls/NAME.key`."""
        ca = self._authority(self.state.server_ca, "development CA of the listeners", None)
        pair = Pair(self.state.tls / f"{name}.pem", self.state.tls / f"{name}.key")
        names: list[x509.GeneralName] = [*_LOCAL_NAMES]
        if spiffe_id is not None:
            names.append(x509.UniformResourceIdentifier(spiffe_id))
        _write_pair(pair, *_leaf(ca, names, [ExtendedKeyUsageOID.SERVER_AUTH]))
        return pair

    def x509_svid(self, spiffe_id: SpiffeId, out: Path | None = None) -> Pair:
        """An X.509-SVID for both sides of TLS (X509-SVID 2 to 4).

        Its files are `OUT.pem` and `OUT.key`; in an existing folder `OUT`, `svid.pem` and `svid.key`.
        """
        stem = out or self.state.svids / file_name(spiffe_id)
        stem = stem / "svid" if stem.is_dir() else stem
        pair = Pair(stem.with_name(f"{stem.name}.pem"), stem.with_name(f"{stem.name}.key"))
        path = self.x509_bundle(spiffe_id.trust_domain)
        ca = self._authority(path, "", None)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        _write_pair(pair, *_leaf(ca, [x509.UniformResourceIdentifier(str(spiffe_id))], usages))
        return pair

    def jwt_svid(
        self, spiffe_id: SpiffeId, audience: Sequence[str], now: float, ttl: int = JWT_SVID_SECONDS
    ) -> str:
        """A JWT-SVID (JWT-SVID 3): `sub`, `aud`, `exp`, and `iat`, which it may have."""
        if not audience:
            raise UsageFailure("a JWT-SVID needs an audience", "add --audience, such as a server's URL")
        key = keys.load_or_make(self._jwt_keys(spiffe_id.trust_domain), "ES256")
        issued = int(now) if ttl > 0 else int(now) + ttl - JWT_SVID_SECONDS
        return key.sign({"sub": str(spiffe_id), "aud": list(audience), "iat": issued, "exp": int(now) + ttl})

    def _jwt_keys(self, trust_domain: str) -> Path:
        return self.state.ca / f"{trust_domain}-jwt.jwks"

    def _authority(self, path: Path, name: str, spiffe_id: str | None) -> Authority:
        """The CA whose certificate is at `path`; made anew where absent or ending before its leaves."""
        key_path = path.with_suffix(".key")
        if path.exists() and key_path.exists():
            found = _load_authority(path, key_path)
            if found.certificate.not_valid_after_utc > _now() + 2 * datetime.timedelta(hours=LEAF_HOURS):
                return found
        made = _make_authority(name, spiffe_id)
        write_private(key_path, _key_pem(made.key))
        write(path, made.certificate.public_bytes(serialization.Encoding.PEM))
        return made


def parse_id(text: str, default_trust_domain: str = "corp.example") -> SpiffeId:
    """A SPIFFE ID as a person types it: whole, or a path such as `ns/prod/sa/report-bot`."""
    whole = text if text.startswith("spiffe://") else f"spiffe://{default_trust_domain}/{text.lstrip('/')}"
    try:
        return SpiffeId.parse(whole)
    except ValueError as error:
        raise UsageFailure(f"{text!r} is not a SPIFFE ID: {error}") from error


def file_name(spiffe_id: SpiffeId) -> str:
    """A file name for an ID: `corp.example-ns-prod-sa-report-bot`."""
    return f"{spiffe_id.trust_domain}{spiffe_id.path.replace('/', '-')}"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _make_authority(name: str, spiffe_id: str | None) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - _BACKDATED)
        .not_valid_after(_now() + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if spiffe_id is not None:
        name_in_san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)])
        builder = builder.add_extension(name_in_san, critical=False)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def _leaf(
    ca: Authority, names: Sequence[x509.GeneralName], usages: Sequence[x509.ObjectIdentifier]
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Gatehouse development")]))
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - _BACKDATED)
        .not_valid_after(_now() + datetime.timedelta(hours=LEAF_HOURS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False
        )
    )
    return builder.sign(ca.key, hashes.SHA256()), key


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _load_authority(path: Path, key_path: Path) -> Authority:
    try:
        key = serialization.load_pem_private_key(read_private(key_path), None)
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise Failure(f"{path} and its key do not hold a CA", "delete both: new ones are made") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Failure(f"{key_path} is not a P-256 key", "delete it and its certificate: new ones are made")
    return Authority(certificate, key)


def _write_pair(pair: Pair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    write_private(pair.key, _key_pem(key))
    write(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

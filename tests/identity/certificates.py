"""Certificates as Envoy passes them: a development authority's, each with one thing wrong if asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.identity.signers import NOW

KEY = ec.generate_private_key(ec.SECP256R1())
BOT = "spiffe://corp.example/ns/prod/sa/report-bot"


def usage(
    *, digital_signature: bool = True, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def pem(
    uris: Sequence[str] = (BOT,),
    *,
    dns: Sequence[str] = (),
    ca: bool | None = False,
    key_usage: x509.KeyUsage | None = None,
    extended: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.CLIENT_AUTH,),
    bare: bool = False,
    start: float = NOW - 60,
    seconds: float = 3600,
) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "report-bot")])
    begins = datetime.fromtimestamp(start, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(seconds=seconds))
    )
    names = [x509.UniformResourceIdentifier(uri) for uri in uris] + [x509.DNSName(each) for each in dns]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if not bare:
        builder = builder.add_extension(key_usage or usage(), critical=True)
    if extended is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def from_envoy(text: str) -> str:
    """`attributes.source.certificate`: PEM, percent-encoded."""
    return quote(text, safe="")

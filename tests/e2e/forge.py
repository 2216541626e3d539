"""Credentials, good ones and every kind of bad one. All are remembered: logs are searched for them."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatehouse.devca import DevCa, Pair
from gatehouse.keys import DevKey, load_or_make
from gatehouse.people import PEOPLE
from gatehouse.state import State, write_private
from gatehouse.tokens import DevIssuer, token_claims
from identity.principal import JsonValue, SpiffeId

IDE = "ide-plugin"
CHAT_CLIENT = "ai-chat-web"
AI_CHAT = "spiffe://corp.example/ns/prod/sa/ai-chat"
CHAT_BOT = "spiffe://corp.example/ns/prod/sa/chat-bot"
REPORT_BOT = "spiffe://corp.example/ns/prod/sa/report-bot"
NOTEBOOK = "spiffe://corp.example/ns/dev/sa/notebook"

Sign = Callable[[bytes], bytes]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(
    header: Mapping[str, JsonValue] | bytes, claims: Mapping[str, JsonValue] | bytes, sign: Sign
) -> str:
    """A JWS by hand: header and payload may be any bytes."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    signing_input = ".".join(b64(part) for part in parts)
    return f"{signing_input}.{b64(sign(signing_input.encode()))}"


@dataclass(slots=True)
class Forge:
    """Signs as the development issuer and CA of one state folder do, and as they never would."""

    state: State
    issuer: DevIssuer
    made: list[str] = field(default_factory=list)
    """Every token so far."""
    _plain: dict[tuple[str, str | None], str] = field(default_factory=dict)
    _pairs: dict[str, Pair] = field(default_factory=dict)
    _sign: Sign | None = None

    @property
    def key(self) -> DevKey:
        return load_or_make(self.state.issuer_keys, "RS256")

    def claims(
        self, person: str = "ana", *, client: str | None = IDE, **changes: JsonValue
    ) -> dict[str, JsonValue]:
        """A sample person's claims; a change to None leaves the claim out."""
        asked = PEOPLE[person].asks(client or "")
        found = token_claims(self.issuer, asked, time.time())
        if client is None:
            del found[self.issuer.client]
        found.update(changes)
        return {name: value for name, value in found.items() if value is not None}

    def token(self, person: str = "ana", *, client: str | None = IDE, **changes: JsonValue) -> str:
        """A token of the issuer's key, its claims changed as said."""
        if changes:
            return self.with_header({}, person=person, client=client, **changes)
        if (person, client) not in self._plain:
            self._plain[person, client] = self.with_header({}, person=person, client=client)
        return self._plain[person, client]

    def expired(self, person: str = "ana") -> str:
        asked = replace(PEOPLE[person].asks(IDE), ttl=-60)
        return self._kept(self.key.sign(token_claims(self.issuer, asked, time.time())))

    def with_header(
        self,
        changes: Mapping[str, JsonValue],
        *,
        person: str = "ana",
        client: str | None = IDE,
        **claims: JsonValue,
    ) -> str:
        """A token whose header is changed, and signed all the same by the real key (RS256)."""
        header: dict[str, JsonValue] = {"alg": "RS256", "kid": self.key.kid, "typ": "JWT"}
        header.update(changes)
        header = {name: value for name, value in header.items() if value is not None}
        return self._kept(compact(header, self.claims(person, client=client, **claims), self.rs256()))

    def raw(
        self, header: Mapping[str, JsonValue] | bytes, claims: Mapping[str, JsonValue] | bytes, sign: Sign
    ) -> str:
        return self._kept(compact(header, claims, sign))

    def by(self, key: DevKey, **claims: JsonValue) -> str:
        """A good token, but of another key."""
        return self._kept(key.sign(self.claims(**claims)))  # type: ignore[arg-type]

    def rs256(self) -> Sign:
        if self._sign is None:
            private = jwt.PyJWK.from_dict(dict(self.key.jwk)).key  # slow: it checks the key's primes
            algorithm = jwt.get_algorithm_by_name("RS256")
            self._sign = lambda data: algorithm.sign(data, private)
        return self._sign

    def public_pem(self) -> bytes:
        private = jwt.PyJWK.from_dict(dict(self.key.jwk)).key
        assert isinstance(private, rsa.RSAPrivateKey)
        return private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def jwt_svid(self, spiffe_id: str, audience: Sequence[str], ttl: int = 300) -> str:
        made = DevCa(self.state).jwt_svid(SpiffeId.parse(spiffe_id), audience, time.time(), ttl)
        return self._kept(made)

    def jwt_svid_of(self, claims: Mapping[str, JsonValue], domain: str = "corp.example") -> str:
        """A JWT-SVID of exactly these claims, by a trust domain's key."""
        key = load_or_make(self.state.ca / f"{domain}-jwt.jwks", "ES256")
        return self._kept(key.sign(claims))

    def svid(self, spiffe_id: str) -> Pair:
        """A good X.509-SVID."""
        if spiffe_id not in self._pairs:
            self._pairs[spiffe_id] = DevCa(self.state).x509_svid(SpiffeId.parse(spiffe_id))
        return self._pairs[spiffe_id]

    def certificate(
        self,
        name: str,
        uris: Sequence[str],
        *,
        authority: Path | None = None,
        days: tuple[float, float] = (-1, 1),
        is_ca: bool = False,
    ) -> Pair:
        """An X.509 certificate that no good CA would make, by the development CA or by `authority`."""
        ca = authority or self.state.ca / "corp.example.pem"
        certificate, key = _certificate(ca, uris, days, is_ca)
        folder = self.state.root / "forged"
        pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        write_private(pair.key, private)
        write_private(pair.certificate, certificate.public_bytes(pem))
        return pair

    def other_authority(self) -> Path:
        """A CA that calls itself the trust domain's and isn't."""
        elsewhere = State(self.state.root / "elsewhere")
        return DevCa(elsewhere).x509_bundle("corp.example")

    def _kept(self, token: str) -> str:
        self.made.append(token)
        return token


def hs256(secret: bytes) -> Sign:
    return lambda data: hmac.new(secret, data, hashlib.sha256).digest()


def unsigned(_data: bytes) -> bytes:
    return b""


def _certificate(
    ca_file: Path, uris: Sequence[str], days: tuple[float, float], is_ca: bool
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    ca = x509.load_pem_x509_certificate(ca_file.read_bytes())
    ca_key = serialization.load_pem_private_key(ca_file.with_suffix(".key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    first, last = (now + datetime.timedelta(days=offset) for offset in days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Forged")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(first, ca.not_valid_before_utc))
        .not_valid_after(last)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=is_ca,
                crl_sign=is_ca,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ca_key, hashes.SHA256()), key

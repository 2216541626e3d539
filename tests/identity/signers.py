"""Keys that sign test tokens: well-formed ones, and any bytes that a test wants signed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from identity.jose import encode_base64url
from identity.jwk import JwkSet, public_jwk

NOW = 1_800_000_000.0
ISS = "https://sso.corp.example"


@dataclass(frozen=True)
class Signer:
    """A private key with the one algorithm it is used for."""

    alg: str
    private: Any

    @property
    def jwk(self) -> dict[str, Any]:
        return dict(public_jwk(self.private.public_key(), alg=self.alg))

    @property
    def kid(self) -> str:
        return self.jwk["kid"]

    def sign_bytes(self, header: bytes, payload: bytes) -> str:
        return self.sign_parts(encode_base64url(header), encode_base64url(payload))

    def sign_parts(self, header: str, payload: str) -> str:
        signing_input = f"{header}.{payload}"
        signature = get_default_algorithms()[self.alg].sign(signing_input.encode(), self.private)
        return f"{signing_input}.{encode_base64url(signature)}"

    def sign(self, claims: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> str:
        """A JWT; `header` overrides the usual header's members, None removing one."""
        members = {"alg": self.alg, "kid": self.kid, "typ": "JWT", **(header or {})}
        kept = {name: value for name, value in members.items() if value is not None}
        return self.sign_bytes(json.dumps(kept).encode(), json.dumps(dict(claims)).encode())


@cache
def signer(alg: str = "ES256", number: int = 0) -> Signer:
    """The same key for the same arguments: making an RSA key takes a while."""
    if alg in ("RS256", "PS256", "RS384"):
        return Signer(alg, rsa.generate_private_key(65537, 2048))
    if alg == "EdDSA":
        return Signer(alg, ed25519.Ed25519PrivateKey.generate())
    return Signer(alg, ec.generate_private_key(ec.SECP384R1() if alg == "ES384" else ec.SECP256R1()))


def document(keys: Iterable[Mapping[str, Any]]) -> bytes:
    return json.dumps({"keys": [dict(key) for key in keys]}).encode()


def key_set(*signers: Signer) -> JwkSet:
    return JwkSet.parse(document(each.jwk for each in signers))


def bundle(*signers: Signer) -> JwkSet:
    """A SPIFFE bundle's JWT authorities."""
    return JwkSet.parse_spiffe_bundle(document({**each.jwk, "use": "jwt-svid"} for each in signers))


def claims(**changes: Any) -> dict[str, Any]:
    """What a good token of the test issuer says; a change to None removes a claim."""
    good = {"iss": ISS, "aud": "mcp", "sub": "00u1", "iat": NOW - 10, "exp": NOW + 590, "groups": ["ads-eng"]}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}

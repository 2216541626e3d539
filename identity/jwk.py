"""JSON Web Keys (RFC 7517): public keys that may verify a signature, and sets of them read strictly.

A set that holds what no issuer should publish (a secret, a private key, one kid twice) is refused whole. A
key that is merely of no use here (for encryption, of another algorithm, too weak) is left out, as RFC 7517 5
asks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from identity import strictjson
from identity.jose import decode_base64url, encode_base64url, is_kid
from identity.principal import JsonValue
from identity.roca import is_roca

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

MAX_SET_BYTES = 256 * 1024
MAX_KEYS = 100
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
"""Above this, one verification costs more than an attacker's request should."""

# By key type and curve, every algorithm that such a key may be used with, of those that exist here at all.
ALGORITHMS_OF: Mapping[tuple[str, str | None], frozenset[str]] = MappingProxyType(
    {
        ("RSA", None): frozenset({"RS256", "PS256"}),
        ("EC", "P-256"): frozenset({"ES256"}),
        ("EC", "P-384"): frozenset({"ES384"}),
        ("OKP", "Ed25519"): frozenset({"EdDSA"}),
    }
)
ALGORITHMS = frozenset().union(*ALGORITHMS_OF.values())

SIGNATURE_USE = frozenset({None, "sig"})
JWT_SVID_USE = frozenset({"jwt-svid"})
"""SPIFFE Trust Domain and Bundle 4.2.2: a bundle's keys say `use`, and only these verify JWT-SVIDs."""

_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
# RFC 7638 3.2: what a thumbprint is taken over, by key type.
_REQUIRED_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
_COORDINATE_BYTES = {"P-256": 32, "P-384": 48, "Ed25519": 32}

_Members: TypeAlias = dict[str, JsonValue]


class JwkError(ValueError):
    """A key set that is refused whole. The message repeats nothing of it."""


class _Unusable(Exception):
    """A key that is left out of its set, and why."""


class KeySource(Protocol):
    """Where verification keys come from: a fixed set, or a cache that follows one."""

    def current(self) -> JwkSet | None:
        """The keys in force; None while there are none. Takes no lock and does no I/O."""

    def wanted(self, kid: str | None) -> None:
        """A token named a key that `current` lacks. Never waits."""


@dataclass(frozen=True, slots=True)
class Jwk:
    """One public key, and what it may verify."""

    kid: str | None
    algorithms: frozenset[str]
    key: PublicKey
    thumbprint: str
    """RFC 7638, SHA-256, base64url."""


@dataclass(frozen=True, slots=True)
class JwkSet:
    """The keys of one issuer. It is a `KeySource` itself: one that never changes."""

    keys: tuple[Jwk, ...]
    by_kid: Mapping[str, Jwk]
    generation: str
    """A digest of the usable keys: the same keys written differently are the same generation."""
    skipped: tuple[str, ...] = field(default=(), compare=False)
    """Why each key that was left out was left out."""

    @classmethod
    def parse(
        cls, body: bytes, *, uses: frozenset[str | None] = SIGNATURE_USE, kid_required: bool = False
    ) -> JwkSet:
        """Read a JWK Set document.

        Raises:
            JwkError: where any part of it is refused, or no key is left. There are no half-read sets.

        """
        entries = _entries(body)
        _check_kids(entries, kid_required)
        keys: list[Jwk] = []
        skipped: list[str] = []
        for index, members in enumerate(entries):
            try:
                keys.append(_jwk(members, uses))
            except _Unusable as why:
                skipped.append(f"key {index + 1}: {why}")
        if not keys:
            raise JwkError("holds no key that is of use: " + ("; ".join(skipped) or "it is empty"))
        return cls._of(keys, skipped)

    @classmethod
    def parse_spiffe_bundle(cls, body: bytes) -> JwkSet:
        """Read the JWT authorities of a SPIFFE trust bundle: keys with `use: jwt-svid` and a `kid`."""
        return cls.parse(body, uses=JWT_SVID_USE, kid_required=True)

    @classmethod
    def _of(cls, keys: list[Jwk], skipped: list[str]) -> JwkSet:
        lines = sorted(json.dumps([k.kid, k.thumbprint, sorted(k.algorithms)]) for k in keys)
        generation = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        by_kid = MappingProxyType({key.kid: key for key in keys if key.kid is not None})
        return cls(tuple(keys), by_kid, generation, tuple(skipped))

    def find(self, kid: str | None) -> Jwk | None:
        """The key that a token names. A token may leave `kid` out only where there is nothing to choose."""
        if kid is None:
            return self.keys[0] if len(self.keys) == 1 else None
        return self.by_kid.get(kid)

    def current(self) -> JwkSet:
        """These keys."""
        return self

    def wanted(self, kid: str | None) -> None:
        """Nothing: there is nowhere to look for more."""


def public_jwk(key: PublicKey, *, alg: str | None = None, use: str = "sig") -> dict[str, str]:
    """A public key as a JWK to publish, named by its thumbprint; without `alg`, for any that fits it."""
    if isinstance(key, RSAPublicKey):
        members = RSAAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, EllipticCurvePublicKey):
        members = ECAlgorithm.to_jwk(key, as_dict=True)
    else:
        members = OKPAlgorithm.to_jwk(key, as_dict=True)
    required = {name: str(members[name]) for name in _REQUIRED_MEMBERS[members["kty"]]}
    named = {"kid": _thumbprint(required), "use": use, **required}
    return named if alg is None else {**named, "alg": alg}


def thumbprint(key: PublicKey) -> str:
    """RFC 7638, SHA-256, base64url: the name of a key that follows from the key alone."""
    return public_jwk(key)["kid"]


def _thumbprint(required: Mapping[str, str]) -> str:
    text = json.dumps(dict(sorted(required.items())), separators=(",", ":"))
    return encode_base64url(hashlib.sha256(text.encode()).digest())


def _entries(body: bytes) -> list[_Members]:
    if len(body) > MAX_SET_BYTES:
        raise JwkError(f"larger than {MAX_SET_BYTES} bytes")
    try:
        keys = strictjson.loads_object(body).get("keys")
    except strictjson.JsonError as error:
        raise JwkError(str(error)) from None
    if not isinstance(keys, list):
        raise JwkError("has no list of keys")
    if len(keys) > MAX_KEYS:
        raise JwkError(f"holds more than {MAX_KEYS} keys")
    entries = [key for key in keys if isinstance(key, dict)]
    if len(entries) != len(keys):
        raise JwkError("holds a key that is not an object")
    for members in entries:
        if members.get("kty") == "oct" or not _PRIVATE_MEMBERS.isdisjoint(members):
            raise JwkError("holds a secret or private key")
    return entries


def _check_kids(entries: list[_Members], kid_required: bool) -> None:
    kids = [_optional_text(members, "kid") for members in entries]
    named = [kid for kid in kids if kid is not None]
    if not all(is_kid(kid) for kid in named):
        raise JwkError("holds a key whose kid is too long or not printable")
    if len(set(named)) != len(named):
        raise JwkError("holds one kid twice")
    # Keys of other uses in a SPIFFE bundle (x509-svid) have no kid, and need none.
    if kid_required and any(
        kid is None and members.get("use") in JWT_SVID_USE for kid, members in zip(kids, entries, strict=True)
    ):
        raise JwkError("holds a key without a kid")


def _jwk(members: _Members, uses: frozenset[str | None]) -> Jwk:
    kty = _text(members, "kty")
    crv = _text(members, "crv") if kty in ("EC", "OKP") else None
    possible = ALGORITHMS_OF.get((kty, crv))
    if possible is None:
        raise _Unusable("of a type or curve that is not accepted")
    if _optional_text(members, "use") not in uses:
        raise _Unusable("of another use")
    if not _may_verify(members):
        raise _Unusable("its key_ops are not for verifying")
    alg = _optional_text(members, "alg")
    algorithms = possible if alg is None else possible & {alg}
    if not algorithms:
        raise _Unusable("its alg is not accepted for its type")
    key = _public_key(members, kty, crv)
    return Jwk(_optional_text(members, "kid"), algorithms, key, thumbprint(key))


def _public_key(members: _Members, kty: str, crv: str | None) -> PublicKey:
    material = {name: _text(members, name) for name in _REQUIRED_MEMBERS[kty]}
    try:
        for name in material.keys() - {"kty", "crv"}:
            data = decode_base64url(material[name])
            if crv is not None and len(data) != _COORDINATE_BYTES[crv]:
                raise JwkError("holds a key whose coordinates are not as long as its curve asks")
        if kty == "RSA":
            return _rsa(material)
        key = (ECAlgorithm if kty == "EC" else OKPAlgorithm).from_jwk(material)
    except (ValueError, InvalidKeyError):
        raise JwkError("holds a key that is none") from None
    assert isinstance(key, EllipticCurvePublicKey | Ed25519PublicKey)  # noqa: S101  no private member is passed
    return key


def _rsa(material: dict[str, str]) -> RSAPublicKey:
    modulus = int.from_bytes(decode_base64url(material["n"]), "big")
    # Looked at before there is a key: cryptography itself refuses some sizes, and big ones cost time.
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise _Unusable(f"RSA of less than {MIN_RSA_BITS} or more than {MAX_RSA_BITS} bits")
    if is_roca(modulus):
        raise _Unusable("RSA with the ROCA weakness (CVE-2017-15361)")
    if len(decode_base64url(material["e"])) > 4:
        raise _Unusable("RSA with an exponent over 32 bits")
    key = RSAAlgorithm.from_jwk(material)
    assert isinstance(key, RSAPublicKey)  # noqa: S101  no private member is passed
    return key


def _may_verify(members: _Members) -> bool:
    if "key_ops" not in members:
        return True
    operations = members["key_ops"]
    if not isinstance(operations, list):
        raise JwkError("holds a key whose key_ops is not a list")
    return "verify" in operations and all(operation in ("sign", "verify") for operation in operations)


def _text(members: _Members, name: str) -> str:
    value = _optional_text(members, name)
    if value is None:
        raise JwkError(f"holds a key without {name}")
    return value


def _optional_text(members: _Members, name: str) -> str | None:
    if name not in members:
        return None
    value = members[name]
    if not isinstance(value, str):
        raise JwkError(f"holds a key whose {name} is not a string")
    return value

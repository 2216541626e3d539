"""The keys that sign identity assertions: a file with a private JWK Set, kept by its order.

The first key signs, the rest are next: their public halves are published already, so that a server knows
them before the first assertion is signed by them. To rotate: `with_next`, publish, wait until every server
has read it, `promoted`, and `retired` a minute later.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
    generate_private_key,
)

from identity import keyfiles, strictjson
from identity.errors import KeyFileError
from identity.jose import decode_base64url, encode_base64url
from identity.jwk import public_jwk, thumbprint
from identity.principal import JsonValue

MAX_KEYS = 10
_MEMBERS = frozenset({"kty", "crv", "x", "y", "d", "kid", "use", "alg", "key_ops"})
_EXPECTED = {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256"}


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """A private P-256 key, named by its thumbprint (RFC 7638). Its `repr` holds nothing secret."""

    kid: str
    private: EllipticCurvePrivateKey

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key, of the operating system's randomness."""
        return cls._of(generate_private_key(SECP256R1()))

    @classmethod
    def _of(cls, private: EllipticCurvePrivateKey) -> SigningKey:
        return cls(thumbprint(private.public_key()), private)

    def public(self) -> dict[str, str]:
        """The public half, as a JWK."""
        return public_jwk(self.private.public_key(), alg="ES256")

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """Private keys in order, never none."""

    keys: tuple[SigningKey, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.keys) <= MAX_KEYS or len({key.kid for key in self.keys}) != len(self.keys):
            raise ValueError(f"1 to {MAX_KEYS} different signing keys are needed")

    @classmethod
    def load(cls, private_jwks: bytes) -> SigningKeys:
        """Read a private JWK Set of P-256 keys.

        Raises:
            KeyFileError: where it is anything else; the message holds no key material.

        """
        try:
            entries = strictjson.loads_object(private_jwks).get("keys")
            if not isinstance(entries, list):
                raise KeyFileError("signing keys: not a JWK Set")
            return cls(tuple(_signing_key(entry) for entry in entries))
        except ValueError as error:
            raise KeyFileError(f"signing keys: {error}") from None

    @classmethod
    def read(cls, path: Path) -> SigningKeys:
        """Read them from a file that nobody but its owner can touch."""
        return cls.load(keyfiles.read_private(path))

    @property
    def signing(self) -> SigningKey:
        """The key that signs now."""
        return self.keys[0]

    def with_next(self, key: SigningKey) -> SigningKeys:
        """These keys and one to sign with later."""
        return SigningKeys((*self.keys, key))

    def promoted(self) -> SigningKeys:
        """The second key signs; the first is kept, last, for what it signed already."""
        return SigningKeys((*self.keys[1:], self.keys[0]))

    def retired(self) -> SigningKeys:
        """Without the last key: what it signed is refused from now on."""
        return SigningKeys(self.keys[:-1])

    def public_jwks(self) -> bytes:
        """The public halves of all of them: what servers verify with."""
        return _document([key.public() for key in self.keys])

    def private_jwks(self) -> bytes:
        """The private JWK Set, for `keyfiles.write_private` and nothing else."""
        return _document([{**key.public(), "d": _secret(key)} for key in self.keys])


def generate_signing_key() -> SigningKeys:
    """A first set of one new key."""
    return SigningKeys((SigningKey.generate(),))


def _document(keys: list[dict[str, str]]) -> bytes:
    return json.dumps({"keys": keys}, indent=1).encode() + b"\n"


def _secret(key: SigningKey) -> str:
    return encode_base64url(key.private.private_numbers().private_value.to_bytes(32, "big"))


def _signing_key(members: JsonValue) -> SigningKey:
    if not isinstance(members, dict) or not members.keys() <= _MEMBERS:
        raise ValueError("a key is not a private JWK")
    if any(members.get(name, expected) != expected for name, expected in _EXPECTED.items()):
        raise ValueError("a key is not of P-256 for ES256 signatures")
    secret = members.get("d")
    if not isinstance(secret, str) or len(decode_base64url(secret)) != 32:
        raise ValueError("a key has no private part")
    # Derived, never read: x, y and kid in the file can only agree.
    key = SigningKey._of(derive_private_key(int.from_bytes(decode_base64url(secret), "big"), SECP256R1()))
    derived = key.public()
    if any(members.get(name) != derived[name] for name in ("kty", "crv", "x", "y")):
        raise ValueError("a key's public part is not that of its private part")
    if members.get("kid", key.kid) != key.kid:
        raise ValueError("a key's kid is not its RFC 7638 thumbprint")
    return key

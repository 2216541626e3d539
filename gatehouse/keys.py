"""Private JWK sets of the development issuer and CA: made, kept, signed with (RFC 7517, RFC 7638)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from gatehouse import state
from gatehouse.errors import Failure
from identity.principal import JsonValue

KeyAlgorithm = Literal["RS256", "ES256"]
_PUBLIC_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y")}
"""By key type: exactly what the thumbprint covers, in its order (RFC 7638 section 3.2)."""


@dataclass(frozen=True, slots=True, repr=False)
class DevKey:
    """One signing key. It has no `repr`, so that no log ever shows it."""

    jwk: Mapping[str, str]

    @classmethod
    def generate(cls, algorithm: KeyAlgorithm) -> DevKey:
        """Make a new key: RSA of 2048 bits for RS256, P-256 for ES256."""
        if algorithm == "RS256":
            private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            jwk = json.loads(RSAAlgorithm.to_jwk(private))
        else:
            jwk = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1())))
        members = {name: value for name, value in jwk.items() if isinstance(value, str)}
        return cls({**members, "alg": algorithm, "kid": _thumbprint(members)})

    @property
    def kid(self) -> str:
        return self.jwk["kid"]

    @property
    def algorithm(self) -> str:
        return self.jwk["alg"]

    def public(self, use: str = "sig") -> dict[str, JsonValue]:
        """The public JWK, for `use`."""
        members = _PUBLIC_MEMBERS[self.jwk["kty"]]
        return {
            **{name: self.jwk[name] for name in members},
            "alg": self.algorithm,
            "kid": self.kid,
            "use": use,
        }

    def sign(self, claims: Mapping[str, JsonValue], typ: str = "JWT") -> str:
        """A signed JWT of exactly these claims."""
        key = jwt.PyJWK.from_dict(dict(self.jwk))
        return jwt.encode(
            dict(claims), key.key, algorithm=self.algorithm, headers={"kid": self.kid, "typ": typ}
        )


def load_or_make(path: Path, algorithm: KeyAlgorithm) -> DevKey:
    """The first key of the private set at `path`; made, for its owner alone, where it isn't there."""
    if not path.exists():
        key = DevKey.generate(algorithm)
        state.write_private(path, json.dumps({"keys": [dict(key.jwk)]}))
        return key
    return load(path)


def load(path: Path) -> DevKey:
    """The first key of the private set at `path`."""
    try:
        keys = json.loads(state.read_private(path))["keys"]
        return DevKey(dict(keys[0]))
    except (ValueError, LookupError, TypeError) as error:
        raise Failure(f"{path} is not a private JWK set", "delete it: a new one is made") from error


def _thumbprint(members: Mapping[str, str]) -> str:
    required = {name: members[name] for name in _PUBLIC_MEMBERS[members["kty"]]}
    text = json.dumps(required, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()

"""Who a call is: the nouns of identity, free of I/O and of every other package.

A user is always the pair (issuer name, ``sub``); a workload is its SPIFFE ID. `pdp` imports this module
and nothing else from `identity`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

NO_CLAIMS: Mapping[str, JsonValue] = MappingProxyType({})


def claim_at(claims: Mapping[str, JsonValue], name: str) -> JsonValue:
    """The value of a claim given by its name, or by a JSON Pointer (RFC 6901) where `name` begins with `/`.

    None where it is absent. A pointer walks objects only: no policy asks for the third item of a list.
    """
    if not name.startswith("/"):
        return claims.get(name)
    value: JsonValue | Mapping[str, JsonValue] = claims
    for token in name[1:].split("/"):
        if not isinstance(value, Mapping):
            return None
        value = value.get(token.replace("~1", "/").replace("~0", "~"))
    return value  # type: ignore[return-value]


# SPIFFE-ID section 2: the scheme is lower case, the trust domain is [a-z0-9._-], a path segment is
# [a-zA-Z0-9._-] and neither empty, "." nor "..". The whole ID is at most 2048 bytes, the trust domain 255.
_SPIFFE_ID = re.compile(r"spiffe://(?P<trust_domain>[a-z0-9._-]{1,255})(?P<path>(?:/[a-zA-Z0-9._-]+)*)")
_SPIFFE_ID_MAX_BYTES = 2048


class SpiffeIdError(ValueError):
    """The text is not a SPIFFE ID as SPIFFE-ID section 2 defines it."""


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A parsed SPIFFE ID; `str()` gives back the exact text it was parsed from.

    Build it with `SpiffeId.parse`, which is strict: no normalization, no case folding, no query, no port.
    """

    trust_domain: str
    path: str

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Parse `text` exactly.

        Raises:
            SpiffeIdError: naming what is wrong; the text itself is not repeated.

        """
        if len(text) > _SPIFFE_ID_MAX_BYTES:
            raise SpiffeIdError(f"a SPIFFE ID has at most {_SPIFFE_ID_MAX_BYTES} bytes")
        match = _SPIFFE_ID.fullmatch(text)
        if match is None:
            raise SpiffeIdError("not a SPIFFE ID: expected spiffe://trust-domain/path")
        path = match["path"]
        if any(segment in (".", "..") for segment in path.split("/")):
            raise SpiffeIdError("a SPIFFE ID has no '.' or '..' path segment")
        return cls(match["trust_domain"], path)

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}{self.path}"


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Where an issuer puts what policy asks about: a claim's name, or a JSON Pointer (RFC 6901) into it."""

    groups: str = "groups"
    roles: str = "roles"
    client: str = "azp"


@dataclass(frozen=True, slots=True)
class Issuer:
    """One trusted token issuer: what it may sign, and for whom. Exactly one JWKS source is set."""

    name: str
    issuer: str
    audiences: frozenset[str]
    algorithms: frozenset[str]
    jwks_uri: str | None = None
    jwks_file: str | None = None
    claims: ClaimNames = field(default_factory=ClaimNames)
    require: tuple[str, ...] = ()
    max_lifetime: int = 86_400
    """Longest `exp - iat` accepted, in seconds."""
    extra_headers: frozenset[str] = frozenset()
    """JOSE header names this issuer may use beside the usual ones."""


@dataclass(frozen=True, slots=True)
class User:
    """A person whose token was verified. Equality of people is `key`, never the token's other claims."""

    issuer: str
    """The issuer's name in policy, not its URL."""
    subject: str
    client: str | None = None
    groups: frozenset[str] = frozenset()
    """The issuer's own groups, before policy turns them into business groups."""
    roles: frozenset[str] = frozenset()
    claims: Mapping[str, JsonValue] = field(default_factory=lambda: NO_CLAIMS, hash=False)
    token_id: str | None = None
    expires: float = 0.0
    """When the token ends, in seconds since the epoch."""

    @property
    def key(self) -> str:
        """`issuer:subject`, as locks and logs name a user."""
        return f"{self.issuer}:{self.subject}"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a call is: a user, a workload, or a user brought by a workload. Never neither."""

    user: User | None = None
    workload: SpiffeId | None = None

    def __post_init__(self) -> None:
        if self.user is None and self.workload is None:
            raise ValueError("a principal is a user, a workload or both")

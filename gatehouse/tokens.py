"""Development tokens: what the development issuer signs, straight from its key in the state folder.

It signs whatever it is asked to, for whoever can read that key. So the key is made on this machine, is for
its owner alone, and is trusted by nothing but a stack that runs on loopback.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gatehouse import keys
from gatehouse.errors import Failure
from gatehouse.state import State
from identity.principal import JsonValue

DEFAULT_CLIENT = "ide-plugin"
"""A client off the mesh: its tokens work at the users' listener with nothing else."""
DEFAULT_TTL = 3600
EMPLOYMENT = "employee"
"""What a required `employment` claim says unless asked otherwise."""


@dataclass(frozen=True, slots=True)
class DevIssuer:
    """Whom the development issuer signs for: one of the policy's issuers, by its real `iss`."""

    name: str
    issuer: str
    audience: str
    """What `aud` says unless asked otherwise."""
    groups: str = "groups"
    """Where this issuer puts the groups: a claim's name, or a JSON Pointer."""
    roles: str = "roles"
    client: str = "azp"
    require: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What the token should say."""

    user: str
    groups: Sequence[str] = ()
    roles: Sequence[str] = ()
    client: str = DEFAULT_CLIENT
    audience: str | None = None
    ttl: int = DEFAULT_TTL
    """Seconds from now to `exp`; negative for a token that has expired already."""
    claims: Mapping[str, JsonValue] = field(default_factory=dict)
    """Claims beside and over all the others."""


def mint(state: State, issuer: DevIssuer, request: TokenRequest, now: float) -> str:
    """Sign a token for `request` as `issuer`."""
    return keys.load_or_make(state.issuer_keys, "RS256").sign(token_claims(issuer, request, now))


def token_claims(issuer: DevIssuer, request: TokenRequest, now: float) -> dict[str, JsonValue]:
    """The claims of a token, laid out where this issuer has them.

    A token that has expired was issued an hour before it did: what is wrong with it is its age alone.
    """
    expires = int(now) + request.ttl
    claims: dict[str, JsonValue] = {
        "iss": issuer.issuer,
        "sub": request.user,
        "aud": request.audience or issuer.audience,
        "iat": min(int(now), expires - DEFAULT_TTL) if request.ttl <= 0 else int(now),
        "exp": expires,
        "jti": uuid.uuid4().hex,
    }
    if "employment" in issuer.require:
        claims["employment"] = EMPLOYMENT
    _place(claims, issuer.groups, list(request.groups))
    _place(claims, issuer.roles, list(request.roles))
    _place(claims, issuer.client, request.client)
    claims.update(request.claims)
    return claims


def _place(claims: dict[str, JsonValue], where: str, value: JsonValue) -> None:
    """Put `value` where a claim name or a JSON Pointer (RFC 6901) says."""
    if not where.startswith("/"):
        claims[where] = value
        return
    *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in where[1:].split("/"))
    node = claims
    for name in parents:
        child = node.setdefault(name, {})
        if not isinstance(child, dict):
            raise Failure(f"the claim {where} lies within one that holds no others")
        node = child
    node[last] = value

"""Users' tokens: JWTs of issuers that policy trusts, under security rules that no issuer can loosen.

Order matters: strict form, then which issuer by its exact `iss`, then its pinned algorithms and its own keys,
then the signature, and only then what the claims say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from identity import claims as read
from identity import jose, signature
from identity.claims import ClaimError, Claims
from identity.errors import IdentityError, KeysUnavailable
from identity.jose import Jws
from identity.jwk import ALGORITHMS, KeySource
from identity.principal import Issuer, JsonValue, User, claim_at

LEEWAY = 30
"""Seconds by which clocks may differ."""
MAX_LIFETIME = 86_400
"""Seconds; an issuer's own bound can only be lower."""
MAX_GROUPS = 500
"""Groups in one token. A longer list is refused, never cut: a guardrail's group may be in its tail."""

_TYPES = frozenset({None, "JWT", "at+jwt"})


@dataclass(frozen=True, slots=True)
class _Trust:
    """An issuer, and where its keys come from."""

    issuer: Issuer
    keys: KeySource
    headers: frozenset[str]


class TokenVerifier:
    """Verifies users' tokens of several issuers. Immutable, so any number of threads may share it."""

    def __init__(self, issuers: Sequence[Issuer], keys: Mapping[str, KeySource]) -> None:
        """Trust `issuers`, each with the keys found under its name.

        Raises:
            ValueError: where issuers can't be told apart, or one asks for what is never allowed.

        """
        self._by_iss = {issuer.issuer: _trust(issuer, keys) for issuer in issuers}
        if len(self._by_iss) != len(issuers) or len({issuer.name for issuer in issuers}) != len(issuers):
            raise ValueError("two issuers have the same name or the same iss")
        self.extra_headers = frozenset().union(*(issuer.extra_headers for issuer in issuers))
        """Headers that some issuer may use; whether a token's own may is asked once it is known."""

    def keys_of(self, jws: Jws) -> KeySource | None:
        """Where the keys of a token's issuer come from; None where it is of no issuer trusted here."""
        trust = self._trust(jws)
        return None if trust is None else trust.keys

    def verify(self, token: str, audience: str | None, now: float) -> User:
        """Verify a token made for `audience` (the URL of the resource called) or the issuer's audiences.

        Raises:
            IdentityError: with the code of the first rule that fails.

        """
        return self.verify_jws(jose.parse(token, extra_headers=self.extra_headers), audience, now)

    def verify_jws(self, jws: Jws, audience: str | None, now: float) -> User:
        """Verify a token that was parsed already, with `extra_headers`."""
        trust = self._trust(jws)
        if trust is None:
            raise IdentityError("token_issuer_unknown", "iss is not the exact URL of a trusted issuer")
        _check_header(jws, trust)
        _check_signature(jws, trust)
        _check_times(jws.claims, trust.issuer, now)
        _check_audience(jws.claims, trust.issuer, audience)
        _check_overage(jws.claims)
        try:
            return _user(jws.claims, trust.issuer)
        except ClaimError as error:
            raise IdentityError("token_claims", str(error)) from None

    def _trust(self, jws: Jws) -> _Trust | None:
        iss = jws.claims.get("iss")
        return self._by_iss.get(iss) if isinstance(iss, str) else None


def _trust(issuer: Issuer, keys: Mapping[str, KeySource]) -> _Trust:
    if not issuer.algorithms or not issuer.algorithms <= ALGORITHMS:
        raise ValueError(
            f"issuer {issuer.name}: its algorithms have to be among {', '.join(sorted(ALGORITHMS))}"
        )
    if not 0 < issuer.max_lifetime <= MAX_LIFETIME:
        raise ValueError(f"issuer {issuer.name}: max_lifetime is at most {MAX_LIFETIME} seconds")
    if not issuer.extra_headers.isdisjoint(jose.NEVER_HEADERS):
        raise ValueError(f"issuer {issuer.name}: {', '.join(sorted(jose.NEVER_HEADERS))} are never accepted")
    if issuer.name not in keys:
        raise ValueError(f"issuer {issuer.name}: nothing says where its keys come from")
    names = issuer.claims
    for name in (names.groups, names.roles, names.client, *issuer.require):
        read.check_place(name)
    return _Trust(issuer, keys[issuer.name], jose.USUAL_HEADERS | issuer.extra_headers)


def _check_header(jws: Jws, trust: _Trust) -> None:
    if not jws.header.keys() <= trust.headers:
        raise IdentityError("token_malformed", "the header has a parameter that its issuer may not use")
    if jws.typ not in _TYPES:
        raise IdentityError("token_malformed", "typ is neither JWT nor at+jwt")


def _check_signature(jws: Jws, trust: _Trust) -> None:
    keys = trust.keys.current()
    if keys is None:
        raise KeysUnavailable(f"no keys of issuer {trust.issuer.name} yet")
    try:
        signature.verify(jws, keys, trust.issuer.algorithms)
    except IdentityError as error:
        if error.code == "token_key_unknown":
            trust.keys.wanted(jws.kid)
        raise


def _check_times(claims: Claims, issuer: Issuer, now: float) -> None:
    try:
        expires = read.required_time(claims, "exp")
        issued = read.required_time(claims, "iat")
        not_before = read.time(claims, "nbf")
    except ClaimError as error:
        raise IdentityError("token_claims", str(error)) from None
    if now >= expires + LEEWAY:
        raise IdentityError("token_expired", "exp is past")
    if now + LEEWAY < max(issued, not_before or 0):
        raise IdentityError("token_not_yet_valid", "iat or nbf is in the future")
    if not 0 < expires - issued <= issuer.max_lifetime:
        raise IdentityError("token_lifetime", f"exp is not within {issuer.max_lifetime} seconds after iat")


def _check_audience(claims: Claims, issuer: Issuer, audience: str | None) -> None:
    try:
        found = read.audiences(claims)
    except ClaimError as error:
        raise IdentityError("token_claims", str(error)) from None
    if found.isdisjoint(issuer.audiences) and (audience is None or audience not in found):
        raise IdentityError("token_audience", "aud holds neither the resource called nor an audience of ours")


def _check_overage(claims: Claims) -> None:
    # Where a user has too many groups, Entra ID leaves them out and says where to ask instead: `_claim_names`
    # in the code flow, `hasgroups` in the implicit one. Read as "no groups", that would dodge a guardrail.
    if "_claim_names" in claims or claims.get("hasgroups", False) is not False:
        raise IdentityError(
            "token_groups_overage", "the token says where to ask for claims that it leaves out"
        )


def _user(claims: Claims, issuer: Issuer) -> User:
    subject = read.name(claims.get("sub"), "sub")
    if subject is None:
        raise ClaimError("sub is absent")
    for claim in issuer.require:
        if read.is_empty(claim_at(claims, claim)):
            raise ClaimError(f"{claim} is absent, and policy requires it")
    names = issuer.claims
    return User(
        issuer=issuer.name,
        subject=subject,
        client=read.name(claim_at(claims, names.client), names.client),
        groups=_few(claim_at(claims, names.groups), names.groups),
        roles=_few(claim_at(claims, names.roles), names.roles),
        claims=MappingProxyType(dict(claims)),
        token_id=read.name(claims.get("jti"), "jti"),
        expires=read.required_time(claims, "exp"),
    )


def _few(value: JsonValue, what: str) -> frozenset[str]:
    if isinstance(value, list) and len(value) > MAX_GROUPS:
        raise IdentityError("token_groups_overage", f"{what} has more than {MAX_GROUPS} items")
    return read.names(value, what)

"""From what a call carries, a bearer and a certificate, to the principal it is of. What ext_authz asks.

Verifying a signature costs over 100 µs, so what was verified is remembered for a minute. Only what a token
says is: locks and policy are looked at elsewhere, on every call.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from cachetools import LRUCache

from identity import jose
from identity.errors import IdentityError
from identity.jwk import KeySource
from identity.principal import Principal, SpiffeId, User
from identity.svid import JwtSvidVerifier, x509_svid
from identity.tokens import TokenVerifier

_Found = TypeVar("_Found")

CACHED = 10_000
"""Tokens, and as many certificates, that are remembered."""
REMEMBERED_FOR = 60.0
"""Seconds, by the monotonic clock, and never past the end of the token itself."""


@dataclass(frozen=True, slots=True)
class _Verified(Generic[_Found]):
    """What a token or certificate was found to be, and while what that holds."""

    found: _Found
    until: float
    """By the monotonic clock."""
    expires: float
    """By the wall clock."""
    keys: KeySource | None
    """None for a certificate: its chain is Envoy's to check, in every handshake."""
    generation: str | None


class Authenticator:
    """Decides who a call is. Thread-safe; 10 µs for credentials seen before."""

    def __init__(
        self,
        tokens: TokenVerifier,
        svids: JwtSvidVerifier,
        *,
        trust_domains: AbstractSet[str],
        svid_audiences: AbstractSet[str] = frozenset(),
        capacity: int = CACHED,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Accept users by `tokens`, and workloads of `trust_domains`, by certificate or by `svids`.

        A JWT-SVID's audience is the resource called or one of `svid_audiences`.
        """
        self._tokens = tokens
        self._svids = svids
        self._trust_domains = frozenset(trust_domains)
        self._svid_audiences = frozenset(svid_audiences)
        self._monotonic = monotonic
        # By the SHA-256 of the raw text. Only what passed the strict parser gets in: that has one spelling.
        self._bearers: LRUCache[tuple[bytes, str], _Verified[User | SpiffeId]] = LRUCache(capacity)
        self._certificates: LRUCache[bytes, _Verified[SpiffeId]] = LRUCache(capacity)
        self._lock = Lock()

    def authenticate(
        self, bearer: str | None, certificate: str | None, audience: str, now: float
    ) -> Principal:
        """Say who a call to `audience`, a resource's URL, is of.

        `certificate` is as Envoy passes it: PEM, percent-encoded, empty or None where the client gave none.

        Raises:
            IdentityError: whatever is present has to hold; `credentials_required` where nothing is.

        """
        workload = self._workload(certificate, now) if certificate else None
        if bearer is None:
            if workload is None:
                raise IdentityError("credentials_required", "neither a token nor a client certificate")
            return Principal(None, workload)
        found = self._bearer(bearer, audience, now)
        if isinstance(found, User):
            return Principal(found, workload)
        if workload is not None and workload != found:
            raise IdentityError("svid_ambiguous", "the JWT-SVID names another workload than the certificate")
        return Principal(None, found)

    @property
    def remembered(self) -> int:
        """Tokens and certificates that are remembered now, for metrics."""
        return len(self._bearers) + len(self._certificates)

    def _bearer(self, token: str, audience: str, now: float) -> User | SpiffeId:
        if len(token) > jose.MAX_TOKEN_BYTES or not token.isascii():
            raise IdentityError("token_malformed", "too long, or not ASCII")
        key = (hashlib.sha256(token.encode("ascii")).digest(), audience)
        with self._lock:
            seen = self._bearers.get(key)
        if seen is None or not self._holds(seen, now):
            seen = self._verify(token, audience, now)
            with self._lock:
                self._bearers[key] = seen
        return seen.found

    def _workload(self, certificate: str, now: float) -> SpiffeId:
        key = hashlib.sha256(certificate.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            seen = self._certificates.get(key)
        if seen is None or not self._holds(seen, now):
            svid = x509_svid(certificate, self._trust_domains, now)
            seen = self._remember(svid.spiffe_id, svid.expires, None, None, now)
            with self._lock:
                self._certificates[key] = seen
        return seen.found

    def _verify(self, token: str, audience: str, now: float) -> _Verified[User | SpiffeId]:
        jws = jose.parse(token, extra_headers=self._tokens.extra_headers)
        keys = self._tokens.keys_of(jws)
        if keys is not None:
            generation = _generation(keys)
            user = self._tokens.verify_jws(jws, audience, now)
            return self._remember(user, user.expires, keys, generation, now)
        subject = jws.claims.get("sub")
        if not isinstance(subject, str) or not subject.startswith("spiffe://"):
            raise IdentityError("token_issuer_unknown", "iss is not the exact URL of a trusted issuer")
        keys = self._svids.keys_of(jws)
        generation = _generation(keys)
        svid = self._svids.verify_jws(jws, {audience, *self._svid_audiences}, now)
        return self._remember(svid.spiffe_id, svid.expires, keys, generation, now)

    def _remember(
        self,
        found: _Found,
        expires: float,
        keys: KeySource | None,
        generation: str | None,
        now: float,
    ) -> _Verified[_Found]:
        until = self._monotonic() + min(REMEMBERED_FOR, expires - now)
        return _Verified(found, until, expires, keys, generation)

    def _holds(self, seen: _Verified[_Found], now: float) -> bool:
        if self._monotonic() >= seen.until or now >= seen.expires:
            return False
        return seen.keys is None or _generation(seen.keys) == seen.generation


def _generation(keys: KeySource | None) -> str | None:
    # Asked before a signature is verified, never after: keys that change in between then count as changed.
    current = None if keys is None else keys.current()
    return None if current is None else current.generation

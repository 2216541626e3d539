"""The identity assertion: what ext_authz signs and a server verifies, in `X-Forwarded-Identity`.

It says all that the other forwarded headers say, for one server, for a minute. Whoever reaches a server
around Envoy can set those headers, but can't sign this. A JWS (ES256) of a type of its own, so that no token
of an issuer can pass for one, nor it for a token.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable
from dataclasses import dataclass
from threading import Lock

from cachetools import LRUCache
from jwt.algorithms import ECAlgorithm

from identity import claims as read
from identity import jose, signature
from identity.claims import ClaimError, Claims
from identity.errors import IdentityError, KeysUnavailable
from identity.jwk import JwkSet, KeySource
from identity.principal import JsonValue, SpiffeId, SpiffeIdError, User
from identity.signing import SigningKey, SigningKeys

TYPE = "gatehouse-identity+jwt"
ISSUER = "gatehouse"
LIFETIME = 60
"""Seconds from issue to expiry."""
LEEWAY = 5
"""Seconds by which the clocks of Envoy's side and the server's may differ."""
CACHED = 10_000
"""Assertions that a minter or a verifier remembers."""

_ALGORITHMS = frozenset({"ES256"})
_HEADERS = frozenset({"alg", "kid", "typ"})
_ES256 = ECAlgorithm(ECAlgorithm.SHA256)


@dataclass(frozen=True, slots=True)
class Assertion:
    """Who calls one server, from where, under which policy; a user, a workload or both.

    The decision's id is not in it: an assertion serves every call that is alike for half its life.
    """

    server: str
    """The audience: the server's name."""
    user: User | None
    """Without the issuer's groups and claims: those stay at the edge."""
    workload: SpiffeId | None
    groups: frozenset[str]
    """Business groups."""
    surface: str
    channel: str | None
    """The channel's name in policy."""
    channel_id: str | None
    """The channel's id as the surface sent it."""
    policy: str
    """The digest of the policy that allowed the call."""
    issued_at: float = 0.0
    expires: float = 0.0
    """Both are the minter's to say; what is minted from has none."""


class Minter:
    """Signs assertions. Signing costs 50 µs, so one serves alike calls until half its life is over."""

    def __init__(self, keys: SigningKeys) -> None:
        self._key: SigningKey = keys.signing
        self._minted: LRUCache[Hashable, tuple[int, str]] = LRUCache(CACHED)
        self._lock = Lock()

    def mint(self, assertion: Assertion, now: float) -> str:
        """Sign what `assertion` says, for a minute from `now`.

        Raises:
            ValueError: where it speaks of nobody.

        """
        key = _cache_key(assertion)
        with self._lock:
            cached = self._minted.get(key)
        if cached is not None and 0 <= now - cached[0] < LIFETIME // 2:
            return cached[1]
        issued = int(now)
        text = self._sign(assertion, issued)
        with self._lock:
            self._minted[key] = (issued, text)
        return text

    def _sign(self, assertion: Assertion, issued: int) -> str:
        header: dict[str, JsonValue] = {"alg": "ES256", "kid": self._key.kid, "typ": TYPE}
        payload = {**_claims(assertion), "iat": issued, "exp": issued + LIFETIME}
        signing_input = f"{_encode(header)}.{_encode(payload)}"
        signed = _ES256.sign(signing_input.encode("ascii"), self._key.private)
        return f"{signing_input}.{jose.encode_base64url(signed)}"


class AssertionVerifier:
    """Verifies assertions made for one server. Verifying costs 150 µs, so what was verified is remembered."""

    def __init__(self, keys: KeySource, audience: str) -> None:
        """Trust `keys` for assertions to `audience`, the server's name."""
        self._keys = keys
        self._audience = audience
        self._seen: LRUCache[tuple[bytes, str], Assertion] = LRUCache(CACHED)
        self._lock = Lock()

    def verify(self, text: str, now: float) -> Assertion:
        """Verify an assertion.

        Raises:
            IdentityError: `identity_invalid`, or `keys_unavailable`.

        """
        keys = self._keys.current()
        if keys is None:
            raise KeysUnavailable("no keys to verify identity assertions with")
        if len(text) > jose.MAX_TOKEN_BYTES or not text.isascii():
            raise _invalid("too long, or not ASCII")
        key = (hashlib.sha256(text.encode("ascii")).digest(), keys.generation)
        with self._lock:
            assertion = self._seen.get(key)
        if assertion is None:
            assertion = self._verify_new(text, keys)
            with self._lock:
                self._seen[key] = assertion
        # Looked at on every call: an assertion that is remembered grows old all the same.
        if not assertion.issued_at - LEEWAY <= now < assertion.expires + LEEWAY:
            raise _invalid("expired, or not valid yet")
        return assertion

    def _verify_new(self, text: str, keys: JwkSet) -> Assertion:
        try:
            jws = jose.parse(text)
            if jws.header.keys() != _HEADERS or jws.typ != TYPE:
                raise _invalid(f"the header is not that of a {TYPE}")
            signature.verify(jws, keys, _ALGORITHMS)
            return _read(jws.claims, self._audience)
        except IdentityError as error:
            if error.code == "token_key_unknown":
                self._keys.wanted(jws.kid)
            raise _invalid(error.detail) from None
        except (ClaimError, SpiffeIdError) as error:
            raise _invalid(str(error)) from None


def _invalid(why: str) -> IdentityError:
    return IdentityError("identity_invalid", why)


def _cache_key(assertion: Assertion) -> Hashable:
    user = assertion.user
    who = user and (user.issuer, user.subject, user.client, user.roles, user.token_id, user.expires)
    return (
        assertion.server,
        who,
        assertion.workload,
        assertion.groups,
        assertion.surface,
        assertion.channel,
        assertion.channel_id,
        assertion.policy,
    )


def _encode(value: JsonValue) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return jose.encode_base64url(text.encode())


def _claims(assertion: Assertion) -> dict[str, JsonValue]:
    """What is signed, but for its times. Absent stays absent: no claim is ever null."""
    if assertion.user is None and assertion.workload is None:
        raise ValueError("an assertion speaks of a user, a workload or both")
    claims: dict[str, JsonValue | None] = {
        "iss": ISSUER,
        "aud": assertion.server,
        "user": None if assertion.user is None else _user_claims(assertion.user),
        "workload": None if assertion.workload is None else str(assertion.workload),
        "groups": [*sorted(assertion.groups)],
        "surface": assertion.surface,
        "channel": assertion.channel,
        "channel_id": assertion.channel_id,
        "policy": assertion.policy,
    }
    return _present(claims)


def _user_claims(user: User) -> dict[str, JsonValue]:
    return _present(
        {
            "iss": user.issuer,
            "sub": user.subject,
            "client": user.client,
            "roles": [*sorted(user.roles)],
            "jti": user.token_id,
            "exp": user.expires,
        }
    )


def _present(claims: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: value for name, value in claims.items() if value is not None}


def _read(claims: Claims, audience: str) -> Assertion:
    if claims.get("iss") != ISSUER or claims.get("aud") != audience:
        raise ClaimError("made for another server")
    issued, expires = read.required_time(claims, "iat"), read.required_time(claims, "exp")
    if not 0 < expires - issued <= LIFETIME:
        raise ClaimError(f"exp is not within {LIFETIME} seconds after iat")
    workload = _text(claims, "workload")
    assertion = Assertion(
        server=audience,
        user=_read_user(claims["user"]) if "user" in claims else None,
        workload=None if workload is None else SpiffeId.parse(workload),
        groups=_texts(claims, "groups"),
        surface=_required_text(claims, "surface"),
        channel=_text(claims, "channel"),
        channel_id=_text(claims, "channel_id"),
        policy=_required_text(claims, "policy"),
        issued_at=issued,
        expires=expires,
    )
    if assertion.user is None and assertion.workload is None:
        raise ClaimError("speaks of nobody")
    return assertion


def _read_user(value: JsonValue) -> User:
    if not isinstance(value, dict):
        raise ClaimError("user is not an object")
    return User(
        issuer=_required_text(value, "iss"),
        subject=_required_text(value, "sub"),
        client=_text(value, "client"),
        roles=_texts(value, "roles"),
        token_id=_text(value, "jti"),
        expires=read.required_time(value, "exp"),
    )


def _text(claims: Claims, name: str) -> str | None:
    value = claims.get(name)
    if name in claims and not isinstance(value, str):
        raise ClaimError(f"{name} is not a string")
    return value if isinstance(value, str) else None


def _required_text(claims: Claims, name: str) -> str:
    value = _text(claims, name)
    if not value:
        raise ClaimError(f"{name} is absent")
    return value


def _texts(claims: Claims, name: str) -> frozenset[str]:
    value = claims.get(name)
    if not isinstance(value, list):
        raise ClaimError(f"{name} is not a list")
    texts = [item for item in value if isinstance(item, str)]
    if len(texts) != len(value):
        raise ClaimError(f"{name} holds something that is not a string")
    return frozenset(texts)

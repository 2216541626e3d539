from __future__ import annotations

import threading
from typing import Any

import pytest

from identity.authenticate import REMEMBERED_FOR, Authenticator
from identity.errors import IdentityError, KeysUnavailable
from identity.principal import Issuer, Principal, SpiffeId
from identity.svid import JwtSvidVerifier
from identity.tokens import TokenVerifier
from tests.identity import certificates
from tests.identity.certificates import BOT, from_envoy
from tests.identity.signers import ISS, NOW, bundle, claims, key_set, signer
from tests.identity.test_jwks import Clock
from tests.identity.test_tokens import Source

RESOURCE = "https://mcp.corp.example/presto/mcp"
SSO = Issuer("sso", ISS, frozenset({"mcp"}), frozenset({"ES256"}), extra_headers=frozenset({"nonce"}))
CERTIFICATE = from_envoy(certificates.pem())
MESH = signer("ES256", 5)


class World:
    """An authenticator, with its clock and key sources at hand."""

    def __init__(self, **options: Any) -> None:
        self.users = Source(key_set(signer()))
        self.mesh = Source(bundle(MESH))
        self.clock = Clock()
        self.authenticator = Authenticator(
            TokenVerifier([SSO], {"sso": self.users}),
            JwtSvidVerifier({"corp.example": self.mesh}),
            trust_domains={"corp.example"},
            monotonic=self.clock,
            **options,
        )

    def __call__(
        self, bearer: str | None, certificate: str | None = None, audience: str = RESOURCE, now: float = NOW
    ) -> Principal:
        return self.authenticator.authenticate(bearer, certificate, audience, now)

    def refused(self, *args: Any, **kwargs: Any) -> str:
        with pytest.raises(IdentityError) as caught:
            self(*args, **kwargs)
        return caught.value.code


@pytest.fixture
def world() -> World:
    return World()


def jwt_svid(**changes: Any) -> str:
    return MESH.sign({"sub": BOT, "aud": RESOURCE, "exp": NOW + 300, **changes})


def test_a_user(world: World) -> None:
    principal = world(signer().sign(claims()))
    assert principal.user is not None
    assert (principal.user.key, principal.workload) == ("sso:00u1", None)


def test_a_workload_by_certificate(world: World) -> None:
    assert world(None, CERTIFICATE) == Principal(None, SpiffeId.parse(BOT))


def test_a_workload_by_token(world: World) -> None:
    assert world(jwt_svid()) == Principal(None, SpiffeId.parse(BOT))


def test_a_workload_that_brings_a_user(world: World) -> None:
    principal = world(signer().sign(claims()), CERTIFICATE)
    assert principal.user is not None
    assert (principal.user.key, str(principal.workload)) == ("sso:00u1", BOT)


def test_a_workload_by_both(world: World) -> None:
    assert world(jwt_svid(), CERTIFICATE) == Principal(None, SpiffeId.parse(BOT))
    assert world.refused(jwt_svid(sub="spiffe://corp.example/other"), CERTIFICATE) == "svid_ambiguous"


@pytest.mark.parametrize("certificate", [None, ""])
def test_nothing_is_no_credentials(world: World, certificate: str | None) -> None:
    assert world.refused(None, certificate) == "credentials_required"


def test_whatever_is_present_has_to_hold(world: World) -> None:
    assert world.refused("", CERTIFICATE) == "token_malformed"
    assert world.refused("x", CERTIFICATE) == "token_malformed"
    assert world.refused(signer().sign(claims(exp=NOW - 60, iat=NOW - 90)), CERTIFICATE) == "token_expired"
    assert world.refused(signer().sign(claims()), "x") == "svid_malformed"


@pytest.mark.parametrize("bearer", ["é", "a" * 16_385, "a.b\ud800.c", "a b", "a,b"])
def test_what_is_no_token(world: World, bearer: str) -> None:
    assert world.refused(bearer) == "token_malformed"


def test_the_issuer_decides_what_a_token_is(world: World) -> None:
    # Of a known issuer: a user, whatever its sub looks like.
    spiffe_user = world(signer().sign(claims(sub=BOT))).user
    assert spiffe_user is not None
    assert spiffe_user.key == f"sso:{BOT}"
    assert world.refused(MESH.sign(claims(sub=BOT))) == "token_key_unknown"
    # Of an unknown one: a JWT-SVID only where sub is a SPIFFE ID. SPIRE may set an iss of its own.
    assert world(jwt_svid(iss="https://oidc.spire.example")).workload == SpiffeId.parse(BOT)
    assert world.refused(signer().sign(claims(iss="https://evil.example"))) == "token_issuer_unknown"
    assert world.refused(signer().sign(claims(iss=None))) == "token_issuer_unknown"
    assert world.refused(MESH.sign({"sub": "SPIFFE://corp.example/a"})) == "token_issuer_unknown"
    # A user's key signs no workload.
    assert world.refused(signer().sign({"sub": BOT, "aud": RESOURCE, "exp": NOW + 60})) == "svid_untrusted"


def test_an_issuers_extra_header_is_not_a_jwt_svids(world: World) -> None:
    assert world(signer().sign(claims(), {"nonce": "n"})).user is not None
    token = MESH.sign({"sub": BOT, "aud": RESOURCE, "exp": NOW + 60}, {"nonce": "n"})
    assert world.refused(token) == "svid_malformed"


def test_the_audience_of_a_jwt_svid() -> None:
    world = World(svid_audiences={"mcp"})
    assert world(jwt_svid(aud="mcp")).workload == SpiffeId.parse(BOT)
    assert world(jwt_svid()).workload == SpiffeId.parse(BOT)
    assert World().refused(jwt_svid(aud="mcp")) == "svid_audience"


def test_a_certificate_of_another_trust_domain(world: World) -> None:
    assert world.refused(None, from_envoy(certificates.pem(["spiffe://evil.example/a"]))) == "svid_untrusted"


# What is remembered


def test_a_token_seen_before_is_not_verified_again(world: World) -> None:
    token = signer().sign(claims())
    first = world(token)
    assert world(token).user is first.user


def test_no_credentials_seen_before_are_verified_for_another_audience(world: World) -> None:
    token = signer().sign(claims(aud=RESOURCE))
    assert world(token).user is not None
    assert world.refused(token, audience="https://mcp.corp.example/spark/mcp") == "token_audience"
    svid = jwt_svid()
    assert world(svid).workload is not None
    assert world.refused(svid, audience="https://mcp.corp.example/spark/mcp") == "svid_audience"


def test_it_is_remembered_for_a_minute_by_the_monotonic_clock(world: World) -> None:
    token = signer().sign(claims())
    first = world(token).user
    world.clock.now += REMEMBERED_FOR - 0.5
    assert world(token).user is first
    world.clock.now += 0.5
    assert world(token).user is not first


def test_it_is_not_remembered_past_its_end(world: World) -> None:
    token = signer().sign(claims(exp=NOW + 20))
    first = world(token).user
    world.clock.now += 19.5
    assert world(token, now=NOW + 19.5).user is first
    world.clock.now += 0.5
    assert world(token, now=NOW + 20).user is not first  # within the leeway: verified each time
    assert world.refused(token, now=NOW + 50) == "token_expired"


def test_the_wall_clock_ends_it_too(world: World) -> None:
    token, svid = signer().sign(claims(exp=NOW + 20)), jwt_svid(exp=NOW + 20)
    assert world(token).user is not None
    assert world(svid).workload is not None
    assert world.refused(token, now=NOW + 51) == "token_expired"
    assert world.refused(svid, now=NOW + 51) == "svid_expired"
    assert world(None, CERTIFICATE).workload is not None
    assert world.refused(None, CERTIFICATE, now=NOW + 3541) == "svid_expired"


def test_a_key_that_is_withdrawn_ends_it_at_once(world: World) -> None:
    token, svid = signer().sign(claims()), jwt_svid()
    assert world(token).user is not None
    assert world(svid).workload is not None
    world.users.keys = key_set(signer("ES256", 1))
    world.mesh.keys = bundle(signer("ES256", 1))
    assert world.refused(token) == "token_key_unknown"
    assert world.refused(svid) == "svid_untrusted"


def test_keys_that_are_too_old_end_it_at_once(world: World) -> None:
    token = signer().sign(claims())
    assert world(token).user is not None
    world.users.keys = None
    with pytest.raises(KeysUnavailable):
        world(token)


def test_a_key_that_is_added_ends_nothing_wrongly(world: World) -> None:
    token = signer().sign(claims())
    first = world(token).user
    world.users.keys = key_set(signer(), signer("ES256", 1))
    assert world(token).user == first


def test_what_was_refused_is_not_remembered(world: World) -> None:
    token = signer().sign(claims())
    world.users.keys = key_set(signer("ES256", 1))
    assert world.refused(token) == "token_key_unknown"
    world.users.keys = key_set(signer())
    assert world(token).user is not None


def test_what_is_remembered_is_bounded() -> None:
    world = World(capacity=2)
    tokens = [signer().sign(claims(sub=f"u{n}")) for n in range(3)]
    first = [world(token).user for token in tokens]
    assert world(tokens[2]).user is first[2]
    assert world(tokens[1]).user is first[1]
    assert world(tokens[0]).user is not first[0]  # the one used longest ago made room
    assert Authenticator.__init__.__kwdefaults__["capacity"] == 10_000


def test_many_threads_get_their_own_answers(world: World) -> None:
    tokens = [signer().sign(claims(sub=f"u{n}")) for n in range(8)]
    wrong: list[str] = []

    def ask(n: int) -> None:
        for _ in range(200):
            for m, token in enumerate(tokens):
                user = world(token, CERTIFICATE if n % 2 else None).user
                if user is None or user.subject != f"u{m}":
                    wrong.append(token)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong

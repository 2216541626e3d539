from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity import jose
from identity.assertion import ISSUER, LIFETIME, TYPE, Assertion, AssertionVerifier, Minter
from identity.errors import IdentityError, KeysUnavailable
from identity.jwk import JwkSet
from identity.principal import Issuer, SpiffeId, User
from identity.signing import SigningKey, SigningKeys, generate_signing_key
from identity.tokens import TokenVerifier
from tests.identity.signers import ISS, NOW, Signer, signer
from tests.identity.test_tokens import Source

KEYS = generate_signing_key()
PUBLIC = JwkSet.parse(KEYS.public_jwks())
ALICE = User(
    "sso", "00u1", "ai-chat-web", roles=frozenset({"table-writer"}), token_id="t1", expires=NOW + 500.5
)
BOT = SpiffeId.parse("spiffe://corp.example/ns/prod/sa/ai-chat")
CALL = Assertion(
    server="presto",
    user=ALICE,
    workload=BOT,
    groups=frozenset({"ads", "ads-eng"}),
    surface="ai-chat",
    channel="spark-help",
    channel_id="C0LAN2Q65",
    policy="sha256:" + "0" * 64,
)


def verifier(keys: Any = PUBLIC, audience: str = "presto") -> AssertionVerifier:
    return AssertionVerifier(keys, audience)


def refused(text: str, now: float = NOW, audience: str = "presto") -> str:
    with pytest.raises(IdentityError) as caught:
        verifier(audience=audience).verify(text, now)
    assert caught.value.code == "identity_invalid"
    return caught.value.detail


def test_what_is_minted_verifies_and_says_the_same() -> None:
    found = verifier().verify(Minter(KEYS).mint(CALL, NOW + 0.7), NOW + 1)
    assert found == replace(CALL, issued_at=NOW, expires=NOW + LIFETIME)


def test_its_form() -> None:
    jws = jose.parse(Minter(KEYS).mint(CALL, NOW))
    assert jws.header == {"alg": "ES256", "kid": KEYS.signing.kid, "typ": TYPE}
    assert (jws.claims["aud"], jws.claims["iss"]) == ("presto", ISSUER)
    assert "decision" not in json.dumps(jws.claims)


def test_a_user_alone_and_a_workload_alone() -> None:
    for call in (replace(CALL, workload=None), replace(CALL, user=None, channel=None, channel_id=None)):
        found = verifier().verify(Minter(KEYS).mint(call, NOW), NOW)
        assert (found.user, found.workload, found.channel) == (call.user, call.workload, call.channel)


def test_nobody_is_not_asserted() -> None:
    with pytest.raises(ValueError, match="user, a workload"):
        Minter(KEYS).mint(replace(CALL, user=None, workload=None), NOW)


def test_it_is_for_one_server() -> None:
    text = Minter(KEYS).mint(CALL, NOW)
    for other in ("spark", "", "Presto", "presto "):
        assert "another server" in refused(text, audience=other)


def test_it_lives_a_minute() -> None:
    text = Minter(KEYS).mint(CALL, NOW)
    same = verifier()
    assert same.verify(text, NOW + LIFETIME + 4.5).server == "presto"
    for now in (NOW + LIFETIME + 5, NOW - 5.5, NOW + 10_000):
        with pytest.raises(IdentityError, match="identity_invalid"):
            same.verify(text, now)  # remembered, and too old all the same
    assert same.verify(text, NOW - 5).server == "presto"


def test_alike_calls_share_one_for_half_its_life() -> None:
    minter = Minter(KEYS)
    first = minter.mint(CALL, NOW)
    assert minter.mint(replace(CALL), NOW + 29) == first
    assert minter.mint(replace(CALL, issued_at=1.0, expires=2.0), NOW + 29) == first
    renewed = minter.mint(CALL, NOW + 30)
    assert renewed != first
    assert minter.mint(CALL, NOW - 1) != renewed  # a clock that was set back gets no future assertion


@pytest.mark.parametrize(
    "change",
    [
        {"server": "spark"},
        {"user": replace(ALICE, subject="00u2")},
        {"user": replace(ALICE, issuer="partner")},
        {"user": replace(ALICE, client="ide")},
        {"user": replace(ALICE, roles=frozenset())},
        {"user": replace(ALICE, token_id="t2")},
        {"user": replace(ALICE, expires=NOW + 1)},
        {"user": None},
        {"workload": None},
        {"workload": SpiffeId.parse("spiffe://corp.example/other")},
        {"groups": frozenset({"ads"})},
        {"surface": "ide"},
        {"channel": None},
        {"channel_id": "C1"},
        {"policy": "sha256:1"},
    ],
)
def test_calls_that_differ_share_none(change: dict[str, Any]) -> None:
    minter = Minter(KEYS)
    first = minter.mint(CALL, NOW)
    other = minter.mint(replace(CALL, **change), NOW)
    assert other != first
    expected = replace(CALL, **change)
    found = verifier(audience=expected.server).verify(other, NOW)
    assert found == replace(expected, issued_at=NOW, expires=NOW + LIFETIME)


def test_a_strangers_key_signs_nothing() -> None:
    assert "kid" in refused(Minter(generate_signing_key()).mint(CALL, NOW))
    stranger = SigningKey(KEYS.signing.kid, generate_signing_key().signing.private)
    assert "signature" in refused(Minter(SigningKeys((stranger,))).mint(CALL, NOW))


def forge(header: dict[str, Any] | None = None, **changes: Any) -> str:
    """Signed by the right key, and wrong all the same."""
    good = jose.parse(Minter(KEYS).mint(CALL, NOW))
    members = {**good.header, **(header or {})}
    said = {**good.claims, **changes}
    return Signer("ES256", KEYS.signing.private).sign(
        {name: value for name, value in said.items() if value != "absent"},
        {**dict.fromkeys(("alg", "kid", "typ")), **members},
    )


def test_the_forger_can_also_be_right() -> None:
    assert verifier().verify(forge(), NOW).user == ALICE


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": None},
        {"typ": "at+jwt"},
        {"kid": None},
        {"alg": "RS256"},
        {"x5t": "a"},
        {"crit": []},
    ],
)
def test_the_header_is_exact(header: dict[str, Any]) -> None:
    refused(forge(header))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["presto"]},
        {"aud": "absent"},
        {"iss": ISS},
        {"iss": "absent"},
        {"iat": "absent"},
        {"exp": "absent"},
        {"exp": NOW + 61},
        {"exp": NOW},
        {"exp": str(NOW + 60)},
        {"user": None},
        {"user": "00u1"},
        {"user": {}},
        {"user": {"iss": "sso", "sub": "", "roles": [], "exp": 1}},
        {"user": {"iss": "sso", "sub": "a", "roles": "x", "exp": 1}},
        {"user": {"iss": "sso", "sub": "a", "roles": [], "exp": "1"}},
        {"user": "absent", "workload": "absent"},
        {"workload": "spiffe://Corp.example/a"},
        {"workload": None},
        {"groups": "ads"},
        {"groups": [1]},
        {"groups": "absent"},
        {"surface": ""},
        {"surface": None},
        {"channel": 1},
        {"channel_id": None},
        {"policy": "absent"},
    ],
)
def test_every_claim_is_checked(changes: dict[str, Any]) -> None:
    refused(forge(**changes))


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é", "a" * 20_000, "\ud800"])
def test_what_is_no_assertion(text: str) -> None:
    refused(text)


def test_a_users_token_is_no_assertion_and_an_assertion_no_token() -> None:
    """Even where one key were to sign both."""
    shared = Signer("ES256", KEYS.signing.private)
    token = shared.sign({"iss": ISSUER, "aud": "presto", "sub": "00u1", "iat": NOW, "exp": NOW + 60})
    assert TYPE in refused(token)
    issuer = Issuer("sso", ISSUER, frozenset({"presto"}), frozenset({"ES256"}))
    with pytest.raises(IdentityError, match="typ is neither"):
        TokenVerifier([issuer], {"sso": PUBLIC}).verify(Minter(KEYS).mint(CALL, NOW), None, NOW)


def test_no_keys_is_unavailable_and_an_unknown_kid_is_asked_for() -> None:
    text = Minter(KEYS).mint(CALL, NOW)
    with pytest.raises(KeysUnavailable):
        verifier(Source(None)).verify(text, NOW)
    source = Source(JwkSet.parse(generate_signing_key().public_jwks()))
    with pytest.raises(IdentityError, match="identity_invalid"):
        verifier(source).verify(text, NOW)
    assert source.asked == [KEYS.signing.kid]


def test_rotation_publish_wait_sign() -> None:
    old = generate_signing_key()
    both = old.with_next(SigningKey.generate())
    source = Source(JwkSet.parse(old.public_jwks()))
    server = verifier(source)
    assert server.verify(Minter(old).mint(CALL, NOW), NOW)
    source.keys = JwkSet.parse(both.public_jwks())  # published before anything is signed with it
    assert server.verify(Minter(both).mint(CALL, NOW), NOW)
    promoted = both.promoted()
    assert promoted.signing == both.keys[1]
    by_new = Minter(promoted).mint(CALL, NOW)
    by_old = Minter(old).mint(CALL, NOW)
    assert server.verify(by_new, NOW)
    assert server.verify(by_old, NOW)
    retired = promoted.retired()
    source.keys = JwkSet.parse(retired.public_jwks())
    assert server.verify(by_new, NOW)
    with pytest.raises(IdentityError, match="identity_invalid"):
        server.verify(by_old, NOW)  # remembered under keys that are gone
    with pytest.raises(ValueError, match="signing keys"):
        retired.retired()


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
_USERS = st.builds(
    User,
    issuer=_TEXT,
    subject=_TEXT,
    client=st.none() | _TEXT,
    roles=st.frozensets(_TEXT, max_size=3),
    token_id=st.none() | _TEXT,
    expires=st.floats(0, 2e9),
)
_WORKLOADS = st.from_regex(r"[a-z0-9.]{1,9}(/[a-zA-Z0-9_-]{1,9}){1,3}", fullmatch=True).map(
    lambda rest: SpiffeId.parse("spiffe://" + rest)
)


@given(
    st.builds(
        Assertion,
        server=_TEXT,
        user=_USERS,
        workload=st.none() | _WORKLOADS,
        groups=st.frozensets(_TEXT, max_size=5),
        surface=_TEXT,
        channel=st.none() | _TEXT,
        channel_id=st.none() | _TEXT,
        policy=_TEXT,
    ),
    st.integers(0, 2**31),
)
def test_round_trip(call: Assertion, now: int) -> None:
    text = Minter(KEYS).mint(call, now)
    found = AssertionVerifier(PUBLIC, call.server).verify(text, now)
    assert found == replace(call, issued_at=now, expires=now + LIFETIME)


MINTED = Minter(KEYS).mint(CALL, NOW)


@given(st.integers(0, len(MINTED) - 1), st.characters(codec="ascii"))
def test_no_changed_byte_verifies(at: int, character: str) -> None:
    if MINTED[at] != character:
        refused(MINTED[:at] + character + MINTED[at + 1 :])


def test_the_detail_repeats_nothing() -> None:
    assert "hunter2" not in refused(forge(surface=["hunter2"])) + refused(forge(user={"hunter2": "hunter2"}))
    assert signer().kid not in refused(signer().sign({"a": 1}))

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.errors import IdentityError, KeysUnavailable
from identity.jwk import JwkSet
from identity.principal import ClaimNames, Issuer, User
from identity.tokens import MAX_GROUPS, TokenVerifier
from tests.identity.signers import ISS, NOW, Signer, claims, key_set, signer

SSO = Issuer("sso", ISS, frozenset({"mcp"}), frozenset({"ES256"}))
RESOURCE = "https://mcp.corp.example/presto/mcp"


class Source:
    """A key source that notes what it is asked for."""

    def __init__(self, keys: JwkSet | None) -> None:
        self.keys = keys
        self.asked: list[str | None] = []

    def current(self) -> JwkSet | None:
        return self.keys

    def wanted(self, kid: str | None) -> None:
        self.asked.append(kid)


def verify(token: str, issuer: Issuer = SSO, audience: str | None = None, now: float = NOW) -> User:
    return TokenVerifier([issuer], {issuer.name: key_set(signer())}).verify(token, audience, now)


def refused(token: str, issuer: Issuer = SSO, audience: str | None = None, now: float = NOW) -> str:
    with pytest.raises(IdentityError) as caught:
        verify(token, issuer, audience, now)
    return caught.value.code


def code(**changes: Any) -> str:
    return refused(signer().sign(claims(**changes)))


def test_a_good_token_names_its_user() -> None:
    token = signer().sign(claims(azp="ai-chat-web", roles=["r"], jti="t1", employment="employee"))
    user = verify(token)
    assert user.key == "sso:00u1"
    assert (user.client, user.groups, user.roles) == ("ai-chat-web", {"ads-eng"}, {"r"})
    assert (user.token_id, user.expires, user.claims["employment"]) == ("t1", NOW + 590, "employee")


@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "ES384", "EdDSA"])
def test_every_algorithm_works_where_it_is_pinned_and_nowhere_else(alg: str) -> None:
    verifier = TokenVerifier([replace(SSO, algorithms=frozenset({alg}))], {"sso": key_set(signer(alg))})
    assert verifier.verify(signer(alg).sign(claims()), None, NOW).subject == "00u1"
    others = frozenset({"RS256", "PS256", "ES256", "ES384", "EdDSA"} - {alg})
    verifier = TokenVerifier([replace(SSO, algorithms=others)], {"sso": key_set(signer(alg))})
    with pytest.raises(IdentityError, match="token_algorithm"):
        verifier.verify(signer(alg).sign(claims()), None, NOW)


@pytest.mark.parametrize(
    "alg", ["HS256", "HS512", "none", "None", "RS384", "ES512", "ES256K", "es256", "Ed25519"]
)
def test_no_other_algorithm_is_accepted(alg: str) -> None:
    assert refused(signer().sign(claims(), {"alg": alg})) == "token_algorithm"
    with pytest.raises(ValueError, match="algorithms"):
        TokenVerifier([replace(SSO, algorithms=frozenset({"ES256", alg}))], {"sso": key_set(signer())})


def test_a_public_key_is_no_shared_secret() -> None:
    """Algorithm confusion: an HMAC keyed with what everybody can read (CVE-2022-29217)."""
    import hashlib
    import hmac

    from identity.jose import encode_base64url

    for secret in (json.dumps(signer().jwk).encode(), signer().jwk["x"].encode(), b""):
        header = encode_base64url(json.dumps({"alg": "HS256", "kid": signer().kid}).encode())
        signing_input = header + "." + encode_base64url(json.dumps(claims()).encode())
        mac = hmac.new(secret, signing_input.encode(), hashlib.sha256).digest()
        assert refused(f"{signing_input}.{encode_base64url(mac)}") == "token_algorithm"


def test_the_keys_own_algorithm_has_to_agree() -> None:
    both = replace(SSO, algorithms=frozenset({"RS256", "PS256"}))
    pss = Signer("PS256", signer("RS256").private)
    verifier = TokenVerifier([both], {"sso": key_set(signer("RS256"))})
    with pytest.raises(IdentityError, match="token_algorithm"):
        verifier.verify(pss.sign(claims(), {"kid": signer("RS256").kid}), None, NOW)


def test_a_key_of_another_curve_has_to_agree() -> None:
    both = replace(SSO, algorithms=frozenset({"ES256", "ES384"}))
    verifier = TokenVerifier([both], {"sso": key_set(signer("ES384"))})
    with pytest.raises(IdentityError, match="token_algorithm"):
        verifier.verify(signer().sign(claims(), {"kid": signer("ES384").kid}), None, NOW)


def test_a_token_of_another_key_does_not_verify() -> None:
    forged = signer("ES256", 7).sign(claims(), {"kid": signer().kid})
    assert refused(forged) == "token_signature"


def test_a_changed_claim_does_not_verify() -> None:
    header, _, signature = signer().sign(claims()).split(".")
    _, payload, _ = signer().sign(claims(sub="admin")).split(".")
    assert refused(f"{header}.{payload}.{signature}") == "token_signature"


@pytest.mark.parametrize("name", ["jku", "jwk", "x5u", "x5c"])
def test_a_key_in_the_header_is_never_used(name: str) -> None:
    stranger = signer("ES256", 8)
    value = {"jwk": stranger.jwk, "x5c": ["MIIB"]}.get(name, "https://evil.example/jwks")
    token = stranger.sign(claims(), {name: value})
    assert refused(token) == "token_malformed"
    assert refused(token, replace(SSO, extra_headers=frozenset({name}))) == "token_key_unknown"


def test_extra_headers_are_each_issuers_own() -> None:
    other = Issuer(
        "other",
        "https://other.example",
        frozenset({"mcp"}),
        frozenset({"ES256"}),
        extra_headers=frozenset({"nonce"}),
    )
    verifier = TokenVerifier([SSO, other], {"sso": key_set(signer()), "other": key_set(signer())})
    header = {"nonce": "n"}
    assert verifier.verify(signer().sign(claims(iss=other.issuer), header), None, NOW).issuer == "other"
    with pytest.raises(IdentityError, match="token_malformed"):
        verifier.verify(signer().sign(claims(), header), None, NOW)


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", None])
def test_typ_may_be(typ: str | None) -> None:
    assert verify(signer().sign(claims(), {"typ": typ})).subject == "00u1"


@pytest.mark.parametrize("typ", ["", "jwt", "JOSE", "id+jwt", "logout+jwt", "gatehouse-identity+jwt", 1])
def test_typ_may_not_be(typ: Any) -> None:
    assert refused(signer().sign(claims(), {"typ": typ})) == "token_malformed"


@pytest.mark.parametrize(
    "iss",
    [
        None,
        "",
        ISS + "/",
        ISS.upper(),
        ISS[:-1],
        ISS + ".evil.example",
        " " + ISS,
        [ISS],
        1,
        {"a": ISS},
        "https://sso",
    ],
)
def test_the_issuer_is_exact(iss: Any) -> None:
    assert code(iss=iss) == "token_issuer_unknown"


def test_only_the_issuers_own_keys_are_tried() -> None:
    other = Issuer("other", "https://other.example", frozenset({"mcp"}), frozenset({"ES256"}))
    verifier = TokenVerifier([SSO, other], {"sso": key_set(signer()), "other": key_set(signer("ES256", 1))})
    assert verifier.verify(signer("ES256", 1).sign(claims(iss=other.issuer)), None, NOW).key == "other:00u1"
    with pytest.raises(IdentityError, match="token_key_unknown"):
        verifier.verify(signer("ES256", 1).sign(claims()), None, NOW)


def test_an_unknown_kid_is_asked_for_and_a_known_one_is_not() -> None:
    source = Source(key_set(signer()))
    verifier = TokenVerifier([SSO], {"sso": source})
    with pytest.raises(IdentityError, match="token_key_unknown"):
        verifier.verify(signer().sign(claims(), {"kid": "new"}), None, NOW)
    with pytest.raises(IdentityError, match="token_signature"):
        verifier.verify(signer("ES256", 7).sign(claims(), {"kid": signer().kid}), None, NOW)
    assert source.asked == ["new"]


def test_kid_is_required_where_there_are_two_keys() -> None:
    token = signer().sign(claims(), {"kid": None})
    assert verify(token).subject == "00u1"
    two = TokenVerifier([SSO], {"sso": key_set(signer(), signer("ES256", 1))})
    with pytest.raises(IdentityError, match="token_key_unknown"):
        two.verify(token, None, NOW)


def test_no_keys_at_all_is_unavailable() -> None:
    with pytest.raises(KeysUnavailable) as caught:
        TokenVerifier([SSO], {"sso": Source(None)}).verify(signer().sign(claims()), None, NOW)
    assert caught.value.code == "keys_unavailable"


@pytest.mark.parametrize("claim", ["aud", "exp", "iat", "sub"])
def test_each_of_these_is_required(claim: str) -> None:
    assert code(**{claim: None}) == "token_claims"


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", ["1800000500", True, [], {}, "", -1, 2**41, 10**400, 1e300])
def test_times_are_json_numbers(claim: str, value: Any) -> None:
    assert code(**{claim: value}) == "token_claims"


def test_a_time_of_null_is_not_absent() -> None:
    payload = json.dumps({**claims(), "nbf": None}).encode()
    header = json.dumps({"alg": "ES256", "kid": signer().kid}).encode()
    assert refused(signer().sign_bytes(header, payload)) == "token_claims"


def test_times_may_have_fractions() -> None:
    assert verify(signer().sign(claims(exp=NOW + 0.5))).expires == NOW + 0.5


def test_leeway_is_30_seconds() -> None:
    token = signer().sign(claims(iat=NOW, nbf=NOW, exp=NOW + 60))
    assert refused(token, now=NOW - 30.5) == "token_not_yet_valid"
    assert verify(token, now=NOW - 30).subject == "00u1"
    assert verify(token, now=NOW + 89.5).subject == "00u1"
    assert refused(token, now=NOW + 90) == "token_expired"


def test_iat_in_the_future_is_not_yet_valid() -> None:
    assert code(iat=NOW + 31) == "token_not_yet_valid"
    assert code(nbf=NOW + 31) == "token_not_yet_valid"


def test_lifetime_is_bounded_at_24_hours_and_lower_by_issuer() -> None:
    assert verify(signer().sign(claims(iat=NOW, exp=NOW + 86_400))).subject == "00u1"
    assert code(iat=NOW, exp=NOW + 86_401) == "token_lifetime"
    assert code(iat=NOW + 10, exp=NOW + 10) == "token_lifetime"
    short = replace(SSO, max_lifetime=600)
    assert refused(signer().sign(claims(iat=NOW, exp=NOW + 601)), short) == "token_lifetime"
    for lifetime in (0, -1, 86_401):
        with pytest.raises(ValueError, match="max_lifetime"):
            TokenVerifier([replace(SSO, max_lifetime=lifetime)], {"sso": key_set(signer())})


@pytest.mark.parametrize("aud", ["mcp", ["mcp"], ["other", "mcp"], RESOURCE, ["x", RESOURCE]])
def test_the_audience_is_the_issuers_or_the_resource(aud: Any) -> None:
    assert verify(signer().sign(claims(aud=aud)), audience=RESOURCE).subject == "00u1"


@pytest.mark.parametrize(
    "aud", ["", "MCP", "mcp ", ["other"], RESOURCE + "/", RESOURCE[:-1], "https://mcp.corp.example/spark/mcp"]
)
def test_another_audience_is_refused(aud: Any) -> None:
    assert refused(signer().sign(claims(aud=aud)), audience=RESOURCE) == "token_audience"


@pytest.mark.parametrize("aud", [[], 1, True, {"mcp": 1}, ["mcp", 1], [["mcp"]]])
def test_the_audience_is_a_string_or_strings(aud: Any) -> None:
    assert code(aud=aud) == "token_claims"


def test_a_resource_is_no_audience_of_another_call() -> None:
    assert refused(signer().sign(claims(aud=RESOURCE)), audience=None) == "token_audience"


@pytest.mark.parametrize(
    "sub", ["", "x" * 256, "a\nb", "a\x00", "a\u202eb", "a\u2028b", " a", "a ", 1, ["a"], True, "a\x7f"]
)
def test_sub_is_1_to_255_characters_without_controls(sub: Any) -> None:
    assert code(sub=sub) == "token_claims"


@pytest.mark.parametrize("sub", ["a", "x" * 255, "Zoë Ωmega", "a b", "auth0|123", "u:1"])
def test_sub_may_be(sub: str) -> None:
    assert verify(signer().sign(claims(sub=sub))).subject == sub


@pytest.mark.parametrize("jti", [1, "", "a\nb", ["x"], "x" * 256])
def test_a_jti_that_no_lock_could_name_is_refused(jti: Any) -> None:
    assert code(jti=jti) == "token_claims"


@pytest.mark.parametrize("claim", ["groups", "roles"])
@pytest.mark.parametrize(
    "value", ["ads-eng", 1, True, {}, [1], ["a", None], ["a", ["b"]], [""], ["a\n"], ["x" * 256], [" a"]]
)
def test_groups_and_roles_are_lists_of_names(claim: str, value: Any) -> None:
    assert code(**{claim: value}) == "token_claims"


def test_no_groups_and_no_client_is_fine() -> None:
    user = verify(signer().sign(claims(groups=None)))
    assert (user.groups, user.roles, user.client) == (frozenset(), frozenset(), None)


@pytest.mark.parametrize("claim", ["groups", "roles"])
def test_over_long_lists_have_a_reason_of_their_own(claim: str) -> None:
    names = [f"g{i}" for i in range(MAX_GROUPS)]
    assert len(getattr(verify(signer().sign(claims(**{claim: names}))), claim)) == MAX_GROUPS
    assert code(**{claim: [*names, "one-more"]}) == "token_groups_overage"
    assert code(**{claim: ["same"] * (MAX_GROUPS + 1)}) == "token_groups_overage"


@pytest.mark.parametrize(
    "overage",
    [
        {
            "_claim_names": {"groups": "src1"},
            "_claim_sources": {"src1": {"endpoint": "https://graph.example"}},
        },
        {"_claim_names": {}},
        {"_claim_names": "groups"},
        {"hasgroups": True},
        {"hasgroups": "true"},
    ],
)
@pytest.mark.parametrize("groups", [None, ["ads-eng"]])
def test_groups_left_out_are_not_no_groups(overage: dict[str, Any], groups: Any) -> None:
    assert code(**overage, groups=groups) == "token_groups_overage"


def test_claims_by_json_pointer() -> None:
    issuer = replace(
        SSO, claims=ClaimNames("/realm_access/groups", "/a~1b/c~0d", "https://corp.example/client")
    )
    token = signer().sign(
        claims(
            realm_access={"groups": ["g"]},
            groups=["ignored"],
            **{"a/b": {"c~d": ["r"]}, "https://corp.example/client": "ide"},
        )
    )
    user = verify(token, issuer)
    assert (user.groups, user.roles, user.client) == ({"g"}, {"r"}, "ide")
    assert verify(signer().sign(claims(realm_access="none")), issuer).groups == frozenset()


@pytest.mark.parametrize("place", ["", "/a~", "/a~2"])
def test_a_pointer_that_is_none_is_refused_at_once(place: str) -> None:
    with pytest.raises(ValueError, match="JSON Pointer"):
        TokenVerifier([replace(SSO, claims=ClaimNames(groups=place))], {"sso": key_set(signer())})
    with pytest.raises(ValueError, match="JSON Pointer"):
        TokenVerifier([replace(SSO, require=(place,))], {"sso": key_set(signer())})


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_what_policy_requires_has_to_be_there(value: Any) -> None:
    issuer = replace(SSO, require=("employment", "/org/unit"))
    assert refused(signer().sign(claims(employment=value, org={"unit": 1})), issuer) == "token_claims"
    assert refused(signer().sign(claims(employment="e", org={"unit": value})), issuer) == "token_claims"
    assert verify(signer().sign(claims(employment="e", org={"unit": 0})), issuer).subject == "00u1"


@pytest.mark.parametrize("other", [replace(SSO, name="again"), replace(SSO, issuer="https://other.example")])
def test_issuers_are_told_apart(other: Issuer) -> None:
    with pytest.raises(ValueError, match="two issuers"):
        TokenVerifier([SSO, other], {"sso": key_set(signer()), "again": key_set(signer())})


def test_an_issuer_without_keys_or_with_a_forbidden_header_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="keys"):
        TokenVerifier([SSO], {})
    with pytest.raises(ValueError, match="never"):
        TokenVerifier([replace(SSO, extra_headers=frozenset({"crit"}))], {"sso": key_set(signer())})


def test_what_is_logged_holds_nothing_of_the_token() -> None:
    token = signer().sign(claims(sub="hunter2\n", groups=["hunter2"], iss=ISS))
    with pytest.raises(IdentityError) as caught:
        verify(token)
    assert "hunter2" not in str(caught.value)


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
_NAMES = st.sampled_from(
    ["iss", "aud", "sub", "iat", "exp", "nbf", "jti", "groups", "roles", "azp", "_claim_names"]
)


@given(st.dictionaries(_NAMES, _VALUES, max_size=3))
def test_any_signed_claims_give_a_user_or_an_identity_error(changes: dict[str, Any]) -> None:
    header = json.dumps({"alg": "ES256", "kid": signer().kid}).encode()
    token = signer().sign_bytes(header, json.dumps({**claims(), **changes}).encode())
    try:
        user = verify(token)
    except IdentityError:
        return
    said = {**claims(), **changes}
    assert user.subject == said["sub"]
    assert said["iss"] == ISS
    assert user.groups == frozenset(said.get("groups") or ())

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from identity.errors import IdentityError, KeysUnavailable
from identity.jwk import JwkError, JwkSet
from identity.principal import SpiffeId
from identity.svid import JwtSvidVerifier, Svid, workload_from_certificate, x509_svid
from tests.identity import certificates
from tests.identity.certificates import BOT, from_envoy, usage
from tests.identity.signers import NOW, bundle, signer
from tests.identity.test_spiffe_id import CASES
from tests.identity.test_tokens import Source

VECTORS = Path(__file__).parents[1] / "vectors/spiffe"
DOMAINS = frozenset({"corp.example"})
RESOURCE = "https://mcp.corp.example/presto/mcp"


def x509_refused(text: str, now: float = NOW) -> str:
    with pytest.raises(IdentityError) as caught:
        workload_from_certificate(text, DOMAINS, now)
    return caught.value.code


def test_the_workload_of_a_certificate() -> None:
    text = from_envoy(certificates.pem(dns=["report-bot.corp.example"]))
    assert str(workload_from_certificate(text, DOMAINS, NOW)) == BOT
    assert x509_svid(text, DOMAINS, NOW) == Svid(SpiffeId.parse(BOT), NOW + 3540)


def test_extended_key_usage_and_basic_constraints_may_be_absent() -> None:
    text = from_envoy(certificates.pem(extended=None, ca=None))
    assert str(workload_from_certificate(text, DOMAINS, NOW)) == BOT


def test_two_identities_are_none() -> None:
    other = "spiffe://corp.example/ns/prod/sa/ai-chat"
    assert x509_refused(from_envoy(certificates.pem([BOT, other]))) == "svid_ambiguous"
    assert x509_refused(from_envoy(certificates.pem([BOT, BOT]))) == "svid_ambiguous"
    assert x509_refused(from_envoy(certificates.pem([BOT, "https://corp.example/"]))) == "svid_ambiguous"


@pytest.mark.parametrize(
    "text",
    [
        certificates.pem([]),
        certificates.pem([], dns=["corp.example"]),
        certificates.pem(["https://corp.example/report-bot"]),
        certificates.pem(["spiffe://corp.example"]),
        certificates.pem([BOT + "/"]),
        certificates.pem(["SPIFFE://corp.example/report-bot"]),
        certificates.pem(ca=True),
        certificates.pem(bare=True),
        certificates.pem(key_usage=usage(digital_signature=False)),
        certificates.pem(key_usage=usage(key_cert_sign=True)),
        certificates.pem(key_usage=usage(crl_sign=True)),
        certificates.pem(extended=[ExtendedKeyUsageOID.SERVER_AUTH]),
    ],
)
def test_a_leaf_that_is_none(text: str) -> None:
    assert x509_refused(from_envoy(text)) == "svid_malformed"


def test_a_foreign_trust_domain() -> None:
    assert x509_refused(from_envoy(certificates.pem(["spiffe://evil.example/a"]))) == "svid_untrusted"
    assert x509_refused(from_envoy(certificates.pem(["spiffe://x.corp.example/a"]))) == "svid_untrusted"


def test_a_connection_may_outlive_its_certificate_but_the_identity_does_not() -> None:
    text = from_envoy(certificates.pem(start=NOW, seconds=60))
    assert str(workload_from_certificate(text, DOMAINS, NOW + 60)) == BOT
    assert x509_refused(text, NOW + 61) == "svid_expired"
    assert str(workload_from_certificate(text, DOMAINS, NOW - 30)) == BOT
    assert x509_refused(text, NOW - 31) == "svid_expired"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "%",
        "%zz",
        "%0g",
        certificates.pem(),  # not encoded: spaces and line ends
        from_envoy(certificates.pem() * 2),
        from_envoy(certificates.pem() + "x"),
        from_envoy("x" + certificates.pem()),
        from_envoy(certificates.pem()[:-40] + "\n-----END CERTIFICATE-----\n"),
        from_envoy(certificates.pem().replace("CERTIFICATE", "PRIVATE KEY")),
        from_envoy("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        from_envoy("é"),
        "é",
        "a" * 40_000,
    ],
)
def test_what_is_no_certificate(text: str) -> None:
    assert x509_refused(text) == "svid_malformed"


@given(st.text(max_size=50) | st.binary(max_size=200).map(lambda data: from_envoy(data.decode("latin-1"))))
def test_any_text_is_no_certificate(text: str) -> None:
    assert x509_refused(text) == "svid_malformed"


def go_certificates() -> list[Any]:
    folder = VECTORS / "go-spiffe/svid/x509svid/testdata"
    return [pytest.param(path, id=path.name) for path in sorted(folder.iterdir()) if path.is_file()]


GOOD_LEAF = {"good-leaf-only.pem"}
THEIR_TIME = 1_600_000_000.0  # within their validity, 2020 to 2025


@pytest.mark.parametrize("path", go_certificates())
def test_go_spiffes_certificates(path: Path) -> None:
    """Good is one leaf alone, as Envoy passes it: not a chain, not with a key, none of the `wrong-` ones."""
    text = from_envoy(path.read_bytes().decode("latin-1"))
    domains = frozenset({"example.org"})
    if path.name in GOOD_LEAF:
        assert str(workload_from_certificate(text, domains, THEIR_TIME)) == "spiffe://example.org/workload-1"
        return
    with pytest.raises(IdentityError) as caught:
        workload_from_certificate(text, domains, THEIR_TIME)
    assert caught.value.code == "svid_malformed"


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case["name"]))
def test_spiffe_ids_as_uri_and_as_sub(case: dict[str, Any]) -> None:
    text = case["in"]
    trusted = case["valid"] and SpiffeId.parse(text).path != ""
    domains = frozenset({SpiffeId.parse(text).trust_domain}) if case["valid"] else DOMAINS
    if text.isascii():  # no certificate can hold another URI
        certificate = from_envoy(certificates.pem([text]))
        if trusted:
            assert str(workload_from_certificate(certificate, domains, NOW)) == text
        else:
            assert x509_refused(certificate) == "svid_malformed"
    token = signer().sign({"sub": text, "aud": RESOURCE, "exp": NOW + 60})
    verifier = JwtSvidVerifier(dict.fromkeys(domains, bundle(signer())))
    if trusted:
        assert str(verifier.verify(token, {RESOURCE}, NOW).spiffe_id) == text
    else:
        with pytest.raises(IdentityError, match="svid_malformed"):
            verifier.verify(token, {RESOURCE}, NOW)


# JWT-SVID


def svid(header: dict[str, Any] | None = None, **changes: Any) -> str:
    said = {"sub": BOT, "aud": [RESOURCE], "exp": NOW + 300, **changes}
    return signer().sign({name: value for name, value in said.items() if value is not None}, header)


VERIFIER = JwtSvidVerifier({"corp.example": bundle(signer(), signer("ES256", 1), signer("RS256"))})


def jwt_refused(token: str, now: float = NOW) -> str:
    with pytest.raises(IdentityError) as caught:
        VERIFIER.verify(token, {RESOURCE}, now)
    return caught.value.code


RULES: dict[str, tuple[str, str | None]] = {
    "success": (svid(), None),
    "malformed": ("not a token", "token_malformed"),
    "unsupported algorithm HS256": (svid({"alg": "HS256"}), "svid_malformed"),
    "missing subject": (svid(sub=None), "svid_malformed"),
    "missing exp": (svid(exp=None), "svid_malformed"),
    "expired": (svid(exp=NOW - 31), "svid_expired"),
    "unexpected audience": (svid(aud=["https://other.example"]), "svid_audience"),
    "invalid subject claim (not spiffe URI)": (svid(sub="report-bot"), "svid_malformed"),
    "missing kid": (svid({"kid": None}), "svid_malformed"),
    "no bundle for trust domain of sub": (svid(sub="spiffe://other.example/a"), "svid_untrusted"),
    "kid not in bundle": (svid({"kid": "unheard-of"}), "svid_untrusted"),
    "kid names a key that did not sign": (svid({"kid": signer("ES256", 1).kid}), "svid_untrusted"),
    "typ not JWT/JOSE": (svid({"typ": "at+jwt"}), "svid_malformed"),
}


@pytest.mark.parametrize(
    "rule", json.loads((VECTORS / "jwt_svid_rules.json").read_text())["cases"], ids=lambda rule: rule["name"]
)
def test_the_rules_of_jwt_svid(rule: dict[str, Any]) -> None:
    token, code = RULES[rule["name"]]
    assert (code is None) == rule["valid"]
    if code is None:
        assert VERIFIER.verify(token, {RESOURCE}, NOW) == Svid(SpiffeId.parse(BOT), NOW + 300)
    else:
        assert jwt_refused(token) == code


def test_kid_is_asked_for_even_where_there_is_one_key() -> None:
    verifier = JwtSvidVerifier({"corp.example": bundle(signer())})
    with pytest.raises(IdentityError, match="kid"):
        verifier.verify(svid({"kid": None}), {RESOURCE}, NOW)


@pytest.mark.parametrize("typ", ["JWT", "JOSE", None])
def test_typ_may_be(typ: str | None) -> None:
    assert VERIFIER.verify(svid({"typ": typ}), {RESOURCE}, NOW).expires == NOW + 300


@pytest.mark.parametrize("name", ["x5t", "x5t#S256"])
def test_the_header_has_no_more_than_three_parameters(name: str) -> None:
    assert jwt_refused(svid({name: "x"})) == "svid_malformed"


@pytest.mark.parametrize("alg", ["EdDSA", "none", "HS384", "ES512"])
def test_algorithms_of_jwt_svids(alg: str) -> None:
    assert jwt_refused(svid({"alg": alg})) == "svid_malformed"


def test_eddsa_is_refused_even_with_its_key() -> None:
    token = signer("EdDSA").sign({"sub": BOT, "aud": RESOURCE, "exp": NOW + 60})
    with pytest.raises(IdentityError, match="svid_malformed"):
        JwtSvidVerifier({"corp.example": bundle(signer("EdDSA"))}).verify(token, {RESOURCE}, NOW)


def test_rsa_works() -> None:
    token = signer("RS256").sign({"sub": BOT, "aud": RESOURCE, "exp": NOW + 60})
    assert str(VERIFIER.verify(token, {"mcp", RESOURCE}, NOW).spiffe_id) == BOT


def test_it_lives_an_hour_at_most() -> None:
    assert VERIFIER.verify(svid(exp=NOW + 3630), {RESOURCE}, NOW).expires == NOW + 3630
    assert jwt_refused(svid(exp=NOW + 3631)) == "svid_malformed"


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_iat_and_nbf_count_where_they_are(claim: str) -> None:
    assert VERIFIER.verify(svid(**{claim: NOW + 30}), {RESOURCE}, NOW).expires == NOW + 300
    assert jwt_refused(svid(**{claim: NOW + 31})) == "svid_expired"
    assert jwt_refused(svid(**{claim: "0"})) == "svid_malformed"


@pytest.mark.parametrize("aud", [None, [], 5, [5]])
def test_an_audience_has_to_be_there(aud: Any) -> None:
    assert jwt_refused(svid(aud=aud)) == "svid_malformed"


def test_the_trust_domain_picks_the_bundle() -> None:
    two = JwtSvidVerifier({"corp.example": bundle(signer()), "b.example": bundle(signer("ES256", 1))})
    assert two.verify(svid(), {RESOURCE}, NOW)
    with pytest.raises(IdentityError, match="svid_untrusted"):
        two.verify(svid(sub="spiffe://b.example/a"), {RESOURCE}, NOW)


def test_a_missing_bundle_is_unavailable_and_an_unknown_kid_is_asked_for() -> None:
    empty, full = Source(None), Source(bundle(signer()))
    with pytest.raises(KeysUnavailable):
        JwtSvidVerifier({"corp.example": empty}).verify(svid(), {RESOURCE}, NOW)
    with pytest.raises(IdentityError, match="svid_untrusted"):
        JwtSvidVerifier({"corp.example": full}).verify(svid({"kid": "new"}), {RESOURCE}, NOW)
    assert full.asked == ["new"]


def go_bundles() -> list[Any]:
    return [
        pytest.param(path, id=path.name) for path in sorted((VECTORS / "go-spiffe/bundle").rglob("*.json"))
    ]


BUNDLES = {
    "spiffebundle_valid_1.json",
    "spiffebundle_valid_2.json",
    "spiffebundle_valid_with_wit.json",
    # go-spiffe refuses it for an x509-svid key with two certificates. Those keys are Envoy's to read.
    "spiffebundle_multiple_x509.json",
}
# Refused among the rest: go-spiffe's `jwks_valid_*`, which are key sets but, without `use`, no bundles.


@pytest.mark.parametrize("path", go_bundles())
def test_go_spiffes_bundles(path: Path) -> None:
    if path.name in BUNDLES:
        keys = JwkSet.parse_spiffe_bundle(path.read_bytes())
        assert all(key.kid is not None for key in keys.keys)
        assert keys.keys
    else:
        with pytest.raises(JwkError):
            JwkSet.parse_spiffe_bundle(path.read_bytes())
    if path.name in {"jwks_valid_1.json", "jwks_valid_2.json"}:
        assert JwkSet.parse(path.read_bytes()).find("C6vs25welZOx6WksNYfbMfiw9l96pMnD")

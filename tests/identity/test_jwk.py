from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from identity import jwk
from identity.jwk import JwkError, JwkSet, public_jwk, thumbprint
from tests.identity.signers import document, key_set, signer

GOOD = signer("ES256", 1).jwk


def parse(*keys: dict[str, Any]) -> JwkSet:
    return JwkSet.parse(document(keys))


def refused(*keys: dict[str, Any]) -> str:
    with pytest.raises(JwkError) as caught:
        parse(*keys)
    return str(caught.value)


@pytest.mark.parametrize("alg", sorted(jwk.ALGORITHMS))
def test_reads_a_key_of_every_algorithm(alg: str) -> None:
    keys = key_set(signer(alg))
    found = keys.find(signer(alg).kid)
    assert found is not None
    assert found.algorithms == {alg}
    assert found.thumbprint == found.kid


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    """The example of RFC 7638 3.1."""
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZ"
        "CiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJ"
        "ZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBn"
        "iIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = RSAAlgorithm.from_jwk({"kty": "RSA", "n": n, "e": "AQAB"})
    assert thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize(
    "bad",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "x"},
        {"kty": "oct", "kid": "x"},
        {**GOOD, "kid": "x", "d": GOOD["x"]},
        {**GOOD, "kid": "x", "d": None},
        {**GOOD, "kid": "x", "use": "enc", "d": GOOD["x"]},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "p": "AQAB", "kid": "x"},
    ],
)
def test_a_set_with_a_secret_is_refused_whole(bad: dict[str, Any]) -> None:
    assert "secret or private" in refused(GOOD, bad)


def test_a_set_with_one_kid_twice_is_refused_whole() -> None:
    other = signer("ES256", 2).jwk
    assert "twice" in refused(GOOD, {**other, "kid": GOOD["kid"]})
    assert "twice" in refused(GOOD, {**other, "kid": GOOD["kid"], "use": "enc"})
    assert "twice" in refused(GOOD, GOOD)


@pytest.mark.parametrize(
    "bad",
    [
        {**GOOD, "kid": 1},
        {**GOOD, "kid": ""},
        {**GOOD, "kid": "x" * 129},
        {**GOOD, "kid": "a\u0000"},
        {**GOOD, "kty": None},
        {"kid": "x"},
        {**GOOD, "crv": None},
        {**GOOD, "use": ["sig"]},
        {**GOOD, "key_ops": "verify"},
        {**GOOD, "alg": 5},
        {**GOOD, "x": GOOD["x"] + "="},
        {**GOOD, "x": GOOD["x"] + "AAAA"},
        {**GOOD, "x": GOOD["y"]},  # not on the curve
        {**GOOD, "x": None},
        {"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "x"},
        {"kty": "RSA", "n": "", "e": "AQAB", "kid": "x", "alg": 1},
        {**signer("RS256").jwk, "e": "AA"},
        {**signer("RS256").jwk, "e": "BA"},
        "x",
        None,
        [],
    ],
)
def test_a_set_with_a_broken_key_is_refused_whole(bad: Any) -> None:
    with pytest.raises(JwkError):
        parse(signer("ES256", 2).jwk, bad) if isinstance(bad, dict) else JwkSet.parse(
            json.dumps({"keys": [GOOD, bad]}).encode()
        )


def weak_rsa() -> dict[str, Any]:
    return dict(public_jwk(rsa.generate_private_key(65537, 1024).public_key()))


@pytest.mark.parametrize(
    "useless",
    [
        {**GOOD, "use": "enc"},
        {**GOOD, "use": "jwt-svid"},
        {**GOOD, "use": "invalid"},
        {**GOOD, "key_ops": ["encrypt"]},
        {**GOOD, "key_ops": []},
        {**GOOD, "key_ops": ["verify", "encrypt"]},
        {**GOOD, "alg": "ES384"},
        {**GOOD, "alg": "RS256"},
        {**GOOD, "alg": "HS256"},
        {**GOOD, "alg": "none"},
        {**GOOD, "crv": "P-521"},
        {**GOOD, "crv": "secp256k1"},
        {**GOOD, "kty": "OKP"},
        {**GOOD, "kty": "AKP"},
        {**signer("RS256").jwk, "alg": "RS384"},
        {**signer("RS256").jwk, "alg": "RSA-OAEP"},
        {**signer("RS256").jwk, "e": "AQAAAAE"},
        {**signer("RS256").jwk, "n": "AQAB"},
        {**signer("RS256").jwk, "n": "f" * 1400},
        weak_rsa(),
    ],
)
def test_a_key_of_no_use_is_left_out_and_the_reason_kept(useless: dict[str, Any]) -> None:
    other = signer("ES256", 2).jwk
    keys = parse(other, useless)
    assert [key.kid for key in keys.keys] == [other["kid"]]
    assert len(keys.skipped) == 1
    assert "no key that is of use" in refused(useless)


def test_key_ops_may_say_verify() -> None:
    assert parse({**GOOD, "key_ops": ["verify"]}).find(GOOD["kid"])


def test_a_key_without_alg_is_for_all_that_fit_its_type() -> None:
    rsa_key = signer("RS256").jwk
    del rsa_key["alg"]
    assert parse(rsa_key).keys[0].algorithms == {"RS256", "PS256"}


def test_kid_may_be_left_out_only_where_there_is_nothing_to_choose() -> None:
    one = parse(GOOD)
    two = parse(GOOD, signer("ES256", 2).jwk)
    assert one.find(None) == one.keys[0]
    assert two.find(None) is None
    assert two.find("unheard of") is None


def test_an_empty_set_is_refused() -> None:
    assert "empty" in refused()


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"keys":{}}', b'{"keys":[],"keys":[]}', b"<html>"])
def test_what_is_no_set_is_refused(body: bytes) -> None:
    with pytest.raises(JwkError):
        JwkSet.parse(body)


def test_a_set_has_bounds() -> None:
    with pytest.raises(JwkError, match="larger"):
        JwkSet.parse(b" " * (jwk.MAX_SET_BYTES + 1))
    with pytest.raises(JwkError, match="more than 100"):
        parse(*[{"kty": "AKP"}] * 101)


def test_the_generation_is_that_of_the_keys_not_of_the_text() -> None:
    other = signer("ES256", 2).jwk
    assert parse(GOOD, other).generation == parse({**other, "x5t": "a"}, GOOD).generation
    assert parse(GOOD, other).generation != parse(GOOD).generation
    assert parse(GOOD).generation != parse({**GOOD, "kid": "other"}).generation


def test_a_spiffe_bundle_has_keys_for_jwt_svids_with_a_kid() -> None:
    key = {**GOOD, "use": "jwt-svid"}
    x509 = {**signer("ES256", 2).jwk, "use": "x509-svid", "kid": None}
    del x509["kid"]
    assert [k.kid for k in JwkSet.parse_spiffe_bundle(document([x509, key])).keys] == [GOOD["kid"]]
    del key["kid"]
    with pytest.raises(JwkError, match="without a kid"):
        JwkSet.parse_spiffe_bundle(document([key]))
    with pytest.raises(JwkError, match="no key that is of use"):
        JwkSet.parse_spiffe_bundle(document([GOOD]))


def test_a_published_key_can_be_read_back() -> None:
    private = ec.generate_private_key(ec.SECP384R1())
    published = public_jwk(private.public_key(), alg="ES384")
    key = parse(dict(published)).find(published["kid"])
    assert key is not None
    assert key.key == private.public_key()

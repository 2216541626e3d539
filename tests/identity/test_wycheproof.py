"""Wycheproof's JWS vectors, every one with the outcome that is asserted of it.

Where that is not the vector's own label, `EXCEPTIONS` says why, by the vector's number. Each goes the way of
a real token: key set, strict reading, signature.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from identity import jose, signature
from identity.errors import IdentityError
from identity.jwk import ALGORITHMS, JwkError, JwkSet
from tests.identity.signers import document

VECTORS = Path(__file__).parents[1] / "vectors/wycheproof"
OVERLAY = json.loads((VECTORS / "OVERLAY.json").read_text())

SYMMETRIC = "the key is a shared secret: a set that holds one is refused whole"
NOT_PINNED = (
    "RS384, RS512, PS384, PS512 and ES512 are not among the algorithms that an issuer may be pinned to"
)
KEY_DISAGREES = "the key says PS256 and the token PS384: OVERLAY.json has it as one to reject"
NOT_BASE64URL = "a '?' inside base64url, of a shared secret besides: OVERLAY.json has it as one to reject"

# Labelled valid, and refused.
EXCEPTIONS = {
    **dict.fromkeys([1, 348, 352, 357, 358, 359, 376, 377], SYMMETRIC),
    **dict.fromkeys([*range(264, 272), *range(320, 324), *range(325, 329), 347, 351], NOT_PINNED),
    **dict.fromkeys([346, 350], KEY_DISAGREES),
    **dict.fromkeys([372, 373], NOT_BASE64URL),
}


def groups(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())["testGroups"]
    return found


def cases(name: str) -> list[Any]:
    return [
        pytest.param(group.get("public", group["private"]), test, id=f"{test['tcId']}-{test['comment']}")
        for group in groups(name)
        for test in group["tests"]
    ]


def accepts(key: dict[str, Any], token: str) -> bool:
    try:
        keys = JwkSet.parse(document(key.get("keys", [key])))
        signature.verify(jose.split(token), keys, ALGORITHMS)
    except (JwkError, IdentityError):
        return False
    return True


def test_the_corpora_are_whole() -> None:
    assert len(cases("json_web_signature_test.json")) == 401
    assert len(cases("json_web_crypto_test.json")) == 83


@pytest.mark.parametrize(("key", "test"), cases("json_web_signature_test.json"))
def test_signature(key: dict[str, Any], test: dict[str, Any]) -> None:
    labelled = test["result"] == "valid"
    if test["tcId"] in EXCEPTIONS:
        assert labelled, "an exception that is none"
        assert not accepts(key, test["jws"])
    else:
        assert accepts(key, test["jws"]) == labelled


def test_the_overlay_is_honoured() -> None:
    must_reject = {int(number) for number in OVERLAY["must_reject_although_labelled_valid"]}
    assert must_reject <= EXCEPTIONS.keys()
    by_number = {t["tcId"]: (g, t) for g in groups("json_web_signature_test.json") for t in g["tests"]}
    for number, reason in OVERLAY["skip_contradictory"].items():
        # The same bytes as a valid one, whose outcome counts. All are refused for their key.
        assert reason == "byte-identical to valid 357"
        assert by_number[int(number)][1]["jws"] == by_number[357][1]["jws"]
    for number in OVERLAY["pyjwt_accepts_bad"]:
        group, test = by_number[number]
        assert not accepts(group["public"], test["jws"])
    assert set(OVERLAY["map_alg"]) == {"ES521"}
    for number in (347, 351):
        key = by_number[number][0]["public"]
        assert key["alg"] == "ES521"
        assert not accepts({**key, "alg": "ES512"}, by_number[number][1]["jws"])


# The group on spelling is of a shared secret, so its key alone would refuse it. The parser does so by itself.
SPELLED_WELL = {357, 358, 359, 367, 370, 376, 377}
SPELLED = [
    (t["tcId"], t["jws"])
    for g in groups("json_web_signature_test.json")
    if g["comment"] == "base64"
    for t in g["tests"]
]


@pytest.mark.parametrize(("number", "token"), SPELLED, ids=lambda value: str(value)[:3])
def test_spelling_alone(number: int, token: str) -> None:
    if number in SPELLED_WELL:
        jose.split(token)
    else:
        with pytest.raises(IdentityError, match="token_malformed"):
            jose.split(token)


CRYPTO_EXCEPTIONS = {
    **dict.fromkeys([1, 48], SYMMETRIC),
    **dict.fromkeys([50, 67], "a JWE: nothing encrypted is ever read"),
}


@pytest.mark.parametrize(("key", "test"), cases("json_web_crypto_test.json"))
def test_crypto(key: dict[str, Any], test: dict[str, Any]) -> None:
    labelled = test["result"] == "valid"
    token = test.get("jws", test.get("jwe"))
    if test["tcId"] in CRYPTO_EXCEPTIONS:
        assert labelled, "an exception that is none"
        assert not accepts(key, token)
        if "jwe" in test:
            with pytest.raises(IdentityError, match="three parts"):
                jose.split(token)
    else:
        assert accepts(key, token) == labelled


def test_a_roca_key_is_refused_as_such() -> None:
    (key,) = [g["public"] for g in groups("json_web_crypto_test.json") if g["comment"] == "jws_rsa_roca_key"]
    with pytest.raises(JwkError, match="ROCA"):
        JwkSet.parse(document([key]))

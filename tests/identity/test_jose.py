from __future__ import annotations

import base64
import contextlib
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity import jose
from identity.errors import IdentityError
from identity.jose import encode_base64url
from tests.identity.signers import claims, signer

HEADER = b'{"alg":"ES256","kid":"k"}'


def token(header: bytes = HEADER, payload: bytes = b"{}", signature: bytes = b"s") -> str:
    return ".".join(encode_base64url(part) for part in (header, payload, signature))


def refused(text: str, extra_headers: frozenset[str] = frozenset()) -> str:
    with pytest.raises(IdentityError) as caught:
        jose.parse(text, extra_headers=extra_headers)
    assert caught.value.code == "token_malformed"
    return caught.value.detail


def test_reads_a_token() -> None:
    text = signer().sign(claims())
    jws = jose.parse(text)
    assert (jws.alg, jws.kid, jws.typ) == ("ES256", signer().kid, "JWT")
    assert jws.claims["sub"] == "00u1"
    assert jws.signing_input + b"." + encode_base64url(jws.signature).encode() == text.encode()
    assert jws.digest == hashlib.sha256(text.encode()).digest()


def test_takes_at_most_16_kib() -> None:
    room = jose.MAX_TOKEN_BYTES - len(token(payload=b'{"a":""}'))
    longest = token(payload=b'{"a":"' + b"x" * (room * 3 // 4 - 3) + b'"}')
    assert jose.MAX_TOKEN_BYTES - 8 < len(longest) <= jose.MAX_TOKEN_BYTES
    jose.parse(longest)
    assert "longer" in refused(longest + "A" * 16)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5])
def test_has_exactly_three_parts(count: int) -> None:
    assert "three parts" in refused(".".join(["e30"] * count))


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "=",
        lambda text: text + "==",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text[:2] + "+" + text[3:],
        lambda text: text[:2] + "/" + text[3:],
        lambda text: text[:2] + "?" + text[3:],
        lambda text: text + "A" * ((5 - len(text) % 4) % 4),  # a length that base64 can't have
    ],
)
def test_parts_are_unpadded_base64url(part: int, change) -> None:
    parts = token(payload=b'{"a":1}').split(".")
    parts[part] = change(parts[part])
    assert "base64url" in refused(".".join(parts))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_parts_encode_back_to_themselves(part: int) -> None:
    # One byte takes two characters, whose last four bits mean nothing: other spellings of the same token.
    parts = [encode_base64url(HEADER), encode_base64url(b"{}  "), "cw"]
    assert [len(p) % 4 for p in parts] == [2, 2, 2]
    jose.parse(".".join(parts))
    parts[part] = parts[part][:-1] + chr(ord(parts[part][-1]) + 1)
    assert "stray bits" in refused(".".join(parts))


@pytest.mark.parametrize("text", ["é.e30.e30", "e30.e30.ｅ30", "\ud800.a.b"])
def test_is_ascii(text: str) -> None:
    assert refused(text) == "not ASCII"


def test_header_and_signature_are_never_empty() -> None:
    assert "empty" in refused(token(signature=b""))
    assert "empty" in refused("." + token().split(".", 1)[1])


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"[]",
        b'"x"',
        b"null",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b'{"alg":"ES256","alg":"ES256"}',
        b'{"alg":"ES256","a":NaN}',
        b'{"alg":"ES256","a":' + b"[" * 16 + b"]" * 16 + b"}",
        b"{'alg':'ES256'}",
    ],
)
def test_both_header_and_payload_are_strict_json_objects(bad: bytes) -> None:
    assert refused(token(header=bad))
    assert refused(token(payload=bad))


@pytest.mark.parametrize(
    "name", ["crit", "zip", "b64", "cty", "jku", "jwk", "x5u", "x5c", "enc", "Alg", "exp", ""]
)
def test_headers_are_few(name: str) -> None:
    header = json.dumps({"alg": "ES256", "kid": "k", name: "x"}).encode()
    assert "not accepted" in refused(token(header=header))


def test_x5t_is_usual_and_more_can_be_allowed() -> None:
    jose.parse(token(b'{"alg":"ES256","x5t":"a","x5t#S256":"b","typ":"JWT"}'))
    jose.parse(token(b'{"alg":"ES256","nonce":"a"}'), extra_headers=frozenset({"nonce"}))


@pytest.mark.parametrize("name", sorted(jose.NEVER_HEADERS))
def test_what_changes_the_meaning_can_never_be_allowed(name: str) -> None:
    header = json.dumps({"alg": "ES256", name: "x"}).encode()
    assert "not accepted" in refused(token(header), extra_headers=frozenset({name}))


@pytest.mark.parametrize("alg", ["null", "1", '""', '["ES256"]', "true"])
def test_alg_is_a_string(alg: str) -> None:
    assert "alg" in refused(token(b'{"alg":' + alg.encode() + b"}"))
    assert "alg" in refused(token(b'{"kid":"k"}'))


@pytest.mark.parametrize("kid", [None, 1, "", "x" * 129, "a\nb", "a\u202eb", "\u0000"])
def test_kid_is_at_most_128_printable_characters(kid: object) -> None:
    assert "kid" in refused(token(json.dumps({"alg": "ES256", "kid": kid}).encode()))


def test_kid_of_128_characters_is_fine() -> None:
    assert jose.parse(token(json.dumps({"alg": "ES256", "kid": "é" * 128}).encode())).kid == "é" * 128


def test_the_detail_repeats_nothing_of_the_token() -> None:
    text = signer().sign(claims(secret="hunter2"), {"hunter2": "hunter2"})
    assert "hunter2" not in refused(text)


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(IdentityError):
        jose.parse(text)


_MEMBER = st.sampled_from(["alg", "kid", "typ", "x5t", "crit", "zip", "b64", "jwk", "iss", "a"])
_VALUE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.lists(st.text(max_size=3), max_size=2)
)


@given(st.dictionaries(_MEMBER, _VALUE), st.dictionaries(st.text(max_size=5), _VALUE), st.binary(max_size=80))
def test_what_is_accepted_obeys_every_rule(header: dict, payload: dict, signature: bytes) -> None:
    text = token(json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    try:
        jws = jose.parse(text)
    except IdentityError:
        return
    assert jws.header.keys() <= jose.USUAL_HEADERS
    assert isinstance(jws.header["alg"], str)
    assert jws.signature == signature
    assert jws.claims == payload


@given(st.data())
def test_a_token_has_one_spelling(data: st.DataObject) -> None:
    good = signer().sign(claims())
    at = data.draw(st.integers(0, len(good) - 1))
    other = good[:at] + data.draw(st.characters(codec="ascii")) + good[at + 1 :]
    with contextlib.suppress(IdentityError):
        jose.parse(other)
        assert (other == good) == (lenient(other) == lenient(good))


def lenient(text: str) -> list[bytes]:
    """The bytes that a forgiving reader finds in the three parts."""
    return [base64.urlsafe_b64decode(part + "==") for part in text.split(".")]


@given(st.binary(max_size=100))
def test_base64url_round_trip(data: bytes) -> None:
    assert jose.decode_base64url(encode_base64url(data)) == data

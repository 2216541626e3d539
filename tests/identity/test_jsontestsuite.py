"""JSONTestSuite as what a stranger sends: payload and header of a token that is really signed, and a key set.

Never a crash: a refusal is always `IdentityError` or `JwkError`. Never accepted where the document is not
JSON.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from identity import jose, strictjson
from identity.errors import IdentityError
from identity.jwk import JwkError, JwkSet
from identity.principal import Issuer
from identity.strictjson import JsonError
from identity.tokens import TokenVerifier
from tests.identity.signers import ISS, NOW, document, key_set, signer

VECTORS = Path(__file__).parents[1] / "vectors/jsontestsuite"
PARSING = sorted((VECTORS / "test_parsing").iterdir())
TRANSFORM = sorted((VECTORS / "test_transform").iterdir())

# Valid JSON that I-JSON (RFC 7493 2.3) forbids, since readers disagree on it.
DUPLICATE_KEYS = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"}

VERIFIER = TokenVerifier(
    [Issuer("sso", ISS, frozenset({"mcp"}), frozenset({"ES256"}))], {"sso": key_set(signer())}
)
HEADER = b'{"alg":"ES256","kid":"' + signer().kid.encode() + b'"}'


def reads(data: bytes) -> bool:
    try:
        strictjson.loads(data, max_depth=600)
    except JsonError:
        return False
    return True


def within(data: bytes, name: str, value: bytes) -> bytes:
    """An object with the document as one more member's value, as a token would carry it."""
    return b'{"' + name.encode() + b'":' + value + b"," + data + b"}"


CLAIMS = f'"iss":"{ISS}","aud":"mcp","sub":"00u1","iat":{NOW - 10},"exp":{NOW + 590}'.encode()


def test_the_corpus_is_whole() -> None:
    assert (len(PARSING), len(TRANSFORM)) == (318, 22)


@pytest.mark.parametrize("path", PARSING, ids=lambda path: path.name)
def test_parsing(path: Path) -> None:
    accepted = reads(path.read_bytes())
    if path.name in DUPLICATE_KEYS or path.name.startswith("n_"):
        assert not accepted
    elif path.name.startswith("y_"):
        assert accepted


@pytest.mark.parametrize("path", PARSING + TRANSFORM, ids=lambda path: path.name)
def test_as_a_signed_payload(path: Path) -> None:
    data = path.read_bytes()
    with pytest.raises(IdentityError):  # whole: no document of the suite holds the claims of a token
        VERIFIER.verify(signer().sign_bytes(HEADER, data), None, NOW)
    token = signer().sign_bytes(HEADER, within(CLAIMS, "x", data))
    try:
        user = VERIFIER.verify(token, None, NOW)
    except IdentityError:
        assert not path.name.startswith("y_") or path.name in DUPLICATE_KEYS
    else:
        assert not path.name.startswith("n_")
        assert user.subject == "00u1"


@pytest.mark.parametrize("path", PARSING + TRANSFORM, ids=lambda path: path.name)
def test_as_a_signed_header(path: Path) -> None:
    payload = b"{" + CLAIMS + b"}"
    data = path.read_bytes()
    for header in (data, within(HEADER[1:-1], "x5t", data)):
        try:
            VERIFIER.verify(signer().sign_bytes(header, payload), None, NOW)
        except IdentityError:
            continue
        assert not path.name.startswith("n_")
        assert jose.parse(signer().sign_bytes(header, payload)).alg == "ES256"


@pytest.mark.parametrize("path", PARSING + TRANSFORM, ids=lambda path: path.name)
def test_as_a_key_set(path: Path) -> None:
    data = path.read_bytes()
    with pytest.raises(JwkError):
        JwkSet.parse(data)
    with pytest.raises(JwkError):
        JwkSet.parse(b'{"keys":' + data + b"}")
    key = document([signer().jwk])
    try:
        keys = JwkSet.parse(within(key[1:-1], "more", data))
    except JwkError:
        assert not path.name.startswith("y_") or path.name in DUPLICATE_KEYS
    else:
        assert not path.name.startswith("n_")
        assert keys.find(signer().kid) is not None

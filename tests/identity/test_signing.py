from __future__ import annotations

import inspect
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from identity import keyfiles
from identity.assertion import AssertionVerifier, Minter
from identity.authenticate import Authenticator
from identity.errors import KeyFileError
from identity.jwk import MAX_SET_BYTES, JwkSet, thumbprint
from identity.signing import SigningKey, SigningKeys, generate_signing_key
from identity.svid import JwtSvidVerifier
from identity.tokens import TokenVerifier
from tests.identity.signers import document, signer

KEYS = generate_signing_key().with_next(SigningKey.generate())
PRIVATE: list[dict[str, str]] = json.loads(KEYS.private_jwks())["keys"]


def test_a_private_set_is_read_back_in_order() -> None:
    again = SigningKeys.load(KEYS.private_jwks())
    assert [key.kid for key in again.keys] == [key.kid for key in KEYS.keys]
    assert again.signing.private.private_numbers() == KEYS.signing.private.private_numbers()


def test_kid_is_the_thumbprint() -> None:
    assert all(key.kid == thumbprint(key.private.public_key()) for key in KEYS.keys)


def test_the_public_set_holds_every_key_and_nothing_private() -> None:
    body = KEYS.public_jwks()
    assert [key.kid for key in JwkSet.parse(body).keys] == [key.kid for key in KEYS.keys]
    assert all("d" not in key for key in json.loads(body)["keys"])


def test_kid_use_and_alg_may_be_left_out_of_the_file() -> None:
    bare = {name: PRIVATE[0][name] for name in ("kty", "crv", "x", "y", "d")}
    assert SigningKeys.load(document([bare])).signing.kid == KEYS.signing.kid


@pytest.mark.parametrize(
    "change",
    [
        {"kid": "mine"},
        {"kty": "RSA"},
        {"kty": "oct"},
        {"crv": "P-384"},
        {"alg": "ES384"},
        {"alg": "HS256"},
        {"use": "enc"},
        {"x": PRIVATE[1]["x"]},
        {"x": PRIVATE[1]["x"], "y": PRIVATE[1]["y"]},
        {"d": PRIVATE[1]["d"]},
        {"d": ""},
        {"d": "AAAA"},
        {"d": "A" * 43},
        {"d": PRIVATE[0]["d"] + "="},
        {"d": 1},
        {"k": "secret"},
    ],
)
def test_a_file_with_anything_else_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(KeyFileError) as caught:
        SigningKeys.load(document([PRIVATE[0] | change]))
    assert PRIVATE[0]["d"] not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"keys":[]}',
        b'{"keys":[1]}',
        document([signer().jwk]),
        document([PRIVATE[0], PRIVATE[0]]),
        document([PRIVATE[0]] * 11),
        b'{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}',
        b"-----BEGIN PRIVATE KEY-----",
    ],
)
def test_a_file_that_is_no_private_set_is_refused(body: bytes) -> None:
    with pytest.raises(KeyFileError):
        SigningKeys.load(body)


def test_nothing_shows_a_private_key() -> None:
    shown = f"{KEYS} {KEYS!r} {Minter(KEYS)!r}"
    assert KEYS.signing.kid in shown
    assert not any(key["d"] in shown for key in PRIVATE)


# Files


def test_private_keys_are_written_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "private.jwks"
    before = os.umask(0)
    try:
        keyfiles.write_private(path, KEYS.private_jwks())
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKeys.read(path).signing.kid == KEYS.signing.kid
    assert [each.name for each in tmp_path.iterdir()] == ["private.jwks"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o610, 0o660, 0o666, 0o777, 0o440])
def test_private_keys_that_others_can_touch_are_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "private.jwks"
    keyfiles.write_private(path, KEYS.private_jwks())
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        SigningKeys.read(path)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_private_keys_of_their_owner_alone_are_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "private.jwks"
    keyfiles.write_private(path, KEYS.private_jwks())
    path.chmod(mode)
    assert SigningKeys.read(path).signing.kid == KEYS.signing.kid


def test_a_symlink_counts_by_what_it_points_at(tmp_path: Path) -> None:
    """Kubernetes mounts a secret as one."""
    path, link = tmp_path / "private.jwks", tmp_path / "link"
    keyfiles.write_private(path, KEYS.private_jwks())
    link.symlink_to(path)
    assert SigningKeys.read(link).signing.kid == KEYS.signing.kid
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod"):
        SigningKeys.read(link)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "public.jwks"
    keyfiles.write_public(path, b"old" * 1000)
    path.chmod(0o600)
    keyfiles.write_public(path, KEYS.public_jwks())
    assert keyfiles.read_public(path) == KEYS.public_jwks()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path, fifo, tmp_path / "absent", Path("/dev/zero")):
        with pytest.raises(KeyFileError, match=str(path)):
            keyfiles.read_public(path)


def test_files_have_a_greatest_size(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b" " * MAX_SET_BYTES)
    assert len(keyfiles.read_public(path)) == MAX_SET_BYTES
    path.write_bytes(b" " * (MAX_SET_BYTES + 1))
    with pytest.raises(KeyFileError, match="larger"):
        keyfiles.read_public(path)


@pytest.mark.parametrize("kind", [Minter, AssertionVerifier, TokenVerifier, JwtSvidVerifier, Authenticator])
def test_no_keys_are_ever_a_default(kind: type) -> None:
    parameters = inspect.signature(kind).parameters
    for name in {"keys", "bundles", "tokens", "svids"} & parameters.keys():
        assert parameters[name].default is inspect.Parameter.empty
    with pytest.raises(TypeError):
        kind()


def test_no_key_is_written_in_the_code() -> None:
    for path in Path(inspect.getfile(keyfiles)).parent.glob("*.py"):
        text = path.read_text()
        assert "PRIVATE KEY" not in text
        assert '"HS' not in text

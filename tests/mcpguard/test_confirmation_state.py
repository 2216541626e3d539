"""The sealed state: what one bit changes, what keys open, what a digest tells apart."""

from __future__ import annotations

import base64
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.server.request_state import AESGCMRequestStateCodec

from identity.errors import KeyFileError
from mcpguard.confirmation_state import (
    MAX_STATE,
    Binding,
    DigestError,
    State,
    StateCodec,
    StateError,
    arguments_digest,
    derived,
    new_id,
    new_keys,
    read_keys,
)

BINDING = Binding("sso", "eva", "ide", "vault", "overwrite", "sha256:aa", "sha256:bb")
STATE = State(new_id(), 1_800_000_000.5, BINDING, "form", None)
CODEC = StateCodec(new_keys())
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
ARGUMENTS = st.dictionaries(TEXT, JSON, max_size=5)


class TestCodec:
    @given(st.builds(Binding, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT), st.none() | TEXT)
    def test_what_is_sealed_opens(self, binding: Binding, inner: str | None) -> None:
        state = State(new_id(), 1.5, binding, "no", inner)
        assert CODEC.open(CODEC.seal(state)) == state

    @given(st.data())
    def test_any_flipped_bit_is_refused(self, data: st.DataObject) -> None:
        sealed = bytearray(CODEC.seal(STATE).encode())
        place = data.draw(st.integers(0, len(sealed) * 8 - 1))
        sealed[place // 8] ^= 1 << place % 8
        with pytest.raises(StateError):
            CODEC.open(sealed.decode("latin-1"))

    @given(st.data())
    def test_any_flipped_bit_of_what_it_encodes_is_refused(self, data: st.DataObject) -> None:
        prefix, _, encoded = CODEC.seal(STATE).partition(".")
        raw = bytearray(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        place = data.draw(st.integers(0, len(raw) * 8 - 1))
        raw[place // 8] ^= 1 << place % 8
        with pytest.raises(StateError):
            CODEC.open(f"{prefix}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}")

    @given(st.text(max_size=200))
    def test_any_other_text_is_refused(self, text: str) -> None:
        with pytest.raises(StateError):
            CODEC.open(text)

    @given(st.integers(1, 40))
    def test_a_cut_or_longer_one_is_refused(self, count: int) -> None:
        sealed = CODEC.seal(STATE)
        for other in (sealed[:-count], sealed + "A" * count, sealed + "=", " " + sealed):
            with pytest.raises(StateError):
                CODEC.open(other)

    def test_one_that_is_too_long_is_not_even_opened(self) -> None:
        with pytest.raises(StateError, match="too long"):
            CODEC.open(CODEC.seal(replace(STATE, inner="x" * MAX_STATE)))

    def test_other_keys_do_not_open_it(self) -> None:
        with pytest.raises(StateError):
            StateCodec(new_keys()).open(CODEC.seal(STATE))

    def test_keys_rotate(self) -> None:
        (old,), (new,) = new_keys(), new_keys()
        sealed = StateCodec([old]).seal(STATE)
        assert StateCodec([old, new]).open(sealed) == STATE
        assert StateCodec([new, old]).open(sealed) == STATE
        with pytest.raises(StateError):
            StateCodec([new]).open(sealed)

    def test_the_same_keys_for_another_purpose_do_not_open_it(self) -> None:
        (key,) = new_keys()
        claims = json.dumps({"v": 1, "kind": "gatehouse-confirmation"}).encode()
        for other in (key, derived(key, "mcp-request-state")):
            with pytest.raises(StateError):
                StateCodec([key]).open(AESGCMRequestStateCodec([other]).seal(claims))

    @pytest.mark.parametrize(
        "payload",
        [b"", b"{}", b"[]", b"\xff", b'{"v":1,"v":1}', b'{"v":1,"kind":"gatehouse-confirmation"}'],
    )
    def test_what_our_own_key_sealed_for_nothing_of_ours_is_refused(self, payload: bytes) -> None:
        (key,) = new_keys()
        sealed = AESGCMRequestStateCodec([derived(key, "gatehouse-confirmation")]).seal(payload)
        with pytest.raises(StateError):
            StateCodec([key]).open(sealed)

    def test_every_field_of_the_binding_is_sealed(self) -> None:
        for field in fields(Binding):
            other = replace(STATE, binding=replace(BINDING, **{field.name: "changed"}))
            assert CODEC.open(CODEC.seal(other)) == other != STATE


class TestDigest:
    @given(ARGUMENTS, st.randoms())
    def test_order_does_not_count(self, arguments: dict[str, object], random: object) -> None:
        names = list(arguments)
        random.shuffle(names)  # type: ignore[attr-defined]
        shuffled = {name: arguments[name] for name in names}
        assert arguments_digest(shuffled) == arguments_digest(arguments)  # type: ignore[arg-type]

    @given(ARGUMENTS, ARGUMENTS)
    def test_other_arguments_have_another(self, one: dict[str, object], other: dict[str, object]) -> None:
        same = arguments_digest(one) == arguments_digest(other)  # type: ignore[arg-type]
        assert same == _alike(one, other)

    @pytest.mark.parametrize("number", [2**53, -(2**53), 10**30])
    def test_an_integer_without_an_exact_form_has_none(self, number: int) -> None:
        with pytest.raises(DigestError):
            arguments_digest({"nested": [{"n": number}]})

    def test_it_is_what_rfc_8785_and_sha_256_say(self) -> None:
        canonical = '{"a":[1,"é\\n"],"b":1e+21}'
        import hashlib

        expected = "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
        assert arguments_digest({"b": 1e21, "a": [1.0, "é\n"]}) == expected


def _alike(one: object, other: object) -> bool:
    """Equality of JSON: 1 and 1.0 are one number, and true is none."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return one == other


class TestKeyFile:
    def test_a_line_each_without_comments(self, tmp_path: Path) -> None:
        file = tmp_path / "keys"
        file.write_text(f"# new\n{'a' * 64}\n\n# old\n  {'b' * 64}  \n")
        file.chmod(0o600)
        assert read_keys(file) == (b"a" * 64, b"b" * 64)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "holds no key"),
            ("# nothing\n", "holds no key"),
            ("short\n", "key 1 has fewer than 32 bytes"),
            (f"{'a' * 64}\n{'b' * 31}\n", "key 2 has fewer"),
            (f"{'a' * 64}\n{'a' * 64}\n", "the same key"),
        ],
    )
    def test_a_weak_one_is_refused(self, tmp_path: Path, text: str, said: str) -> None:
        file = tmp_path / "keys"
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(KeyFileError, match=said):
            read_keys(file)

    def test_one_that_others_can_read_is_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "keys"
        file.write_text("a" * 64)
        file.chmod(0o640)
        with pytest.raises(KeyFileError, match="chmod 600"):
            read_keys(file)
        with pytest.raises(KeyFileError):
            read_keys(tmp_path / "none")

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity import strictjson
from identity.strictjson import JsonError

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff", "UTF-8"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a":1,"a":1}', "twice"),
        (b'{"a":{"b":1,"\\u0062":2}}', "twice"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "NaN"),
        (b"[1e400]", "range"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\udc00":1}', "surrogate"),
        (b"[" * 17 + b"]" * 17, "deeper"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, "deeper"),
        (b"[" * 200_000, "deeper"),
        (b"[" + b"9" * 5000 + b"]", "not JSON"),
        (b"[01]", "not JSON"),
        (b"[1] x", "not JSON"),
        (b'["\t"]', "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_refuses(data: bytes, why: str) -> None:
    with pytest.raises(JsonError, match=why):
        strictjson.loads(data)


def test_depth_counts_brackets_outside_strings_only() -> None:
    text = json.dumps(["[{" * 50, '"[\\', "}]"])
    assert strictjson.loads(text.encode()) == json.loads(text)
    assert strictjson.loads(b"[" * 16 + b"]" * 16) is not None


def test_many_shallow_brackets_are_not_deep() -> None:
    assert strictjson.loads(b"[" + b",".join([b"[]"] * 100) + b"]") == [[]] * 100


def test_a_surrogate_pair_is_one_character() -> None:
    assert strictjson.loads(rb'"\ud83d\ude00"') == "\U0001f600"


def test_an_object_is_asked_for() -> None:
    with pytest.raises(JsonError, match="object"):
        strictjson.loads_object(b"[]")


@given(_JSON)
def test_reads_what_json_writes(value: object) -> None:
    assert strictjson.loads(json.dumps(value).encode(), max_depth=64) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        value = strictjson.loads(data)
    except JsonError:
        return
    assert json.loads(data) == value

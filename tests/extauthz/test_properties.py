"""Whatever arrives: no crash, nothing empty, and an allow only for whom policy allows."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extauthz.wire.ext_authz_pb2 import CheckRequest, CheckResponse
from pdp import headers
from pdp.reasons import REASONS
from tests.extauthz.world import World, basis, bearer, check_request, headers_of, is_allow, token, world

GOOD = f"Bearer {token()}"
relaxed = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made: World = world(tmp_path_factory.mktemp("log"), basis())
    yield made
    made.log.close(5)


def sound(response: CheckResponse) -> None:
    """A denial is one for Envoy, with a reason of the table and a body that fits."""
    if is_allow(response):
        sent = headers_of(response)
        assert set(headers.FORWARDED) <= sent.keys()
        assert all(sent[name].isascii() and sent[name].isprintable() for name in sent)
        assert sent["x-forwarded-identity"]
        return
    assert response.WhichOneof("http_response") == "denied_response"
    body = json.loads(response.denied_response.body)
    row = REASONS[body["error"]["data"]["reason"]]
    assert response.denied_response.status.code == row.status
    assert row.code != "internal_error"
    assert len(response.denied_response.body) <= 4096


@relaxed
@given(st.binary(max_size=400))
def test_bytes_never_allow(room: World, raw: bytes) -> None:
    response = room.check(raw)
    assert not is_allow(response)
    sound(response)


@relaxed
@given(st.data())
def test_a_good_request_with_bytes_changed_never_crashes(room: World, data: st.DataObject) -> None:
    raw = bytearray(check_request(("authorization", GOOD)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    sound(room.check(bytes(raw)))


names = st.sampled_from((*headers.READ, *headers.FORWARDED, "cookie", ":method", "X-MCP-CHANNEL"))
values = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [GOOD.encode(), b"Bearer x", b"C1", b"2026-07-28", b"2025-11-25", b"tools/call", b"run_query"]
    ),
)
messages = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "method": st.one_of(
                st.text(max_size=20),
                st.sampled_from(
                    ["tools/call", "tools/list", "initialize", "__jsonrpc_response", "resources/read"]
                ),
                st.floats(allow_nan=False),
            ),
            "params": st.one_of(
                st.text(max_size=5),
                st.dictionaries(
                    st.sampled_from(["name", "uri"]),
                    st.one_of(
                        st.none(), st.floats(allow_nan=False), st.sampled_from(["run_query", "x"]), st.text()
                    ),
                ),
            ),
        }
    ),
)
requests = st.builds(
    lambda pairs, message, verb, server, listener, certificate: check_request(
        *pairs, message=message, verb=verb, server=server, listener=listener, certificate=certificate
    ),
    st.lists(st.tuples(names, values), max_size=8),
    messages,
    st.sampled_from(["POST", "GET", "DELETE", "PUT", ""]),
    st.one_of(st.none(), st.sampled_from(["presto", "nowhere", ""]), st.text(max_size=5)),
    st.one_of(st.none(), st.sampled_from(["users", "mesh"]), st.text(max_size=5)),
    st.one_of(st.just(""), st.text(max_size=20)),
)


@relaxed
@given(requests)
def test_an_allow_is_for_a_good_token_and_sets_every_header(room: World, request_: CheckRequest) -> None:
    response = room.check(request_)
    sound(response)
    if is_allow(response):
        carried = [
            header.raw_value
            for header in request_.attributes.request.http.header_map.headers
            if header.key == "authorization"
        ]
        assert carried == [GOOD.encode()]
        assert request_.attributes.context_extensions["server"] == "presto"
        assert headers_of(response)["x-forwarded-user"] == "00u1"


def test_the_good_request_is_one(room: World) -> None:
    response = room.check(check_request(bearer(token())))
    assert is_allow(response)
    sound(response)


def test_nothing_at_all_is_refused(room: World) -> None:
    assert not is_allow(room.check(b""))

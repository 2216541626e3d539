"""What Envoy says becomes one reading of the call, or none: header confusion, eras, bodies."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from extauthz.request import Call, Credentials, Malformed, parse
from extauthz.wire.ext_authz_pb2 import CheckRequest
from pdp import headers
from tests.extauthz.world import Header, bearer, check_request

RECORDED = Path(__file__).parents[1] / "vectors" / "envoy"
CALL = {"method": "tools/call", "params": {"name": "run_query"}}
MODERN: Header = ("mcp-protocol-version", "2026-07-28")


def refused(request: CheckRequest) -> str:
    with pytest.raises(Malformed) as caught:
        parse(request)
    assert caught.value.detail.endswith(".")
    return caught.value.reason.code


def test_a_call() -> None:
    call, credentials = parse(
        check_request(
            bearer("a.b-c_d"), ("x-mcp-channel", "C0LAN2Q65"), ("mcp-protocol-version", "2025-11-25"),
            ("mcp-session-id", "f00"), listener="mesh", certificate="PEM",
        )
    )  # fmt: skip
    assert call == Call("mesh", "presto", "tools/call", "run_query", "C0LAN2Q65", "2025-11-25", True)
    assert call.tool == "run_query"
    assert credentials == Credentials("a.b-c_d", "PEM")


def test_what_envoy_really_sent_is_read() -> None:
    """Recorded from Envoy 1.40 with `encode_raw_headers`, and its MCP filter's metadata."""
    request = CheckRequest.FromString((RECORDED / "tools-call.bin").read_bytes())
    call, credentials = parse(request)
    assert call == Call("users", "presto", "tools/call", "run_query", "C1", "2025-11-25", False)
    assert credentials == Credentials("abc.def.ghi", None)


def test_two_authorizations_arrive_joined_and_are_refused() -> None:
    """Recorded likewise: two headers that the client sent, one that Envoy makes of them."""
    request = CheckRequest.FromString((RECORDED / "two-authorizations.bin").read_bytes())
    assert refused(request) == "malformed_header"


@pytest.mark.parametrize("name", headers.READ)
def test_a_repeated_header_is_refused_even_with_equal_values(name: str) -> None:
    assert refused(check_request((name, "1"), (name, "1"))) == "malformed_header"


@pytest.mark.parametrize("name", headers.READ)
@pytest.mark.parametrize("value", [b"a\xe9b", b"a\x00b", b"\xff", b"a\tb", b"\x7f", "Bearer é".encode()])
def test_a_header_that_is_not_printable_ascii_is_refused(name: str, value: bytes) -> None:
    assert refused(check_request((name, value))) == "malformed_header"


def test_other_headers_may_be_anything() -> None:
    parse(check_request(("x-other", b"\xff\x00"), ("x-other", b"a"), ("accept", "b")))


@pytest.mark.parametrize(
    "value", ["Bearer a,Bearer b", "Bearer a, Bearer b", "Bearer a,", ",", "Basic YTpi,Bearer a"]
)
def test_a_comma_in_authorization_is_refused(value: str) -> None:
    assert refused(check_request(("authorization", value))) == "malformed_header"


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Bearer  a", "Bearer a b", "Bea rera", "Token a", " Bearer a", "Bearer a!"],
)
def test_what_is_not_a_bearer_is_refused(value: str) -> None:
    assert refused(check_request(("authorization", value))) == "token_malformed"


def test_the_scheme_is_case_insensitive() -> None:
    assert parse(check_request(("authorization", "bEARER x.y.z")))[1].bearer == "x.y.z"


def test_without_raw_headers_nothing_is_judged() -> None:
    missing = check_request(bearer("a"))
    missing.attributes.request.http.ClearField("header_map")
    assert refused(missing) == "malformed_request"
    decoded = check_request()
    decoded.attributes.request.http.header_map.headers.add(key="authorization", value="Bearer a!!b")
    assert refused(decoded) == "malformed_request"


def test_a_certificate_counts_on_the_mesh_listener_only() -> None:
    assert parse(check_request(listener="users", certificate="PEM"))[1].certificate is None
    assert parse(check_request(listener="mesh"))[1].certificate is None


@pytest.mark.parametrize("listener", [None, "", "Users", "mesh "])
def test_a_route_that_names_no_listener_is_refused(listener: str | None) -> None:
    assert refused(check_request(listener=listener)) == "malformed_request"


def test_the_catch_all_has_no_server() -> None:
    assert parse(check_request(server=None))[0].server is None
    assert parse(check_request(server=""))[0].server is None


def test_a_fault_still_tells_the_server() -> None:
    with pytest.raises(Malformed) as caught:
        parse(check_request(message=None))
    assert caught.value.server == "presto"


@pytest.mark.parametrize("verb", ["GET", "DELETE"])
def test_streams_and_ends_have_no_body(verb: str) -> None:
    assert parse(check_request(verb=verb, message=None))[0].method == verb
    assert parse(check_request(("content-length", "0"), verb=verb, message=None))[0].method == verb
    assert refused(check_request(("content-length", "7"), verb=verb, message=None)) == "malformed_body"
    assert refused(check_request(verb=verb)) == "malformed_body"


@pytest.mark.parametrize("verb", ["GET", "DELETE"])
def test_a_body_that_no_header_tells_of_is_refused(verb: str) -> None:
    """Chunked, or in HTTP/2: Envoy's MCP filter doesn't look at it, and a server might."""
    request = check_request(verb=verb, message=None)
    request.attributes.request.http.raw_body = b"{"
    assert refused(request) == "malformed_body"


def test_of_a_call_the_first_byte_says_nothing() -> None:
    request = check_request(("x-envoy-auth-partial-body", "true"))
    request.attributes.request.http.raw_body = b"{"
    assert parse(request)[0].method == "tools/call"


@pytest.mark.parametrize("verb", ["PUT", "TRACE", "OPTIONS", "post", "", "PATCH"])
def test_other_verbs_are_refused(verb: str) -> None:
    assert refused(check_request(verb=verb)) == "malformed_request"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (None, "malformed_body"),
        ({"status": "mcp_error", **CALL}, "malformed_body"),
        ({"status": "", **CALL}, "malformed_body"),
        ({"is_mcp_request": False, **CALL}, "malformed_body"),
        ({}, "malformed_mcp"),
        ({"method": 5}, "malformed_mcp"),
        ({"method": "x" * 129}, "malformed_mcp"),
        ({"method": "tools/call"}, "malformed_mcp"),
        ({"method": "tools/call", "params": {}}, "malformed_mcp"),
        ({"method": "tools/call", "params": {"name": 5.0}}, "malformed_mcp"),
        ({"method": "tools/call", "params": {"name": None}}, "malformed_mcp"),
        ({"method": "tools/call", "params": {"name": {"a": "run_query"}}}, "malformed_mcp"),
        ({"method": "tools/call", "params": {"name": ["run_query"]}}, "malformed_mcp"),
        ({"method": "tools/call", "params": {"name": ""}}, "malformed_mcp"),
        ({"method": "tools/call", "params": {"name": "x" * 129}}, "malformed_mcp"),
        ({"method": "tools/call", "params": ["run_query"]}, "malformed_mcp"),
        ({"method": "prompts/get", "params": {"uri": "x"}}, "malformed_mcp"),
        ({"method": "resources/read", "params": {"name": "x"}}, "malformed_mcp"),
        ({"method": "resources/read", "params": {"uri": "x" * 2049}}, "malformed_mcp"),
        ({"method": "__jsonrpc_response", "params": {"name": "run_query"}}, "malformed_mcp"),
    ],
)
def test_a_message_that_says_nothing_clear_is_refused(message: dict[str, Any] | None, code: str) -> None:
    assert refused(check_request(message=message)) == code


@pytest.mark.parametrize(
    ("message", "target"),
    [
        ({"method": "tools/call", "params": {"name": "x" * 128}}, "x" * 128),
        ({"method": "prompts/get", "params": {"name": "p"}}, "p"),
        ({"method": "resources/read", "params": {"uri": "file:///x", "name": "y"}}, "file:///x"),
        ({"method": "tools/list", "params": {"name": "run_query"}}, None),
        ({"method": "completion/complete", "params": {"ref": {"name": "code"}}}, None),
        ({"method": "notifications/initialized"}, None),
        ({"method": "__jsonrpc_response"}, None),
        ({"method": "Tools/Call", "params": {"name": "run_query"}}, None),
    ],
)
def test_targets(message: dict[str, Any], target: str | None) -> None:
    call, _ = parse(check_request(message=message))
    assert (call.method, call.target) == (message["method"], target)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_no_message_poses_as_a_bodiless_request(method: str) -> None:
    assert refused(check_request(message={"method": method})) == "malformed_mcp"


ENCODED = "=?base64?" + base64.b64encode(b"run_query").decode() + "?="


@pytest.mark.parametrize("name", ["run_query", ENCODED])
def test_a_modern_call_says_everything_twice(name: str) -> None:
    call, _ = parse(check_request(MODERN, ("mcp-method", "tools/call"), ("mcp-name", name)))
    assert call.protocol_version == "2026-07-28"


@pytest.mark.parametrize(
    "said",
    [
        (MODERN,),
        (MODERN, ("mcp-method", "tools/call")),
        (MODERN, ("mcp-name", "run_query")),
        (MODERN, ("mcp-method", "tools/list"), ("mcp-name", "run_query")),
        (MODERN, ("mcp-method", "tools/call"), ("mcp-name", "list_tables")),
        (MODERN, ("mcp-method", "Tools/Call"), ("mcp-name", "run_query")),
        (MODERN, ("mcp-method", "tools/call"), ("mcp-name", "=?base64?!!!!?=")),
        (MODERN, ("mcp-method", "tools/call"), ("mcp-name", "=?base64?" + "/w==" + "?=")),
        # A version that nobody knows yet does not switch the comparison off, nor does an old one.
        (("mcp-protocol-version", "2027-01-01"),),
        (("mcp-protocol-version", "2027-01-01"), ("mcp-method", "tools/list"), ("mcp-name", "x")),
        (("mcp-protocol-version", "2025-11-25"), ("mcp-method", "tools/list")),
        (("mcp-protocol-version", "2025-11-25"), ("mcp-name", "list_tables")),
        (("mcp-method", "tools/list"),),
    ],
)
def test_headers_that_disagree_with_the_body_are_refused(said: tuple[Header, ...]) -> None:
    assert refused(check_request(*said)) == "malformed_mcp"


def test_an_old_call_needs_no_headers() -> None:
    parse(check_request())
    parse(check_request(("mcp-protocol-version", "2025-11-25")))


def test_a_modern_listing_needs_no_name() -> None:
    parse(check_request(MODERN, ("mcp-method", "tools/list"), message={"method": "tools/list"}))


@pytest.mark.parametrize(
    "version", ["", "DRAFT", "2026-7-28", "2026-07-28 ", "9999", "2026-07-28-x", "2026-07-2९"]
)
def test_a_version_is_a_date(version: str) -> None:
    assert refused(check_request(("mcp-protocol-version", version))) == "malformed_header"


@pytest.mark.parametrize("channel", ["", "a b", "-x", "x" * 129, "a,b", "a;b", "<a>"])
def test_a_channel_has_a_form(channel: str) -> None:
    assert refused(check_request(("x-mcp-channel", channel))) == "channel_malformed"


@pytest.mark.parametrize("session", ["", "a b", "x" * 257])
def test_a_session_has_a_form(session: str) -> None:
    assert refused(check_request(("mcp-session-id", session))) == "malformed_header"

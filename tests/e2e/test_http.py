"""What HTTP itself can be abused for. Nothing of it reaches a server, and refusals are ours to read."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gatehouse import observe
from pdp.reasons import REASONS
from tests.e2e import mcp
from tests.e2e.stack import Stack
from tests.e2e.wire import Answer, request

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-gateway")]

BODY = json.dumps(mcp.call("search")).encode()


def good(gateway: Stack, path: str = "/knowledge/mcp", token: str | None = None) -> bytes:
    """A request that is allowed, to be bent by the tests."""
    return mcp.post(BODY, path, gateway.users.authority, token=token or gateway.forge.token())


def refused(gateway: Stack, data: bytes) -> list[Answer]:
    """Send bytes of which nothing may reach a server; every answer is a refusal."""
    with gateway.unreached():
        answers = gateway.users.exchange(data)
    assert all(answer.status >= 400 for answer in answers), answers
    return answers


def test_the_request_that_is_bent_below_is_a_good_one(gateway: Stack) -> None:
    answer, hit = gateway.reached(lambda: gateway.users.one(good(gateway)))
    assert answer.json["result"] == {"reached": "/knowledge/mcp"}
    assert hit.body == BODY


def _header(line: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(b"\r\naccept:", b"\r\n" + line + b"\r\naccept:", 1)


def _replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(old, new, 1)


# Envoy reads these leniently and writes them anew: what goes on is what was judged, in one reading.
LENIENT: dict[str, Callable[[bytes], bytes]] = {
    "bare LF after every line": lambda data: data.replace(b"\r\n", b"\n"),
    "bare LF after one line": _header(b"x-a: 1\nx-forwarded-user: root\nx-forwarded-identity: root"),
    "bare CR in a value": _header(b"x-a: 1\rx-forwarded-user: root"),
    "obs-fold": _header(b"x-a: 1\r\n x-forwarded-user: root"),
    "obs-fold with a tab": _header(b"x-a: 1\r\n\tx-forwarded-user: root"),
    "obs-fold of the token": _replaced(b"Bearer ", b"Bearer\r\n "),
    "two spaces": _replaced(b"POST /", b"POST  /"),
    "tab": _replaced(b"POST /", b"POST\t/"),
}


@pytest.mark.parametrize("how", LENIENT)
def test_what_envoy_forgives_is_judged_as_it_goes_on(gateway: Stack, how: str) -> None:
    _, hit = gateway.reached(lambda: gateway.users.one(LENIENT[how](good(gateway))))
    assert (hit.method, hit.path, hit.body) == ("POST", "/knowledge/mcp", BODY)
    assert hit.all("x-forwarded-user") == ["ana"]
    assert "root" not in hit.one("x-forwarded-identity")
    assert not any(char in value for _, value in hit.headers for char in "\r\n\0")
    with gateway.unreached():
        bare = mcp.post(BODY, "/knowledge/mcp", gateway.users.authority)
        answer = gateway.users.one(LENIENT[how](bare))
    assert answer.status == 401


SMUGGLED: dict[str, Callable[[bytes], bytes]] = {
    "NUL in a value": _header(b"x-a: 1\x002"),
    "space before the colon": _header(b"x-forwarded-user : sso:root"),
    "no colon": _header(b"x-forwarded-user"),
    "no name": _header(b": sso:root"),
    "name with a space": _header(b"x-forwarded user: sso:root"),
    "name that is no token": _header(b"x-forwarded(user): sso:root"),
    "name with a non-ASCII byte": _header(b"x-forwarded-\xffser: sso:root"),
    "underscore for hyphen": _header(b"x_forwarded_user: sso:root"),
    "underscore in a name of ours": _header(b"x-forwarded_user: sso:root"),
    "underscore in the session": _header(b"mcp_session_id: 1"),
    "two content-lengths": _header(b"content-length: 3"),
    "two content-lengths in one": _replaced(b"Content-Length: ", b"Content-Length: 3, "),
    "content-length with a plus": _replaced(b"Content-Length: ", b"Content-Length: +"),
    "negative content-length": _replaced(b"Content-Length: ", b"Content-Length: -"),
    "hexadecimal content-length": _replaced(b"Content-Length: ", b"Content-Length: 0x"),
    "content-length and chunked": _header(b"transfer-encoding: chunked"),
    "content-length and Chunked": _header(b"Transfer-Encoding: Chunked"),
    "content-length and xchunked": _header(b"transfer-encoding: xchunked"),
    "content-length and chunked, identity": _header(b"transfer-encoding: chunked, identity"),
    "content-length and vertical tab chunked": _header(b"transfer-encoding: \x0bchunked"),
    "two transfer-encodings": _header(b"transfer-encoding: chunked\r\ntransfer-encoding: identity"),
    "two hosts": _header(b"host: evil.example"),
    "HTTP/1.0": _replaced(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.2": _replaced(b"HTTP/1.1", b"HTTP/1.2"),
    "HTTP/2.0 in HTTP/1": _replaced(b"HTTP/1.1", b"HTTP/2.0"),
    "no version": _replaced(b" HTTP/1.1", b""),
    "space in the target": _replaced(b"/knowledge/mcp", b"/knowledge/mcp /x"),
    "leading space": lambda data: b" " + data,
    "unfinished chunk size": lambda data: _replaced(
        b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked"
    )(data).replace(BODY, b"%x;ext\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "chunk size with 0x": lambda data: _replaced(
        b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked"
    )(data).replace(BODY, b"0x%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
}


@pytest.mark.parametrize("how", SMUGGLED)
def test_malformed_http_goes_nowhere(gateway: Stack, how: str) -> None:
    refused(gateway, SMUGGLED[how](good(gateway)))


@pytest.mark.parametrize(
    "between",
    [b"content-length: 0\r\ntransfer-encoding: chunked", b"transfer-encoding: chunked\r\ncontent-length: 4"],
)
def test_a_request_hidden_in_the_body_of_another_is_not_seen(gateway: Stack, between: bytes) -> None:
    hidden = good(gateway, "/presto/mcp")
    data = (
        good(gateway).replace(b"Content-Length: %d" % len(BODY), between).replace(BODY, b"0\r\n\r\n" + hidden)
    )
    assert len(refused(gateway, data)) <= 1


METHODS = [
    "TRACE",
    "TRACK",
    "CONNECT",
    "PUT",
    "PATCH",
    "HEAD",
    "PROPFIND",
    "post",
    "Post",
    "POST_",
    "DEBUG",
    "*",
]


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_go_nowhere(gateway: Stack, method: str) -> None:
    refused(gateway, good(gateway).replace(b"POST", method.encode(), 1))


@pytest.mark.parametrize("method", ["TRACE", "PUT", "PATCH"])
def test_another_method_is_refused_in_our_words(gateway: Stack, method: str) -> None:
    (answer,) = refused(gateway, good(gateway).replace(b"POST", method.encode(), 1))
    assert (answer.status, answer.reason) == (405, "http_method_not_allowed")
    assert answer.header("allow") == "POST, GET, DELETE, OPTIONS"


# hana may use knowledge and not presto: no spelling of a path may confuse the two.
PATHS = [
    "/presto/mcp",
    "//presto/mcp",
    "/presto//mcp",
    "///presto/mcp",
    "/./presto/mcp",
    "/x/../presto/mcp",
    "/healthz/../presto/mcp",
    "/healthz/..;/presto/mcp",
    "/healthz;/../presto/mcp",
    "/healthz/%2e%2e/presto/mcp",
    "/healthz/%2E%2E/presto/mcp",
    "/healthz/..%2fpresto/mcp",
    "/healthz%2f..%2fpresto%2fmcp",
    "/healthz/..%5cpresto/mcp",
    "/healthz\\..\\presto\\mcp",
    "/healthz/%252e%252e/presto/mcp",
    "/healthz?/../presto/mcp",
    "/healthz#/../presto/mcp",
    "/healthz/",
    "/healthz/x",
    "/healthz;x",
    "/healthz%00",
    "/HEALTHZ",
    "/.well-known/oauth-protected-resource/presto/mcp/../../../presto/mcp",
    "/.well-known/oauth-protected-resource/../../presto/mcp",
    "/.well-known/oauth-protected-resource/presto/mcp/x",
    "/knowledge/mcp/../../presto/mcp",
    "/knowledge/mcp/..;/..;/presto/mcp",
    "/knowledge/..;/presto/mcp",
    "/knowledge;/../presto/mcp",
    "/knowledge/mcp/x",
    "/knowledge/mcp/",
    "/knowledge/mcpx",
    "/knowledge",
    "/Knowledge/mcp",
    "/KNOWLEDGE/MCP",
    "/knowledge/MCP",
    "/knowledge%2Fmcp",
    "/knowledge%5Cmcp",
    "/presto%2Fmcp",
    "/presto/mcp%00",
    "/presto/mcp%0d%0a",
    "/presto/mcp;a=b",
    "/presto/mcp?server=knowledge",
    "/presto/mcp#/knowledge/mcp",
    "/presto;knowledge/mcp",
    "/%70resto/mcp",
    "/metrics",
    "/admin",
    "/",
    "*",
    "http://127.0.0.1/presto/mcp",
    "http://knowledge/presto/mcp",
    "https://127.0.0.1//presto/mcp",
    "//knowledge/mcp@127.0.0.1/presto/mcp",
    "http://127.0.0.1@evil.example/presto/mcp",
    "presto/mcp",
    "/" + "a" * 9000,
    "/" + "../" * 500 + "presto/mcp",
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:60])
def test_no_spelling_of_a_path_leads_past_the_check(gateway: Stack, path: str) -> None:
    token = gateway.forge.token("hana")
    with gateway.unreached():
        answers = gateway.users.exchange(good(gateway, path, token))
    assert [answer.status >= 400 for answer in answers] == [True], answers


@pytest.mark.parametrize(
    "path", ["/knowledge/mcp", "//knowledge//mcp", "/healthz/../knowledge/mcp", "/knowledge\\mcp"]
)
def test_a_path_that_is_normalized_is_still_checked(gateway: Stack, path: str) -> None:
    with gateway.unreached():
        answer = gateway.users.one(mcp.post(BODY, path, gateway.users.authority))
    assert (answer.status, answer.reason) == (401, "credentials_required")
    _, hit = gateway.reached(lambda: gateway.users.one(good(gateway, path)))
    assert hit.path == "/knowledge/mcp"


HOSTS = [
    "evil.example", "knowledge", "127.0.0.2", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "", "*",
    "localhost.evil.example", "[::1]", "127.0.0.1 evil", "127.0.0.1,evil.example",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_another_host_finds_no_server(gateway: Stack, host: str) -> None:
    data = mcp.post(BODY, "/knowledge/mcp", host, token=gateway.forge.token())
    (answer,) = refused(gateway, data)
    assert answer.status in (400, 404)
    if answer.status == 404:
        assert answer.reason == "host_unknown"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "localhost.", "LocalHost", "127.0.0.1", "127.0.0.1:99999"]
)
def test_a_host_in_another_spelling_is_checked_like_any(gateway: Stack, host: str) -> None:
    with gateway.unreached():
        answer = gateway.users.one(mcp.post(BODY, "/knowledge/mcp", host))
    assert answer.status in (401, 404), answer


def test_too_much_of_anything_is_refused(gateway: Stack) -> None:
    many = b"".join(b"x-%d: 1\r\n" % number for number in range(200)).rstrip()
    large = b"x-a: " + b"a" * 60_000
    for line in (many, large):
        (answer,) = refused(gateway, _header(line)(good(gateway)))
        assert (answer.status, answer.reason) == (431, "request_too_large")


def test_a_body_over_one_mebibyte_is_refused(gateway: Stack) -> None:
    body = json.dumps(mcp.call("search", text="x" * (1024 * 1024))).encode()
    data = mcp.post(body, "/knowledge/mcp", gateway.users.authority, token=gateway.forge.token())
    (answer,) = refused(gateway, data)
    assert (answer.status, answer.reason) == (413, "request_too_large")


def test_a_body_just_below_reaches_the_server_whole(gateway: Stack) -> None:
    body = json.dumps(mcp.call("search", text="x" * (1024 * 1024 - 2048))).encode()
    _, hit = gateway.reached(
        lambda: gateway.users.one(
            mcp.post(body, "/knowledge/mcp", gateway.users.authority, token=gateway.forge.token())
        )
    )
    assert hit.body == body


def test_a_chunked_body_is_judged_as_a_whole(gateway: Stack) -> None:
    """A decision never rests on the beginning of a body."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, bytes([byte])) for byte in BODY) + b"0\r\n\r\n"
    data = good(gateway).replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked")
    _, hit = gateway.reached(lambda: gateway.users.one(data.replace(BODY, chunks)))
    assert hit.body == BODY
    denied = good(gateway, "/presto/mcp", gateway.forge.token("hana"))
    denied = denied.replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked")
    (answer,) = refused(gateway, denied.replace(BODY, chunks))
    assert answer.reason == "group_not_allowed"


def test_trailers_bring_no_header_in(gateway: Stack) -> None:
    chunks = b"%x\r\n%s\r\n0\r\nx-forwarded-user: sso:root\r\nauthorization: x\r\n\r\n" % (len(BODY), BODY)
    data = good(gateway).replace(
        b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked\r\nTrailer: a"
    )
    _, hit = gateway.reached(lambda: gateway.users.one(data.replace(BODY, chunks)))
    assert hit.all("x-forwarded-user") == ["ana"]
    assert hit.all("authorization") == []


# HTTP/2


def _h2(gateway: Stack, *more: tuple[bytes, bytes], **pseudo: bytes) -> list[tuple[bytes, bytes]]:
    names = {"method": b"POST", "scheme": b"https", "authority": gateway.users.authority.encode(),
             "path": b"/knowledge/mcp"} | pseudo  # fmt: skip
    token = gateway.forge.token().encode()
    usual = [
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"),
        (b"mcp-protocol-version", mcp.LEGACY.encode()),
    ]
    if not any(name.lower() == b"authorization" for name, _ in more):
        usual.append((b"authorization", b"Bearer " + token))
    return [*((b":" + name.encode(), value) for name, value in names.items()), *usual, *more]


def test_http2_is_served(gateway: Stack) -> None:
    mark = gateway.upstream.mark()
    answer = gateway.users.http2(_h2(gateway), BODY)
    assert isinstance(answer, Answer), answer
    assert answer.status == 200
    assert len(gateway.upstream.since(mark)) == 1


HTTP2: dict[str, Callable[[Stack], list[tuple[bytes, bytes]]]] = {
    "underscore": lambda g: _h2(g, (b"x_forwarded_user", b"sso:root")),
    "upper case": lambda g: _h2(g, (b"X-Forwarded-User", b"sso:root")),
    "two tokens": lambda g: _h2(g, (b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")),
    "connection": lambda g: _h2(g, (b"connection", b"keep-alive")),
    "transfer-encoding": lambda g: _h2(g, (b"transfer-encoding", b"chunked")),
    "newline in a value": lambda g: _h2(g, (b"x-a", b"1\r\nx-forwarded-user: sso:root")),
    "colon in a name": lambda g: _h2(g, (b"x-a: 1", b"1")),
    "late pseudo-header": lambda g: _h2(g, (b":path", b"/presto/mcp")),
    "unknown pseudo-header": lambda g: _h2(g, (b":user", b"sso:root")),
    "wrong content-length": lambda g: _h2(g, (b"content-length", b"3")),
    "another host header": lambda g: _h2(g, (b"host", b"evil.example"), authority=b"evil.example"),
    "empty path": lambda g: _h2(g, path=b""),
    "absolute path": lambda g: _h2(g, path=b"https://127.0.0.1/presto/mcp"),
    "path with a space": lambda g: _h2(g, path=b"/knowledge/mcp HTTP/1.1"),
    "TRACE": lambda g: _h2(g, method=b"TRACE"),
    "CONNECT": lambda g: _h2(g, method=b"CONNECT"),
    "method with a space": lambda g: _h2(g, method=b"POST /presto/mcp"),
    "websocket": lambda g: _h2(g, (b":protocol", b"websocket"), method=b"CONNECT"),
}


@pytest.fixture(scope="module")
def answers(gateway: Stack) -> dict[str, Answer | str]:
    """All of them at once: before Envoy closes a connection that went wrong it waits for a second."""
    with gateway.unreached(), ThreadPoolExecutor(len(HTTP2)) as pool:
        asked = {how: pool.submit(gateway.users.http2, HTTP2[how](gateway), BODY) for how in HTTP2}
        return {how: future.result() for how, future in asked.items()}


@pytest.mark.parametrize("how", HTTP2)
def test_malformed_http2_goes_nowhere(answers: dict[str, Answer | str], how: str) -> None:
    answer = answers[how]
    assert isinstance(answer, str) or answer.status >= 400, answer


# What needs no token


def _get(gateway: Stack, path: str, *headers: tuple[str, str], method: str = "GET") -> Answer:
    return gateway.users.one(request(method, path, gateway.users.authority, headers))


def test_metadata_of_the_resource_needs_no_token(gateway: Stack) -> None:
    with gateway.unreached():
        answer = _get(gateway, "/.well-known/oauth-protected-resource/presto/mcp")
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert answer.json == {
        "resource": gateway.resource("presto"),
        "authorization_servers": ["https://sso.corp.example"],
        "bearer_methods_supported": ["header"],
    }


def test_a_preflight_needs_no_token(gateway: Stack) -> None:
    asked = [
        ("Origin", "https://chat.corp.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type,mcp-protocol-version"),
    ]
    with gateway.unreached():
        answer = _get(gateway, "/presto/mcp", *asked, method="OPTIONS")
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") == "https://chat.corp.example"
    assert "authorization" in (answer.header("access-control-allow-headers") or "")
    assert answer.header("access-control-allow-credentials") is None


@pytest.mark.parametrize("origin", ["https://evil.example", "https://chat.corp.example.evil.example", "null"])
def test_a_preflight_of_another_origin_is_told_nothing(gateway: Stack, origin: str) -> None:
    asked = [("Origin", origin), ("Access-Control-Request-Method", "POST")]
    with gateway.unreached():
        answer = _get(gateway, "/presto/mcp", *asked, method="OPTIONS")
    assert answer.header("access-control-allow-origin") is None


def test_options_that_is_no_preflight_is_refused(gateway: Stack) -> None:
    with gateway.unreached():
        answer = _get(gateway, "/presto/mcp", method="OPTIONS")
    assert answer.status >= 400


def test_a_refusal_can_be_read_by_the_chat_page(gateway: Stack) -> None:
    with gateway.unreached():
        answer = gateway.post(mcp.call("search"), headers=[("Origin", "https://chat.corp.example")])
    assert answer.status == 401
    assert answer.header("access-control-allow-origin") == "https://chat.corp.example"
    assert "www-authenticate" in (answer.header("access-control-expose-headers") or "")


def test_whatever_is_free_of_the_check_is_one_exact_path_that_envoy_answers_itself(gateway: Stack) -> None:
    """Read from what Envoy runs with, not from what was meant to be sent to it."""
    dump = observe.fetch(
        f"http://{gateway.plan.local.envoy_admin}/config_dump?resource=dynamic_route_configs"
    )
    routes = [
        (host, route)
        for config in json.loads(dump or b"{}")["configs"]
        for host in config["route_config"]["virtual_hosts"]
        for route in host["routes"]
    ]
    assert len(routes) > 10
    free = [route for _, route in routes if _is_free(route)]
    assert free
    for route in free:
        assert "direct_response" in route, route["match"]
        exact = "path" in route["match"]
        refusal = route["direct_response"]["status"] >= 400
        assert exact or refusal, route["match"]
    assert all("*" not in host["domains"] for host, _ in routes)


def _is_free(route: dict[str, Any]) -> bool:
    config = route.get("typed_per_filter_config", {}).get("envoy.filters.http.ext_authz", {})
    return bool(config.get("disabled")) or "FilterConfig" in config.get("@type", "")


def test_envoys_own_refusals_are_ours_to_read(gateway: Stack) -> None:
    """Whatever is refused before ext_authz is asked has the same form, and a reason of the one table."""
    token = gateway.forge.token()
    cases = [
        good(gateway).replace(b"POST", b"PUT", 1),
        mcp.post(BODY, "/knowledge/mcp", "evil.example", token=token),
        mcp.post(b"[]", "/knowledge/mcp", gateway.users.authority, token=token),
        mcp.post(b"{", "/knowledge/mcp", gateway.users.authority, token=token),
        _header(b"x_a: 1")(good(gateway)),
        good(gateway, "/knowledge%2fmcp"),
    ]
    for data in cases:
        (answer,) = refused(gateway, data)
        error = answer.error
        assert REASONS[error["data"]["reason"]].status == answer.status or answer.status in (400, 431)
        assert error["data"]["help"]
        assert "request_id" in error["data"]  # null where not even the headers could be read

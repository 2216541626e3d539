"""What security.md lists, through a real Envoy: with an ext_authz that allows everything, nothing forged and
nothing malformed reaches the server, and Envoy's own refusals say why."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import httpx
import pytest

from extauthz.wire import ext_authz_pb2 as wire
from pdp import headers
from tests.support.envoy import eventually
from tests.xds import factory
from tests.xds.gate import LIST_TOOLS, MCP, RULES, Gate, answers, reason, running_gate
from tests.xds.neighbours import allow, deny, header

pytestmark = pytest.mark.e2e

BODY = json.dumps(LIST_TOOLS)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with running_gate(tmp_path_factory.mktemp("envoy")) as gate:
        gate.serve(
            factory.server("presto", RULES),
            factory.server("lapsed", RULES, in_force=factory.NEVER),
        )
        eventually(lambda: gate.call("/lapsed/mcp").status_code == 503, "both routes")
        yield gate


@pytest.fixture
def gate(running: Gate) -> Gate:
    running.reset()
    return running


def raw(gate: Gate, text: str | bytes) -> bytes:
    """Send these very bytes; the whole answer."""
    data = text.encode() if isinstance(text, str) else text
    address = gate.deployment.users.address
    with socket.create_connection((address.host, address.port), timeout=5) as connection:
        connection.sendall(data)
        answer = b""
        while not _complete(answer) and (chunk := connection.recv(65536)):
            answer += chunk
        return answer


def _complete(answer: bytes) -> bool:
    """Whether that is all of it: Envoy closes a second later."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(separator) and length is not None and len(body) >= int(length[1])


def request(method: str, path: str, *lines: str, host: str = "127.0.0.1", body: str = BODY) -> str:
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *lines]
    head += [f"{name.title()}: {value}" for name, value in MCP.items()]
    head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head) + "\r\n\r\n" + body


FORGED = (
    *headers.FORWARDED,
    headers.DECISION,
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-client-cert",
    "x-forwarded-anything",
    "forwarded",
    "x-original-url",
    "x-original-host",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-real-ip",
    "true-client-ip",
    "x-envoy-original-path",
    "x-envoy-retry-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-decorator-operation",
    "x-gatehouse-anything",
    "proxy",
)


@pytest.mark.parametrize("name", FORGED)
def test_an_empty_allow_lets_nothing_forged_in(gate: Gate, name: str) -> None:
    shouted = "-".join(part.capitalize() for part in name.split("-"))
    answer = raw(gate, request("POST", "/presto/mcp", f"{shouted}: forged", f"{name}: forged again"))
    assert answer.startswith(b"HTTP/1.1 200")
    (hit,) = gate.upstream.hits
    assert not any("forged" in value for _, value in hit.headers), hit.headers
    (asked,) = gate.authz.requests
    seen = asked.attributes.request.http.header_map.headers
    assert not any(b"forged" in one.raw_value for one in seen)


@pytest.mark.parametrize("name", ["x_forwarded_user", "X_Forwarded_For", "x-forwarded_user", "any_thing"])
def test_underscores_in_header_names_are_refused(gate: Gate, name: str) -> None:
    answer = raw(gate, request("POST", "/presto/mcp", f"{name}: forged"))
    assert answer.startswith(b"HTTP/1.1 400")
    assert gate.upstream.hits == []


def test_what_ext_authz_sets_arrives_once_and_overwrites(gate: Gate) -> None:
    ok = wire.OkHttpResponse(headers_to_remove=["authorization", "x-mcp-channel"])
    for name in headers.FORWARDED:
        ok.headers.append(header(name, "" if name == headers.ROLES else f"set-{name}"))
    gate.authz.answer = lambda _: wire.CheckResponse(ok_response=ok)
    forged = dict.fromkeys(headers.FORWARDED, "root")
    gate.call(headers={**forged, "authorization": "Bearer secret", "x-mcp-channel": "C1"})
    (hit,) = gate.upstream.hits
    for name in headers.FORWARDED:
        assert hit.values(name) == ["" if name == headers.ROLES else f"set-{name}"]
    assert hit.values("authorization") == hit.values("x-mcp-channel") == []


@pytest.mark.parametrize("name", ["x-forwarded-host", "x-forwarded-for", "x-evil", ":path", ":authority"])
def test_ext_authz_itself_can_set_nothing_else(gate: Gate, name: str) -> None:
    ok = wire.OkHttpResponse(headers=[header(name, "evil")])
    gate.authz.answer = lambda _: wire.CheckResponse(ok_response=ok)
    gate.call()
    for hit in gate.upstream.hits:
        assert "evil" not in hit.path
        assert not any("evil" in value for _, value in hit.headers)


@pytest.mark.parametrize("method", ["TRACE", "PUT", "PATCH", "HEAD", "CONNECT", "FOO", "post", "PROPFIND"])
def test_other_methods_reach_nobody(gate: Gate, method: str) -> None:
    answer = raw(gate, request(method, "/presto/mcp"))
    assert answer.split(b" ", 2)[1] in (b"400", b"403", b"404", b"405"), answer
    assert gate.upstream.hits == []
    assert gate.authz.requests == [] or method == "CONNECT"


def test_a_refused_method_says_which_there_are(gate: Gate) -> None:
    response = httpx.put(f"{gate.url}/presto/mcp")
    assert (response.status_code, reason(response)) == (405, "http_method_not_allowed")
    assert response.headers["allow"] == "POST, GET, DELETE, OPTIONS"


@pytest.mark.parametrize(
    "path",
    [
        "/healthz/../presto/mcp",
        "/healthz/%2e%2e/presto/mcp",
        "/healthz/..%2fpresto/mcp",
        "/healthz/..;/presto/mcp",
        "/healthz;/../presto/mcp",
        "/healthz//../presto/mcp",
        "/.well-known/oauth-protected-resource/presto/mcp/../../../../presto/mcp",
        "//presto/mcp",
        "/presto//mcp",
        "/presto/./mcp",
        "/presto%2fmcp",
        "/presto%5cmcp",
        "/presto\\mcp",
        "/presto/mcp/",
        "/presto/mcp/x",
        "/presto/mcp;x=1",
        "/presto/mcp%00",
        "/PRESTO/mcp",
        "/presto/mcp#/healthz",
        "http://127.0.0.1/presto/mcp",
        "http://elsewhere.example/presto/mcp",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_no_path_gets_round_the_check(gate: Gate, path: str, method: str) -> None:
    """A path either is a server's own after normalization, and checked as it, or reaches nobody."""
    gate.authz.answer = deny(403, "{}")
    raw(gate, request(method, path))
    assert gate.upstream.hits == []
    gate.authz.answer = allow
    raw(gate, request(method, path))
    for _ in gate.upstream.hits:
        assert gate.authz.requests[-1].attributes.context_extensions["server"] == "presto"


@pytest.mark.parametrize("host", ["evil.example", "presto", "10.0.0.1", "", "127.0.0.1.evil.example", "*"])
def test_an_unknown_host_finds_nothing_and_is_told_so(gate: Gate, host: str) -> None:
    answer = raw(gate, request("POST", "/presto/mcp", host=host))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), answer
    if head.startswith(b"HTTP/1.1 404"):
        assert json.loads(body)["error"]["data"]["reason"] == "host_unknown"
    assert gate.upstream.hits == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8443", "127.0.0.1.", "localhost", "LOCALHOST:1"])
def test_known_hosts_with_any_port_and_a_trailing_dot(gate: Gate, host: str) -> None:
    assert raw(gate, request("POST", "/presto/mcp", host=host)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "broken",
    [
        b"POST /presto/mcp HTTP/1.1\nHost: 127.0.0.1\n\n",
        b"POST /presto/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        b"POST /presto/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\nContent-Length: 0\r\n\r\n",
        b"POST /presto/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"POST /presto/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /presto/mcp HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n",
        b"POST /presto/mcp HTTP/1.1\r\n\r\n",
    ],
    ids=["bare LF", "obs-fold", "two hosts", "CL and TE", "two lengths", "HTTP/1.0", "no host"],
)
def test_broken_http_reaches_nobody(gate: Gate, broken: bytes) -> None:
    address = gate.deployment.users.address
    with socket.create_connection((address.host, address.port), timeout=5) as connection:
        connection.sendall(broken)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    assert not answer.startswith(b"HTTP/1.1 2"), answer
    assert gate.upstream.hits == []


def test_too_many_headers_and_too_large_ones(gate: Gate) -> None:
    many = [f"X-H{number}: 1" for number in range(150)]
    assert raw(gate, request("POST", "/presto/mcp", *many)).split(b" ", 2)[1] in (b"431", b"400")
    assert b" 431 " in raw(gate, request("POST", "/presto/mcp", "X-Large: " + "x" * 60_000))[:40]
    assert gate.upstream.hits == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ('[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]', 400, "malformed_body"),
        ('{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list"}', 400, "malformed_body"),
        ('{"jsonrpc":"2.0","id":1,"method":"tools/list"', 400, "malformed_body"),
        ('{"id":1,"method":"tools/list"}', 400, "malformed_body"),
        ("hello", 400, "malformed_body"),
        ('{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":"' + "y" * 1_100_000 + '"}}', 413, ""),
    ],
    ids=["batch", "duplicate keys", "cut short", "no version", "no JSON", "too large"],
)
def test_a_body_that_is_not_one_message_is_refused(gate: Gate, body: str, status: int, code: str) -> None:
    response = httpx.post(f"{gate.url}/presto/mcp", content=body, headers=MCP)
    assert response.status_code == status, response.text
    assert reason(response) == (code or "request_too_large")
    assert gate.upstream.hits == gate.authz.requests == []


def test_a_body_of_nearly_a_mebibyte_passes(gate: Gate) -> None:
    body = {**LIST_TOOLS, "params": {"x": "y" * 1_000_000}}
    response = httpx.post(f"{gate.url}/presto/mcp", json=body, headers=MCP)
    assert response.status_code == 200
    assert json.loads(gate.upstream.hits[0].body) == body


def test_what_is_no_mcp_is_refused(gate: Gate) -> None:
    response = httpx.get(f"{gate.url}/presto/mcp", headers={"accept": "text/html"})
    assert (response.status_code, reason(response)) == (400, "malformed_body")
    assert httpx.get(f"{gate.url}/presto/mcp", headers={"accept": "text/event-stream"}).status_code == 200


class TestWithoutCheck:
    """The few exact paths that Envoy answers by itself."""

    def test_health(self, gate: Gate) -> None:
        assert answers(gate)
        assert gate.authz.requests == gate.upstream.hits == []

    @pytest.mark.parametrize("server", ["presto", "lapsed"])
    def test_protected_resource_metadata(self, gate: Gate, server: str) -> None:
        response = httpx.get(f"{gate.url}/.well-known/oauth-protected-resource/{server}/mcp")
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        assert response.json() == {
            "resource": f"{gate.url}/{server}/mcp",
            "authorization_servers": ["https://sso.corp.example"],
            "bearer_methods_supported": ["header"],
        }
        assert gate.authz.requests == []

    @pytest.mark.parametrize(
        "path", ["/.well-known/oauth-protected-resource/ghost/mcp", "/healthz/", "/healthzz", "/nowhere"]
    )
    def test_anything_beside_is_asked_about(self, gate: Gate, path: str) -> None:
        assert reason(gate.call(path)) == "host_unknown"
        (asked,) = gate.authz.requests
        assert dict(asked.attributes.context_extensions) == {"listener": "users"}


class TestCors:
    ORIGIN = "https://chat.corp.example"

    def preflight(self, gate: Gate, origin: str) -> httpx.Response:
        asked = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,mcp-protocol-version",
        }
        return httpx.options(f"{gate.url}/presto/mcp", headers=asked)

    def test_preflight_needs_no_token(self, gate: Gate) -> None:
        response = self.preflight(gate, self.ORIGIN)
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == self.ORIGIN
        assert "authorization" in response.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in response.headers
        assert gate.authz.requests == gate.upstream.hits == []

    def test_another_origin_is_allowed_nothing(self, gate: Gate) -> None:
        response = self.preflight(gate, "https://evil.example")
        assert "access-control-allow-origin" not in response.headers
        assert gate.upstream.hits == []

    def test_refusals_are_readable_too(self, gate: Gate) -> None:
        gate.authz.answer = deny(401, "{}")
        response = gate.call(headers={"origin": self.ORIGIN})
        assert response.headers["access-control-allow-origin"] == self.ORIGIN
        exposed = response.headers["access-control-expose-headers"]
        assert {"mcp-session-id", "www-authenticate"} <= {name.strip() for name in exposed.split(",")}


class TestOthersBodies:
    """Only Envoy's own refusals get our body."""

    def test_a_denial_of_ext_authz_passes_as_it_is(self, gate: Gate) -> None:
        gate.authz.answer = deny(403, '{"from":"ext_authz"}')
        response = gate.call()
        assert (response.status_code, response.text) == (403, '{"from":"ext_authz"}')
        assert gate.upstream.hits == []

    @pytest.mark.parametrize("status", [400, 403, 404, 413, 500, 503])
    def test_an_error_of_the_server_passes_as_it_is(self, gate: Gate, status: int) -> None:
        gate.upstream.status, gate.upstream.body = status, b'{"from":"server"}'
        response = gate.call()
        assert (response.status_code, response.text) == (status, '{"from":"server"}')


class TestAccessLog:
    def test_it_carries_the_decision(self, gate: Gate) -> None:
        def answer(_: wire.CheckRequest) -> wire.CheckResponse:
            made = wire.CheckResponse()
            made.dynamic_metadata.update({"decision_id": "d-1", "decision": "allow", "reason": "logged"})
            return made

        gate.authz.answer = answer
        response = gate.call()
        row = logged(gate, response)
        assert (row["decision_id"], row["decision"], row["reason"]) == ("d-1", "allow", "logged")
        assert (row["status"], row["listener"], row["route"], row["mcp_method"]) == (
            200, "users", "presto/mcp", "tools/list",
        )  # fmt: skip

    def test_it_holds_no_credential(self, gate: Gate) -> None:
        secret = {"authorization": "Bearer SECRET1", "cookie": "a=SECRET2", "x-mcp-channel": "SECRET3"}
        row = logged(gate, gate.call("/presto/mcp?access_token=SECRET4", headers=secret))
        assert row["path"] == "/inner/mcp"
        assert gate.envoy is not None
        assert "SECRET" not in gate.envoy.log_text()


def logged(gate: Gate, response: httpx.Response) -> dict[str, object]:
    assert gate.envoy is not None
    envoy, wanted = gate.envoy, response.headers["x-request-id"]

    def find() -> dict[str, object] | None:
        return next((row for row in envoy.access_log() if row.get("request_id") == wanted), None)

    return eventually(find, "the line in the access log")


def test_a_request_id_of_the_client_is_not_taken_over(gate: Gate) -> None:
    response = gate.call(headers={"x-request-id": "mine"})
    assert response.headers["x-request-id"] != "mine"


def test_cookies_do_not_reach_ext_authz(gate: Gate) -> None:
    gate.call(headers={"cookie": "session=1"})
    seen = gate.authz.requests[0].attributes.request.http.header_map.headers
    assert "cookie" not in {one.key for one in seen}


def test_duplicate_headers_reach_ext_authz_apart(gate: Gate) -> None:
    raw(gate, request("POST", "/presto/mcp", "X-Mcp-Channel: C1", "X-Mcp-Channel: C2"))
    seen = gate.authz.requests[0].attributes.request.http.header_map.headers
    assert [one.raw_value for one in seen if one.key == "x-mcp-channel"] == [b"C1", b"C2"]


def test_ext_authz_down_is_unavailable_and_never_an_allow_and_over_in_two_seconds(gate: Gate) -> None:
    gate.authz.kill()
    for _ in range(3):
        response = gate.call()
        assert (response.status_code, reason(response)) == (503, "check_unavailable")
    assert gate.upstream.hits == []
    gate.authz.start()
    eventually(lambda: gate.call().status_code == 200, "checks again", deadline=2.0)


def test_ext_authz_that_hangs_is_cut_off(gate: Gate) -> None:
    import threading

    release = threading.Event()

    def hang(_: wire.CheckRequest) -> wire.CheckResponse:
        release.wait(5)
        return wire.CheckResponse()

    gate.authz.answer = hang
    response = gate.call()
    release.set()
    assert (response.status_code, reason(response)) == (503, "check_unavailable")
    assert gate.upstream.hits == []


def test_a_server_that_is_down_says_so(gate: Gate) -> None:
    where = gate.deployment.endpoints["presto"]
    from tests.support.envoy import free_port

    gate.place("presto", factory.endpoint(free_port()))
    gate.serve(factory.server("presto", RULES))
    try:
        response = eventually(lambda: ((r := gate.call()).status_code == 503 and r) or None, "down")
        assert reason(response) == "server_unavailable"
    finally:
        gate.place("presto", where)
        gate.serve(factory.server("presto", RULES), factory.server("lapsed", RULES, in_force=factory.NEVER))
        eventually(lambda: gate.call().status_code == 200, "up again")

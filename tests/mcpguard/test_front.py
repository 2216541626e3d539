"""Everything that is not a verified, well-formed, allowed call ends at the door, and no tool runs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from identity.assertion import Minter
from identity.signing import generate_signing_key
from tests.mcpguard.running import LEGACY, MODERN, Running, legacy, modern, reason
from tests.mcpguard.toy import Toy
from tests.mcpguard.world import EVA, SAM, assertion

ID = "x-forwarded-identity"


@pytest.fixture(autouse=True)
def _no_tool_ran(toy: Toy) -> Any:
    toy.ran.clear()
    yield
    assert not toy.ran


def raw(
    server: Running, headers: list[tuple[str, str]], body: bytes | dict[str, Any], method: str = "POST"
) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    base = [("accept", "application/json, text/event-stream"), ("content-type", "application/json")]
    names = {name for name, _ in headers}
    base = [(name, value) for name, value in base if name not in names]
    return server.http.request(method, f"{server.url}/mcp", content=content, headers=base + headers)


CALL = modern("tools/call", {"name": "open_tool", "arguments": {}})
MODERN_CALL = [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "open_tool")]


class TestIdentity:
    def test_around_envoy(self, server: Running) -> None:
        forged = [
            ("x-forwarded-user", "sso:eva"),
            ("x-forwarded-groups", "ads-eng"),
            ("x-forwarded-surface", "ide"),
            ("authorization", "Bearer e30.e30.e30"),
        ]
        answer = raw(server, MODERN_CALL + forged, CALL)
        assert (answer.status_code, reason(answer)) == (401, "identity_required")
        assert answer.json()["error"]["code"] == -32001
        assert answer.json()["id"] is None

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    def test_around_envoy_without_a_body(self, server: Running, method: str) -> None:
        answer = raw(server, [("mcp-session-id", "x")], b"", method)
        assert (answer.status_code, reason(answer)) == (401, "identity_required")

    def test_for_another_server(self, server: Running) -> None:
        text = server.mint(assertion(server="presto"))
        answer = raw(server, [*MODERN_CALL, (ID, text)], CALL)
        assert (answer.status_code, reason(answer)) == (401, "identity_invalid")

    @pytest.mark.parametrize("age", [70, 3600, -60])
    def test_expired_or_of_the_future(self, server: Running, age: int) -> None:
        text = server.mint(assertion(SAM, channel_id=f"age{age}"), now=time.time() - age)
        answer = raw(server, [*MODERN_CALL, (ID, text)], CALL)
        assert (answer.status_code, reason(answer)) == (401, "identity_invalid")

    def test_signed_by_somebody_else(self, server: Running) -> None:
        text = Minter(generate_signing_key()).mint(assertion(), time.time())
        answer = raw(server, [*MODERN_CALL, (ID, text)], CALL)
        assert (answer.status_code, reason(answer)) == (401, "identity_invalid")

    @pytest.mark.parametrize("text", ["x", "a.b.c", "e30.e30.", "null", "." * 9])
    def test_garbage(self, server: Running, text: str) -> None:
        answer = raw(server, [*MODERN_CALL, (ID, text)], CALL)
        assert (answer.status_code, reason(answer)) == (401, "identity_invalid")

    def test_two_copies(self, server: Running) -> None:
        text = server.mint(assertion())
        answer = raw(server, [*MODERN_CALL, (ID, text), (ID, text)], CALL)
        assert (answer.status_code, reason(answer)) == (400, "malformed_header")

    def test_empty(self, server: Running) -> None:
        assert reason(raw(server, [*MODERN_CALL, (ID, "")], CALL)) == "identity_required"

    def test_a_token_that_has_ended_meanwhile(self, server: Running) -> None:
        text = server.mint(assertion(EVA, expires_in=-31))
        answer = raw(server, [*MODERN_CALL, (ID, text)], CALL)
        assert (answer.status_code, reason(answer)) == (401, "token_expired")


class TestHeadersAgainstBody:
    @pytest.mark.parametrize("version", [MODERN, LEGACY, "2025-03-26", "2027-01-01", "nonsense", None])
    @pytest.mark.parametrize(
        "lie",
        [
            {"mcp-method": "tools/list"},
            {"mcp-method": "Tools/Call"},
            {"mcp-name": "eng_tool"},
            {"mcp-name": "=?base64?ZW5nX3Rvb2w=?="},
            {"mcp-name": "=?base64?b3Blbl90b29s"},
            {"mcp-name": "=?base64?!!?="},
            {"mcp-name": "=?base64?b3Blbl90b29t?="},
            {"mcp-name": ""},
        ],
    )
    def test_a_lie_is_refused_in_every_version(
        self, server: Running, version: str | None, lie: dict[str, str]
    ) -> None:
        headers = {"mcp-method": "tools/call", "mcp-name": "open_tool"} | lie
        if version is not None:
            headers["mcp-protocol-version"] = version
        body = legacy("tools/call", {"name": "open_tool", "arguments": {}})
        answer = raw(server, [*headers.items(), (ID, server.mint(assertion()))], body)
        assert (answer.status_code, reason(answer)) == (400, "malformed_mcp")
        assert answer.json()["error"]["code"] == -32020
        assert answer.json()["id"] == 1

    @pytest.mark.parametrize("missing", ["mcp-method", "mcp-name"])
    def test_they_are_mandatory_in_2026(self, server: Running, missing: str) -> None:
        headers = [(name, value) for name, value in MODERN_CALL if name != missing]
        answer = raw(server, [*headers, (ID, server.mint(assertion()))], CALL)
        assert (answer.status_code, reason(answer)) == (400, "malformed_mcp")

    @pytest.mark.parametrize("version", [LEGACY, None, "2027-01-01"])
    def test_another_version_in_the_body(self, server: Running, version: str | None) -> None:
        headers = [("mcp-method", "tools/call"), ("mcp-name", "open_tool")]
        if version:
            headers.append(("mcp-protocol-version", version))
        answer = raw(server, [*headers, (ID, server.mint(assertion()))], CALL)
        assert reason(answer) == "malformed_mcp"

    @pytest.mark.parametrize(
        "name", ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id", "content-type"]
    )
    def test_a_header_twice(self, server: Running, name: str) -> None:
        headers = [*MODERN_CALL, (ID, server.mint(assertion())), ("content-type", "application/json")]
        value = dict(headers).get(name, "x")
        twice = (
            [*headers, (name, value)] if name in dict(headers) else [*headers, (name, value), (name, value)]
        )
        answer = raw(server, twice, CALL)
        assert (answer.status_code, reason(answer)) == (400, "malformed_header")

    def test_the_measured_bypass(self, server: Running) -> None:
        """The SDK takes the older era from the version header, and there ignores what Mcp-Method says."""
        headers = [("mcp-protocol-version", LEGACY), ("mcp-method", "tools/list")]
        body = legacy("tools/call", {"name": "open_tool", "arguments": {}})
        assert reason(raw(server, [*headers, (ID, server.mint(assertion()))], body)) == "malformed_mcp"

    def test_an_unknown_version_is_told_which_there_are(self, server: Running) -> None:
        body = modern("tools/call", {"name": "open_tool", "arguments": {}})
        body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2027-01-01"
        headers = [("mcp-protocol-version", "2027-01-01"), *MODERN_CALL[1:]]
        answer = raw(server, [*headers, (ID, server.mint(assertion()))], body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32022)


def _shapes() -> dict[str, bytes]:
    call = '"jsonrpc":"2.0","id":1,"method":"tools/call"'
    params = '"params":{"name":"open_tool","arguments":{}}'
    deep = "[" * 70 + "]" * 70
    return {
        "empty": b"",
        "cut": f"{{{call},{params}".encode(),
        "batch": f"[{{{call},{params}}}]".encode(),
        "empty batch": b"[]",
        "scalar": b"1",
        "duplicate method": f'{{"method":"tools/list",{call},{params}}}'.encode(),
        "duplicate name": f'{{{call},"params":{{"name":"x","name":"open_tool"}}}}'.encode(),
        "duplicate deep": (
            f'{{{call},"params":{{"name":"open_tool","arguments":{{"a":[{{"b":1,"b":2}}]}}}}}}'.encode()
        ),
        "duplicate by escape": f'{{"m\\u0065thod":"tools/list",{call},{params}}}'.encode(),
        "NaN": f'{{{call},"params":{{"name":"open_tool","arguments":{{"a":NaN}}}}}}'.encode(),
        "Infinity": f'{{{call},"params":{{"name":"open_tool","arguments":{{"a":-Infinity}}}}}}'.encode(),
        "1e999": f'{{{call},"params":{{"name":"open_tool","arguments":{{"a":1e999}}}}}}'.encode(),
        "deep": f'{{{call},"params":{{"name":"open_tool","arguments":{{"a":{deep}}}}}}}'.encode(),
        "very deep": b"[" * 100_000,
        "BOM": f"\ufeff{{{call},{params}}}".encode(),
        "UTF-16": f"{{{call},{params}}}".encode("utf-16"),
        "latin-1": f'{{{call},"params":{{"name":"open_tool","arguments":{{"a":"ü"}}}}}}'.encode("latin-1"),
        "lone surrogate": f'{{{call},"params":{{"name":"open_tool\\ud800"}}}}'.encode(),
        "comment": f"{{/**/{call},{params}}}".encode(),
        "trailing comma": f"{{{call},{params},}}".encode(),
        "two documents": f"{{{call},{params}}} {{{call},{params}}}".encode(),
        "result beside method": f'{{{call},{params},"result":{{}}}}'.encode(),
        "error beside method": f'{{{call},{params},"error":{{"code":1,"message":"x"}}}}'.encode(),
        "another member": f'{{{call},{params},"Method":"tools/list"}}'.encode(),
        "jsonrpc 1": f'{{"jsonrpc":"1.0","id":1,"method":"tools/call",{params}}}'.encode(),
        "no jsonrpc": f'{{"id":1,"method":"tools/call",{params}}}'.encode(),
        "id null": f'{{"jsonrpc":"2.0","id":null,"method":"tools/call",{params}}}'.encode(),
        "id float": f'{{"jsonrpc":"2.0","id":1.5,"method":"tools/call",{params}}}'.encode(),
        "id true": f'{{"jsonrpc":"2.0","id":true,"method":"tools/call",{params}}}'.encode(),
        "id list": f'{{"jsonrpc":"2.0","id":[1],"method":"tools/call",{params}}}'.encode(),
        "method number": f'{{"jsonrpc":"2.0","id":1,"method":5,{params}}}'.encode(),
        "params list": f'{{{call},"params":["open_tool"]}}'.encode(),
        "name number": f'{{{call},"params":{{"name":5}}}}'.encode(),
        "name missing": f'{{{call},"params":{{}}}}'.encode(),
        "neither": b'{"jsonrpc":"2.0","id":1}',
        "answer without id": b'{"jsonrpc":"2.0","result":{}}',
        "answer with both": b'{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"x"}}',
        "answer with params": b'{"jsonrpc":"2.0","id":1,"result":{},"params":{}}',
        "too long": b'{"a":"' + b"x" * (1024 * 1024) + b'"}',
    }


@pytest.mark.parametrize("shape", _shapes())
@pytest.mark.parametrize("version", [MODERN, LEGACY])
def test_a_body_that_two_readers_could_read_differently(server: Running, shape: str, version: str) -> None:
    headers = [("mcp-protocol-version", version), *(MODERN_CALL[1:] if version == MODERN else [])]
    answer = raw(server, [*headers, (ID, server.mint(assertion()))], _shapes()[shape])
    assert (answer.status_code, reason(answer)) == (400, "malformed_body")
    assert answer.json()["error"]["code"] == -32600


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_body_where_none_belongs(server: Running, method: str) -> None:
    """Nobody at the edge reads it, and whoever reads it here would run it."""
    headers = [("mcp-protocol-version", LEGACY), ("mcp-session-id", "x"), (ID, server.mint(assertion()))]
    body = json.dumps(legacy("tools/call", {"name": "open_tool", "arguments": {}})).encode()
    answer = raw(server, headers, body, method)
    assert (answer.status_code, reason(answer)) == (400, "malformed_body")


@pytest.mark.parametrize("method", ["GET", "DELETE", "__jsonrpc_response"])
def test_a_message_that_poses_as_none(server: Running, method: str) -> None:
    headers = [("mcp-protocol-version", LEGACY), ("mcp-session-id", "x"), (ID, server.mint(assertion()))]
    assert reason(raw(server, headers, legacy(method, {}))) == "malformed_mcp"


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/jsonp", "application/x-www-form-urlencoded", ""]
)
def test_another_content_type(server: Running, content_type: str) -> None:
    headers = [*MODERN_CALL, (ID, server.mint(assertion())), ("content-type", content_type)]
    assert reason(raw(server, headers, CALL)) == "malformed_request"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "HEAD", "TRACE", "QUERY"])
def test_other_http_methods(server: Running, method: str) -> None:
    answer = raw(server, [*MODERN_CALL, (ID, server.mint(assertion()))], CALL, method)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "path", ["/", "/mcp/", "/%6dcp", "//mcp", "/healthz/../mcp", "/MCP", "/mcp;x", "/metrics/"]
)
def test_other_spellings_of_the_path(server: Running, path: str) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=10)
    headers = dict([*MODERN_CALL, (ID, server.mint(assertion())), ("content-type", "application/json")])
    connection.request("POST", path, json.dumps(CALL), headers)
    assert connection.getresponse().status == 404
    connection.close()


@pytest.mark.parametrize("method", ["tools/Call", "sampling/createMessage", "tasks/get", "", "x" * 10_000])
@pytest.mark.parametrize("version", [MODERN, LEGACY])
def test_methods_that_policy_does_not_know(server: Running, method: str, version: str) -> None:
    body = modern(method) if version == MODERN else legacy(method)
    headers = [("mcp-protocol-version", version)] + ([("mcp-method", method)] if version == MODERN else [])
    answer = raw(server, [*headers, (ID, server.mint(assertion()))], body)
    assert (answer.status_code, reason(answer)) == (403, "method_not_allowed")


class TestAnswers:
    BODY = b'{"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}'

    @pytest.mark.parametrize(
        ("headers", "code"),
        [
            ([("mcp-protocol-version", LEGACY)], "method_not_allowed"),
            ([("mcp-protocol-version", MODERN), ("mcp-session-id", "x")], "method_not_allowed"),
            ([], "method_not_allowed"),
            (
                [("mcp-protocol-version", LEGACY), ("mcp-session-id", "x"), ("mcp-method", "ping")],
                "malformed_mcp",
            ),
        ],
    )
    def test_only_where_there_is_a_session(
        self, server: Running, headers: list[tuple[str, str]], code: str
    ) -> None:
        assert reason(raw(server, [*headers, (ID, server.mint(assertion()))], self.BODY)) == code

    def test_only_of_a_user(self, server: Running) -> None:
        from tests.mcpguard.world import REPORT_BOT

        headers = [("mcp-protocol-version", LEGACY), ("mcp-session-id", "x")]
        who = assertion(None, workload=REPORT_BOT)
        assert reason(raw(server, [*headers, (ID, server.mint(who))], self.BODY)) == "method_not_allowed"


def test_a_page_that_rebinds_dns_has_no_assertion(server: Running) -> None:
    """Why the SDK's own look at Host and Origin is off: without the assertion nothing answers."""
    page = [("host", "evil.example"), ("origin", "https://evil.example")]
    answer = raw(server, MODERN_CALL + page, CALL)
    assert (answer.status_code, reason(answer)) == (401, "identity_required")


def test_a_decision_id_of_the_edge_is_kept(server: Running) -> None:
    headers = [*MODERN_CALL, ("x-gatehouse-decision", "ab" * 16)]
    assert raw(server, headers, CALL).json()["error"]["data"]["decision_id"] == "ab" * 16
    headers = [*MODERN_CALL, ("x-gatehouse-decision", "<script>" * 4)]
    assert "script" not in raw(server, headers, CALL).text


def test_health_and_metrics_need_no_identity(server: Running) -> None:
    assert server.http.get(f"{server.url}/healthz").text == "ok\n"
    assert "mcp_authz_decisions_total" in server.metrics()
    assert server.http.post(f"{server.url}/metrics").status_code == 404

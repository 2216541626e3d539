"""JSON-RPC and MCP: whatever the body asks for is what is judged, and two readings of it are refused."""

from __future__ import annotations

import base64
import json

import pytest

from identity.principal import JsonValue
from tests.e2e import mcp
from tests.e2e.forge import REPORT_BOT
from tests.e2e.stack import Stack
from tests.e2e.wire import Answer, request

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-gateway")]

FINANCE_MAY_NOT = "get_task_log"  # of airflow: fay may call list_dags only


def refused(
    gateway: Stack, message: mcp.Message, *, server: str = "airflow", headers: mcp.Headers = ()
) -> Answer:
    """fay, who may list DAGs, sends this; nothing of it reaches the server."""
    with gateway.unreached():
        return gateway.post(message, server=server, token=gateway.forge.token("fay"), headers=headers)


def test_what_fay_may_do_reaches_the_server(gateway: Stack) -> None:
    token = gateway.forge.token("fay")
    _, hit = gateway.reached(lambda: gateway.post(mcp.call("list_dags"), server="airflow", token=token))
    assert json.loads(hit.body)["params"]["name"] == "list_dags"


def test_what_she_may_not_does_not(gateway: Stack) -> None:
    answer = refused(gateway, mcp.call(FINANCE_MAY_NOT))
    assert (answer.status, answer.reason) == (403, "tool_not_in_rule")


def _call(rest: bytes, first: bytes = b'"method":"tools/call"') -> bytes:
    return b'{"jsonrpc":"2.0","id":1,%s,%s}' % (first, rest)


LOG = b'"params":{"name":"get_task_log"}'
DAGS = b'"params":{"name":"list_dags"}'
DUPLICATES = {
    "method": _call(LOG, b'"method":"tools/list","method":"tools/call"'),
    "method the other way": _call(LOG, b'"method":"tools/call","method":"tools/list"'),
    "escaped method": _call(LOG, b'"method":"tools/list","metho\\u0064":"tools/call"'),
    "params": _call(DAGS + b"," + LOG),
    "name": _call(b'"params":{"name":"list_dags","name":"get_task_log"}'),
    "escaped name": _call(b'"params":{"name":"list_dags","n\\u0061me":"get_task_log"}'),
    "id": _call(b'"id":2,' + DAGS),
    "jsonrpc": _call(b'"jsonrpc":"2.0",' + DAGS),
}


@pytest.mark.parametrize("which", DUPLICATES)
def test_a_key_that_stands_twice_is_refused(gateway: Stack, which: str) -> None:
    answer = refused(gateway, DUPLICATES[which])
    assert (answer.status, answer.reason) == (400, "malformed_body")


CALL = json.dumps(mcp.call("list_dags")).encode()
BROKEN = {
    "batch": b"[" + CALL + b"]",
    "batch of two": b"[" + CALL + b"," + CALL + b"]",
    "empty batch": b"[]",
    "batch behind white space": b" \n\t[" + CALL + b"]",
    "nothing": b"",
    "white space": b"   ",
    "empty object": b"{}",
    "text": b"tools/call",
    "number": b"1",
    "null": b"null",
    "half": CALL[:-5],
    "two messages": CALL + CALL,
    "two lines": CALL + b"\n" + CALL,
    "garbage behind": CALL + b"x",
    "garbage before": b"x" + CALL,
    "byte order mark": b"\xef\xbb\xbf" + CALL,
    "UTF-16": CALL.decode().encode("utf-16"),
    "comment": b"/* */" + CALL,
    "single quotes": CALL.replace(b'"', b"'"),
    "trailing comma": CALL[:-1] + b",}",
    "JSON-RPC 1.0": CALL.replace(b'"2.0"', b'"1.0"'),
    "no jsonrpc": b'{"id":1,"method":"tools/call","params":{"name":"list_dags"}}',
    "jsonrpc as a number": CALL.replace(b'"2.0"', b"2.0"),
    "method as a list": b'{"jsonrpc":"2.0","id":1,"method":["tools/call"],"params":{"name":"list_dags"}}',
    "method missing": b'{"jsonrpc":"2.0","id":1,"params":{"name":"list_dags"}}',
    "deep": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
    "params as a list": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["list_dags"]}',
}


FORGIVEN = ("single quotes", "trailing comma")
"""Envoy's JSON parser takes these, and reads what they say; mcpguard doesn't take them."""


@pytest.mark.parametrize("which", [name for name in BROKEN if name not in FORGIVEN])
def test_what_is_not_one_message_is_refused(gateway: Stack, which: str) -> None:
    answer = refused(gateway, BROKEN[which])
    assert answer.status == 400, answer
    assert answer.reason in ("malformed_body", "malformed_mcp")


@pytest.mark.parametrize("which", BROKEN)
def test_a_real_server_runs_none_of_it(gateway: Stack, which: str) -> None:
    body = BROKEN[which].replace(b"list_dags", b"list_tables")
    answer = gateway.post(body, server="presto", token=gateway.forge.token())
    assert answer.status == 400, answer
    assert answer.reason_of_error in ("malformed_body", "malformed_mcp")


@pytest.mark.parametrize("which", FORGIVEN)
def test_what_envoy_forgives_is_judged_by_what_it_says(gateway: Stack, which: str) -> None:
    assert refused(gateway, BROKEN[which].replace(b"list_dags", b"get_task_log")).reason == "tool_not_in_rule"


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
        "application/jsonx",
        "text/json",
    ],
)
def test_another_content_type_is_refused(gateway: Stack, content_type: str) -> None:
    answer = refused(gateway, CALL, headers=[("content-type", content_type)])
    assert answer.status == 400


NAMES: list[JsonValue] = [5, 5.0, None, True, [], ["list_dags"], {"a": "list_dags"}, "", "x" * 200]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_tool_is_named_by_a_string(gateway: Stack, name: JsonValue) -> None:
    answer = refused(gateway, mcp.call(name))
    assert (answer.status, answer.reason) == (400, "malformed_mcp")


@pytest.mark.parametrize(
    "name",
    ["List_Dags", "list_dags ", " list_dags", "list_dags\x00", "list-dags", "lіst_dags", "airflow/list_dags"],
)  # fmt: skip
def test_a_tool_is_named_exactly(gateway: Stack, name: str) -> None:
    answer = refused(gateway, mcp.call(name))
    assert answer.status in (400, 403)
    assert answer.reason in ("tool_not_in_rule", "malformed_mcp", "malformed_body")


def test_a_name_in_escapes_is_the_same_name(gateway: Stack) -> None:
    body = json.dumps(mcp.call("get_task_log")).replace("get_task", "get\\u005ftask").encode()
    assert refused(gateway, body).reason == "tool_not_in_rule"


@pytest.mark.parametrize(
    "method",
    ["tools/Call", "TOOLS/CALL", "tools/call ", "tools//call", "tool/call", "rpc.discover", "roots/list",
     "sampling/createMessage", "elicitation/create", "__jsonrpc_response", "GET", "tasks/get"],
)  # fmt: skip
def test_a_method_that_no_rule_grants_is_refused(gateway: Stack, method: str) -> None:
    answer = refused(gateway, mcp.message(method, {"name": "list_dags"}))
    assert answer.status in (400, 403)
    assert answer.reason in ("method_not_allowed", "malformed_mcp", "malformed_body")


@pytest.mark.parametrize(
    ("method", "params", "reason"),
    [
        ("resources/list", {}, "resource_not_allowed"),
        ("resources/read", {"uri": "file:///etc/passwd"}, "resource_not_allowed"),
        ("resources/subscribe", {"uri": "x://y"}, "resource_not_allowed"),
        ("prompts/list", {}, "prompt_not_allowed"),
        ("prompts/get", {"name": "x"}, "prompt_not_allowed"),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "x"}}, "prompt_not_allowed"),
    ],
)
def test_resources_and_prompts_are_closed_unless_a_rule_says_so(
    gateway: Stack, method: str, params: dict[str, JsonValue], reason: str
) -> None:
    answer = refused(gateway, mcp.message(method, params))
    assert (answer.status, answer.reason) == (403, reason)


# Headers that repeat the body, and lie

MISMATCH = ("malformed_mcp", "malformed_body")
"""Envoy itself compares them in the version it knows, and calls that no JSON-RPC; ext_authz in all others."""

VERSIONS = [
    mcp.STATELESS,
    mcp.LEGACY,
    "2025-06-18",
    "2025-03-26",
    "2024-11-05",
    "2027-01-01",
    "2026-07-29",
    "1999-01-01",
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "lie",
    [
        [("mcp-method", "tools/list")],
        [("mcp-method", "tools/call"), ("mcp-name", "list_dags")],
        [("mcp-method", "initialize"), ("mcp-name", "list_dags")],
        [("mcp-method", "TOOLS/LIST")],
        [
            ("mcp-method", "tools/call"),
            ("mcp-name", "=?base64?" + base64.b64encode(b"list_dags").decode() + "?="),
        ],
    ],
    ids=lambda lie: ",".join(value[:12] for _, value in lie),
)
def test_headers_that_name_something_harmless_do_not_help(
    gateway: Stack, version: str, lie: list[tuple[str, str]]
) -> None:
    """Measured bypass elsewhere: the headers name tools/list, and the body that is executed calls a tool."""
    sent = mcp.call("get_task_log")
    body = mcp.stateless(sent) if version == mcp.STATELESS else sent
    answer = refused(gateway, body, headers=[("mcp-protocol-version", version), *lie])
    assert answer.status in (400, 403)
    assert answer.reason in ("malformed_mcp", "malformed_body", "tool_not_in_rule")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_truthful_body_with_lying_headers_is_refused_too(gateway: Stack, version: str) -> None:
    """Whoever decides by the header would think of another tool: an access log, a rate limit, a sidecar."""
    lie = [("mcp-protocol-version", version), ("mcp-method", "tools/call"), ("mcp-name", "get_task_log")]
    answer = refused(gateway, mcp.call("list_dags"), headers=lie)
    assert answer.status == 400
    assert answer.reason in MISMATCH


@pytest.mark.parametrize("version", [mcp.STATELESS, "2027-01-01"])
def test_a_version_that_asks_for_them_needs_them(gateway: Stack, version: str) -> None:
    for headers in ([], [("mcp-method", "tools/call")], [("mcp-name", "list_dags")]):
        sent = [("mcp-protocol-version", version), *headers]
        answer = refused(gateway, mcp.stateless(mcp.call("list_dags")), headers=sent)
        assert answer.status == 400
        assert answer.reason in MISMATCH


@pytest.mark.parametrize("version", ["", "2025-11-25, 2026-07-28", "latest", "2025-11-25x", "２０２５-11-25"])
def test_a_version_that_is_none_is_refused(gateway: Stack, version: str) -> None:
    sent = version.encode()
    answer = refused(gateway, mcp.call("list_dags"), headers=[("mcp-protocol-version", sent)])
    assert (answer.status, answer.reason) == (400, "malformed_header")


@pytest.mark.parametrize(
    "name", ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id", "x-mcp-channel"]
)
def test_a_header_that_policy_reads_stands_once(gateway: Stack, name: str) -> None:
    answer = refused(
        gateway, mcp.call("list_dags"), headers=[(name, "2025-11-25"), (name.upper(), "2025-06-18")]
    )
    assert answer.status == 400
    assert answer.reason in ("malformed_header", "malformed_mcp")


@pytest.mark.parametrize(
    "name", ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id", "authorization"]
)
@pytest.mark.parametrize("bytes_", [b"\xff", b"\xc3\xa9", b"a\x80b", b"\xe2\x80\xae"])
def test_bytes_that_two_readers_decode_differently_are_refused(
    gateway: Stack, name: str, bytes_: bytes
) -> None:
    with gateway.unreached():
        token = None if name == "authorization" else gateway.forge.token("fay")
        answer = gateway.post(mcp.call("list_dags"), server="airflow", token=token, headers=[(name, bytes_)])
    assert answer.status == 400
    assert answer.reason in ("malformed_header", "malformed_mcp")


# Answers and bodiless requests


@pytest.mark.parametrize(
    "part", ['"result":{}', '"result":null', '"error":{"code":1,"message":"x"}', '"result":{},"error":{}']
)
@pytest.mark.parametrize("session", [True, False])
def test_a_call_dressed_as_an_answer_is_refused(gateway: Stack, part: str, session: bool) -> None:
    """Envoy's filter sees an answer, and a lax server runs the call."""
    body = _call(LOG + b"," + part.encode())
    extra = [("mcp-session-id", "s1")] if session else []
    answer = refused(gateway, body, headers=extra)
    assert answer.status in (400, 403)
    assert answer.reason in ("malformed_mcp", "malformed_body", "method_not_allowed", "tool_not_in_rule")


def test_an_answer_belongs_to_a_session_of_a_user(gateway: Stack) -> None:
    result: mcp.Message = {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert refused(gateway, result).reason == "method_not_allowed"
    stateless = [("mcp-session-id", "s1"), ("mcp-protocol-version", mcp.STATELESS), ("mcp-method", "x")]
    assert refused(gateway, result, headers=stateless).status in (400, 403)
    with gateway.unreached():
        door = gateway.mesh(REPORT_BOT)
        answer = gateway.post(result, server="airflow", door=door, headers=[("mcp-session-id", "s1")])
    assert (answer.status, answer.reason) == (403, "method_not_allowed")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_get_or_delete_brings_no_body(gateway: Stack, method: str, chunked: bool) -> None:
    """Such a body passes Envoy's MCP filter uninspected, and a server that reads it would run it."""
    body = json.dumps(mcp.call("get_task_log")).encode()
    sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    headers = [
        ("authorization", f"Bearer {gateway.forge.token('fay')}"),
        ("accept", "text/event-stream"),
        ("content-type", "application/json"),
        ("mcp-session-id", "s1"),
        *([("transfer-encoding", "chunked")] if chunked else []),
    ]
    data = request(method, "/airflow/mcp", gateway.users.authority, headers, sent, length=not chunked)
    with gateway.unreached():
        answer = gateway.users.one(data)
    assert (answer.status, answer.reason) == (400, "malformed_body")


@pytest.mark.parametrize("session", ["", "a b", "s" * 300, "s1, s2"])
def test_a_session_id_is_one_word(gateway: Stack, session: str) -> None:
    answer = refused(gateway, mcp.call("list_dags"), headers=[("mcp-session-id", session)])
    assert (answer.status, answer.reason) == (400, "malformed_header")


# The real server behind Envoy: mcpguard reads the same body a second time


def test_the_server_holds_the_finer_rule(gateway: Stack) -> None:
    """sam may use Presto, not this tool: Envoy lets the call pass, and the server refuses it."""
    message = mcp.stateless(mcp.call("get_revenue_metrics", month="2026-10"))
    headers = mcp.stateless_headers("tools/call", "get_revenue_metrics")
    answer = gateway.post(message, server="presto", token=gateway.forge.token("sam"), headers=headers)
    assert (answer.status, answer.json["error"]["data"]["reason"]) == (403, "tool_group_required")


def test_an_answer_with_method_inside_a_real_session_is_refused(gateway: Stack) -> None:
    token = gateway.forge.token()
    opened = gateway.post(mcp.initialize(), server="presto", token=token)
    session = opened.header("mcp-session-id")
    assert session
    body = b'{"jsonrpc":"2.0","id":1,"result":{},"method":"tools/call","params":{"name":"list_tables"}}'
    answer = gateway.post(body, server="presto", token=token, headers=[("mcp-session-id", session)])
    assert answer.status == 400
    body = b'{"jsonrpc":"2.0","id":1,"result":{},"method":"tools/list"}'
    answer = gateway.post(body, server="presto", token=token, headers=[("mcp-session-id", session)])
    assert answer.status == 400

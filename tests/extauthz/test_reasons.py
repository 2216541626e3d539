"""Each reason that the edge can give, reached by a real `CheckRequest`, and what comes back with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from extauthz.wire.ext_authz_pb2 import CheckRequest
from pdp import reasons
from pdp.model import InForce, Lock, Selection, Snapshot, Window
from pdp.reasons import REASONS
from tests.extauthz.world import (
    NOW,
    RESOURCE,
    SVID_SIGNER,
    Header,
    NoKeys,
    basis,
    bearer,
    certificate,
    check_request,
    headers_of,
    is_allow,
    reason,
    svid_token,
    token,
    world,
)
from tests.identity.signers import claims, signer
from tests.pdp.snapshots import BOT, CHAT, HERE, RULES, guardrail, server, snapshot

GOOD = bearer(token())
BOT_CERTIFICATE = certificate(str(BOT))
CHAT_CERTIFICATE = certificate(str(CHAT))

# Reasons that are not ext_authz's to give: they are Envoy's own, or the server's.
ELSEWHERE = {
    reasons.TOOL_POLICY_MISMATCH, reasons.TOOL_GROUP_REQUIRED, reasons.TOOL_ROLE_REQUIRED,
    reasons.TOOL_CHANNEL_REQUIRED, reasons.IDENTITY_REQUIRED,
    reasons.IDENTITY_INVALID, reasons.HTTP_METHOD_NOT_ALLOWED, reasons.HOST_UNKNOWN,
    reasons.REQUEST_TOO_LARGE, reasons.CHECK_UNAVAILABLE, reasons.SERVER_UNAVAILABLE,
    *(reason for code, reason in REASONS.items() if code.startswith("confirmation_")),
}  # fmt: skip


def call(**params: Any) -> dict[str, Any]:
    return {"method": "tools/call", "params": params}


def mesh(*headers: Header, certificate: str = CHAT_CERTIFICATE, **changes: Any) -> CheckRequest:
    return check_request(*headers, listener="mesh", certificate=certificate, **changes)


def chat_token(**changes: Any) -> Header:
    return bearer(token(azp="chat-web", **changes))


def guarded() -> Snapshot:
    return snapshot(server(guardrails=(guardrail(surfaces=frozenset({"ide"})),)))


def in_force(*windows: Window, missing: frozenset[str] = frozenset()) -> Snapshot:
    kept = InForce("sha256:a", frozenset({"security"}), windows, missing=missing)
    return snapshot(server(in_force=kept))


def locked() -> Snapshot:
    return snapshot(None, Lock("user", "sso:00u1", NOW + 60, "INC-91", "dana@corp.example", HERE))


def crowded() -> Snapshot:
    """A policy that puts everybody of the issuer into 101 groups, one of which may do anything."""
    plain = snapshot(server((replace(RULES[0], groups=frozenset({"g1"})),)))
    names = [f"g{number}" for number in range(101)]
    index = replace(plain.group_index["sso"], everyone=frozenset(names))
    groups = {**plain.groups, **{name: replace(plain.groups["employees"], name=name) for name in names}}
    return replace(plain, groups=groups, group_index={"sso": index})


def narrow() -> Snapshot:
    """Rules that grant one tool, and nothing else, to the IDE's users."""
    return snapshot(server((replace(RULES[0], tools=Selection(names=frozenset({"list_tables"}))),)))


CASES: dict[str, list[tuple[CheckRequest, Callable[[], Snapshot]]]] = {
    "malformed_request": [
        (check_request(GOOD, verb="PUT"), snapshot),
        (check_request(GOOD, listener=None), snapshot),
        (check_request(GOOD, listener="other"), snapshot),
        (CheckRequest(), snapshot),
    ],
    "malformed_header": [
        (check_request(("authorization", "Bearer a,Bearer b")), snapshot),
        (check_request(GOOD, GOOD), snapshot),
        (check_request(GOOD, ("mcp-protocol-version", "latest")), snapshot),
    ],
    "malformed_body": [
        (check_request(GOOD, message=None), snapshot),
        (check_request(GOOD, ("content-length", "7"), verb="GET", message=None), snapshot),
    ],
    "malformed_mcp": [(check_request(GOOD, message=call(name=5.0)), snapshot)],
    "credentials_required": [
        (check_request(), snapshot),
        (check_request(GOOD, listener="mesh"), snapshot),
        (check_request(certificate=BOT_CERTIFICATE), snapshot),  # not on the mesh listener: not looked at
        (mesh(), snapshot),
    ],
    "token_malformed": [
        (check_request(("authorization", "Basic YTpi")), snapshot),
        (check_request(bearer("not-a-jwt")), snapshot),
    ],
    "token_algorithm": [(check_request(bearer(signer("ES384", 2).sign(claims()))), snapshot)],
    "token_issuer_unknown": [(check_request(bearer(token(iss="https://evil.example"))), snapshot)],
    "token_key_unknown": [(check_request(bearer(signer("ES256", 3).sign(claims()))), snapshot)],
    "token_signature": [(check_request(bearer(token()[:-6] + "AAAAAA")), snapshot)],
    "token_expired": [(check_request(bearer(token(iat=NOW - 900, exp=NOW - 300))), snapshot)],
    "token_not_yet_valid": [(check_request(bearer(token(nbf=NOW + 120))), snapshot)],
    "token_lifetime": [(check_request(bearer(token(exp=NOW + 900_000))), snapshot)],
    "token_audience": [(check_request(bearer(token(aud="https://elsewhere.example"))), snapshot)],
    "token_claims": [(check_request(bearer(token(groups="ads-eng"))), snapshot)],
    "token_groups_overage": [
        (check_request(bearer(token(groups=None, _claim_names={"groups": "src1"}))), snapshot)
    ],
    "svid_malformed": [(mesh(certificate="junk"), snapshot)],
    "svid_untrusted": [(mesh(certificate=certificate("spiffe://evil.example/a")), snapshot)],
    "svid_expired": [(mesh(certificate=certificate(str(BOT), days=0)), snapshot)],
    "svid_audience": [(check_request(bearer(svid_token(aud="https://elsewhere.example"))), snapshot)],
    "svid_ambiguous": [
        (mesh(certificate=certificate(str(BOT), str(CHAT))), snapshot),
        (mesh(bearer(svid_token())), snapshot),
    ],
    "locked": [(check_request(GOOD), locked)],
    "surface_unknown": [(check_request(bearer(token(azp="nobody"))), snapshot)],
    "surface_client_mismatch": [(mesh(GOOD), snapshot)],
    "channel_malformed": [(check_request(GOOD, ("x-mcp-channel", "a b")), snapshot)],
    "channel_not_allowed": [(mesh(chat_token(groups=["eng", "oncall"])), snapshot)],
    "server_unknown": [
        (check_request(GOOD, server=None), snapshot),
        (check_request(GOOD, server="nowhere"), snapshot),
    ],
    "server_not_approved": [(check_request(GOOD), lambda: in_force(missing=frozenset({"security"})))],
    "review_expired": [(check_request(GOOD), lambda: in_force(Window(0, NOW - 1)))],
    "guardrail": [(check_request(GOOD), guarded)],
    "method_not_allowed": [
        (check_request(GOOD, message={"method": "tasks/get"}), snapshot),
        (check_request(GOOD, message={"method": "Tools/Call"}), snapshot),
        (check_request(GOOD, message={"method": "__jsonrpc_response"}), snapshot),
    ],
    "surface_not_allowed": [(check_request(bearer(token(azp="lab-client"))), snapshot)],
    "group_not_allowed": [(check_request(bearer(token(groups=["fin"]))), snapshot)],
    "tool_not_in_rule": [(check_request(GOOD, message=call(name="run_query")), narrow)],
    "tool_unknown": [(check_request(GOOD, message=call(name="no_such_tool")), snapshot)],
    "resource_not_allowed": [
        (check_request(GOOD, message={"method": "resources/read", "params": {"uri": "file:///x"}}), snapshot)
    ],
    "prompt_not_allowed": [(check_request(GOOD, message={"method": "prompts/list"}), snapshot)],
    "listing_needs_user": [(mesh(message={"method": "tools/list"}), snapshot)],
    "too_many_groups": [(check_request(GOOD), crowded)],
}


@pytest.mark.parametrize(
    ("code", "request_", "policy"),
    [(code, request, policy) for code, cases in CASES.items() for request, policy in cases],
)
def test_a_reason_is_reached(
    code: str, request_: CheckRequest, policy: Callable[[], Snapshot], tmp_path: Path
) -> None:
    room = world(tmp_path, basis(policy()))
    response = room.check(request_)
    assert reason(response) == code
    (line,) = room.logged()
    assert (line["decision"], line["reason"]) == ("deny", code)


def test_keys_unavailable_is_no_denial(tmp_path: Path) -> None:
    room = world(tmp_path, basis(keys=NoKeys()))
    response = room.check(check_request(GOOD))
    assert reason(response) == "keys_unavailable"
    assert response.denied_response.status.code == 503
    (line,) = room.logged()
    assert line["decision"] == "unavailable"


def test_without_policy_nobody_is_allowed(tmp_path: Path) -> None:
    response = world(tmp_path, None).check(check_request(GOOD))
    assert reason(response) == "policy_unavailable"
    assert headers_of(response)["retry-after"] == "5"


class Broken(dict[str, Any]):
    """A mapping whose look-ups fail, as a bug would."""

    def get(self, *_: object) -> Any:
        raise RuntimeError("a bug")


def test_a_bug_is_a_refusal_with_a_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy = snapshot()
    room = world(tmp_path, basis(replace(policy, servers=Broken(policy.servers))))
    response = room.check(check_request(GOOD))
    assert reason(response) == "internal_error"
    assert response.denied_response.status.code == 503
    (record,) = caplog.records
    assert record.exc_info is not None
    (line,) = room.logged()
    assert line["decision"] == "unavailable"
    assert (
        line["decision_id"] == record.__dict__["decision_id"] == headers_of(response)["x-gatehouse-decision"]
    )


def test_every_reason_of_the_edge_is_covered() -> None:
    reached = CASES.keys() | {"keys_unavailable", "policy_unavailable", "internal_error"}
    assert reached == REASONS.keys() - {each.code for each in ELSEWHERE}


@pytest.mark.parametrize(("code", "request_", "policy"), [(c, *cases[0]) for c, cases in CASES.items()])
def test_the_answer_is_json_rpc(
    code: str, request_: CheckRequest, policy: Callable[[], Snapshot], tmp_path: Path
) -> None:
    response = world(tmp_path, basis(policy())).check(request_)
    row, headers = REASONS[code], headers_of(response)
    assert response.denied_response.status.code == row.status
    assert response.status.code != 0
    body = json.loads(response.denied_response.body)
    assert body["jsonrpc"] == "2.0"
    assert body["id"] is None
    assert body["error"]["code"] == {400: -32600, 401: -32001, 403: -32003, 503: -32000}[row.status]
    data = body["error"]["data"]
    assert data["decision_id"] == headers["x-gatehouse-decision"]
    assert len(data["decision_id"]) == 32
    assert data["help"] == row.remedy
    assert headers["content-type"] == "application/json"
    assert ("www-authenticate" in headers) == (row.status == 401)
    assert not is_allow(response)


def test_a_401_says_where_to_sign_in(tmp_path: Path) -> None:
    room = world(tmp_path, basis())
    metadata = 'resource_metadata="https://mcp.corp.example/.well-known/oauth-protected-resource/presto/mcp"'
    absent = headers_of(room.check(check_request()))["www-authenticate"]
    assert absent == f"Bearer {metadata}"
    expired = headers_of(room.check(check_request(bearer(token(iat=NOW - 900, exp=NOW - 300)))))
    assert expired["www-authenticate"] == (
        f'Bearer {metadata}, error="invalid_token", error_description="The token has expired."'
    )


def test_a_denial_says_whom_to_ask_and_names_one_group(tmp_path: Path) -> None:
    policy = snapshot(request_access="https://access.corp.example/{group}")
    response = world(tmp_path, basis(policy)).check(check_request(bearer(token(groups=["fin"]))))
    data = json.loads(response.denied_response.body)["error"]["data"]
    assert data["support"] == "#presto-help"
    assert data["request_access"] == "https://access.corp.example/ads"


def test_a_jwt_svid_is_a_workload_on_the_users_listener(tmp_path: Path) -> None:
    room = world(tmp_path, basis())
    listing = call(name="list_tables")
    assert is_allow(room.check(check_request(bearer(svid_token()), message=listing)))
    assert reason(room.check(check_request(bearer(svid_token()), message=call(name="run_query")))) == (
        "tool_not_in_rule"
    )


def test_a_forged_svid_is_refused(tmp_path: Path) -> None:
    forged = signer("ES256", 9).sign(
        {"sub": str(BOT), "aud": RESOURCE, "exp": NOW + 300}, {"kid": SVID_SIGNER.kid}
    )
    assert reason(world(tmp_path, basis()).check(check_request(bearer(forged)))) == "svid_untrusted"

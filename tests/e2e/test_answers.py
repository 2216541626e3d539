"""What the caller, the decision log and Envoy's access log say of a call, and that none holds a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from gatehouse import observe
from pdp.reasons import REASONS
from tests.e2e import mcp
from tests.e2e.forge import AI_CHAT, REPORT_BOT
from tests.e2e.stack import Stack, eventually
from tests.e2e.wire import Answer, request

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-gateway")]

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "schema" / "decision-log.v1.json").read_text())

# By reason: how it comes about.
DENIED: dict[str, Callable[[Stack], Answer]] = {
    "credentials_required": lambda g: g.post(mcp.call("search")),
    "token_malformed": lambda g: g.post(mcp.call("search"), token="abc"),
    "token_expired": lambda g: g.post(mcp.call("search"), token=g.forge.expired()),
    "token_audience": lambda g: g.post(mcp.call("search"), token=g.forge.token(aud="other")),
    "malformed_header": lambda g: g.post(mcp.call("search"), headers=[("authorization", "Bearer a,b")]),
    "malformed_mcp": lambda g: g.post(mcp.call(5), token=g.forge.token()),
    "channel_malformed": lambda g: g.post(mcp.call("search"), headers=[("x-mcp-channel", "-")]),
    "surface_unknown": lambda g: g.post(mcp.call("search"), token=g.forge.token(client="nobody")),
    "surface_client_mismatch": lambda g: g.post(
        mcp.call("search"), token=g.forge.token(), door=g.mesh(AI_CHAT)
    ),
    "server_unknown": lambda g: g.post(mcp.call("x"), server="nobody", token=g.forge.token()),
    "guardrail": lambda g: g.post(mcp.call("list_tables"), server="presto", token=g.forge.token("carl")),
    "group_not_allowed": lambda g: g.post(
        mcp.call("run_query"), server="presto", token=g.forge.token("hana")
    ),
    "tool_not_in_rule": lambda g: g.post(
        mcp.call("get_task_log"), server="airflow", token=g.forge.token("fay")
    ),
    "method_not_allowed": lambda g: g.post(mcp.message("roots/list"), token=g.forge.token()),
    "resource_not_allowed": lambda g: g.post(mcp.message("resources/list"), token=g.forge.token()),
    "listing_needs_user": lambda g: g.post(mcp.message("tools/list"), door=g.mesh(REPORT_BOT)),
    "surface_not_allowed": lambda g: g.post(mcp.call("x"), server="spark", door=g.mesh(REPORT_BOT)),
}  # fmt: skip

RPC_CODES = {400: -32600, 401: -32001, 403: -32003, 503: -32000}


@pytest.mark.parametrize("reason", DENIED)
def test_a_denial_says_what_happened_and_whom_to_ask(gateway: Stack, reason: str) -> None:
    with gateway.unreached():
        answer = DENIED[reason](gateway)
    row = REASONS[reason]
    assert answer.status == row.status
    error = answer.error
    assert error["code"] == RPC_CODES[row.status]
    assert error["message"].endswith(".")
    assert error["data"]["reason"] == reason
    assert error["data"]["help"] == row.remedy
    assert set(error["data"]) <= {"reason", "decision_id", "help", "support", "request_access"}
    assert answer.header("cache-control") == "no-store"
    assert answer.header("x-gatehouse-decision") == error["data"]["decision_id"]
    challenge = answer.header("www-authenticate")
    if row.status == 401:
        assert challenge is not None
        assert re.fullmatch(
            r'Bearer resource_metadata="https://127\.0\.0\.1:\d+/\.well-known/[^"]+".*', challenge
        )
        assert ('error="invalid_token"' in challenge) == (reason.startswith("token_"))
    else:
        assert challenge is None


@pytest.mark.parametrize("reason", DENIED)
def test_the_decision_log_has_every_denial_with_every_field(gateway: Stack, reason: str) -> None:
    answer = DENIED[reason](gateway)
    line = gateway.decision(answer.error["data"]["decision_id"])
    jsonschema.validate(line, SCHEMA)
    assert set(line) == set(SCHEMA["properties"])
    assert (line["decision"], line["reason"]) == ("deny", reason)
    malformed = answer.status == 400
    assert line["policy"] == (None if malformed else gateway.digest()), (
        "policy isn't asked what can't be read"
    )
    assert line["microseconds"] < 500_000
    if line["rule"] is not None:
        file, _, number = line["location"].partition(":")
        text = (gateway.state.policies / file).read_text().splitlines()[int(number) - 1]
        assert line["rule"].removeprefix("surface:") in text, (line["rule"], text)


def test_the_log_knows_who_and_what_and_what_was_missing(gateway: Stack) -> None:
    answer = DENIED["group_not_allowed"](gateway)
    line = gateway.decision(answer.error["data"]["decision_id"])
    assert (line["user"], line["client"], line["workload"]) == ("sso:hana", "ide-plugin", None)
    assert (line["surface"], line["server"], line["listener"]) == ("ide", "presto", "users")
    assert (line["method"], line["tool"]) == ("tools/call", "run_query")
    assert line["rule"] == "analysts"
    assert "approved/servers/presto.yaml" in line["nearest_miss"]
    # and the caller isn't told what exists
    assert "presto.yaml" not in str(answer.body)
    assert "analysts" not in str(answer.body)


def test_access_can_be_asked_for(gateway: Stack) -> None:
    data = DENIED["group_not_allowed"](gateway).error["data"]
    assert data["support"] == "#presto-help"
    assert data["request_access"].startswith("https://access.corp.example/")


def test_an_allow_is_logged_too(gateway: Stack) -> None:
    _, hit = gateway.reached(lambda: gateway.post(mcp.call("search"), token=gateway.forge.token()))
    line = gateway.decision(hit.one("x-gatehouse-decision"))
    jsonschema.validate(line, SCHEMA)
    assert (line["decision"], line["reason"], line["rule"]) == ("allow", None, "everyone")


def test_envoys_access_log_carries_the_decision(gateway: Stack) -> None:
    """Envoy writes it out when its buffer is full, or after ten seconds; so this fills the buffer."""
    decision_id = DENIED["guardrail"](gateway).error["data"]["decision_id"]
    path = "/" + "a" * 4000
    found: list[dict[str, object]] = []

    def written() -> bool:
        for _ in range(20):
            gateway.users.one(request("GET", path, gateway.users.authority))
        lines = gateway.log("envoy").splitlines()
        said = [json.loads(line) for line in lines if decision_id in line and line.endswith("}")]
        found[:] = said
        return bool(said)

    eventually(written, "the line in Envoy's log", 15)
    assert (found[0]["decision"], found[0]["reason"], found[0]["rule"]) == (
        "deny",
        "guardrail",
        "no-contractors-in-presto",
    )
    assert (found[0]["user"], found[0]["surface"]) == ("sso:carl", "ide")


def test_metrics_count_decisions_by_reason_and_never_by_what_a_caller_says(gateway: Stack) -> None:
    DENIED["guardrail"](gateway)
    DENIED["server_unknown"](gateway)
    body = (observe.fetch(gateway.metrics_url("extauthz")) or b"").decode()
    assert re.search(
        r'gatehouse_decisions_total\{decision="deny",reason="guardrail",server="presto"\} \d', body
    )
    assert "nobody" not in body
    assert "carl" not in body

"""Last of all: after everything that was done to both stacks, nothing that they wrote holds a secret."""

from __future__ import annotations

import json

import pytest

from tests.e2e import mcp
from tests.e2e.stack import Stack, eventually
from tests.e2e.wire import request

pytestmark = [pytest.mark.e2e]


@pytest.mark.xdist_group("e2e-gateway")
def test_the_healthy_stack_wrote_no_secret(gateway: Stack) -> None:
    check(gateway)


@pytest.mark.xdist_group("e2e-breakable")
def test_the_broken_and_mended_stack_wrote_no_secret(breakable: Stack) -> None:
    check(breakable)


def check(stack: Stack) -> None:
    """Signatures of every token that was ever shown, and private keys, in logs, decisions, pages."""
    _, hit = stack.reached(lambda: stack.post(mcp.call("search"), token=stack.forge.token()))
    secrets = {token.rpartition(".")[2] for token in stack.forge.made if token.count(".") >= 2}
    secrets |= {_show_everywhere(stack).rpartition(".")[2]}
    secrets |= {hit.one("x-forwarded-identity").rpartition(".")[2]}
    secrets |= {key["d"] for key in json.loads(stack.state.identity_private.read_bytes())["keys"]}
    secrets |= {stack.forge.key.jwk["d"]}
    wanted = {secret.encode() for secret in secrets if len(secret) >= 20}
    assert len(wanted) > 4
    written = dict(stack.everything_written())
    assert sum(len(content) for content in written.values()) > 10_000
    for path, content in written.items():
        found = [secret for secret in wanted if secret in content]
        assert not found, f"{path} holds {len(found)} of them"


def _show_everywhere(stack: Stack) -> str:
    """A good token where it doesn't belong: in a path, a query, a method, a tool's name, another header."""
    token = stack.forge.token(x="shown")
    host = stack.users.authority
    for path in (f"/{token}/mcp", f"/knowledge/mcp?access_token={token}", f"/knowledge/mcp/{token}"):
        stack.users.exchange(mcp.post(mcp.call("search"), path, host))
    for message in (mcp.message(token), mcp.call(token), mcp.message("resources/read", {"uri": token})):
        stack.post(message, token=stack.forge.token())
    named = [(name, token) for name in ("user-agent", "cookie", "x-api-key", "referer", "origin")]
    stack.users.exchange(request("GET", "/", host, named))
    stack.post(mcp.call("search"), headers=[("authorization", token)])
    last = stack.post(mcp.call("search"), token=stack.forge.token(), headers=[("mcp-session-id", token)])
    decision = last.error["data"]["decision_id"]
    stack.decision(decision)
    eventually(lambda: decision in stack.log("envoy"), "the last call in Envoy's own log")
    return token

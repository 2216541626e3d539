"""Parts that die, hang, lie or are not there yet: calls are refused or served, never let through."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from extauthz.wire.ext_authz_pb2 import CheckResponse, HeaderValueOption
from gatehouse import observe, ports
from pdp import headers
from tests.e2e import mcp
from tests.e2e.forge import NOTEBOOK, REPORT_BOT
from tests.e2e.gullible import answering
from tests.e2e.policy import edited, log_since
from tests.e2e.stack import Stack, eventually, replace_file
from tests.e2e.wire import Answer

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-breakable")]

BACK = 15.0
"""Seconds, at most: a deadline. How quick it is `bench/recovery.py` measures."""


def asked(stack: Stack) -> Answer:
    return stack.post(mcp.call("search"), token=stack.forge.token())


def serves(stack: Stack) -> bool:
    return asked(stack).status == 200


@contextmanager
def without(stack: Stack, *names: str) -> Iterator[None]:
    """These processes are killed, and started again afterwards."""
    for name in names:
        stack.kill(name)
    try:
        yield
    finally:
        stack.start(*names)
        eventually(lambda: _serves_anyhow(stack), "the stack serves again", 30)


def _serves_anyhow(stack: Stack) -> bool:
    try:
        return serves(stack)
    except OSError:
        return False


def refused_by_envoy(stack: Stack) -> None:
    mark = stack.upstream.mark()
    for _ in range(3):
        answer = asked(stack)
        assert (answer.status, answer.reason) == (503, "check_unavailable")
        assert answer.error["data"]["request_id"]
    assert stack.upstream.since(mark) == []


def test_without_ext_authz_nobody_gets_in(breakable: Stack) -> None:
    breakable.kill("extauthz")
    try:
        refused_by_envoy(breakable)
    finally:
        breakable.start("extauthz")
    eventually(lambda: serves(breakable), "served again", BACK)


def test_an_ext_authz_that_hangs_lets_nobody_in(breakable: Stack) -> None:
    assert serves(breakable)
    os.kill(breakable.pid("extauthz"), signal.SIGSTOP)
    try:
        mark = breakable.upstream.mark()
        answer = asked(breakable)
        assert (answer.status, answer.reason) == (503, "check_unavailable")
        assert breakable.upstream.since(mark) == []
    finally:
        os.kill(breakable.pid("extauthz"), signal.SIGCONT)
    eventually(lambda: serves(breakable), "served again", BACK)
    # What waited in its socket meanwhile was answered to nobody.
    assert len(breakable.upstream.since(mark)) >= 1


def test_a_stop_loses_no_line_of_the_log(breakable: Stack) -> None:
    ids = [asked(breakable).header("x-request-id") for _ in range(20)]
    assert all(ids)
    denied = [breakable.post(mcp.call("search")).error["data"]["decision_id"] for _ in range(20)]
    breakable.stop("extauthz")
    try:
        logged = {line["decision_id"] for line in breakable.decisions()}
        assert set(denied) <= logged
    finally:
        breakable.start("extauthz")
        eventually(lambda: serves(breakable), "served again", 10)


# An ext_authz that allows everything


def _allows() -> dict[str, CheckResponse]:
    empty = CheckResponse()
    confused = CheckResponse()
    confused.denied_response.status.code = 403
    bare = CheckResponse()
    bare.ok_response.SetInParent()
    return {
        "an empty answer": empty,
        "a denial whose status is 0": confused,
        "an allow without headers": bare,
    }


@contextmanager
def gullible(stack: Stack, response: CheckResponse) -> Iterator[None]:
    stack.kill("extauthz")
    address = str(stack.plan.deployment.ext_authz.addresses[0])
    try:
        with answering(address, response) as asked_it:
            eventually(lambda: bool(asked(stack)) and asked_it.is_set(), "Envoy asks the gullible one")
            yield
    finally:
        stack.start("extauthz")
        eventually(lambda: serves(stack), "served again", 15)


@pytest.mark.parametrize("what", _allows())
def test_what_envoy_takes_for_an_allow_brings_no_forged_identity_in(breakable: Stack, what: str) -> None:
    """Envoy takes all of these for an allow. Whoever forges an identity has it stripped before."""
    with gullible(breakable, _allows()[what]):
        forged = [(name, "root") for name in (*headers.FORWARDED, headers.DECISION, "X-Forwarded-Email")]
        _, hit = breakable.reached(lambda: breakable.post(mcp.call("search"), headers=forged))
        assert not hit.names & {*headers.FORWARDED, headers.DECISION, "x-forwarded-email"}
        assert "root" not in repr(hit.headers)


def test_the_reach_of_the_mesh_holds_without_ext_authz(breakable: Stack) -> None:
    """Envoy's own RBAC: the report bot has rules for knowledge and for nothing of Spark."""
    with gullible(breakable, _allows()["an empty answer"]):
        bot = breakable.mesh(REPORT_BOT)
        breakable.reached(lambda: breakable.post(mcp.call("search"), door=bot))
        mark = breakable.upstream.mark()
        stranger = breakable.mesh("spiffe://corp.example/ns/prod/sa/stranger")
        for door, server in (
            (bot, "spark"),
            (stranger, "knowledge"),
            (stranger, "presto"),
            (bot, "scratchpad"),
        ):
            answer = breakable.post(mcp.call("x"), server=server, door=door)
            assert (answer.status, answer.reason) == (403, "surface_not_allowed"), (server, answer)
        breakable.fence(bot)
        assert len(breakable.upstream.since(mark)) == 1


def test_an_answer_that_envoy_cannot_carry_out_lets_nobody_in(breakable: Stack) -> None:
    """More than a request's headers hold turns an allow into an error, not into an allow without it."""
    response = CheckResponse()
    option = response.ok_response.headers.add()
    option.append_action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    option.header.key, option.header.value = headers.GROUPS, "x" * 70_000
    with gullible(breakable, response):
        mark = breakable.upstream.mark()
        answer = breakable.post(mcp.call("search"))
        assert answer.status >= 500, answer
        assert breakable.upstream.since(mark) == []


def test_ext_authz_changes_no_header_but_its_own(breakable: Stack) -> None:
    """Were it taken over, it still couldn't send a call elsewhere."""
    response = CheckResponse()
    for name in (
        ":authority",
        ":path",
        ":method",
        "host",
        "x-original-url",
        "mcp-session-id",
        "x-forwarded-for",
    ):
        option = response.ok_response.headers.add()
        option.append_action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        option.header.key, option.header.value = name, "evil.example"
    with gullible(breakable, response):
        mark = breakable.upstream.mark()
        breakable.post(mcp.call("search"))
        for hit in breakable.upstream.since(mark):
            assert "evil.example" not in repr(hit)


# The control plane


def test_without_a_control_plane_traffic_goes_on_and_a_change_waits(breakable: Stack) -> None:
    """Also, once more, Envoy's RBAC: ext_authz knows the new rule before Envoy does."""
    door = breakable.mesh(REPORT_BOT)

    def bot() -> Answer:
        return breakable.post(mcp.call("list_applications"), server="spark", door=door)

    with edited(breakable) as policy, without(breakable, "xds"):
        assert serves(breakable)
        assert (bot().status, bot().reason) == (403, "surface_not_allowed")
        rule = "\n  - {id: reports, services: [report-bot], tools: [list_applications]}\n\ntools:"
        policy.replace("servers/spark.yaml", "\n\ntools:", rule)
        policy.approve("spark")
        policy.wait_noticed()
        mark = breakable.upstream.mark()
        answer = bot()
        assert (answer.status, answer.reason) == (403, "surface_not_allowed")
        assert "request_id" in answer.error["data"], "Envoy itself refuses it"
        assert breakable.upstream.since(mark) == []
        breakable.start("xds")
        eventually(lambda: bot().status == 200, "the rule in Envoy too", BACK)
        breakable.kill("xds")


def test_a_stack_that_starts_cold_without_policy_serves_nobody(breakable: Stack) -> None:
    """Bad YAML before anything runs: not ready, nothing allowed; mended, it serves without a restart."""
    healthz = breakable.metrics_url("extauthz").replace("/metrics", "/healthz")
    users = breakable.users
    good = (breakable.state.policies / "org.yaml").read_text()
    logs = breakable.state.logs
    marks = {name: (logs / f"{name}.log").stat().st_size for name in ("extauthz", "xds")}
    for name in ("envoy", "xds", "extauthz"):
        breakable.kill(name)
    with edited_cold(breakable) as write:
        write(good.replace("trust_domains:", "trust_domain:"))
        breakable.start("extauthz", "xds", "envoy")
        assert observe.fetch(healthz) is None, "not ready"
        assert breakable.metric("extauthz", "gatehouse_policy_reload_ok") == 0
        eventually(
            lambda: bool(observe.fetch(f"http://{breakable.plan.local.envoy_admin}/server_info")), "Envoy"
        )
        assert not ports.is_open(users.host, users.port), "nobody listens"
        for component in ("extauthz", "xds"):
            assert "org.yaml:" in log_since(breakable.state.logs / f"{component}.log", marks[component])
        write(good)
        eventually(lambda: observe.fetch(healthz) is not None, "ready", 5)
        eventually(lambda: _serves_anyhow(breakable), "served", 15)


def test_an_ext_authz_that_starts_cold_without_policy_refuses_everybody(breakable: Stack) -> None:
    good = (breakable.state.policies / "org.yaml").read_text()
    breakable.kill("extauthz")
    with edited_cold(breakable) as write:
        write(good.replace("trust_domains:", "trust_domain:"))
        breakable.start("extauthz")
        mark = breakable.upstream.mark()
        found: list[Answer] = []

        def decided() -> bool:
            found[:] = [asked(breakable)]
            return found[0].reason != "check_unavailable"

        eventually(decided, "Envoy has it again", 5)
        assert (found[0].status, found[0].reason) == (503, "policy_unavailable")
        assert breakable.upstream.since(mark) == []
        line = breakable.decision(found[0].error["data"]["decision_id"])
        assert (line["decision"], line["reason"]) == ("unavailable", "policy_unavailable")
        write(good)
        eventually(lambda: serves(breakable), "served", 10)


@contextmanager
def edited_cold(stack: Stack) -> Iterator[Callable[[str], None]]:
    """Write org.yaml while nothing runs that could say when it is in force."""
    path = stack.state.policies / "org.yaml"
    good = path.read_text()
    try:
        yield lambda text: replace_file(path, text)
    finally:
        replace_file(path, good)
        eventually(lambda: _serves_anyhow(stack), "the stack serves again", 30)


def test_a_server_that_is_not_there_is_said_to_be_so(breakable: Stack) -> None:
    """The call was allowed and there is nobody to take it: our body again, and no other server is tried."""
    token = breakable.forge.token("dino", client="notebook")
    mark = breakable.upstream.mark()
    message, door = mcp.call("read_note"), breakable.mesh(NOTEBOOK)
    answer = breakable.post(message, server="scratchpad", token=token, door=door)
    assert (answer.status, answer.reason) == (503, "server_unavailable")
    assert breakable.upstream.since(mark) == []

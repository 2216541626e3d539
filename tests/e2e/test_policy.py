"""Policy changes while traffic runs: what is reviewed comes into force, without a restart; nothing else does.

How soon, `bench/recovery.py` measures; here are only deadlines.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import mcp
from tests.e2e.forge import REPORT_BOT
from tests.e2e.policy import Policy, edited, log_since
from tests.e2e.stack import Stack, eventually
from tests.e2e.wire import Answer

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-breakable")]

PRESTO = "servers/presto.yaml"
GROUPS = "groups: [ads, finance, data-infra], tools: all"
WIDER = "groups: [ads, finance, data-infra, employees], tools: all"


@pytest.fixture
def policy(breakable: Stack) -> Iterator[Policy]:
    with edited(breakable) as policy:
        yield policy


def asked(stack: Stack, person: str = "hana", server: str = "presto", tool: str = "list_tables") -> Answer:
    return stack.post(mcp.call(tool), server=server, token=stack.forge.token(person))


def refused(stack: Stack, person: str = "hana", server: str = "presto", tool: str = "list_tables") -> str:
    with stack.unreached():
        answer = asked(stack, person, server, tool)
    return answer.reason


def test_an_edit_that_nobody_reviewed_changes_nothing(breakable: Stack, policy: Policy) -> None:
    assert refused(breakable) == "group_not_allowed"
    policy.replace(PRESTO, GROUPS, WIDER)
    policy.wait_noticed()
    assert refused(breakable) == "group_not_allowed"
    assert asked(breakable, "ana").status == 200


def test_an_approved_edit_comes_into_force(breakable: Stack, policy: Policy) -> None:
    policy.replace(PRESTO, GROUPS, WIDER)
    policy.approve("presto")
    eventually(lambda: asked(breakable).status == 200, "hana is let in")
    eventually(lambda: breakable.digest("xds") == breakable.digest(), "the control plane agrees")


def test_an_approval_that_is_withdrawn_closes_the_server(breakable: Stack, policy: Policy) -> None:
    approvals = policy.read("reviews/security/presto.yaml")
    policy.write("reviews/security/presto.yaml", approvals.partition("approvals:")[0] + "approvals: []\n")
    eventually(lambda: asked(breakable, "ana").status == 403, "closed")
    assert refused(breakable, "ana") == "server_not_approved"
    assert asked(breakable, "ana", "knowledge", "search").status == 200
    policy.write("reviews/security/presto.yaml", approvals)
    eventually(lambda: asked(breakable, "ana").status == 200, "open again")


def test_a_review_that_lapses_closes_the_server_by_itself(breakable: Stack, policy: Policy) -> None:
    policy.replace(PRESTO, GROUPS, WIDER)
    ends = float(int(time.time()) + 5)  # a review ends with a whole second
    policy.approve("presto", expires=ends)
    eventually(lambda: asked(breakable).status == 200, "hana is let in")
    eventually(lambda: asked(breakable).status == 403, "the review's end", 15)
    assert time.time() >= ends, "not before its end"
    assert refused(breakable) == "review_expired"
    assert refused(breakable, "ana") == "review_expired", "the older text does not come back by itself"


def test_the_organization_is_reviewed_too(breakable: Stack, policy: Policy) -> None:
    policy.replace(
        "org.yaml", "finance:     {any_of: [fin-analytics]}", "finance:     {any_of: [people-ops]}"
    )
    policy.wait_noticed()
    assert refused(breakable) == "group_not_allowed"
    policy.approve("organization")
    eventually(lambda: asked(breakable).status == 200, "hana is in finance now")
    assert refused(breakable, "fay") == "group_not_allowed"


def test_an_approved_copy_that_somebody_edits_is_not_what_was_approved(
    breakable: Stack, policy: Policy
) -> None:
    policy.replace("approved/" + PRESTO, GROUPS, WIDER)
    eventually(lambda: asked(breakable, "ana").status == 403, "closed")
    assert refused(breakable) == "server_not_approved"


@pytest.mark.parametrize("kind", ["user", "token", "workload", "server"])
def test_a_lock_comes_into_force(breakable: Stack, policy: Policy, kind: str) -> None:
    forge = breakable.forge
    claims = forge.claims()
    jti = claims["jti"]
    header = {"alg": "RS256", "kid": forge.key.kid, "typ": "JWT"}
    token = forge.raw(header, claims, forge.rs256())
    door = breakable.mesh(REPORT_BOT)

    def locked_one() -> Answer:
        if kind == "workload":
            return breakable.post(mcp.call("list_dags"), server="airflow", door=door)
        return breakable.post(mcp.call("list_dags"), server="airflow", token=token)

    assert locked_one().status == 200
    subject = {"user": "sso:ana", "token": jti, "workload": REPORT_BOT, "server": "airflow"}[kind]
    policy.lock(kind, subject)
    eventually(lambda: locked_one().status == 403, "locked")
    other = breakable.forge.token("dino")
    mark = breakable.upstream.mark()
    answer = locked_one()
    assert (answer.status, answer.reason) == (403, "locked")
    assert breakable.upstream.since(mark) == []
    if kind != "server":
        assert breakable.post(mcp.call("list_dags"), server="airflow", token=other).status == 200


def test_a_lock_ends(breakable: Stack, policy: Policy) -> None:
    policy.lock("user", "sso:fay", seconds=2)
    eventually(lambda: asked(breakable, "fay").status == 403, "locked")
    eventually(lambda: asked(breakable, "fay").status == 200, "the lock's end", 5)


# What can't be read


NOBODY = "locks: [{until: 2030-01-01T00:00:00Z, why: a, by: b}]"
ZONELESS = "locks: [{user: 'sso:a', until: 2030-01-01T00:00:00, why: a, by: b}]"
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
BROKEN: dict[str, tuple[str, str, str, str]] = {
    # what: file, old, new, what the log says
    "syntax": (PRESTO, "access:", "access: [", "servers/presto.yaml:"),
    "unknown key": (PRESTO, "lifecycle:", "lifecicle:", "unknown key 'lifecicle'"),
    "duplicate key": (PRESTO, "environment: prod", "environment: prod\nenvironment: dev", "environment"),
    "unknown group": (PRESTO, "[ads, finance, data-infra]", "[ads, finance, data-infar]", "data-infar"),
    "rule without groups": (PRESTO, "groups: [ads, finance, data-infra], ", "", "groups"),
    "unknown issuer": ("org.yaml", "employees:   {issuer: sso}", "employees:   {issuer: ssso}", "ssso"),
    "a lock of nobody": ("locks.yaml", "locks: []", NOBODY, "locks.yaml:"),
    "a time without a zone": ("locks.yaml", "locks: []", ZONELESS, "zone"),
    "a file of nothing": (PRESTO, "", "", "servers/presto.yaml:"),
    "a bomb of aliases": (PRESTO, "", BOMB, "servers/presto.yaml:"),
    "a tag that runs code": (PRESTO, "", "!!python/object/apply:os.system ['true']\n", PRESTO),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_read_changes_nothing_and_says_where(
    breakable: Stack, policy: Policy, what: str
) -> None:
    file, old, new, said = BROKEN[what]
    log = breakable.state.logs / "extauthz.log"
    mark, before = log.stat().st_size, breakable.digest()
    good = policy.read(file)
    policy.write(file, good.replace(old, new, 1) if old else new)
    for component in ("extauthz", "xds"):
        eventually(
            lambda component=component: breakable.metric(component, "gatehouse_policy_reload_ok") == 0,  # type: ignore[misc]
            f"{component} says so",
            5,
        )
    assert breakable.digest() == before
    assert asked(breakable, "ana").status == 200
    assert refused(breakable) == "group_not_allowed"
    lines = [json.loads(line) for line in log_since(log, mark).splitlines()]
    messages = [str(line["message"]) for line in lines if file in str(line.get("message"))]
    assert any(f"{file}:" in message and said in message for message in messages), messages
    policy.write(file, good)
    eventually(lambda: breakable.metric("extauthz", "gatehouse_policy_reload_ok") == 1, "mended", 3)
    assert breakable.digest() == before


def test_a_folder_that_is_gone_changes_nothing(breakable: Stack, policy: Policy) -> None:
    before = breakable.digest()
    away = Path(f"{policy.root}-away")
    policy.root.rename(away)
    try:
        eventually(lambda: breakable.metric("extauthz", "gatehouse_policy_reload_ok") == 0, "it is missed", 5)
        assert breakable.digest() == before
        assert asked(breakable, "ana").status == 200
        assert refused(breakable) == "group_not_allowed"
    finally:
        away.rename(policy.root)

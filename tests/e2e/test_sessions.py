"""Real MCP clients through both doors, and sessions that belong to who opened them."""

from __future__ import annotations

import pytest

from gatehouse.client import Call, Credentials, Era, Outcome, perform
from gatehouse.devca import Pair
from tests.e2e import mcp
from tests.e2e.forge import AI_CHAT, CHAT_CLIENT, IDE, REPORT_BOT
from tests.e2e.stack import Stack
from tests.e2e.wire import Answer, Door, request

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-gateway")]


def call(
    gateway: Stack,
    tool: str | None,
    person: str | None,
    *,
    era: Era = Era.STATELESS,
    workload: str | None = None,
    **arguments: str | int,
) -> Outcome:
    certificate: Pair | None = gateway.forge.svid(workload) if workload else None
    client = CHAT_CLIENT if workload == AI_CHAT else IDE
    token = gateway.forge.token(person, client=client) if person else None
    port = gateway.mesh_port if workload else gateway.users.port
    made = Call(f"https://127.0.0.1:{port}/presto/mcp", tool, arguments, era)
    return perform(made, Credentials(token, certificate), gateway.state.server_ca)


@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize("workload", [None, AI_CHAT])
def test_a_real_client_gets_its_rows(gateway: Stack, era: Era, workload: str | None) -> None:
    mark = gateway.upstream.mark()
    outcome = call(gateway, "run_query", "ana", era=era, workload=workload, sql="SELECT 41 + 1 AS answer")
    assert outcome.ok, outcome
    assert "42" in str(outcome.result)
    hits = gateway.upstream.since(mark)
    assert hits
    for hit in hits:
        assert hit.one("x-forwarded-user") == "ana"
        assert hit.all("authorization") == []


@pytest.mark.parametrize("era", Era)
def test_a_client_sees_only_its_own_tools(gateway: Stack, era: Era) -> None:
    engineer = call(gateway, None, "ana", era=era)
    seller = call(gateway, None, "sam", era=era)
    assert engineer.ok, engineer
    assert seller.ok, seller
    assert isinstance(engineer.result, list)
    assert isinstance(seller.result, list)
    assert set(map(str, engineer.result)) - set(map(str, seller.result)) == {"get_revenue_metrics"}


@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize(
    ("person", "tool", "reason"),
    [
        ("hana", "run_query", "group_not_allowed"),
        ("carl", "run_query", "guardrail"),
        ("sam", "get_revenue_metrics", "tool_group_required"),
        ("ana", "overwrite_table", "tool_group_required"),
        ("ana", "no_such_tool", "tool_unknown"),
    ],
)
def test_a_real_client_reads_why_not(gateway: Stack, era: Era, person: str, tool: str, reason: str) -> None:
    """With sessions it's the handshake that is refused already, where nothing at all would be allowed."""
    outcome = call(gateway, tool, person, era=era, sql="SELECT 1")
    assert not outcome.ok
    assert outcome.reason == reason, outcome
    assert outcome.decision_id
    assert outcome.help


@pytest.mark.parametrize("era", Era)
def test_a_service_lists_tables_and_queries_nothing(gateway: Stack, era: Era) -> None:
    if era is Era.STATELESS:
        assert call(gateway, "list_tables", None, era=era, workload=REPORT_BOT).ok
    with gateway.unreached():
        door = gateway.mesh(REPORT_BOT)
        answer = gateway.post(mcp.call("run_query", sql="SELECT 1"), server="presto", door=door)
    assert (answer.status, answer.reason) == (403, "guardrail")


# Sessions


class Session:
    """A session of 2025-11-25, opened by hand so that its id can be stolen."""

    def __init__(self, gateway: Stack, person: str, door: Door | None = None, client: str = IDE) -> None:
        self._gateway = gateway
        self._door = door or gateway.users
        opened = gateway.post(
            mcp.initialize(),
            server="presto",
            token=gateway.forge.token(person, client=client),
            door=self._door,
        )
        assert opened.status == 200, opened
        found = opened.header("mcp-session-id")
        assert found
        self.id = found

    def list_tools(self, person: str, *, door: Door | None = None, client: str = IDE) -> Answer:
        token = self._gateway.forge.token(person, client=client)
        headers = [("mcp-session-id", self.id)]
        asked = mcp.message("tools/list")
        return self._gateway.post(
            asked, server="presto", token=token, headers=headers, door=door or self._door
        )

    def bodiless(self, method: str, person: str, *, client: str = IDE, door: Door | None = None) -> Answer:
        token = self._gateway.forge.token(person, client=client)
        headers = [
            ("authorization", f"Bearer {token}"),
            ("mcp-session-id", self.id),
            ("mcp-protocol-version", mcp.LEGACY),
            ("accept", "text/event-stream"),
        ]
        door = door or self._door
        return door.one(request(method, "/presto/mcp", door.authority, headers))


def test_a_session_is_of_who_opened_it(gateway: Stack) -> None:
    session = Session(gateway, "ana")
    assert session.list_tools("ana").status == 200
    # sam may use Presto as well, and has got hold of the id
    assert session.list_tools("sam").status == 404
    assert session.bodiless("GET", "sam").status == 404
    assert session.bodiless("DELETE", "sam").status == 404
    assert session.list_tools("ana").status == 200
    assert session.bodiless("DELETE", "ana").status == 200
    assert session.list_tools("ana").status == 404


def test_the_same_person_elsewhere_is_another_caller(gateway: Stack) -> None:
    """What one surface opened, another one can't go on with: its rules are others."""
    session = Session(gateway, "ana")
    chat = gateway.mesh(AI_CHAT)
    assert session.list_tools("ana", door=chat, client=CHAT_CLIENT).status == 404
    assert session.list_tools("ana").status == 200


def test_who_may_not_use_the_server_learns_nothing_of_its_sessions(gateway: Stack) -> None:
    session = Session(gateway, "ana")
    for answer in (
        session.list_tools("hana"),
        session.bodiless("GET", "hana"),
        session.bodiless("DELETE", "hana"),
    ):
        assert (answer.status, answer.reason) == (403, "group_not_allowed")
    assert session.list_tools("ana").status == 200


def test_nobody_guesses_a_session(gateway: Stack) -> None:
    ids = {Session(gateway, "ana").id for _ in range(3)}
    assert len(ids) == 3
    assert all(len(found) >= 32 for found in ids)
    made_up = Session(gateway, "ana")
    made_up.id = "0" * 32
    assert made_up.list_tools("ana").status == 404


def test_a_session_needs_its_identity_on_every_request(gateway: Stack) -> None:
    session = Session(gateway, "ana")
    with gateway.unreached():
        answer = gateway.post(
            mcp.message("tools/list"), server="presto", headers=[("mcp-session-id", session.id)]
        )
    assert (answer.status, answer.reason) == (401, "credentials_required")


def test_around_envoy_nobody_is_anybody(gateway: Stack) -> None:
    """The server's own port: neither forged headers nor a real token help, nor another server's assertion."""
    direct = Door("127.0.0.1", gateway.presto_port, None)
    body = mcp.stateless(mcp.call("list_tables"))
    version = mcp.stateless_headers("tools/call", "list_tables")
    forged = [
        ("x-forwarded-user", "ana"),
        ("x-forwarded-groups", "ads,ads-eng"),
        ("x-forwarded-surface", "ide"),
    ]
    token = gateway.forge.token()
    for headers, presented in ((forged, None), (forged, token), ([], token)):
        answer = gateway.post(
            body, server="presto", door=direct, token=presented, headers=[*version, *headers], path="/mcp"
        )
        assert (answer.status, answer.reason_of_error) == (401, "identity_required")
    _, hit = gateway.reached(lambda: gateway.post(mcp.call("search"), token=token))
    stolen = [("x-forwarded-identity", hit.one("x-forwarded-identity"))]
    answer = gateway.post(body, server="presto", door=direct, headers=[*version, *stolen], path="/mcp")
    assert (answer.status, answer.reason_of_error) == (401, "identity_invalid")

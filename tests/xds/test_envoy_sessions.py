"""Sessions of 2025-11-25 through a real Envoy, before two replicas of a real server that share nothing."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import anyio
import httpx
import httpx2
import pytest
from envoy_data_plane.envoy.config.route import v3 as route
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitRequestParams, ElicitResult

from extauthz.wire import ext_authz_pb2 as wire
from identity.assertion import Minter
from identity.signing import generate_signing_key
from mcpguard.confirmation_setup import ConfirmationOptions
from pdp.deployment import Address, Endpoint
from tests.mcpguard.running import LEGACY, MODERN, Running, legacy, serving
from tests.mcpguard.toy import Toy
from tests.mcpguard.world import World, assertion
from tests.support.envoy import eventually
from tests.xds import factory
from tests.xds.gate import RULES, Gate, running_gate
from tests.xds.neighbours import header
from xds.resource import Kind
from xds.resources import build

pytestmark = pytest.mark.e2e

HELLO = legacy(
    "initialize",
    {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
)
CALL = legacy("tools/call", {"name": "open_tool", "arguments": {}}, request_id=2)
SEVERAL = 8


@dataclass
class Pair:
    gate: Gate
    toys: tuple[Toy, Toy]
    replicas: tuple[Running, Running]

    @property
    def url(self) -> str:
        return f"{self.gate.url}/toy/mcp"

    def place(self, *replicas: Running) -> None:
        addresses = tuple(Address.parse(replica.url.removeprefix("http://")) for replica in replicas)
        self.gate.place("toy", Endpoint(addresses))
        self.gate.serve(factory.server("presto", RULES), factory.server("toy", RULES))

    def post(self, body: dict[str, object], session: str | None = None) -> httpx.Response:
        headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": LEGACY}
        if session is not None:
            headers["mcp-session-id"] = session
        return httpx.post(self.url, json=body, headers=headers, timeout=10)

    def opened(self) -> str:
        answer = self.post(HELLO)
        assert answer.status_code == 200, answer.text
        session = answer.headers["mcp-session-id"]
        done = self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, session)
        assert done.status_code == 202, done.text
        return session


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    root = tmp_path_factory.mktemp("sessions")
    keys, toys = generate_signing_key(), (Toy(), Toy())
    minter = Minter(keys)

    def identified(_: wire.CheckRequest) -> wire.CheckResponse:
        """Allow everybody as Eva, with the assertion that the server asks for."""
        ok = wire.OkHttpResponse()
        ok.headers.append(header("x-forwarded-identity", minter.mint(assertion(), time.time())))
        return wire.CheckResponse(status=wire.RpcStatus(code=0), ok_response=ok)

    with ExitStack() as stack:
        gate = stack.enter_context(running_gate(root))
        shared = root / "confirmation.keys"
        shared.write_text(secrets.token_hex(32) + "\n")
        shared.chmod(0o600)
        together = ConfirmationOptions(
            keys=shared
        )  # 2026-07-28 has no sessions: any replica may get the answer
        replicas = []
        for number, toy in enumerate(toys):
            folder = root / str(number)
            folder.mkdir()
            running = serving(toy.mcp, World(folder), folder, keys=keys, confirmations=together)
            replicas.append(stack.enter_context(running))
        gate.authz.answer = identified
        made = Pair(gate, toys, (replicas[0], replicas[1]))
        yield made


@pytest.fixture
def two(pair: Pair) -> Pair:
    pair.place(*pair.replicas)
    eventually(lambda: len({address_in(pair.opened()) for _ in range(4)}) == 2, "both replicas serve")
    for toy in pair.toys:
        toy.ran.clear()
    return pair


def address_in(session: str) -> str:
    """The replica that Envoy wrote before the server's own session id."""
    where, _, _ = session.partition(";UV:")
    return base64.b64decode(where).decode()


def test_each_session_stays_with_its_replica(two: Pair) -> None:
    sessions = [two.opened() for _ in range(SEVERAL)]
    for _ in range(3):
        for session in sessions:
            answer = two.post(CALL, session)
            assert answer.status_code == 200, answer.text
    ran = [toy.ran["open_tool"] for toy in two.toys]
    assert sum(ran) == 3 * SEVERAL
    assert all(ran), "one replica had everything: this shows nothing"
    ports = {address_in(session).rpartition(":")[2] for session in sessions}
    assert ports == {replica.url.rpartition(":")[2] for replica in two.replicas}


def test_the_sdks_client_needs_to_know_nothing_of_it(two: Pair) -> None:
    """Many times over, with an elicitation, whose answer is a request of its own on the same session."""

    async def yes(_: object, __: ElicitRequestParams) -> ElicitResult:
        return ElicitResult(action="accept", content={"yes": True})

    async def session(mode: str) -> None:
        async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
            transport = streamable_http_client(two.url, http_client=http)
            async with Client(transport, mode=mode, elicitation_callback=yes) as client:
                for _ in range(3):
                    assert not (await client.call_tool("open_tool", {})).is_error
                assert not (await client.call_tool("ask_tool", {})).is_error

    async def all_at_once() -> None:
        async with anyio.create_task_group() as group:
            for mode in ["legacy"] * SEVERAL + [MODERN] * 2:
                group.start_soon(session, mode)

    anyio.run(all_at_once)
    assert all(toy.ran["open_tool"] for toy in two.toys)
    assert sum(toy.ran["ask_tool"] for toy in two.toys) == SEVERAL + 2


def test_its_stream_and_its_end_go_there_too(two: Pair) -> None:
    for _ in range(4):
        session = two.opened()
        headers = {"accept": "text/event-stream", "mcp-session-id": session, "mcp-protocol-version": LEGACY}
        with httpx.stream("GET", two.url, headers=headers, timeout=10) as stream:
            assert stream.status_code == 200
        assert httpx.delete(two.url, headers=headers, timeout=10).status_code == 200
        assert two.post(CALL, session).status_code == 404


def test_a_client_chooses_among_the_servers_replicas_and_nothing_else(two: Pair) -> None:
    """A forged address is no address of the cluster's, so the call goes where any call goes: to a 404."""
    session = two.opened()
    own = session.partition(";UV:")[2]
    before = len(two.gate.upstream.hits)
    for address in (f"127.0.0.1:{two.gate.upstream.port}", "10.0.0.1:80", "nonsense"):
        forged = f"{base64.b64encode(address.encode()).decode()};UV:{own}"
        assert two.post(CALL, forged).status_code in (200, 404)  # 200 where chance has the right replica
    for broken in ("nonsense", ";UV:", "a;UV:b"):
        assert two.post(CALL, broken).status_code in (400, 404)
    assert len(two.gate.upstream.hits) == before, "another server was reached"


def test_a_replica_that_goes_ends_its_sessions_as_mcp_has_it(two: Pair) -> None:
    sessions = [two.opened() for _ in range(SEVERAL)]
    stays = two.replicas[0]
    two.place(stays)
    mine = {s for s in sessions if address_in(s).rpartition(":")[2] == stays.url.rpartition(":")[2]}
    lost = [s for s in sessions if s not in mine]
    assert lost
    eventually(lambda: all(two.post(CALL, s).status_code == 404 for s in lost), "the lost ones are told so")
    assert two.post(HELLO).status_code == 200


def test_a_single_replicas_sessions_are_its_own(pair: Pair) -> None:
    """Nothing is written into the ids where there is nothing to choose."""
    pair.place(pair.replicas[0])
    eventually(lambda: ";UV:" not in pair.opened(), "one replica, plain ids")
    assert pair.post(CALL, pair.opened()).status_code == 200


def test_where_there_may_be_several() -> None:
    """A host name may stand for several replicas: it is treated like them."""

    def kept(endpoint: Endpoint) -> bool:
        deployment = factory.deployment({"presto": endpoint})
        made = build(factory.snapshot(factory.server("presto", RULES)), deployment, 1.0, {})
        text = str(route.RouteConfiguration.parse(made.of_kind(Kind.ROUTE)["users"].body).to_dict())
        return "stateful_session" in text

    assert kept(Endpoint((Address("presto.svc", 80),)))
    assert kept(Endpoint((Address("127.0.0.1", 1), Address("127.0.0.1", 2))))
    assert not kept(Endpoint((Address("127.0.0.1", 1),)))

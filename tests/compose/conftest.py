"""The stack of docker-compose.yml, built, started and removed again, on ports and under a name of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest
from testcontainers.compose import DockerCompose

from gatehouse import client
from gatehouse.client import Call, Credentials, Era, Outcome
from gatehouse.people import PEOPLE
from gatehouse.ports import free_port
from identity.principal import JsonValue

ROOT = Path(__file__).parents[2]
HOW = "install Docker Engine 25 or later with Compose 2.23 or later, start it, then `make test-compose`"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start containers only where that is asked for, by `-m compose`."""
    if "compose" in config.option.markexpr:
        return
    ours = [item for item in items if item.get_closest_marker("compose") is not None]
    config.hook.pytest_deselected(items=ours)
    items[:] = [item for item in items if item not in ours]


@dataclass
class Stack:
    """The running stack, as somebody on the host sees it."""

    compose: DockerCompose
    users_port: int
    ca: Path
    tokens: dict[str, str] = field(default_factory=dict, repr=False)

    def docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `docker compose ...`; how it ended is for the caller to judge."""
        command = [*self.compose.docker_compose_command(), *arguments]
        return subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def do(self, *arguments: str) -> str:
        """Run `docker compose ...`, which must succeed; returns what it printed."""
        done = self.docker(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def inspect(self, service: str) -> Mapping[str, JsonValue]:
        """What the engine knows of a service's container."""
        container = self.do("ps", "--all", "--quiet", service).strip()
        found = json.loads(subprocess.check_output(["docker", "inspect", container]))
        assert isinstance(found[0], dict)
        return found[0]

    def token(self, user: str) -> str:
        """A development token of a sample person, by the documented command."""
        if user not in self.tokens:
            says = ("--user", user, "--groups", ",".join(PEOPLE[user].groups))
            printed = self.do("run", "--rm", "-T", "--no-deps", "setup", "gatehouse", "token", *says)
            self.tokens[user] = printed.strip()
        return self.tokens[user]

    def call(
        self,
        tool: str | None,
        arguments: Mapping[str, JsonValue] | None = None,
        user: str | None = "ana",
        era: Era = Era.STATELESS,
        server: str = "presto",
    ) -> Outcome:
        """One call from the host: a real MCP client, over TLS, at the published port."""
        url = f"https://127.0.0.1:{self.users_port}/{server}/mcp"
        credentials = Credentials(self.token(user) if user is not None else None)
        return client.perform(Call(url, tool, arguments or {}, era), credentials, self.ca)

    @cached_property
    def address(self) -> str:
        """The pod's own address, which the host has a route to."""
        networks = self.inspect("pod")["NetworkSettings"]
        assert isinstance(networks, dict)
        by_name = networks["Networks"]
        assert isinstance(by_name, dict)
        (network,) = by_name.values()
        assert isinstance(network, dict)
        address = network["IPAddress"]
        assert isinstance(address, str)
        assert address
        return address


@pytest.fixture(scope="session")
def engine() -> None:
    """Skip where no engine answers. One that can't build or start the stack is a failure, not a skip."""
    if shutil.which("docker") is None:
        pytest.skip(f"there is no docker command: {HOW}")
    for question in (["docker", "version"], ["docker", "compose", "version"]):
        try:
            asked = subprocess.run(question, capture_output=True, text=True, timeout=20, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"`{' '.join(question)}` does not answer: {HOW}")
        if asked.returncode != 0:
            said = " ".join(asked.stderr.split())
            pytest.skip(f"`{' '.join(question)}` says: {said}: {HOW}")


@pytest.fixture(scope="session")
def stack(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack, built from this checkout."""
    users = free_port()
    mesh = free_port({users})
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("COMPOSE_PROJECT_NAME", f"gatehouse-test-{os.getpid()}")
        environment.setenv("GATEHOUSE_USERS_PORT", str(users))
        environment.setenv("GATEHOUSE_MESH_PORT", str(mesh))
        ca = tmp_path_factory.mktemp("compose") / "servers.pem"
        with DockerCompose(ROOT, build=True, wait=True) as compose:
            running = Stack(compose, users, ca)
            running.do("cp", "setup:/state/trust/servers.pem", str(ca))
            yield running

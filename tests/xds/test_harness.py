"""The scenarios of ii/xds-test-harness (tests/vectors/xds-test-harness/), over a real gRPC stream.

How the harness's words map to ours:

- A "version" of the harness is content here: a resource at version 1 has another body than at version 2, and
  so another content hash. Expected hashes are computed from that.
- The harness counts one version for everything that SotW serves. Ours is a hash over the set that the client
  is subscribed to.
- `@non-aggregated`, one gRPC service a type, is not offered: every scenario is tagged `@aggregated` as well
  and runs that way. `@sotw` and `@incremental` each run where a scenario has the tag.
"""

from __future__ import annotations

import itertools
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from pytest_bdd import given, parsers, scenarios, then, when

from tests.xds.client import Client, Got
from tests.xds.made import made
from tests.xds.plane import Plane
from xds.resource import Kind, Resource, ResourceSet, set_version

_VECTORS = Path(__file__).parents[1] / "vectors" / "xds-test-harness"
_KINDS = {"CDS": Kind.CLUSTER, "LDS": Kind.LISTENER, "RDS": Kind.ROUTE, "EDS": Kind.ENDPOINT}
_BARRIERS = tuple(f"barrier-{number}" for number in range(9))
_SCENARIO = re.compile(r"^(\s*Scenario(?: Outline)?:\s*)(.*?)\s*$")


def _with_unique_names(folder: Path) -> Path:
    """pytest-bdd knows scenarios by name, and the features use three names twice."""
    seen: Counter[str] = Counter()
    for source in sorted(_VECTORS.glob("*.feature")):
        lines = []
        for line in source.read_text().splitlines():
            found = _SCENARIO.match(line)
            if found:
                seen[found[2]] += 1
            lines.append(f"{found[1]}{found[2]} ({seen[found[2]]})" if found else line)
        (folder / source.name).write_text("\n".join(lines) + "\n")
    return folder


_FEATURES = tempfile.TemporaryDirectory(prefix="harness-")
scenarios(str(_with_unique_names(Path(_FEATURES.name))))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    tags = getattr(metafunc.function, "harness_tags", None)
    if tags is not None:
        metafunc.parametrize("delta", [v == "incremental" for v in ("sotw", "incremental") if v in tags])


def test_no_scenario_is_lost() -> None:
    found = [name for name, test in globals().items() if hasattr(test, "harness_tags")]
    written = sum(path.read_text().count("Scenario") for path in _VECTORS.glob("*.feature"))
    assert len(found) == written == 18


class Setup:
    """The target, as the harness sets it, and the client under whose eyes it changes."""

    def __init__(self, plane: Plane, client: Client) -> None:
        self.client = client
        self._plane = plane
        self._resources: dict[tuple[Kind, str], Resource] = {}
        self._barriers = itertools.cycle(_BARRIERS)
        for name in _BARRIERS:
            self._resources[Kind.SECRET, name] = made(Kind.SECRET, name)
        self._seen = 0

    def set(self, kind: Kind, version: str, *names: str) -> None:
        for name in names:
            self._resources[kind, name] = made(kind, name, version)
        self.publish()

    def remove(self, kind: Kind, name: str) -> None:
        del self._resources[kind, name]
        self.publish()

    def publish(self) -> None:
        self._plane.publish(ResourceSet.of(self._resources.values()))

    def subscribed(self, kind: Kind) -> list[Resource]:
        """What the client should know of: what exists of what it asks for."""
        names = self.client.names[kind]
        return [r for (k, name), r in self._resources.items() if k is kind and (name in names or not names)]

    def settle(self) -> None:
        """Until whatever the server had to say so far has arrived: a stream is answered in order."""
        name = next(self._barriers)
        before = len(self.client.of(Kind.SECRET))
        self.client.subscribe(Kind.SECRET, name)
        self.client.wait(lambda: len(self.client.of(Kind.SECRET)) > before, name)

    def latest(self, kind: Kind) -> dict[str, bytes]:
        """What the client has by now of one kind, by name."""
        known: dict[str, bytes] = {}
        for got in self.client.of(kind):
            known |= got.resources
        return known

    def bring(self, kind: Kind, names: list[str], version: str) -> list[Got]:
        """Wait until the client has these at this version; gives the responses that brought them."""
        wanted = {name: made(kind, name, version).body for name in names}
        self.client.wait(lambda: wanted.items() <= self.latest(kind).items(), f"{names} at {version}")
        return [got for got in self.client.of(kind) if wanted.items() & got.resources.items()]


def split(names: str) -> list[str]:
    return sorted(name.strip() for name in names.split(","))


@pytest.fixture
def client(plane: Plane, delta: bool) -> Iterator[Client]:
    with grpc.insecure_channel(f"127.0.0.1:{plane.port}") as channel:
        client = Client(channel, delta=delta)
        yield client
        client.close()


@pytest.fixture
def setup(plane: Plane, client: Client) -> Setup:
    return Setup(plane, client)


@pytest.fixture
def delta() -> bool:
    """Which variant; `pytest_generate_tests` says for each scenario."""
    return False


@pytest.fixture(autouse=True)
def _variant(delta: bool) -> None:
    """Lets scenarios, which name no fixture themselves, be parametrized."""


@given(
    parsers.parse(
        'a target setup with service "{service}", resources "{names}", and starting version "{version}"'
    )
)
def _(setup: Setup, service: str, names: str, version: str) -> None:
    setup.set(_KINDS[service], version, *split(names))


@given(
    parsers.parse(
        'a target setup with multiple services "{services}", each with resources "{names}", '
        'and starting version "{version}"'
    )
)
def _(setup: Setup, services: str, names: str, version: str) -> None:
    for service in split(services):
        setup.set(_KINDS[service], version, *split(names))


@when(parsers.parse('the Client does a wildcard subscription to "{service}"'))
def _(setup: Setup, service: str) -> None:
    setup.client.subscribe(_KINDS[service])


@when(parsers.parse('the Client subscribes to resources "{names}" for "{service}"'))
def _(setup: Setup, names: str, service: str) -> None:
    setup.client.subscribe(_KINDS[service], *split(names))


@when(
    parsers.parse(
        'the Client updates subscription to a resource("{name}") of "{service}" with version "{version}"'
    )
)
def _(setup: Setup, name: str, service: str, version: str) -> None:
    setup.client.subscribe(_KINDS[service], name)
    setup.settle()


@when(parsers.parse('the Client unsubscribes from all resources for "{service}"'))
def _(setup: Setup, service: str) -> None:
    kind = _KINDS[service]
    setup.client.unsubscribe(kind, *setup.client.names[kind])
    setup.settle()
    setup._seen = len(setup.client.of(kind))


@when(parsers.parse('the Client unsubscribes from resource "{name}" for service "{service}"'))
def _(setup: Setup, name: str, service: str) -> None:
    setup.client.unsubscribe(_KINDS[service], name)
    setup.settle()


@when(parsers.parse('the resource "{name}" of service "{service}" is updated to version "{version}"'))
@when(parsers.parse('the resource "{name}" is added to the "{service}" with version "{version}"'))
def _(setup: Setup, name: str, service: str, version: str) -> None:
    setup.set(_KINDS[service], version, name)


@when(parsers.parse('the resource "{name}" is removed from the "{service}"'))
def _(setup: Setup, name: str, service: str) -> None:
    setup.remove(_KINDS[service], name)


@then(parsers.parse('the Client receives the resources "{names}" and version "{version}" for "{service}"'))
def _(setup: Setup, names: str, version: str, service: str) -> None:
    """SotW's whole sets are at a version as sets: that one which changed last brought them there."""
    kind = _KINDS[service]
    if setup.client.delta or kind not in (Kind.CLUSTER, Kind.LISTENER):
        setup.bring(kind, split(names), version)
        return
    expected = set_version(setup.subscribed(kind))
    setup.client.wait(
        lambda: bool(setup.client.of(kind)) and setup.client.of(kind)[-1].version == expected, names
    )
    assert set(split(names)) <= setup.client.of(kind)[-1].resources.keys()


@then(
    parsers.parse('the resources "{names}" and version "{version}" for "{service}" came in a single response')
)
def _(setup: Setup, names: str, version: str, service: str) -> None:
    kind = _KINDS[service]
    brought = [got for got in setup.client.of(kind) if got.version == set_version(setup.subscribed(kind))]
    assert len(brought) == 1
    assert sorted(brought[0].resources) == split(names)


@then(
    parsers.parse(
        'the Client receives only the resource "{name}" and version "{version}" for the service "{service}"'
    )
)
def _(setup: Setup, name: str, version: str, service: str) -> None:
    brought = setup.bring(_KINDS[service], [name], version)
    assert [list(got.resources) for got in brought] == [[name]]


@then(parsers.parse('the Client does not receive any message from "{service}"'))
def _(setup: Setup, service: str) -> None:
    setup.settle()
    assert len(setup.client.of(_KINDS[service])) == setup._seen


@then(parsers.parse('the Client receives notice that resource "{name}" was removed for service "{service}"'))
def _(setup: Setup, name: str, service: str) -> None:
    kind = _KINDS[service]
    setup.client.wait(lambda: any(name in got.removed for got in setup.client.of(kind)), f"{name} removed")


@then(
    parsers.parse(
        'the client does not receive resource "{name}" of service "{service}" at version "{version}"'
    )
)
def _(setup: Setup, name: str, service: str, version: str) -> None:
    setup.settle()
    kind = _KINDS[service]
    assert setup.latest(kind)[name] != made(kind, name, version).body


@then(parsers.parse('for service "{service}", no resource other than "{name}" has same version or nonce'))
@then(parsers.parse('for service "{service}", no resource other than "{name}" has same nonce'))
def _(setup: Setup, service: str, name: str) -> None:
    kind = _KINDS[service]
    last = next(got for got in reversed(setup.client.of(kind)) if name in got.resources)
    assert list(last.resources) == [name]
    others = [got for got in setup.client.of(kind) if got is not last]
    assert last.nonce not in {got.nonce for got in others}
    elsewhere = {v for got in others for other, v in got.versions.items() if other != name}
    assert last.versions[name] not in elsewhere


@then("the service never responds more than necessary")
def _(setup: Setup) -> None:
    """Every response told the client something that it didn't know."""
    setup.settle()
    known: dict[tuple[Kind, str], bytes | None] = {}
    for got in setup.client.received:
        news = {(got.kind, name): body for name, body in got.resources.items()}
        news |= {(got.kind, name): None for name in got.removed}
        assert any(known.get(key, b"") != body for key, body in news.items()), got
        known |= news

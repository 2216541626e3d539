"""The order across kinds: nothing that Envoy holds names what it doesn't have."""

from __future__ import annotations

import pytest

from tests.xds.made import whole
from xds.resource import Kind, ResourceSet
from xds.stream import WARMING_SECONDS, Stream, Turn
from xds.subscription import Answer, DeltaRequest, Request, Response, SotwRequest

CDS, EDS, LDS, RDS = Kind.CLUSTER, Kind.ENDPOINT, Kind.LISTENER, Kind.ROUTE
NOW = 100.0


class FakeEnvoy:
    """Subscribes as Envoy does, and answers only when told to."""

    def __init__(self, *, delta: bool) -> None:
        self.delta = delta
        self.stream = Stream(delta=delta)
        self.names: dict[Kind, tuple[str, ...]] = {}
        self.last: dict[Kind, Response] = {}

    def subscribe(self, kind: Kind, *names: str, now: float = NOW) -> list[Kind]:
        new = tuple(name for name in names if name not in self.names.get(kind, ()))
        self.names[kind] = names
        nonce = self.last[kind].nonce if kind in self.last else ""
        request: Request
        request = DeltaRequest(kind, subscribe=new) if self.delta else SotwRequest(kind, names, nonce)
        return self._took(self.stream.receive(request, now))

    def publish(self, resources: ResourceSet, now: float = NOW) -> list[Kind]:
        return self._took(self.stream.publish(resources, now))

    def ack(self, kind: Kind, error: str | None = None, now: float = NOW) -> list[Kind]:
        nonce = self.last[kind].nonce
        request: Request
        if self.delta:
            request = DeltaRequest(kind, nonce=nonce, error=error)
        else:
            request = SotwRequest(kind, self.names[kind], nonce, error)
        turn = self.stream.receive(request, now)
        assert turn.answer is (Answer.NACK if error else Answer.ACK)
        return self._took(turn)

    def tick(self, now: float) -> list[Kind]:
        return self._took(self.stream.tick(now))

    def has(self, kind: Kind) -> set[str]:
        return {resource.name for resource in self.last[kind].resources}

    def _took(self, turn: Turn) -> list[Kind]:
        for response in turn.responses:
            self.last[response.kind] = response
        return [response.kind for response in turn.responses]


ONE = whole(cluster={"a": "1"}, endpoint={"a": "1"}, listener={"users": "1"}, route={"users": "a"})
TWO = whole(
    cluster={"a": "1", "b": "1"},
    endpoint={"a": "1", "b": "1"},
    listener={"users": "1"},
    route={"users": "a b"},
)


@pytest.fixture(params=[False, True], ids=["sotw", "delta"])
def envoy(request: pytest.FixtureRequest) -> FakeEnvoy:
    """An Envoy that has `ONE`, all of it answered."""
    fake = FakeEnvoy(delta=request.param)
    assert fake.publish(ONE) == []
    assert fake.subscribe(CDS) == [CDS]
    assert fake.ack(CDS) == []
    assert fake.subscribe(EDS, "a") == [EDS]
    assert fake.ack(EDS) == []
    assert fake.subscribe(LDS) == [LDS]
    assert fake.ack(LDS) == []
    assert fake.subscribe(RDS, "users") == [RDS]
    assert fake.ack(RDS) == []
    return fake


def test_nothing_is_said_before_anything_is_published() -> None:
    fake = FakeEnvoy(delta=True)
    assert fake.subscribe(CDS) == []
    assert fake.publish(ONE) == [CDS]


def test_a_new_cluster_is_warm_before_a_route_uses_it(envoy: FakeEnvoy) -> None:
    assert envoy.publish(TWO) == [CDS]
    assert envoy.ack(CDS) == []
    assert envoy.subscribe(EDS, "a", "b") == [EDS]
    assert envoy.ack(EDS) == [RDS]


def test_endpoints_asked_for_before_the_cluster_is_answered(envoy: FakeEnvoy) -> None:
    assert envoy.publish(TWO) == [CDS]
    assert envoy.subscribe(EDS, "a", "b") == [EDS]
    assert envoy.ack(EDS) == []
    assert envoy.ack(CDS) == [RDS]


def test_a_cluster_goes_only_after_the_routes_without_it_were_accepted(envoy: FakeEnvoy) -> None:
    envoy.publish(TWO)
    envoy.ack(CDS)
    envoy.subscribe(EDS, "a", "b")
    envoy.ack(EDS)
    envoy.ack(RDS)
    assert envoy.publish(ONE) == [RDS]
    kinds = envoy.ack(RDS)
    assert kinds[0] is CDS
    if envoy.delta:
        assert envoy.last[CDS].removed == ("b",)
        assert envoy.last[EDS].removed == ("b",)
    else:
        assert envoy.has(CDS) == {"a"}


def test_routes_that_are_refused_keep_the_clusters_that_the_old_ones_use(envoy: FakeEnvoy) -> None:
    envoy.publish(TWO)
    envoy.ack(CDS)
    envoy.subscribe(EDS, "a", "b")
    envoy.ack(EDS)
    envoy.ack(RDS)
    envoy.publish(ONE)
    assert envoy.ack(RDS, error="bad route") == []
    mended = whole(
        cluster={"a": "1"}, endpoint={"a": "1"}, listener={"users": "1"}, route={"users": "mended"}
    )
    assert envoy.publish(mended) == [RDS]
    assert CDS in envoy.ack(RDS)


def test_routes_wait_for_a_cluster_that_never_warms_but_not_forever(envoy: FakeEnvoy) -> None:
    assert envoy.publish(TWO) == [CDS]
    assert envoy.ack(CDS) == []
    deadline = envoy.stream.deadline(NOW)
    assert deadline == NOW + WARMING_SECONDS
    assert envoy.tick(deadline - 0.01) == []
    assert envoy.tick(deadline) == [RDS]
    assert envoy.stream.deadline(deadline) is None


def test_refused_clusters_hold_nothing_back(envoy: FakeEnvoy) -> None:
    assert envoy.publish(TWO) == [CDS]
    assert envoy.ack(CDS, error="bad cluster") == [RDS]


def test_an_updated_cluster_gets_its_endpoints_again(envoy: FakeEnvoy) -> None:
    changed = whole(cluster={"a": "2"}, endpoint={"a": "1"}, listener={"users": "1"}, route={"users": "a"})
    assert envoy.publish(changed) == [CDS, EDS]
    assert envoy.has(EDS) == {"a"}


def test_only_what_changed_is_sent(envoy: FakeEnvoy) -> None:
    changed = whole(
        cluster={"a": "1"}, endpoint={"a": "1"}, listener={"users": "1"}, route={"users": "other"}
    )
    assert envoy.publish(changed) == [RDS]
    envoy.ack(RDS)
    assert envoy.publish(changed) == []


def test_what_is_published_while_a_response_is_unanswered_comes_after_it(envoy: FakeEnvoy) -> None:
    routes = [
        whole(cluster={"a": "1"}, endpoint={"a": "1"}, listener={"users": "1"}, route={"users": content})
        for content in ("2", "3", "4")
    ]
    assert envoy.publish(routes[0]) == [RDS]
    assert envoy.publish(routes[1]) == []
    assert envoy.publish(routes[2]) == []
    assert envoy.ack(RDS) == [RDS]
    assert envoy.last[RDS].resources[0].body == b"users 4"


def test_a_client_of_routes_alone_waits_for_nobody() -> None:
    fake = FakeEnvoy(delta=False)
    fake.publish(TWO)
    assert fake.subscribe(RDS, "users") == [RDS]

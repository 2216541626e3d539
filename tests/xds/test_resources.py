from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm

from pdp import headers
from pdp.deployment import Address, Deployment, Listener, ServerTls, TrustBundle
from pdp.model import Snapshot
from tests.xds import factory
from tests.xds.gate import RULES
from xds.consistency import InconsistentError, check
from xds.filters import IMMUTABLE, MUTABLE
from xds.resource import Kind, Resource, ResourceSet, set_version
from xds.resources import Memo, build
from xds.routes import domains


def resources(snapshot: Snapshot, deployment: Deployment, memo: Memo | None = None) -> ResourceSet:
    made = build(snapshot, deployment, 1.0, factory.NO_FILES, memo)
    check(made, snapshot, deployment)
    return made


def routes(made: ResourceSet) -> dict[str, route.Route]:
    config = route.RouteConfiguration.parse(made.of_kind(Kind.ROUTE)["users"].body)
    (host,) = config.virtual_hosts
    return {one.name: one for one in host.routes}


def many(count: int, lapsed: int | None = None) -> tuple[Snapshot, Deployment]:
    servers = [
        factory.server(f"s{number}", RULES, in_force=factory.NEVER if number == lapsed else factory.ALWAYS)
        for number in range(count)
    ]
    endpoints = {f"s{number}": factory.endpoint(20_000 + number) for number in range(count)}
    return factory.snapshot(*servers), factory.deployment(endpoints)


class TestBuild:
    def test_the_same_input_gives_the_same_bytes(self) -> None:
        assert resources(*many(5)) == resources(*many(5))

    def test_a_memo_changes_nothing(self) -> None:
        memo = Memo()
        for lapsed in (None, 2, 3, None):
            snapshot, deployment = many(5, lapsed)
            assert resources(snapshot, deployment, memo) == resources(snapshot, deployment)

    def test_only_what_changed_has_another_version(self) -> None:
        before, after = resources(*many(5)), resources(*many(5, lapsed=3))
        changed = {
            (kind, name)
            for kind in Kind
            for name, one in after.of_kind(kind).items()
            if before.of_kind(kind)[name].version != one.version
        }
        assert changed == {(Kind.ROUTE, "users")}

    def test_order_of_routes(self) -> None:
        """What refuses comes first, what catches all comes last."""
        names = list(routes(resources(*many(2))))
        assert (names[0], names[1], names[-1]) == ("method", "healthz", "unknown")

    def test_a_server_without_an_endpoint_has_a_route_and_no_cluster(self) -> None:
        made = resources(factory.snapshot(factory.server("presto", RULES)), factory.deployment())
        assert list(made.of_kind(Kind.CLUSTER)) == ["ext_authz"]
        assert routes(made)["presto/mcp"].direct_response is not None

    @pytest.mark.parametrize("organization", [factory.ALWAYS, factory.NEVER])
    @pytest.mark.parametrize("in_force", [factory.ALWAYS, factory.NEVER])
    def test_both_the_organization_and_the_server_must_be_in_force(
        self, organization: factory.InForce, in_force: factory.InForce
    ) -> None:
        snapshot = factory.snapshot(
            factory.server("presto", RULES, in_force=in_force), organization=organization
        )
        made = resources(snapshot, factory.deployment({"presto": factory.endpoint(1)}))
        open_now = routes(made)["presto/mcp"].route is not None
        assert open_now is (organization is in_force is factory.ALWAYS)

    def test_no_deployment_of_a_server_that_policy_does_not_know(self) -> None:
        made = resources(factory.snapshot(), factory.deployment({"ghost": factory.endpoint(1)}))
        assert list(made.of_kind(Kind.CLUSTER)) == ["ext_authz"]

    def test_calls_are_never_retried(self) -> None:
        one = routes(resources(*many(1)))["s0/mcp"].route
        assert one is not None
        assert one.retry_policy is None


class TestScale:
    def test_a_thousand_servers_from_nothing(self) -> None:
        snapshot, deployment = many(1000)
        begun = time.perf_counter()
        made = resources(snapshot, deployment)
        assert time.perf_counter() - begun < 10
        assert len(made.of_kind(Kind.CLUSTER)) == 1001

    def test_one_change_among_a_thousand(self) -> None:
        memo = Memo()
        resources(*many(1000), memo)
        took = []
        for lapsed in range(3):
            snapshot, deployment = many(1000, lapsed)
            begun = time.perf_counter()
            resources(snapshot, deployment, memo)
            took.append(time.perf_counter() - begun)
        assert min(took) < 0.05


class TestDomains:
    @pytest.mark.parametrize(
        ("public_url", "door", "expected"),
        [
            ("https://gw.corp.example", Listener(Address("0.0.0.0", 443)), ("gw.corp.example",)),
            ("https://gw.corp.example:8443", Listener(Address("::", 443)), ("gw.corp.example",)),
            ("http://127.0.0.1:80", Listener(Address("127.0.0.1", 80)), ("127.0.0.1", "localhost")),
            ("https://gw", Listener(Address("10.0.0.1", 443), hosts=("b",)), ("10.0.0.1", "b", "gw")),
            ("http://[::1]:80", Listener(Address("::1", 80)), ("[::1]", "localhost")),
        ],
    )
    def test_explicit(self, public_url: str, door: Listener, expected: tuple[str, ...]) -> None:
        assert domains(public_url, door) == expected


class TestHeaders:
    def test_ext_authz_may_change_what_crosses_the_border_and_nothing_dangerous(self) -> None:
        for name in (*headers.FORWARDED, *headers.CONSUMED, headers.DECISION):
            assert re.fullmatch(MUTABLE, name)
            assert not re.fullmatch(IMMUTABLE, name)
        for name in (":path", ":authority", "host", "x-forwarded-client-cert", "cookie", "x-original-url"):
            assert not re.fullmatch(MUTABLE, name)
        for name in ("x-forwarded-host", "x-forwarded-for", "x-forwarded-proto"):
            assert re.fullmatch(IMMUTABLE, name)


def managers(made: ResourceSet) -> dict[str, hcm.HttpConnectionManager]:
    found = {}
    for name, one in made.of_kind(Kind.LISTENER).items():
        only = listener.Listener.parse(one.body).filter_chains[0].filters[0]
        assert only.typed_config is not None
        manager = only.typed_config.unpack()
        assert isinstance(manager, hcm.HttpConnectionManager)
        found[name] = manager
    return found


def with_mesh() -> tuple[Snapshot, Deployment]:
    snapshot, deployment = many(2)
    tls = ServerTls(factory.Path("/c"), factory.Path("/k"))
    return snapshot, replace(
        deployment,
        mesh=Listener(Address("127.0.0.1", 8444), tls),
        trust_bundles={"corp.example": TrustBundle(factory.Path("/t"))},
    )


MATERIAL = {factory.Path(name): b"pem" for name in ("/c", "/k", "/t")}


def test_filters_stand_in_their_order() -> None:
    snapshot, deployment = with_mesh()
    found = managers(build(snapshot, deployment, 1.0, MATERIAL))
    names = {door: [one.name.rpartition(".")[2] for one in m.http_filters] for door, m in found.items()}
    assert names == {
        "users": ["cors", "mcp", "ext_authz", "stateful_session", "router"],
        "mesh": ["cors", "mcp", "ext_authz", "rbac", "stateful_session", "router"],
    }


class TestConsistency:
    def inconsistent(self, made: ResourceSet, snapshot: Snapshot, deployment: Deployment) -> str:
        with pytest.raises(InconsistentError) as caught:
            check(made, snapshot, deployment)
        return str(caught.value)

    def without(self, made: ResourceSet, kind: Kind, name: str) -> ResourceSet:
        return ResourceSet.of(
            one
            for of_kind in made.by_kind.values()
            for one in of_kind.values()
            if (one.kind, one.name) != (kind, name)
        )

    def test_everything_that_is_used_is_there(self) -> None:
        snapshot, deployment = with_mesh()
        made = build(snapshot, deployment, 1.0, MATERIAL)
        check(made, snapshot, deployment)
        for of_kind in made.by_kind.values():
            for one in of_kind.values():
                if one.kind is not Kind.LISTENER:
                    assert one.name in self.inconsistent(
                        self.without(made, one.kind, one.name), snapshot, deployment
                    )

    def test_routes_without_their_listener(self) -> None:
        snapshot, deployment = many(1)
        made = self.without(resources(snapshot, deployment), Kind.LISTENER, "users")
        assert "route users is used by nothing" in self.inconsistent(made, snapshot, deployment)

    def test_two_listeners_on_one_address(self) -> None:
        snapshot, deployment = with_mesh()
        assert deployment.mesh is not None
        deployment = replace(deployment, users=Listener(deployment.mesh.address))
        made = build(snapshot, deployment, 1.0, MATERIAL)
        assert "both listeners" in self.inconsistent(made, snapshot, deployment)

    def test_a_mesh_that_nobody_vouches_for(self) -> None:
        snapshot, deployment = with_mesh()
        deployment = replace(deployment, trust_bundles={"other.example": TrustBundle(factory.Path("/t"))})
        made = build(snapshot, deployment, 1.0, MATERIAL)
        assert "no trust bundle" in self.inconsistent(made, snapshot, deployment)

    def test_two_of_one_name(self) -> None:
        one = Resource.of(Kind.CLUSTER, "a", b"")
        with pytest.raises(ValueError, match="two cluster resources"):
            ResourceSet.of([one, one])


def test_a_sets_version_is_its_content() -> None:
    a, b = Resource.of(Kind.CLUSTER, "a", b"1"), Resource.of(Kind.CLUSTER, "b", b"1")
    assert set_version([a, b]) == set_version([b, a])
    assert set_version([a]) != set_version([a, b])
    assert set_version([a]) != set_version([Resource.of(Kind.CLUSTER, "a", b"2")])

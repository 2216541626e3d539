"""A real Envoy on our ADS, in both variants: changes, refusals, order, and a control plane that dies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.listener import v3 as listener

from tests.support.envoy import ads_bootstrap, eventually, running_envoy
from tests.xds import factory
from tests.xds.gate import RULES, Gate, reason, running_gate
from tests.xds.neighbours import running_upstream
from tests.xds.plane import running_plane
from xds.authoring import seconds
from xds.resource import Kind, Resource, ResourceSet

pytestmark = pytest.mark.e2e

PRESTO = factory.server("presto", RULES)


@pytest.fixture(scope="module", params=[False, True], ids=["sotw", "delta"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with running_gate(tmp_path_factory.mktemp("envoy"), delta=request.param) as gate:
        yield gate


@pytest.fixture
def gate(running: Gate) -> Iterator[Gate]:
    running.reset()
    yield running
    running.serve(PRESTO)
    eventually(lambda: running.call().status_code == 200, "back to where it began")


def replaced(resources: ResourceSet, resource: Resource) -> ResourceSet:
    """The same set with one resource in another version."""
    others = [
        other
        for of_kind in resources.by_kind.values()
        for other in of_kind.values()
        if (other.kind, other.name) != (resource.kind, resource.name)
    ]
    return ResourceSet.of([*others, resource])


def test_a_call_goes_by_ext_authz_to_the_servers_own_path(gate: Gate) -> None:
    assert gate.call().status_code == 200
    (hit,) = gate.upstream.hits
    assert (hit.method, hit.path) == ("POST", "/inner/mcp")
    (asked,) = gate.authz.requests
    assert dict(asked.attributes.context_extensions) == {"server": "presto", "listener": "users"}
    mcp = asked.attributes.metadata_context.filter_metadata["envoy.filters.http.mcp"]
    assert mcp["method"] == "tools/list"


def test_a_lapsed_server_keeps_its_route_without_a_cluster(gate: Gate) -> None:
    gate.serve(factory.server("presto", RULES, in_force=factory.NEVER))
    response = eventually(lambda: ((r := gate.call()).status_code == 503 and r) or None, "closed")
    assert reason(response) == "server_unavailable"
    asked = gate.authz.requests[-1]
    assert asked.attributes.context_extensions["server"] == "presto"


def test_a_change_is_enforced_within_a_second(gate: Gate) -> None:
    gate.call()
    begun = time.monotonic()
    gate.serve(factory.server("presto", RULES, in_force=factory.NEVER))
    eventually(lambda: gate.call().status_code == 503, "closed", deadline=1.0)
    assert time.monotonic() - begun < 1.0


def test_what_envoy_refuses_leaves_the_last_good_and_is_counted(gate: Gate) -> None:
    good = gate.generate(PRESTO)
    broken = Resource.of(Kind.LISTENER, "users", bytes(listener.Listener(name="users")))
    before = gate.plane.metric("gatehouse_xds_nacks_total", type="listener")
    gate.plane.publish(replaced(good, broken))
    eventually(
        lambda: gate.plane.metric("gatehouse_xds_nacks_total", type="listener") == before + 1, "a NACK"
    )
    assert gate.call().status_code == 200
    gate.plane.publish(good)
    closed = gate.generate(factory.server("presto", RULES, in_force=factory.NEVER))
    gate.plane.publish(closed)
    eventually(lambda: gate.call().status_code == 503, "what comes after a NACK is taken")


def test_an_updated_cluster_is_warm_at_once(gate: Gate) -> None:
    """Envoy waits for the endpoints of an updated cluster, also where they didn't change."""
    assert gate.envoy is not None
    good = gate.generate(PRESTO)
    message = cluster.Cluster.parse(good.of_kind(Kind.CLUSTER)["server-presto"].body)
    message.connect_timeout = seconds(3)
    made = good.of_kind(Kind.CLUSTER)["server-presto"]
    before = gate.envoy.stat("cluster_manager.cluster_modified")
    gate.plane.publish(replaced(good, Resource.of(Kind.CLUSTER, made.name, bytes(message), made.uses)))
    envoy = gate.envoy
    eventually(lambda: envoy.stat("cluster_manager.cluster_modified") > before, "modified", deadline=3)
    eventually(lambda: envoy.stat("cluster_manager.warming_clusters") == 0, "warm", deadline=3)
    assert gate.call().status_code == 200


def test_a_server_comes_and_goes_without_a_call_into_the_void(gate: Gate) -> None:
    """Before: no route. Then: answers. Then: our own 503. Never a cluster that isn't there."""
    assert gate.envoy is not None
    with running_upstream() as second:
        for _ in range(3):
            gate.place("spark", factory.endpoint(second.port))
            gate.serve(PRESTO, factory.server("spark", RULES))
            seen = []
            while not seen or seen[-1] != 200:
                response = gate.call("/spark/mcp")
                seen.append(response.status_code)
                assert response.status_code == 200 or reason(response) == "host_unknown", response.text
            gate.place("spark", None)
            gate.serve(PRESTO, factory.server("spark", RULES))
            while seen[-1] == 200:
                response = gate.call("/spark/mcp")
                seen.append(response.status_code)
            assert reason(response) == "server_unavailable"
            eventually(lambda: "server-spark" not in clusters(gate), "its cluster is gone")
            gate.serve(PRESTO)
            eventually(lambda: gate.call("/spark/mcp").status_code == 404, "its route is gone")
        assert gate.envoy.stat("http.users.no_cluster") == 0


def test_addresses_change_by_endpoints_alone(gate: Gate) -> None:
    assert gate.envoy is not None
    before = gate.envoy.stat("cluster_manager.cds.update_success")
    with running_upstream() as second:
        first = gate.deployment.endpoints["presto"]
        gate.place("presto", factory.endpoint(second.port, "/inner/mcp"))
        gate.serve(PRESTO)
        eventually(lambda: gate.call().status_code == 200 and bool(second.hits), "the new address")
        gate.place("presto", first)
        gate.serve(PRESTO)
        gate.upstream.hits.clear()
        eventually(lambda: gate.call().status_code == 200 and bool(gate.upstream.hits), "the old address")
    assert gate.envoy.stat("cluster_manager.cds.update_success") == before


def test_a_listener_can_change_while_it_serves(gate: Gate) -> None:
    assert gate.envoy is not None
    good = gate.generate(PRESTO)
    made = good.of_kind(Kind.LISTENER)["users"]
    message = listener.Listener.parse(made.body)
    message.per_connection_buffer_limit_bytes = 2 * 1024 * 1024
    before = gate.envoy.stat("listener_manager.listener_modified")
    gate.plane.publish(replaced(good, Resource.of(Kind.LISTENER, "users", bytes(message), made.uses)))
    envoy = gate.envoy
    eventually(lambda: envoy.stat("listener_manager.listener_modified") > before, "modified", deadline=3)
    eventually(lambda: envoy.stat("listener_manager.total_listeners_warming") == 0, "warm", deadline=3)
    assert gate.call().status_code == 200


def test_a_dead_control_plane_stops_nothing_and_is_found_again(gate: Gate) -> None:
    gate.plane.kill()
    for _ in range(5):
        assert gate.call().status_code == 200
    gate.serve(factory.server("presto", RULES, in_force=factory.NEVER))
    assert gate.call().status_code == 200
    gate.plane.revive()
    eventually(lambda: gate.call().status_code == 503, "the change made meanwhile", deadline=3.0)


def test_a_returning_envoy_is_sent_what_changed_and_no_more(tmp_path: Path) -> None:
    with running_gate(tmp_path, delta=True) as gate:
        pushed = {kind: gate.plane.metric("gatehouse_xds_pushes_total", type=kind.label) for kind in Kind}
        gate.plane.kill()
        gate.plane.revive()
        gate.serve(factory.server("presto", RULES, in_force=factory.NEVER))
        eventually(lambda: gate.call().status_code == 503, "the change")
        after = {kind: gate.plane.metric("gatehouse_xds_pushes_total", type=kind.label) for kind in Kind}
    grew = {kind for kind in Kind if after[kind] > pushed[kind]}
    assert Kind.ROUTE in grew
    assert Kind.ENDPOINT not in grew


def test_an_envoy_of_an_unknown_role_gets_nothing(tmp_path: Path) -> None:
    with running_gate(tmp_path) as gate:
        stranger = ads_bootstrap(gate.plane.port, cluster="somebody-else")
        folder = tmp_path / "stranger"
        folder.mkdir()
        with running_envoy(stranger, folder, ready=False) as envoy:
            eventually(lambda: "no known role" in envoy.log_text(), "refused")
            assert gate.plane.metric("gatehouse_xds_connected") == 1


def test_an_envoy_that_comes_before_any_policy_waits(tmp_path: Path) -> None:
    with running_plane() as plane, running_envoy(ads_bootstrap(plane.port), tmp_path, ready=False) as envoy:
        eventually(lambda: plane.metric("gatehouse_xds_connected") == 1, "connected")
        assert not envoy.ready()


def clusters(gate: Gate) -> str:
    assert gate.envoy is not None
    return gate.envoy.ask("/clusters")

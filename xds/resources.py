"""Policy and deployment in, Envoy's resources out: `build`, a pure function of what it is given."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar, cast

from pdp.deployment import Deployment, Listener
from pdp.model import Snapshot
from xds.authoring import MESH, USERS, needs_dns
from xds.clusters import cluster_name, ext_authz_cluster, server_resources
from xds.listeners import listener_resource
from xds.reach import mesh_reach, mesh_surfaces
from xds.resource import Resource, ResourceSet
from xds.routes import ServerRoutes, route_configuration, server_routes
from xds.secrets import secrets

_T = TypeVar("_T")
_K1 = TypeVar("_K1", bound=Hashable)
_K2 = TypeVar("_K2", bound=Hashable)


class Memo:
    """What the last build made, by everything it was made from; what a build doesn't use is forgotten."""

    def __init__(self) -> None:
        self._last: dict[Hashable, object] = {}
        self._next: dict[Hashable, object] = {}

    def one(self, make: Callable[[_K1], _T], key: _K1) -> _T:
        """`make(key)`, unless this build or the one before made it already."""
        return self._get((make, key), lambda: make(key))

    def two(self, make: Callable[[_K1, _K2], _T], first: _K1, second: _K2) -> _T:
        """`make(first, second)`, likewise."""
        return self._get((make, first, second), lambda: make(first, second))

    def turn(self) -> None:
        """Forget what the build that ends here didn't use."""
        self._last, self._next = self._next, {}

    def _get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        found = self._last.get(key)
        if found is None:
            found = self._next.get(key) or make()
        self._next[key] = found
        return cast(_T, found)


def build(
    snapshot: Snapshot,
    deployment: Deployment,
    now: float,
    material: Mapping[Path, bytes],
    memo: Memo | None = None,
) -> ResourceSet:
    """All that Envoys of the role `mcp-gateway` are to have at `now`, in seconds since the epoch.

    `material` holds the content of the files that `xds.secrets.files(deployment)` names. With the same `memo`
    each time, a build costs what changed since the last one. Check the result (`xds.consistency.check`)
    before serving it.
    """
    memo = memo or Memo()
    found = [memo.one(ext_authz_cluster, deployment.ext_authz), *secrets(snapshot, deployment, material)]
    for name in snapshot.servers:
        if name in deployment.endpoints:
            found += memo.two(server_resources, name, deployment.endpoints[name])
    for listener, door in ((USERS, deployment.users), (MESH, deployment.mesh)):
        if door is not None:
            servers = list(_servers(listener, snapshot, deployment, now))
            found.append(memo.two(listener_resource, listener, door))
            found.append(_routes(listener, door, deployment, servers, memo))
    memo.turn()
    return ResourceSet.of(found)


def _routes(
    listener: str, door: Listener, deployment: Deployment, servers: list[ServerRoutes], memo: Memo
) -> Resource:
    pieces = [memo.one(server_routes, server) for server in servers]
    clusters = [cluster_name(server.server) for server in servers if server.path is not None]
    return route_configuration(listener, door, deployment, pieces, clusters)


def _servers(listener: str, snapshot: Snapshot, deployment: Deployment, now: float) -> Iterator[ServerRoutes]:
    """What each server's routes are made from. One not in force, or that runs nowhere, has no path."""
    issuers = tuple(issuer.issuer for issuer in snapshot.issuers)
    mesh = mesh_surfaces(snapshot) if listener == MESH else {}
    trusted = snapshot.organization.at(now)
    for name in sorted(snapshot.servers):
        server = snapshot.servers[name]
        where = deployment.endpoints.get(name)
        path = where.path if where is not None and trusted and server.in_force.at(now) else None
        reach = mesh_reach(server, mesh) if mesh and path is not None else frozenset()
        replicas = where is not None and (len(where.addresses) > 1 or any(map(needs_dns, where.addresses)))
        yield ServerRoutes(listener, name, path, reach, deployment.resource_url(name), issuers, replicas)

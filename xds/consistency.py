"""What must hold of a resource set before any Envoy gets it, such as Envoy accepts and then fails on."""

from __future__ import annotations

from collections.abc import Iterator

from pdp.deployment import Deployment
from pdp.model import Snapshot
from xds.authoring import EXT_AUTHZ_CLUSTER
from xds.resource import Kind, ResourceSet
from xds.secrets import trusted_domains


class InconsistentError(Exception):
    """The resources don't fit together, or can't be served; `problems` says each way how."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def check(resources: ResourceSet, snapshot: Snapshot, deployment: Deployment) -> None:
    """Check a set that `build` made.

    Raises:
        InconsistentError: with every problem found.

    """
    problems = (*_dangling(resources), *_unused(resources), *_unservable(snapshot, deployment))
    if problems:
        raise InconsistentError(problems)


def _dangling(resources: ResourceSet) -> Iterator[str]:
    """Envoy takes a route to a cluster that isn't there, and answers 503 on it."""
    for of_kind in resources.by_kind.values():
        for resource in of_kind.values():
            for kind, name in sorted(resource.uses):
                if name not in resources.of_kind(kind):
                    yield f"{resource.kind.label} {resource.name} uses {kind.label} {name}, which isn't there"


def _unused(resources: ResourceSet) -> Iterator[str]:
    """Endpoints of no cluster and routes of no listener are a builder's mistake."""
    used = {use for of_kind in resources.by_kind.values() for r in of_kind.values() for use in r.uses}
    for kind in (Kind.ENDPOINT, Kind.ROUTE):
        for name in resources.of_kind(kind):
            if (kind, name) not in used:
                yield f"{kind.label} {name} is used by nothing"
    if EXT_AUTHZ_CLUSTER not in resources.of_kind(Kind.CLUSTER):
        yield f"cluster {EXT_AUTHZ_CLUSTER} isn't there"


def _unservable(snapshot: Snapshot, deployment: Deployment) -> Iterator[str]:
    users, mesh = deployment.users.address, deployment.mesh
    if mesh is not None and mesh.address == users:
        yield f"both listeners have the address {users}"
    if mesh is not None and mesh.tls is None:
        yield "the mesh listener has no certificate"
    if mesh is not None and not trusted_domains(snapshot, deployment):
        yield "the mesh listener has no trust bundle for any trust domain of the policy"
    if not deployment.ext_authz.addresses:
        yield "ext_authz has no address"
    for name in sorted(deployment.endpoints):
        if not deployment.endpoints[name].addresses:
            yield f"endpoint {name} has no address"

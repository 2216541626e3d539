"""Envoy resources as this package handles them: serialized once, named, versioned by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

_VERSION_HEX_DIGITS = 32


class Kind(StrEnum):
    """The types of resource we serve, by their type URL."""

    CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105
    LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
    ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"

    @property
    def label(self) -> str:
        """What metrics and logs call it."""
        return self.name.lower()


# What is referred to goes before what refers to it, so that Envoy never holds a dangling name.
# https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#eventual-consistency-considerations
ORDER = (Kind.CLUSTER, Kind.ENDPOINT, Kind.SECRET, Kind.LISTENER, Kind.ROUTE)

Reference = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource: `body` is its serialized message, `version` a hash of that and of nothing else."""

    kind: Kind
    name: str
    version: str
    body: bytes = field(repr=False)
    uses: frozenset[Reference] = frozenset()
    """Every other resource that this one names."""

    @classmethod
    def of(cls, kind: Kind, name: str, body: bytes, uses: Iterable[Reference] = ()) -> Resource:
        version = hashlib.sha256(body).hexdigest()[:_VERSION_HEX_DIGITS]
        return cls(kind, name, version, body, frozenset(uses))


NOTHING: Mapping[str, Resource] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ResourceSet:
    """Everything that Envoys of one role are to have at one time."""

    by_kind: Mapping[Kind, Mapping[str, Resource]]

    @classmethod
    def of(cls, resources: Iterable[Resource]) -> ResourceSet:
        """Index `resources`.

        Raises:
            ValueError: two of one kind have the same name.

        """
        by_kind: dict[Kind, dict[str, Resource]] = {kind: {} for kind in Kind}
        for resource in resources:
            if resource.name in by_kind[resource.kind]:
                raise ValueError(f"two {resource.kind.label} resources are named {resource.name}")
            by_kind[resource.kind][resource.name] = resource
        return cls(by_kind)

    def of_kind(self, kind: Kind) -> Mapping[str, Resource]:
        return self.by_kind.get(kind, NOTHING)


EMPTY = ResourceSet({})


def set_version(resources: Iterable[Resource]) -> str:
    """The version of a set of resources, whatever their order: SotW's `version_info`."""
    digest = hashlib.sha256()
    for name, version in sorted((r.name, r.version) for r in resources):
        digest.update(f"{name}\0{version}\n".encode())
    return digest.hexdigest()[:_VERSION_HEX_DIGITS]

"""Where things run: the platform engineer's file, not the reviewer's.

Certificates and keys are named by path here and read by whoever serves them; a `Deployment` holds no secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from pdp.address import Address, AddressError
from pdp.deployment_file import (
    ClientTlsPart,
    DeploymentFile,
    EndpointPart,
    ListenerPart,
    ServerTlsPart,
    ServicePart,
)
from pdp.model import Location
from pdp.problem import PolicyError, Problem
from pdp.source import read

__all__ = ["Address", "AddressError", "Deployment", "load_deployment"]


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What a listener proves itself with: PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ClientTls:
    """What a client trusts, and proves itself with where it is asked to: PEM files."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None
    """The DNS name that the peer's certificate must hold; None: the address's host."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One of Envoy's two doors. Without `tls` it is on loopback."""

    address: Address
    tls: ServerTls | None = None
    hosts: tuple[str, ...] = ()
    """Host names that clients use for this door, besides `public_url`'s and the address's."""


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """One SPIFFE trust domain's authorities: X.509 as PEM, JWT as a JWK set."""

    x509: Path | None = None
    jwt: Path | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one MCP server listens, and the path of its own that is its MCP endpoint."""

    addresses: tuple[Address, ...]
    path: str = "/mcp"
    tls: ClientTls | None = None


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where an issuer's keys are fetched from, instead of where policy says. Exactly one is set."""

    jwks_uri: str | None = None
    jwks_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """One of our own gRPC services, as its clients reach it."""

    addresses: tuple[Address, ...]
    tls: ClientTls | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """The whole file, checked: everything off loopback has TLS."""

    public_url: str
    """Without a trailing slash. A server's resource URL is below it."""
    users: Listener
    ext_authz: Service
    control_plane: Service
    mesh: Listener | None = None
    trust_bundles: Mapping[str, TrustBundle] = field(default_factory=lambda: MappingProxyType({}))
    """By trust domain."""
    endpoints: Mapping[str, Endpoint] = field(default_factory=lambda: MappingProxyType({}))
    """By server name."""
    issuers: Mapping[str, KeySource] = field(default_factory=lambda: MappingProxyType({}))
    """By the issuer's name in policy."""
    cors_origins: tuple[str, ...] = ()

    def resource_url(self, server: str) -> str:
        """What clients call, and what a token's audience may be (RFC 8707)."""
        return f"{self.public_url}/{server}/mcp"


def load_deployment(path: Path) -> Deployment:
    """Read a `Deployment` file. Relative paths in it are relative to the file.

    Raises:
        PolicyError: it can't be used; all of its problems, each with its place.

    """
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"can't be read: {error.strerror or error}"
        raise PolicyError([Problem(Location(str(path), 1), message)]) from error
    source = read(str(path), data, DeploymentFile)
    if source.model is None:
        raise PolicyError(source.problems)
    return _deployment(path.absolute().parent, source.model)


def _deployment(base: Path, file: DeploymentFile) -> Deployment:
    return Deployment(
        public_url=file.public_url.rstrip("/"),
        users=_listener(base, file.listeners.users),
        mesh=_listener(base, file.listeners.mesh) if file.listeners.mesh is not None else None,
        ext_authz=_service(base, file.ext_authz),
        control_plane=_service(base, file.control_plane),
        trust_bundles={
            domain: TrustBundle(_path(base, part.x509), _path(base, part.jwt))
            for domain, part in file.trust_bundles.items()
        },
        endpoints={name: _endpoint(base, part) for name, part in file.endpoints.items()},
        issuers={
            name: KeySource(part.jwks_uri, _path(base, part.jwks_file)) for name, part in file.issuers.items()
        },
        cors_origins=file.cors.origins if file.cors is not None else (),
    )


def _path(base: Path, name: str | None) -> Path | None:
    return base / name if name is not None else None


def _addresses(part: EndpointPart | ServicePart) -> tuple[Address, ...]:
    texts = part.addresses or ((part.address,) if part.address is not None else ())
    return tuple(Address.parse(text) for text in texts)


def _server_tls(base: Path, part: ServerTlsPart | None) -> ServerTls | None:
    return ServerTls(base / part.certificate, base / part.key) if part is not None else None


def _client_tls(base: Path, part: ClientTlsPart | None) -> ClientTls | None:
    if part is None:
        return None
    return ClientTls(base / part.ca, _path(base, part.certificate), _path(base, part.key), part.server_name)


def _listener(base: Path, part: ListenerPart) -> Listener:
    return Listener(Address.parse(part.address), _server_tls(base, part.tls), part.hosts)


def _service(base: Path, part: ServicePart) -> Service:
    return Service(_addresses(part), _client_tls(base, part.tls))


def _endpoint(base: Path, part: EndpointPart) -> Endpoint:
    return Endpoint(_addresses(part), part.path, _client_tls(base, part.tls))

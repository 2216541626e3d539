"""Where things run: the platform engineer's file, not the reviewer's.

Certificates and keys are named by path here and read by whoever serves them; a `Deployment` holds no secret.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType


class AddressError(ValueError):
    """The text is not `host:port`, `[ipv6]:port` or `unix:/path`."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens: a TCP host and port, or a Unix socket's path."""

    host: str = ""
    port: int = 0
    unix: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse `127.0.0.1:9001`, `[::1]:9001` or `unix:/run/x.sock`.

        Raises:
            AddressError: saying which form was expected.

        """
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path.startswith("/"):
                raise AddressError("a Unix address is unix:/absolute/path")
            return cls(unix=path)
        host, separator, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise AddressError("an IPv6 address stands in brackets: [::1]:9001")
        if not separator or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
            raise AddressError("expected host:port or unix:/path")
        return cls(host, int(port))

    @property
    def is_local(self) -> bool:
        """Whether nobody off this machine can reach it: loopback or a Unix socket."""
        if self.unix or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.unix:
            return f"unix:{self.unix}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


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

"""What may stand in a `Deployment` file, and what must hold within it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, Strict
from pydantic_core import PydanticCustomError

from pdp.address import Address, AddressError
from pdp.fault import Fault
from pdp.fields import Label, Name, SetOf, SomeOf, TrustDomain, WebAddress
from pdp.schema import Part, PolicyFile

_PATH = re.compile(r"(?:/[A-Za-z0-9_.~-]+)+/?\Z|/\Z")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\Z")


def _address(text: str) -> str:
    try:
        Address.parse(text)
    except AddressError as error:
        raise PydanticCustomError("form", "{error}", {"error": str(error)}) from error
    return text


def _path(text: str) -> str:
    if _PATH.match(text) is None or {".", ".."} & set(text.split("/")):
        raise PydanticCustomError("form", "expected a path, such as /mcp")
    return text


def _origin(text: str) -> str:
    if urlsplit(text).path or urlsplit(text).query:
        raise PydanticCustomError("form", "expected an origin: scheme, host and port, with no path")
    return text


def _base(text: str) -> str:
    if urlsplit(text).path not in ("", "/") or urlsplit(text).query:
        raise PydanticCustomError("form", "expected an address without a path; servers come below it")
    return text


AddressText = Annotated[str, Strict(), AfterValidator(_address)]
PathText = Annotated[str, Strict(), AfterValidator(_path)]
Origin = Annotated[WebAddress, AfterValidator(_origin)]
BaseAddress = Annotated[WebAddress, AfterValidator(_base)]


class ServerTlsPart(Part):
    """What a listener proves itself with: PEM files."""

    certificate: Label
    key: Label


class ClientTlsPart(Part):
    """What a client trusts, and proves itself with where it is asked to: PEM files."""

    ca: Label
    certificate: Label | None = None
    key: Label | None = None
    server_name: Label | None = None
    """The DNS name that the peer's certificate must hold, instead of the address's host."""


class ListenerPart(Part):
    """One of Envoy's two doors."""

    address: AddressText
    tls: ServerTlsPart | None = None
    """May be left out on loopback, and only for users."""
    hosts: SetOf[Label] = ()
    """Host names that clients use, besides `public_url`'s and the address's."""


class ListenersPart(Part):
    """`users` takes TLS and JWT; `mesh` takes mutual TLS with SPIFFE IDs, and may be absent."""

    users: ListenerPart
    mesh: ListenerPart | None = None


class TrustBundlePart(Part):
    """One trust domain's authorities: X.509 as PEM, JWT as a JWK set."""

    x509: Label | None = None
    jwt: Label | None = None


class EndpointPart(Part):
    """Where one server runs: `address`, or several `addresses`."""

    address: AddressText | None = None
    addresses: SomeOf[AddressText] | None = None
    path: PathText = "/mcp"
    tls: ClientTlsPart | None = None


class ServicePart(Part):
    """One of Gatehouse's own services: `address`, or several `addresses`."""

    address: AddressText | None = None
    addresses: SomeOf[AddressText] | None = None
    tls: ClientTlsPart | None = None


class KeySourcePart(Part):
    """Where an issuer's keys are fetched from, instead of where policy says."""

    jwks_uri: WebAddress | None = None
    jwks_file: Label | None = None


class CorsPart(Part):
    """Web pages that may call from a browser."""

    origins: SomeOf[Origin]


class DeploymentFile(PolicyFile):
    """Where things run. The platform engineer's file, not the reviewer's."""

    kind: Literal["Deployment"]
    public_url: BaseAddress
    """What clients call. A server is at public_url/NAME/mcp."""
    listeners: ListenersPart
    trust_bundles: dict[TrustDomain, TrustBundlePart] = Field(default={})
    endpoints: dict[Name, EndpointPart] = Field(default={})
    issuers: dict[Name, KeySourcePart] = Field(default={})
    ext_authz: ServicePart
    control_plane: ServicePart
    cors: CorsPart | None = None


def deployment_faults(model: DeploymentFile) -> Iterator[Fault]:
    """Plain text off loopback, and keys that need each other."""
    yield from _listeners(model)
    for name, endpoint in model.endpoints.items():
        yield from _reached(("endpoints", name), endpoint)
    yield from _reached(("ext_authz",), model.ext_authz)
    yield from _reached(("control_plane",), model.control_plane)
    for name, source in model.issuers.items():
        if (source.jwks_uri is None) == (source.jwks_file is None):
            yield Fault(("issuers", name), "an issuer's keys come from jwks_uri or jwks_file, one of them")


def _listeners(model: DeploymentFile) -> Iterator[Fault]:
    users, mesh = model.listeners.users, model.listeners.mesh
    for name, listener in (("users", users), ("mesh", mesh)):
        if listener is None:
            continue
        path = ("listeners", name)
        if Address.parse(listener.address).unix:
            yield Fault((*path, "address"), "a listener has a host and a port")
        for host in listener.hosts:
            if _HOST.match(host) is None:
                yield Fault((*path, "hosts"), f"{host!r} is no host name")
    if users.tls is None and not Address.parse(users.address).is_local:
        yield Fault(("listeners", "users"), "without tls this listener must be on loopback")
    if mesh is not None and mesh.tls is None:
        yield Fault(("listeners", "mesh"), "the mesh listener needs tls")
    if mesh is not None and not any(bundle.x509 for bundle in model.trust_bundles.values()):
        hint = "trust_bundles: {corp.example: {x509: corp.pem}}"
        yield Fault(("listeners", "mesh"), "the mesh listener needs a trust bundle with x509", hint)


def _reached(path: tuple[str, ...], part: EndpointPart | ServicePart) -> Iterator[Fault]:
    if (part.address is None) == (part.addresses is None):
        yield Fault(path, "expected address or addresses, one of them")
    texts = part.addresses or ((part.address,) if part.address is not None else ())
    remote = [text for text in texts if not Address.parse(text).is_local]
    if remote and part.tls is None:
        yield Fault(path, f"{remote[0]} is off loopback and needs tls", "tls: {ca: FILE}")
    if part.tls is not None and (part.tls.certificate is None) != (part.tls.key is None):
        yield Fault((*path, "tls"), "certificate and key need each other")

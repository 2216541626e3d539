"""Small pieces of Envoy configuration that several builders share."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import TypeAlias

import betterproto2
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google import protobuf as gp

from pdp.deployment import Address

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

EXT_AUTHZ_CLUSTER = "ext_authz"
USERS = "users"
MESH = "mesh"


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def packed(message: betterproto2.Message) -> gp.Any:
    return gp.Any.pack(message)


def extension(name: str, message: betterproto2.Message) -> core.TypedExtensionConfig:
    return core.TypedExtensionConfig(name=name, typed_config=packed(message))


def from_ads() -> core.ConfigSource:
    """Fetch it from the control plane, over the stream that Envoy has open already."""
    return core.ConfigSource(ads=core.AggregatedConfigSource(), resource_api_version=core.ApiVersion.V3)


def exact(text: str) -> matcher.StringMatcher:
    return matcher.StringMatcher(exact=text)


def inline(body: bytes) -> core.DataSource:
    return core.DataSource(inline_bytes=body)


def address_of(address: Address) -> core.Address:
    if address.unix:
        return core.Address(pipe=core.Pipe(path=address.unix))
    return core.Address(
        socket_address=core.SocketAddress(address=address.host, port_value=address.port),
    )


def needs_dns(address: Address) -> bool:
    """Whether the address is a host name, which Envoy resolves in some types of cluster only."""
    if address.unix:
        return False
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        return True
    return False


def secret(name: str) -> tls.SdsSecretConfig:
    return tls.SdsSecretConfig(name=name, sds_config=from_ads())


def tls_floor() -> tls.TlsParameters:
    return tls.TlsParameters(tls_minimum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_2)

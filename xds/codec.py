"""Discovery messages to and from what `subscription` speaks of. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from xds.resource import Kind
from xds.subscription import DeltaRequest, Request, Response, SotwRequest
from xds.wire import discovery_pb2 as wire

_KINDS = {str(kind): kind for kind in Kind}


class MessageError(ValueError):
    """The client's bytes are no discovery request."""


@dataclass(frozen=True, slots=True)
class Received:
    """One message of a client: who it says it is (in its first message), and what it asks."""

    node: str
    role: str
    request: Request | None
    """None for a type of resource that we don't have."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the two ways to speak the protocol: its gRPC method, and its messages as bytes."""

    method: str
    delta: bool
    decode: Callable[[bytes], Received]
    encode: Callable[[Response], bytes]


def _decode_sotw(data: bytes) -> Received:
    message = wire.DiscoveryRequest()
    _parse(message, data)
    kind = _KINDS.get(message.type_url)
    request = kind and SotwRequest(
        kind,
        names=tuple(message.resource_names),
        nonce=message.response_nonce,
        error=message.error_detail.message if message.HasField("error_detail") else None,
    )
    return Received(message.node.id, message.node.cluster, request or None)


def _decode_delta(data: bytes) -> Received:
    message = wire.DeltaDiscoveryRequest()
    _parse(message, data)
    kind = _KINDS.get(message.type_url)
    request = kind and DeltaRequest(
        kind,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        initial_versions=dict(message.initial_resource_versions),
        nonce=message.response_nonce,
        error=message.error_detail.message if message.HasField("error_detail") else None,
    )
    return Received(message.node.id, message.node.cluster, request or None)


def _encode_sotw(response: Response) -> bytes:
    return wire.DiscoveryResponse(
        version_info=response.version,
        type_url=response.kind,
        nonce=response.nonce,
        resources=[AnyMessage(type_url=response.kind, value=r.body) for r in response.resources],
    ).SerializeToString()


def _encode_delta(response: Response) -> bytes:
    return wire.DeltaDiscoveryResponse(
        system_version_info=response.version,
        type_url=response.kind,
        nonce=response.nonce,
        removed_resources=response.removed,
        resources=[
            wire.Resource(
                name=r.name, version=r.version, resource=AnyMessage(type_url=response.kind, value=r.body)
            )
            for r in response.resources
        ],
    ).SerializeToString()


def _parse(message: wire.DiscoveryRequest | wire.DeltaDiscoveryRequest, data: bytes) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MessageError("not a discovery request") from error


SOTW = Variant("StreamAggregatedResources", False, _decode_sotw, _encode_sotw)
DELTA = Variant("DeltaAggregatedResources", True, _decode_delta, _encode_delta)

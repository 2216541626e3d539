"""Serialized messages put together from serialized parts.

envoy-data-plane takes milliseconds to serialize one route, because each level of nesting is validated again.
So what all servers share is authored with it once, and what differs is spliced in here as raw protobuf:
field numbers are read off envoy-data-plane's own classes, never written down. Only length-delimited fields
(strings, messages, maps to messages) can be spliced; numbers and durations belong into the shared part.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache

import betterproto2
from envoy_data_plane.google import protobuf as gp

_LENGTH_DELIMITED = 2

Part = str | bytes | Sequence[str] | Sequence[bytes] | Mapping[str, bytes]


def splice(message: type[betterproto2.Message], /, shared: bytes = b"", **parts: Part) -> bytes:
    """The bytes of a `message` whose fields are `parts`, after the fields serialized in `shared`.

    A field must not be given in both. Sub-messages are given as their own bytes, repeated fields as
    sequences, map fields as mappings.

    Raises:
        KeyError: the message has no such field.

    """
    numbers = _field_numbers(message)
    out = [shared]
    for name, part in parts.items():
        number = numbers[name]
        if isinstance(part, str | bytes):
            out.append(_field(number, part))
        elif isinstance(part, Mapping):
            out += [_field(number, _field(1, key) + _field(2, value)) for key, value in part.items()]
        else:
            out += [_field(number, item) for item in part]
    return b"".join(out)


def typed(message: betterproto2.Message) -> bytes:
    """A `google.protobuf.Any` of `message`, serialized."""
    return bytes(gp.Any.pack(message))


def spliced_any(message: type[betterproto2.Message], body: bytes) -> bytes:
    """A `google.protobuf.Any` of a `message` that is serialized already."""
    return splice(gp.Any, type_url=_type_url(message), value=body)


@cache
def _field_numbers(message: type[betterproto2.Message]) -> Mapping[str, int]:
    fields = dataclasses.fields(message)  # type: ignore[arg-type]  # betterproto2 declares it of subclasses only
    return {f.name: f.metadata["betterproto"].number for f in fields}


@cache
def _type_url(message: type[betterproto2.Message]) -> str:
    return gp.Any.pack(message()).type_url


def _field(number: int, payload: str | bytes) -> bytes:
    raw = payload.encode() if isinstance(payload, str) else payload
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

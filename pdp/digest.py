"""Names by content: the digest that an approval approves, and the digest of all that is enforced.

A policy's digest is SHA-256 over `gatehouse-policy-v1`, a newline and the RFC 8785 JSON of what the file
means: without prose, without keys at their default, lists that are sets sorted by code point, times in UTC.
So reformatting, comments and wording need no new review, and nothing else goes without one.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

import rfc8785
from pydantic import BaseModel

from identity.principal import JsonValue
from pdp.fields import AsSet, Prose
from pdp.schema import OrganizationFile, ServerFile, SurfacesFile

_POLICY = b"gatehouse-policy-v1\n"

_Encode: TypeAlias = Callable[[Any], JsonValue]


def server_digest(server: ServerFile) -> str:
    """What approvals of a server name."""
    return _named(_POLICY, canonical(server))


def organization_digest(organization: OrganizationFile, surfaces: SurfacesFile) -> str:
    """What approvals of `organization` name: both files as one."""
    both: JsonValue = {"organization": canonical(organization), "surfaces": canonical(surfaces)}
    return _named(_POLICY, both)


def digest_of_lines(purpose: str, lines: Iterable[str]) -> str:
    """The digest of lines without line breaks, kept apart from all others by its purpose."""
    text = "\n".join((purpose, *lines))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _named(prefix: bytes, value: JsonValue) -> str:
    return "sha256:" + hashlib.sha256(prefix + rfc8785.dumps(value)).hexdigest()


def rfc3339(time: datetime) -> str:
    """A time in UTC, as policy writes it."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def canonical(model: BaseModel) -> dict[str, JsonValue]:
    """What a file means, as JSON."""
    encoded: dict[str, JsonValue] = {}
    for name, key, default, encode in _plan(type(model)):
        value = getattr(model, name)
        if value != default:
            encoded[key] = encode(value)
    return encoded


@cache
def _plan(model: type[BaseModel]) -> tuple[tuple[str, str, object, _Encode], ...]:
    """Attribute, key, default and encoder of each field that is no prose."""
    return tuple(
        (name, field.alias or name, field.get_default(), _encoder(field.annotation, field.metadata))
        for name, field in model.model_fields.items()
        if not any(isinstance(item, Prose) for item in field.metadata)
    )


def _encoder(annotation: Any, metadata: list[Any]) -> _Encode:
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _encoder(inner, [*metadata, *more])
    if get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation):
        (inner,) = (a for a in get_args(annotation) if a is not type(None))
        return _encoder(inner, metadata)
    if any(isinstance(item, AsSet) for item in metadata):
        return _set
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple:
        return _listed(_encoder(arguments[0], []))
    if get_origin(annotation) is dict:
        return _mapped(_encoder(arguments[1], []))
    return _scalar


def _set(value: Any) -> JsonValue:
    return sorted(value) if isinstance(value, tuple) else _scalar(value)


def _listed(encode: _Encode) -> _Encode:
    return lambda value: [encode(item) for item in value]


def _mapped(encode: _Encode) -> _Encode:
    return lambda value: {key: encode(item) for key, item in value.items()}


def _scalar(value: Any) -> JsonValue:
    if isinstance(value, BaseModel):
        return canonical(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    raise TypeError(f"no JSON for {type(value).__name__}")

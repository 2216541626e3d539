"""The types of a policy file's fields: strict, with messages for people, and what the digest needs to know.

A field is prose (`PROSE`: no part of the digest), a set (`SetOf`: sorted in the digest, nothing listed twice)
or neither, in which case its order is meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Strict,
    Tag,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from identity.principal import SpiffeId, SpiffeIdError

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Prose:
    """Marks a field that people read and nothing enforces."""


@dataclass(frozen=True, slots=True)
class AsSet:
    """Marks a list whose order means nothing."""


PROSE = Prose()

# Names travel in headers, paths, file names and Envoy's resource names, so they hold nothing to be escaped.
NAME_PATTERN = r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"
# MCP 2025-11-25, server/tools: letters, digits, underscore, hyphen, dot; 1 to 128 of them.
TOOL_PATTERN = r"^[A-Za-z0-9_.-]{1,128}$"
CHANNEL_ID_PATTERN = r"^[A-Za-z0-9._:@-]{1,128}$"
DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
DURATION_PATTERN = r"^[1-9][0-9]{0,8}[smhd]$"
DAY_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
TIME_PATTERN = (
    DAY_PATTERN.removesuffix("$") + r"[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(?:\.[0-9]{1,6})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})$"
)

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def _text_of(pattern: str, expected: str) -> Callable[[str], str]:
    compiled = re.compile(pattern.removesuffix("$") + r"\Z")

    def check(text: str) -> str:
        if compiled.match(text) is None:
            raise PydanticCustomError("form", "{expected}", {"expected": expected})
        return text

    return check


def _printable(text: str) -> str:
    if not 1 <= len(text) <= 255 or not text.isprintable() or text != text.strip():
        message = "expected 1 to 255 printable characters, without spaces around them"
        raise PydanticCustomError("form", message)
    return text


Text = Annotated[str, Strict()]
Label = Annotated[str, Strict(), AfterValidator(_printable)]
"""A name that somebody else gave: an issuer's group, a claim, a client id, a person."""
Name = Annotated[
    str,
    Strict(),
    AfterValidator(_text_of(NAME_PATTERN, "expected a name: a-z, 0-9 and '-' within, at most 63 characters")),
    Field(json_schema_extra={"pattern": NAME_PATTERN}),
]
ToolName = Annotated[
    str,
    Strict(),
    AfterValidator(
        _text_of(TOOL_PATTERN, "expected a tool's name: letters, digits, '_', '-', '.', 1 to 128")
    ),
    Field(json_schema_extra={"pattern": TOOL_PATTERN}),
]
ChannelId = Annotated[
    str,
    Strict(),
    AfterValidator(_text_of(CHANNEL_ID_PATTERN, "expected a channel id: letters, digits and . _ : @ -")),
    Field(json_schema_extra={"pattern": CHANNEL_ID_PATTERN}),
]
Digest = Annotated[
    str,
    Strict(),
    AfterValidator(_text_of(DIGEST_PATTERN, "expected sha256: and 64 hex digits")),
    Field(json_schema_extra={"pattern": DIGEST_PATTERN}),
]
Flag = Annotated[bool, Strict()]
Number = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]


def _time(value: object) -> datetime:
    if isinstance(value, str) and re.fullmatch(TIME_PATTERN, value):
        try:
            # Once the pattern holds this is RFC 3339; 24:00 and 30 February fail here.
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    message = "expected a time with its zone, such as 2026-12-01T00:00:00Z"
    raise PydanticCustomError("form", message)


def _time_or_day(value: object) -> datetime:
    if isinstance(value, str) and re.fullmatch(DAY_PATTERN, value):
        value += "T00:00:00Z"
    return _time(value)


def _duration(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(DURATION_PATTERN, value):
        return int(value[:-1]) * _SECONDS[value[-1]]
    raise PydanticCustomError("form", "expected a duration, such as 180d, 12h, 30m or 90s")


Time = Annotated[
    datetime, BeforeValidator(_time), WithJsonSchema({"type": "string", "pattern": TIME_PATTERN})
]
TimeOrDay = Annotated[
    datetime,
    BeforeValidator(_time_or_day),
    WithJsonSchema({"type": "string", "anyOf": [{"pattern": TIME_PATTERN}, {"pattern": DAY_PATTERN}]}),
]
"""A time; a date alone means its first moment in UTC."""
Duration = Annotated[
    int, BeforeValidator(_duration), WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN})
]
"""Whole seconds."""


def _spiffe(text: str) -> str:
    try:
        SpiffeId.parse(text)
    except SpiffeIdError as error:
        raise PydanticCustomError("form", "{error}", {"error": str(error)}) from error
    return text


def is_loopback(host: str) -> bool:
    """Whether a host name or address never leaves this machine."""
    return host in _LOOPBACK


def _web_address(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    plain = bool(host) and text.isascii() and text.isprintable() and not set(text) & set(" \"'<>\\")
    if not plain or "@" in parts.netloc or parts.fragment:
        raise PydanticCustomError("form", "expected an https:// address")
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host or "")):
        return text
    raise PydanticCustomError("form", "expected an https:// address; http:// is for loopback only")


SpiffeText = Annotated[str, Strict(), AfterValidator(_spiffe)]
TrustDomain = Annotated[
    str, Strict(), AfterValidator(_text_of(r"^[a-z0-9._-]{1,255}$", "expected a SPIFFE trust domain"))
]
WebAddress = Annotated[str, Strict(), AfterValidator(_web_address)]


def _no_repeats(items: tuple[Item, ...]) -> tuple[Item, ...]:
    seen: set[Item] = set()
    for item in items:
        if item in seen:
            raise PydanticCustomError("repeated", "{item} is listed twice", {"item": repr(item)})
        seen.add(item)
    return items


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


@dataclass(frozen=True, slots=True)
class _OneOrMany:
    """Publishes a list's schema so that one bare item fits it as well."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        many = handler(schema)
        return {"anyOf": [many["items"], many]}


_UNIQUE = Field(json_schema_extra={"uniqueItems": True})

SetOf = Annotated[tuple[Item, ...], AfterValidator(_no_repeats), AsSet(), _UNIQUE]
SomeOf = Annotated[tuple[Item, ...], Field(min_length=1), AfterValidator(_no_repeats), AsSet(), _UNIQUE]
"""A set that is not empty."""
OneOrSome = Annotated[
    tuple[Item, ...],
    Field(min_length=1),
    BeforeValidator(_as_list),
    AfterValidator(_no_repeats),
    AsSet(),
    _OneOrMany(),
]
"""One value or a list of them; the digest takes one for a list of one."""


def _selection_kind(value: object) -> str:
    return "all" if isinstance(value, str) else "list"


SelectionOf = Annotated[
    Annotated[Literal["all"], Tag("all")] | Annotated[SetOf[Item], Tag("list")],
    Discriminator(_selection_kind),
    AsSet(),
]
"""`all`, or a list of names."""

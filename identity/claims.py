"""Reading claims that somebody else wrote: times, audiences, names and lists of names.

What breaks is a `ClaimError`; whose fault it is, and so the code, is the caller's to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from identity.principal import JsonValue

Claims: TypeAlias = Mapping[str, JsonValue]

MAX_NAME_CHARACTERS = 255
# Past this (the year 36812) a time is a mistake; within it a float is exact to the millisecond.
_MAX_TIME = 2**40

_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)+")

ABSENT: JsonValue = None
"""What a claim that isn't there reads as. JSON's null says no more than absence does, and reads the same."""


class ClaimError(ValueError):
    """A claim is absent or not of its type. The message names the claim, never its value."""


def check_place(name: str) -> None:
    """Check that `name` can say where a claim is: by its name or, where it starts with `/`, by JSON Pointer.

    Raises:
        ValueError: where the pointer breaks RFC 6901; it would find nothing, ever.

    """
    if not name or (name.startswith("/") and _POINTER.fullmatch(name) is None):
        raise ValueError("neither a claim's name nor a JSON Pointer (RFC 6901)")


def time(claims: Claims, name: str) -> float | None:
    """A NumericDate (RFC 7519 2): a JSON number, never a string; None where it is absent."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ClaimError(f"{name} is not a number")
    if not 0 <= value <= _MAX_TIME:
        raise ClaimError(f"{name} is out of range")
    return value


def required_time(claims: Claims, name: str) -> float:
    """A NumericDate that has to be there."""
    value = time(claims, name)
    if value is None:
        raise ClaimError(f"{name} is absent")
    return value


def audiences(claims: Claims) -> frozenset[str]:
    """`aud`: a string or a list of strings (RFC 7519 4.1.3)."""
    value = claims.get("aud")
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise ClaimError("aud is absent or not a string or list of strings")
    found = [item for item in values if isinstance(item, str)]
    if len(found) != len(values):
        raise ClaimError("aud holds something that is not a string")
    return frozenset(found)


def is_name(value: JsonValue) -> bool:
    """Whether a value can name a person, a group or a client: one that survives logs, headers and comparison.

    Spaces at its ends don't: a header loses them, and two people would become one.
    """
    return (
        isinstance(value, str)
        and 1 <= len(value) <= MAX_NAME_CHARACTERS
        and value.isprintable()
        and value == value.strip()
    )


def name(value: JsonValue, what: str) -> str | None:
    """A value that is a name, or absent."""
    if value is ABSENT:
        return None
    if not isinstance(value, str) or not is_name(value):
        raise ClaimError(f"{what} is not 1 to {MAX_NAME_CHARACTERS} printable characters")
    return value


def names(value: JsonValue, what: str) -> frozenset[str]:
    """A value that is a list of names, or absent."""
    if value is ABSENT:
        return frozenset()
    if not isinstance(value, list):
        raise ClaimError(f"{what} is not a list")
    found = [item for item in value if isinstance(item, str) and is_name(item)]
    if len(found) != len(value):
        raise ClaimError(f"{what} holds an item that is not 1 to {MAX_NAME_CHARACTERS} printable characters")
    return frozenset(found)


def is_empty(value: JsonValue) -> bool:
    """Whether a claim says nothing: absent, null, or an empty string, list or object."""
    return value is ABSENT or value in ("", [], {})

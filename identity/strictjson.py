"""JSON as RFC 8259 and I-JSON (RFC 7493) have it, and nothing more.

`json.loads` alone takes the last of duplicate keys, NaN, lone surrogates and any depth that the stack holds.
Two readers of one document then disagree on what it says, which is how policy is bypassed.
"""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn

from identity.principal import JsonValue

MAX_DEPTH = 16

# One string, or one bracket. An unterminated string runs to the end, so that the scan stays linear.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.?)*+"?|[\[{]|[\]}]', re.DOTALL)


class JsonError(ValueError):
    """The bytes are not strict JSON. The message never repeats them."""


def loads(data: bytes, max_depth: int = MAX_DEPTH) -> JsonValue:
    """Parse one JSON document.

    Raises:
        JsonError: on anything that another JSON parser could read differently, or that is too deep.

    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise JsonError("not UTF-8") from None
    if text.startswith("\ufeff"):
        raise JsonError("starts with a byte order mark")
    _check_depth(text, max_depth)
    try:
        value: JsonValue = _DECODER.decode(text)
    except JsonError:
        raise
    except (ValueError, RecursionError):  # ValueError also where an integer has over 4300 digits
        raise JsonError("not JSON") from None
    if "\\u" in text:
        _check_surrogates(value)
    return value


def loads_object(data: bytes, max_depth: int = MAX_DEPTH) -> dict[str, JsonValue]:
    """Parse one JSON document that is an object."""
    value = loads(data, max_depth)
    if not isinstance(value, dict):
        raise JsonError("not a JSON object")
    return value


def _check_depth(text: str, max_depth: int) -> None:
    # Before parsing, since the parser recurses. Nearly every document has too few brackets to be too deep.
    if text.count("[") + text.count("{") <= max_depth:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        first = text[match.start()]
        if first in "[{":
            depth += 1
            if depth > max_depth:
                raise JsonError(f"deeper than {max_depth} levels")
        elif first in "]}":
            depth -= 1


def _check_surrogates(value: JsonValue) -> None:
    if isinstance(value, str):
        # A lone surrogate is no Unicode text: it can't be encoded, hashed or logged.
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise JsonError("holds a lone surrogate")
    elif isinstance(value, list):
        for item in value:
            _check_surrogates(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_surrogates(key)
            _check_surrogates(item)


def _unique(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JsonError("an object has a key twice")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise JsonError("a number is out of range")
    return number


def _no_constant(_: str) -> NoReturn:
    raise JsonError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)

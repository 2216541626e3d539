"""Reading JSON that somebody else wrote: a field that is missing or of another type is an empty one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Fields: TypeAlias = Mapping[str, Json]

_NOTHING: Fields = {}


def fields(value: object) -> Fields:
    """Return an object's fields; none for anything else."""
    return cast("Fields", value) if isinstance(value, dict) else _NOTHING


def sub(of: Fields, name: str) -> Fields:
    """Return the fields of one field."""
    return fields(of.get(name))


def text(of: Fields, name: str) -> str:
    """Return one field's text."""
    value = of.get(name)
    return value if isinstance(value, str) else ""


def flag(of: Fields, name: str) -> bool:
    """Return whether one field is true."""
    return of.get(name) is True


def number(of: Fields, name: str) -> int:
    """Return one field's number, in whole."""
    value = of.get(name)
    if isinstance(value, float) and value == value and abs(value) < 2**63:  # noqa: PLR0124 - not NaN
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def optional(of: Fields, name: str) -> int | None:
    """Return one field's number, None where there is none."""
    return number(of, name) if isinstance(of.get(name), (int, float)) else None


def objects(of: Fields, name: str) -> list[Fields]:
    """Return the objects among one field's items."""
    return [fields(item) for item in items(of, name) if isinstance(item, dict)]


def numbers(of: Fields, name: str) -> tuple[int, ...]:
    """Return the whole numbers among one field's items, floats cut."""
    return tuple(int(item) for item in items(of, name) if isinstance(item, (int, float)))


def items(of: Fields, name: str) -> Sequence[Json]:
    """Return one field's items."""
    value = of.get(name)
    return value if isinstance(value, list) else ()

"""What a model can't do well without: descriptions, typed arguments, output schemas."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from mcpguard.inventory import Described
from mcpguard.logs import FIELDS

_log = logging.getLogger("mcpguard")
_SAYS_TYPE = frozenset({"type", "anyOf", "oneOf", "allOf", "$ref", "enum", "const"})


def missing(offered: Iterable[Described]) -> tuple[str, ...]:
    """Return what each tool lacks, a sentence each; nothing where all is said."""
    return tuple(f"tool {tool.name!r}: {lack}" for tool in offered for lack in _lacks(tool))


def report(found: Iterable[str]) -> None:
    """Log each."""
    for lack in found:
        _log.warning("%s", lack, extra={FIELDS: {"event": "incomplete_tool"}})


def _lacks(tool: Described) -> Iterable[str]:
    if not tool.description.strip():
        yield "it has no description; write a docstring"
    arguments: dict[str, dict[str, Any]] = tool.parameters.get("properties", {})
    for name, schema in arguments.items():
        if not schema.get("description"):
            yield f"its argument {name!r} has no description; write Annotated[…, Field(description=…)]"
        if not schema.keys() & _SAYS_TYPE:
            yield f"its argument {name!r} has no type; annotate it"
    if tool.output_schema is None:
        yield "it has no output schema; annotate what it returns"

"""Inputs and outputs of calls, as the call log has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from identity.principal import JsonValue
from mcpguard.redact import Redactor

Level: TypeAlias = Literal["all", "errors", "off"]
LEVELS: tuple[Level, ...] = ("all", "errors", "off")


@dataclass(frozen=True, slots=True)
class Payloads:
    """Which payloads are logged, and how much of each."""

    level: Level = "all"
    limit: int = 4096
    """Characters of the arguments, and as many of the result."""
    redactor: Redactor = field(default_factory=Redactor)

    def of(self, params: Mapping[str, Any] | None, result: object, *, failed: bool) -> dict[str, JsonValue]:
        """Return the log's fields for one call; `result` is a wire dict, or anything where there is none."""
        if self.level == "off" or (self.level == "errors" and not failed):
            return {}
        shown = self.redactor.shown
        arguments = (params or {}).get("arguments")
        fields: dict[str, JsonValue] = {}
        if arguments:
            fields["arguments"] = shown(arguments, self.limit)
        if isinstance(result, dict):
            # The text is the structured content once more, for clients that read text alone.
            structured = result.get("structuredContent")
            fields["result"] = shown(structured or result.get("content"), self.limit)
        return fields

"""The SDK's own table of tools, with each call held to its limits and each crash told by an id alone."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool, ToolManager

from mcpguard.current import current
from mcpguard.limits import Bounds, LimitReached, Limits, limits_of
from mcpguard.logs import FIELDS

_log = logging.getLogger("mcpguard.tools")


class GuardedTools(ToolManager):
    """Takes over another table's tools. What it tells of them is the author's; what it runs is bounded."""

    def __init__(self, theirs: ToolManager, limits: Limits, changed: Callable[[], None]) -> None:
        super().__init__(theirs.warn_on_duplicate_tools, tools=theirs.list_tools())
        self._limits = limits
        self._bounds = Bounds()
        self._changed = changed
        self._bounded: dict[str, tuple[Tool, Tool]] = {}

    def limits_of(self, name: str) -> Limits:
        """Return what holds for a tool."""
        tool = self.get_tool(name)
        return self._limits if tool is None else limits_of(tool.fn, self._limits)

    def add_tool(self, *args: Any, **kwargs: Any) -> Tool:
        """Add a tool while the server runs, as the SDK does."""
        tool = super().add_tool(*args, **kwargs)
        self._changed()
        return tool

    def remove_tool(self, name: str) -> None:
        """Remove a tool while the server runs, as the SDK does."""
        super().remove_tool(name)
        self._bounded.pop(name, None)
        self._changed()

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
    ) -> Any:
        """Run a tool.

        Raises:
            ToolError: for the model to read; of a crash it says the id under which the log has the traceback.

        """
        tool = self.get_tool(name)
        if tool is None:
            raise ToolError(f"There is no tool {name!r}.")
        try:
            return await self._within_limits(tool).run(arguments, context, convert_result=convert_result)
        except UnexpectedToolError as crash:
            raise _masked(name, crash) from None
        except ToolError as error:
            reached = error.__cause__
            if isinstance(reached, LimitReached):
                _note(reached.limit)
                raise reached from None
            raise

    def _within_limits(self, tool: Tool) -> Tool:
        known = self._bounded.get(tool.name)
        if known is not None and known[0] is tool:
            return known[1]
        limits = limits_of(tool.fn, self._limits)
        function = self._bounds.bounded(tool.name, tool.fn, limits, is_async=tool.is_async)
        bounded = tool.model_copy(update={"fn": function, "is_async": True})
        self._bounded[tool.name] = (tool, bounded)
        return bounded


def _masked(name: str, crash: UnexpectedToolError) -> ToolError:
    """Log a crash with its traceback; return what its caller may know of it."""
    error_id = secrets.token_hex(8)
    call = current()
    _note("tool_crashed")
    fields = {
        "event": "crash",
        "tool": name,
        "error_id": error_id,
        "decision_id": call.admission.decision_id if call is not None else None,
    }
    _log.error("a tool crashed", exc_info=crash.__cause__ or crash, extra={FIELDS: fields})
    return ToolError(
        f"The tool {name} failed inside. Its owner finds the cause under error id {error_id}. "
        "Trying once more with the same arguments rarely helps."
    )


def _note(fault: str) -> None:
    call = current()
    if call is not None:
        call.fault = fault

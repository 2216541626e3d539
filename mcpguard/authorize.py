"""`@authorize_tool`: what a tool's author says about it, for policy to agree with.

The annotation decides nothing. Policy's YAML is authoritative: the annotation makes a reader of the code see
the rule, and makes a tool whose code and policy name different rules unusable until they agree.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from pdp import reasons
from pdp.model import Tool
from pdp.reasons import Reason

_ATTRIBUTE = "__gatehouse_authorization__"

ToolFunction = TypeVar("ToolFunction", bound=Callable[..., object])
Preview: TypeAlias = Callable[..., str | Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Authorization:
    """What the author wrote. `policy=None` says that the tool asks for no policy of its own."""

    policy: str | None
    preview: Preview | None = None
    """Says what a call would touch, for the person who is asked to confirm it."""


class HasFunction(Protocol):
    """A tool as the MCP SDK registered it."""

    name: str

    @property
    def fn(self) -> Callable[..., object]:
        """The function as its author wrote it."""


def authorize_tool(
    policy: str | None = None, *, preview: Preview | None = None
) -> Callable[[ToolFunction], ToolFunction]:
    """Say which `tool_policies` entry this tool asks for. Stands above or below `@mcp.tool()`.

    It marks the function and returns it unchanged; nothing is wrapped, so its signature stays the tool's.

    `preview` is for tools that policy marks `confirm: caller`. It takes any of the tool's arguments, by name,
    and returns a few lines on what the call would touch; it must change nothing, since it runs before anybody
    agreed. A `ToolError` from it ends the call with its message, and nobody is asked.

    Raises:
        TypeError: `preview` takes what the tool doesn't have.

    """

    def annotate(function: ToolFunction) -> ToolFunction:
        if preview is not None:
            taken = inspect.signature(preview).parameters.keys()
            missing = sorted(taken - inspect.signature(function).parameters.keys())
            if missing:
                raise TypeError(f"the preview takes {', '.join(missing)}, which the tool does not have")
        setattr(function, _ATTRIBUTE, Authorization(policy, preview))
        return function

    return annotate


def authorization_of(function: Callable[..., object]) -> Authorization | None:
    """What the function's author wrote, if anything."""
    found: object = getattr(function, _ATTRIBUTE, None)
    return found if isinstance(found, Authorization) else None


def disagreement(offered: HasFunction, named: Tool | None) -> Reason | None:
    """Why a tool that the server offers may not be used at all: policy names it not, or with another rule.

    A tool without `@authorize_tool` says nothing, so there is nothing to disagree about: policy's rule holds.
    """
    if named is None:
        return reasons.TOOL_UNKNOWN
    said = authorization_of(offered.fn)
    if said is not None and said.policy != named.policy:
        return reasons.TOOL_POLICY_MISMATCH
    return None

"""Inside the SDK: run only what was admitted, show each caller only what it may use, and time it.

The SDK's middleware sees results as wire dicts, with the wire's names; a filter that looks for the SDK's
classes finds nothing and leaks what it should hide.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from mcpguard.admission import Admission, admitted
from mcpguard.confirmation import Confirmations
from mcpguard.confirmation_ledger import NotConfirmed
from mcpguard.guard import CALL, Guard
from mcpguard.message import TARGETS, Question
from mcpguard.refusal import Refusal
from mcpguard.telemetry import Entry, Outcome, Telemetry, tool_label
from pdp import reasons

_log = logging.getLogger("mcpguard")


@dataclass(frozen=True, slots=True)
class Listing:
    """How one list method's result is filtered: its entries, their name, and what using one would ask."""

    entries: str
    name: str
    method: str


LISTINGS: Mapping[str, Listing] = MappingProxyType(
    {
        "tools/list": Listing("tools", "name", CALL),
        "resources/list": Listing("resources", "uri", "resources/read"),
        "resources/templates/list": Listing("resourceTemplates", "uriTemplate", "resources/read"),
        "prompts/list": Listing("prompts", "name", "prompts/get"),
    }
)


class GuardMiddleware(ServerMiddleware[Any]):
    """The SDK's side of the enforcement point. It stands outermost, so that nothing is added after it."""

    def __init__(
        self,
        guard: Guard,
        confirmations: Confirmations,
        telemetry: Telemetry,
        clock: Callable[[], float],
    ) -> None:
        self._guard = guard
        self._confirmations = confirmations
        self._telemetry = telemetry
        self._clock = clock

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        admission = admitted(ctx.request)
        if admission is None or not _same(admission, ctx):
            # The front read one thing out of the body and the SDK another, or the SDK was reached around it.
            _log.error("a message reached the SDK that was not admitted")
            raise _error(Refusal(reasons.INTERNAL_ERROR, admission.decision_id if admission else ""))
        started = time.perf_counter()
        outcome: Outcome = "error"
        withheld: int | None = None
        reason: str | None = None
        try:
            result = await self._confirmations.run(ctx, admission, call_next)
            outcome = "tool_error" if _is_tool_error(result) else "asked" if _asks(result) else "ok"
            if isinstance(result, dict):
                result, withheld = self._filtered(result, ctx, admission)
            return result
        except NotConfirmed as refused:
            reason = refused.refusal.reason.code
            outcome = "unavailable" if refused.refusal.reason.status == 503 else "denied"
            raise
        except (MCPError, ValidationError):
            outcome = "tool_error"  # The call's own fault, told to the caller as it is.
            raise
        finally:
            self._report(admission, outcome, time.perf_counter() - started, withheld, reason)

    def _filtered(
        self, result: dict[str, Any], ctx: ServerRequestContext[Any, Any], admission: Admission
    ) -> tuple[dict[str, Any], int | None]:
        """Leave out what this caller may not use; what depends on the caller is never cached for others."""
        result = dict(result)
        if "cacheScope" in result or (
            ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and ctx.method in LISTINGS
        ):
            result["cacheScope"] = "private"
        listing = LISTINGS.get(ctx.method)
        if listing is None:
            return result, None
        entries = result.get(listing.entries)
        if not isinstance(entries, list):
            return result, None
        now = self._clock()
        shown = [entry for entry in entries if self._may_use(listing, entry, admission, now)]
        result[listing.entries] = shown
        return result, len(entries) - len(shown)

    def _may_use(self, listing: Listing, entry: object, admission: Admission, now: float) -> bool:
        name = entry.get(listing.name) if isinstance(entry, dict) else None
        if not isinstance(name, str):
            return False
        return self._guard.may(admission.assertion, Question(listing.method, name), now) is None

    def _report(
        self,
        admission: Admission,
        outcome: Outcome,
        seconds: float,
        withheld: int | None,
        reason: str | None,
    ) -> None:
        question = admission.message.question
        label = tool_label(self._guard.policy(), self._guard.server, question)
        self._telemetry.operated(question, label, outcome, seconds)
        self._telemetry.log(
            Entry(
                decision_id=admission.decision_id,
                outcome=outcome,
                seconds=seconds,
                question=question,
                assertion=admission.assertion,
                reason=reason,
                withheld=withheld,
            )
        )


def _same(admission: Admission, ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the SDK is about to run exactly what was admitted."""
    question = admission.message.question
    key = TARGETS.get(ctx.method)
    return ctx.method == question.method and (key is None or (ctx.params or {}).get(key) == question.target)


def _is_tool_error(result: HandlerResult) -> bool:
    return isinstance(result, dict) and result.get("isError") is True


def _asks(result: HandlerResult) -> bool:
    """Whether the caller is asked something and comes back: the call isn't done yet."""
    return isinstance(result, dict) and result.get("resultType") == "input_required"


def _error(refusal: Refusal) -> MCPError:
    return MCPError(refusal.code, refusal.detail or refusal.reason.meaning, refusal.data())

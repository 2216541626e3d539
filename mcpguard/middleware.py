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
from pydantic_core import to_json

from mcpguard.admission import Admission, admitted, headers_of
from mcpguard.annotations import annotated
from mcpguard.confirmation import Confirmations
from mcpguard.confirmation_ledger import NotConfirmed
from mcpguard.current import RUNNING, Running
from mcpguard.guard import CALL, Guard
from mcpguard.limits import Limits, too_large
from mcpguard.message import TARGETS, Question
from mcpguard.payloads import Payloads
from mcpguard.refusal import Refusal
from mcpguard.telemetry import Entry, Outcome, Telemetry, tool_label
from mcpguard.tracing import join, leave
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
        *,
        guard: Guard,
        confirmations: Confirmations,
        limits_of: Callable[[str], Limits],
        payloads: Payloads,
        telemetry: Telemetry,
        clock: Callable[[], float],
    ) -> None:
        self._guard = guard
        self._confirmations = confirmations
        self._limits_of = limits_of
        self._payloads = payloads
        self._telemetry = telemetry
        self._clock = clock

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        admission = admitted(ctx.request)
        if admission is None or not _same(admission, ctx):
            # The front read one thing out of the body and the SDK another, or the SDK was reached around it.
            _log.error("a message reached the SDK that was not admitted")
            raise _error(Refusal(reasons.INTERNAL_ERROR, admission.decision_id if admission else ""))
        call = Running(admission)
        trace = join(ctx.meta, headers_of(ctx.request))
        before = RUNNING.set(call)
        try:
            return await self._observed(ctx, call, call_next)
        finally:
            RUNNING.reset(before)
            leave(trace)

    async def _observed(
        self, ctx: ServerRequestContext[Any, Any], call: Running, call_next: CallNext
    ) -> HandlerResult:
        started = time.perf_counter()
        outcome: Outcome = "error"
        withheld: int | None = None
        result: HandlerResult = None
        try:
            result = await self._confirmations.run(ctx, call.admission, call_next)
            if isinstance(result, dict):
                result, withheld = self._filtered(self._measured(result, call), ctx, call.admission)
            outcome = "tool_error" if _is_tool_error(result) else "asked" if _asks(result) else "ok"
            return result
        except NotConfirmed as refused:
            call.fault = refused.refusal.reason.code
            outcome = "unavailable" if refused.refusal.reason.status == 503 else "denied"
            raise
        except (MCPError, ValidationError):
            outcome = "tool_error"  # The call's own fault, told to the caller as it is.
            raise
        finally:
            self._report(
                ctx,
                call,
                outcome=outcome,
                seconds=time.perf_counter() - started,
                withheld=withheld,
                result=result,
            )

    def _measured(self, result: dict[str, Any], call: Running) -> dict[str, Any]:
        """Observe what a tool brings; what is too much for a model is replaced by what to do instead."""
        question = call.admission.message.question
        if question.method != CALL or _asks(result):
            return result
        limits = self._limits_of(question.target or "")
        size = len(to_json(result))
        structured = result.get("structuredContent")
        truncated = isinstance(structured, dict) and structured.get("truncated") is True
        label = tool_label(self._guard.policy(), self._guard.server, question)
        self._telemetry.answered(label, size, truncated=truncated or size > limits.result_bytes)
        if size <= limits.result_bytes:
            return result
        reached = too_large(size, limits)
        call.fault = reached.limit
        kept = {key: value for key, value in result.items() if key not in ("content", "structuredContent")}
        return {**kept, "content": [{"type": "text", "text": str(reached)}], "isError": True}

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
        result[listing.entries] = (
            [self._annotated(entry) for entry in shown] if listing.method == CALL else shown
        )
        return result, len(entries) - len(shown)

    def _may_use(self, listing: Listing, entry: object, admission: Admission, now: float) -> bool:
        name = entry.get(listing.name) if isinstance(entry, dict) else None
        if not isinstance(name, str):
            return False
        return self._guard.may(admission.assertion, Question(listing.method, name), now) is None

    def _annotated(self, entry: dict[str, Any]) -> dict[str, Any]:
        snapshot = self._guard.policy()
        described = snapshot.servers.get(self._guard.server) if snapshot is not None else None
        tool = described.tools.get(entry["name"]) if described is not None else None
        return annotated(entry, tool.side_effect if tool is not None else "destroy")

    def _report(
        self,
        ctx: ServerRequestContext[Any, Any],
        call: Running,
        *,
        outcome: Outcome,
        seconds: float,
        withheld: int | None,
        result: HandlerResult,
    ) -> None:
        admission = call.admission
        question = admission.message.question
        payloads = (
            self._payloads.of(ctx.params, result, failed=outcome != "ok") if question.method == CALL else {}
        )
        entry = Entry(
            decision_id=admission.decision_id,
            outcome=outcome,
            seconds=seconds,
            question=question,
            assertion=admission.assertion,
            reason=call.fault if outcome != "ok" else None,
            withheld=withheld,
            payloads=payloads,
        )
        self._telemetry.ended(entry, self._guard.policy())


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

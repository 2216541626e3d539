"""One call that needs a confirmation, and the book that is kept about it: records, log lines, counts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import anyio.to_thread
from mcp.server.context import CallNext, ServerRequestContext
from mcp.server.mcpserver.tools import Tool as OfferedTool
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from prometheus_client import CollectorRegistry, Counter

from identity.principal import JsonValue
from mcpguard.admission import Admission
from mcpguard.confirmation_records import (
    Record,
    Records,
    RecordsUnavailable,
    Step,
    TooManyOpen,
    person_of,
)
from mcpguard.confirmation_state import Binding, new_id
from mcpguard.logs import FIELDS
from mcpguard.refusal import Refusal
from pdp import reasons
from pdp.model import Tool
from pdp.reasons import Reason

LIFETIME = 120.0
"""Seconds from question to answer."""

Context: TypeAlias = ServerRequestContext[Any, Any]
Asked: TypeAlias = Literal["form", "url", "no"]

_log = logging.getLogger("mcpguard.confirmation")
_USUAL = frozenset({"asked", "accepted", "declined", "cancelled"})
_ENDED = {
    Step.SPENT: reasons.CONFIRMATION_REPLAYED,
    Step.DECLINED: reasons.CONFIRMATION_REPLAYED,
    Step.CANCELLED: reasons.CONFIRMATION_REPLAYED,
    Step.EXPIRED: reasons.CONFIRMATION_EXPIRED,
}
"""What a question that was expected to be open says by standing elsewhere; the rest is invalid."""


class NotConfirmed(MCPError):
    """The call ends here and nothing ran; `refusal` says why."""

    def __init__(self, refusal: Refusal, *, code: int | None = None, **more: JsonValue) -> None:
        super().__init__(
            refusal.code if code is None else code,
            refusal.detail or refusal.reason.meaning,
            {**refusal.data(), **more},
        )
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Case:
    """One call of a tool that needs a confirmation."""

    ctx: Context
    admission: Admission
    call_next: CallNext
    tool: Tool
    offered: OfferedTool
    arguments: dict[str, JsonValue]
    binding: Binding
    support: str

    @property
    def modern(self) -> bool:
        return self.ctx.protocol_version in MODERN_PROTOCOL_VERSIONS

    def refusal(self, reason: Reason, detail: str = "") -> Refusal:
        """Build the answer that ends this call."""
        return Refusal(reason, self.admission.decision_id, detail, support=self.support)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Keeps the records, off the event loop, and says what became of each question."""

    records: Records
    outcomes: Counter
    clock: Callable[[], float]
    lifetime: float = LIFETIME

    async def add(self, case: Case, asked: Asked, message: str = "") -> Record:
        """Record a question before it is asked.

        Raises:
            NotConfirmed: it can't be recorded, so it isn't asked.

        """
        now, bound = self.clock(), case.binding
        person = person_of(bound.issuer, bound.subject)
        kept = message if asked == "url" else ""
        record = Record(new_id(), person, bound.server, bound.tool, kept, now + self.lifetime)
        try:
            await anyio.to_thread.run_sync(self.records.add, record, now)
        except TooManyOpen:
            detail = "Too many questions to this user are open; answer them, or wait two minutes."
            raise self.refused(case, reasons.CONFIRMATION_UNAVAILABLE, record.id, detail) from None
        except RecordsUnavailable as error:
            raise self._unavailable(case, record.id, error) from None
        return record

    async def spend(self, case: Case, record_id: str, before: Step = Step.OPEN) -> None:
        """Use a confirmation up, which one call can do once.

        Raises:
            NotConfirmed: it was used or answered already, is over, or never was.

        """
        stood = await self._move(case, record_id, before, Step.SPENT)
        if stood is not before:
            raise self.over(case, record_id, stood)

    async def end(self, case: Case, record_id: str, step: Step, reason: Reason) -> NotConfirmed:
        """Record that a question ends without a run; returns what to raise."""
        stood = await self._move(case, record_id, Step.OPEN, step)
        if stood is Step.APPROVED:  # confirmed on the page, and the client takes it back
            stood = await self._move(case, record_id, Step.APPROVED, step)
        if stood in (Step.OPEN, Step.APPROVED):
            return self.refused(case, reason, record_id)
        return self.over(case, record_id, stood)

    def over(self, case: Case, record_id: str, stood: Step) -> NotConfirmed:
        """Refuse a question that isn't open any more, or never was."""
        return self.refused(case, _ENDED.get(stood, reasons.CONFIRMATION_INVALID), record_id)

    async def find(self, case: Case, record_id: str) -> Record | None:
        """Look a question up.

        Raises:
            NotConfirmed: the records can't be read.

        """
        try:
            return await anyio.to_thread.run_sync(self.records.find, record_id, self.clock())
        except RecordsUnavailable as error:
            raise self._unavailable(case, record_id, error) from None

    async def _move(self, case: Case, record_id: str, before: Step, after: Step) -> Step:
        try:
            return await anyio.to_thread.run_sync(self.records.move, record_id, before, after, self.clock())
        except RecordsUnavailable as error:
            raise self._unavailable(case, record_id, error) from None

    def refused(self, case: Case, reason: Reason, record_id: str = "", detail: str = "") -> NotConfirmed:
        """Note a refusal; returns what to raise."""
        self.note(case, reason.code.removeprefix("confirmation_"), record_id)
        return NotConfirmed(case.refusal(reason, detail))

    def _unavailable(self, case: Case, record_id: str, error: RecordsUnavailable) -> NotConfirmed:
        _log.error("confirmations can't be recorded: %s", error)
        return self.refused(case, reasons.CONFIRMATION_UNAVAILABLE, record_id)

    def note(self, case: Case, outcome: str, record_id: str = "") -> None:
        """One line and one count for what became of a question."""
        bound = case.binding
        self.outcomes.labels(bound.server, bound.tool, outcome).inc()
        fields = {
            "event": "confirmation",
            "outcome": outcome,
            "confirmation": record_id or None,
            "decision_id": case.admission.decision_id,
            "server": bound.server,
            "tool": bound.tool,
            "user": f"{bound.issuer}:{bound.subject}",
            "surface": bound.surface,
            "arguments": bound.arguments,
            "policy": bound.policy,
        }
        level = logging.INFO if outcome in _USUAL else logging.WARNING
        _log.log(level, "confirmation %s", outcome, extra={FIELDS: fields})


def counter(registry: CollectorRegistry) -> Counter:
    """Return `mcp_confirmations_total`; its tools are those that policy names."""
    return Counter(
        "mcp_confirmations",
        "Questions to the caller before a tool runs, and what became of them.",
        ("server", "tool", "outcome"),
        registry=registry,
    )

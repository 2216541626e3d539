"""Tools that policy marks `confirm: caller` ask the calling person before they run, by MCP elicitation.

What is confirmed is exactly what runs. The answer is bound to user, surface, server, tool, arguments and
policy, holds for two minutes and counts once; policy decides again right before the tool runs. Whatever isn't
an acceptance, or can't be recorded, runs nothing.

Up to 2025-11-25 the question is a request of the server's within the session, and its answer a message of its
own. From 2026-07-28 on it is a result, `input_required`, and the client repeats its call with the answer and
the sealed state; that may reach another process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import anyio
from mcp.server.context import CallNext, HandlerResult
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool as OfferedTool
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, MISSING_REQUIRED_CLIENT_CAPABILITY
from pydantic import ValidationError

from identity.principal import JsonValue
from mcpguard import confirmation_question as question
from mcpguard.admission import Admission
from mcpguard.confirmation_asking import Answer, ask_in_session, input_required, wire_answer
from mcpguard.confirmation_ledger import Asked, Case, Context, Ledger, NotConfirmed
from mcpguard.confirmation_records import Step
from mcpguard.confirmation_state import Binding, DigestError, State, StateCodec, StateError, arguments_digest
from mcpguard.guard import CALL, Guard
from mcpguard.refusal import Refusal, from_deny
from pdp import reasons
from pdp.model import Allow, Deny

PATIENCE = 20.0
"""Seconds that a repeated call waits for an answer on the confirmation page before it asks to come again."""
LOOK = 0.5
"""Seconds between two looks at what the page recorded."""

_log = logging.getLogger("mcpguard.confirmation")
_CARRIED = frozenset({"requestState", "inputResponses"})
_NO_FORM = (
    "The tool runs only after its user confirms it, and this client did not declare the capability "
    "`elicitation.form`."
)


@dataclass(frozen=True, slots=True)
class Confirmations:
    """Asks, and lets through what was confirmed."""

    guard: Guard
    offered: Callable[[str], OfferedTool | None]
    ledger: Ledger
    codec: StateCodec
    page: str | None = None
    """Address of the confirmation page, with `{server}` and `{id}`; None: form mode only."""

    async def run(self, ctx: Context, admission: Admission, call_next: CallNext) -> HandlerResult:
        """Run an admitted message: at once, or where policy demands it, after the caller has confirmed it.

        Raises:
            NotConfirmed: nothing ran.

        """
        if admission.message.question.method != CALL:
            return await call_next(ctx)
        case = self._case(ctx, admission, call_next)
        if case is None:
            return await call_next(ctx)
        if not case.modern:
            return await self._in_session(case)
        text = (ctx.params or {}).get("requestState")
        return await (self._ask(case) if text is None else self._answered(case, text))

    def _case(self, ctx: Context, admission: Admission, call_next: CallNext) -> Case | None:
        """What the call is to be bound to; None where policy asks for no confirmation."""
        snapshot, name = self.guard.policy(), admission.message.question.target or ""
        server = snapshot.servers.get(self.guard.server) if snapshot is not None else None
        tool, offered = server.tools.get(name) if server is not None else None, self.offered(name)
        if snapshot is None or server is None or tool is None or offered is None:
            # It was admitted under another policy, a moment ago.
            raise NotConfirmed(Refusal(reasons.TOOL_UNKNOWN, admission.decision_id))
        if tool.confirm is None:
            return None
        user, surface = admission.assertion.user, admission.assertion.surface
        if user is None or tool.confirm != "caller":  # the guard has refused both already
            raise NotConfirmed(Refusal(reasons.CONFIRMATION_REQUIRED, admission.decision_id))
        arguments, digest = _arguments(ctx)
        binding = Binding(
            user.issuer, user.subject, surface, self.guard.server, name, digest, snapshot.digest
        )
        return Case(ctx, admission, call_next, tool, offered, arguments, binding, server.support)

    # --- asking

    async def _ask(self, case: Case) -> HandlerResult:
        """2026-07-28: answer the call with the question."""
        asked = self._how(case)
        text = await self._message(case)
        if not isinstance(text, str):
            return text
        record = await self.ledger.add(case, asked, text)
        sealed = self.codec.seal(State(record.id, record.expires, case.binding, asked))
        self.ledger.note(case, "asked", record.id)
        return input_required(text, self._url(asked, record.id), sealed)

    async def _in_session(self, case: Case) -> HandlerResult:
        """Up to 2025-11-25: ask within the call's own stream, and wait."""
        asked = self._how(case)
        text = await self._message(case)
        if not isinstance(text, str):
            return text
        record = await self.ledger.add(case, asked, text)
        self.ledger.note(case, "asked", record.id)
        with anyio.move_on_after(self.ledger.lifetime) as waiting:
            answer = await ask_in_session(case.ctx, text, self._url(asked, record.id), record.id)
            if answer is Answer.ACCEPTED and asked == "url":
                await self._await_page(case, record.id)
                await case.ctx.session.send_elicit_complete(record.id, case.ctx.request_id)
        if waiting.cancelled_caught:
            raise await self.ledger.end(case, record.id, Step.EXPIRED, reasons.CONFIRMATION_EXPIRED)
        return await self._settle(case, record.id, asked, answer)

    def _how(self, case: Case) -> Asked:
        """How this client can ask its user; a bare `elicitation: {}` means forms, as it did before modes."""
        declared = case.ctx.session.client_capabilities
        able = declared.elicitation if declared is not None else None
        if not case.modern and not case.ctx.session.can_send_request:
            able = None
        if able is not None and (able.form is not None or able.url is None):
            return "form"
        if able is not None and self.page is not None:
            return "url"
        self.ledger.note(case, "required")
        raise NotConfirmed(
            case.refusal(reasons.CONFIRMATION_REQUIRED, _NO_FORM),
            code=MISSING_REQUIRED_CLIENT_CAPABILITY if case.modern else None,
            requiredCapabilities={"elicitation": {"form": {}}},
        )

    async def _message(self, case: Case) -> str | HandlerResult:
        """Return the question; or the tool's own error, where the call could not work anyway."""
        try:
            validated = case.offered.fn_metadata.validate_arguments(case.arguments)
            preview = await question.preview(case.offered, validated)
        except (ValidationError, ToolError) as error:
            text = f"Error executing tool {case.tool.name}: {error}"
            failed: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": True}
            return failed | ({"resultType": "complete"} if case.modern else {})
        return question.message(self.guard.server, case.tool, case.offered, case.arguments, preview)

    # --- the answer

    async def _answered(self, case: Case, text: object) -> HandlerResult:
        """2026-07-28: the client repeats its call, with what it was given and what its user said."""
        state = self._opened(case, text)
        responses = (case.ctx.params or {}).get("inputResponses")
        if state.asked == "no":
            await self.ledger.spend(case, state.id)
            return await self._execute(
                case, state.id, {"requestState": state.inner, "inputResponses": responses}
            )
        answer = wire_answer(responses, form=state.asked == "form")
        if answer is None:
            return await self._ask(case)
        if answer is Answer.ACCEPTED and state.asked == "url":
            with anyio.move_on_after(PATIENCE) as waiting:
                await self._await_page(case, state.id)
            if waiting.cancelled_caught:
                record = await self.ledger.find(case, state.id)
                return input_required(record.message if record else "", self._url("url", state.id), str(text))
        return await self._settle(case, state.id, state.asked, answer)

    def _opened(self, case: Case, text: object) -> State:
        """Open a state and hold it against the call that brings it."""
        try:
            state = self.codec.open(text if isinstance(text, str) else "")
        except StateError as error:
            _log.warning("a confirmation's state was refused: %s", error)
            raise self.ledger.refused(case, reasons.CONFIRMATION_INVALID) from None
        said, wanted = state.binding, case.binding
        if (said.issuer, said.subject) != (wanted.issuer, wanted.subject):
            raise self.ledger.refused(case, reasons.CONFIRMATION_WRONG_USER, state.id)
        if replace(said, policy=wanted.policy) != wanted:
            raise self.ledger.refused(case, reasons.CONFIRMATION_MISMATCH, state.id)
        if said.policy != wanted.policy:
            raise self.ledger.refused(case, reasons.CONFIRMATION_POLICY_CHANGED, state.id)
        if self.ledger.clock() >= state.expires:
            raise self.ledger.refused(case, reasons.CONFIRMATION_EXPIRED, state.id)
        return state

    async def _settle(self, case: Case, record_id: str, asked: str, answer: Answer) -> HandlerResult:
        """Record the answer, which only the first one can, and run the tool where it is an acceptance."""
        if answer is Answer.DECLINED:
            raise await self.ledger.end(case, record_id, Step.DECLINED, reasons.CONFIRMATION_DECLINED)
        if answer is Answer.CANCELLED:
            raise await self.ledger.end(case, record_id, Step.CANCELLED, reasons.CONFIRMATION_CANCELLED)
        await self.ledger.spend(case, record_id, Step.APPROVED if asked == "url" else Step.OPEN)
        return await self._execute(case, record_id, None)

    async def _await_page(self, case: Case, record_id: str) -> None:
        """Wait until the person has confirmed on the page, at whichever replica: the record alone tells.

        Raises:
            NotConfirmed: the person declined there, or the question is over.

        """
        while True:
            record = await self.ledger.find(case, record_id)
            step = record.step if record is not None else Step.UNKNOWN
            if step is Step.APPROVED:
                return
            if step is Step.DECLINED:
                raise self.ledger.refused(case, reasons.CONFIRMATION_DECLINED, record_id)
            if step is not Step.OPEN:
                raise self.ledger.over(case, record_id, step)
            await anyio.sleep(LOOK)

    # --- running

    async def _execute(self, case: Case, record_id: str, carried: Mapping[str, Any] | None) -> HandlerResult:
        """Run what was confirmed, once policy has decided again. The record is spent by now."""
        verdict = self.guard.judge(case.admission.assertion, case.admission.message, self.ledger.clock())
        snapshot, decision = verdict.snapshot, verdict.decision
        if isinstance(decision, Deny) and snapshot is not None:
            self.ledger.note(case, "denied", record_id)
            raise NotConfirmed(from_deny(decision, snapshot, case.admission.decision_id, None))
        if snapshot is None or snapshot.digest != case.binding.policy or not isinstance(decision, Allow):
            raise self.ledger.refused(case, reasons.CONFIRMATION_POLICY_CHANGED, record_id)
        if carried is None:
            self.ledger.note(case, "accepted", record_id)
        params = {name: value for name, value in (case.ctx.params or {}).items() if name not in _CARRIED}
        params |= {name: value for name, value in (carried or {}).items() if value is not None}
        result = await case.call_next(replace(case.ctx, params=params))
        if case.modern and isinstance(result, dict) and result.get("resultType") == "input_required":
            return await self._continued(case, result)
        return result

    async def _continued(self, case: Case, result: dict[str, Any]) -> HandlerResult:
        """The tool asks for more: what was confirmed stays so for its next round, once."""
        record = await self.ledger.add(case, "no")
        state = State(record.id, record.expires, case.binding, "no", result.get("requestState"))
        return result | {"requestState": self.codec.seal(state)}

    def _url(self, asked: Asked, record_id: str) -> str | None:
        if asked != "url" or self.page is None:
            return None
        return self.page.replace("{server}", self.guard.server).replace("{id}", record_id)


def _arguments(ctx: Context) -> tuple[dict[str, JsonValue], str]:
    """Return what the SDK is about to run the tool with, and its digest."""
    arguments = (ctx.params or {}).get("arguments")
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, dict):
        raise MCPError(INVALID_PARAMS, "arguments are an object")
    try:
        return arguments, arguments_digest(arguments)
    except DigestError:
        raise MCPError(
            INVALID_PARAMS, "An integer beyond 2^53 can't be confirmed exactly; send it as text."
        ) from None

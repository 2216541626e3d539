"""The question and its answer as the two protocol eras carry them."""

from __future__ import annotations

import logging
from enum import Enum, auto
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitRequestURLParams, ElicitResult
from pydantic import ValidationError

from mcpguard.confirmation_question import confirmed, form_schema

KEY = "gatehouse-confirmation"
"""The name of our question among a result's `inputRequests`."""

_log = logging.getLogger("mcpguard.confirmation")


class Answer(Enum):
    """What the person said."""

    ACCEPTED = auto()
    """In URL mode only that the page may be opened: what counts is said there."""
    DECLINED = auto()
    CANCELLED = auto()


def input_required(message: str, url: str | None, state: str) -> dict[str, Any]:
    """Build the result of 2026-07-28 that asks."""
    asked: dict[str, Any] = {"mode": "form", "message": message, "requestedSchema": form_schema()}
    if url is not None:
        asked = {"mode": "url", "message": message, "url": url}
    return {
        "resultType": "input_required",
        "inputRequests": {KEY: {"method": "elicitation/create", "params": asked}},
        "requestState": state,
    }


def wire_answer(responses: object, *, form: bool) -> Answer | None:
    """Read our answer among a call's `inputResponses`; None where there is none."""
    response = responses.get(KEY) if isinstance(responses, dict) else None
    if not isinstance(response, dict):
        return None
    return _answer(response.get("action"), response.get("content"), form=form)


async def ask_in_session(
    ctx: ServerRequestContext[Any, Any], message: str, url: str | None, elicitation_id: str
) -> Answer:
    """Ask by a request of the server's, in the stream of the call it belongs to, and wait for the answer."""
    params = (
        ElicitRequestFormParams(message=message, requested_schema=form_schema())
        if url is None
        else ElicitRequestURLParams(message=message, url=url, elicitation_id=elicitation_id)
    )
    related = ServerMessageMetadata(related_request_id=ctx.request_id)
    try:
        result = await ctx.session.send_request(ElicitRequest(params=params), ElicitResult, metadata=related)
    except (MCPError, ValidationError) as error:
        _log.warning("the client did not answer the question: %s", type(error).__name__)
        return Answer.CANCELLED
    return _answer(result.action, result.content, form=url is None) or Answer.CANCELLED


def _answer(action: object, content: object, *, form: bool) -> Answer | None:
    if action == "accept":
        return Answer.ACCEPTED if confirmed(content) or not form else Answer.DECLINED
    return {"decline": Answer.DECLINED, "cancel": Answer.CANCELLED}.get(str(action))

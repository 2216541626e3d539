"""What a server asks its caller before it runs a tool, and how `gatehouse call` and the tour answer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import anyio.to_thread
from mcp_types import (
    ElicitRequest,
    ElicitRequestParams,
    ElicitRequestURLParams,
    ElicitResult,
    InputRequests,
    InputResponses,
)

from gatehouse.console import say

Choice: TypeAlias = Literal["accept", "decline", "cancel"]
Respond: TypeAlias = Callable[[str], Choice]
"""Given the question, says what the person says. It may block."""

WAIT = 130.0
"""Seconds that a call may take whose question a person reads: it stays open for two minutes."""


def accept(question: str) -> Choice:
    """Show the question and accept it (`--yes`)."""
    say(question)
    return "accept"


def decline(question: str) -> Choice:
    """Show the question and decline it (`--no`)."""
    say(question)
    return "decline"


def ask(question: str) -> Choice:
    """Ask on the terminal. Anything but a clear yes declines, and the end of input cancels."""
    say(question)
    sys.stderr.write("Confirm? [y/N] ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        return "cancel"
    return "accept" if line.strip().lower() in ("y", "yes") else "decline"


def on_terminal() -> Respond | None:
    """How to ask the person at the terminal; None where there is none."""
    return ask if sys.stdin.isatty() and sys.stderr.isatty() else None


@dataclass(slots=True)
class Answering:
    """Answers one call's questions; it is the SDK's elicitation callback too."""

    respond: Respond
    asked: list[str] = field(default_factory=list)

    async def __call__(self, context: object, params: ElicitRequestParams) -> ElicitResult:  # noqa: ARG002
        question = params.message
        if isinstance(params, ElicitRequestURLParams):
            question += f"\nOpen {params.url}"
        self.asked.append(question)
        # Whoever answers may never do so, and the call must end all the same.
        choice = await anyio.to_thread.run_sync(self.respond, question, abandon_on_cancel=True)
        if choice != "accept" or isinstance(params, ElicitRequestURLParams):
            return ElicitResult(action=choice)
        return _ticked(params.requested_schema)

    async def all(self, requests: InputRequests) -> InputResponses:
        """Answer what a result of 2026-07-28 asks for."""
        answers: InputResponses = {}
        for key, request in requests.items():
            if isinstance(request, ElicitRequest):
                answers[key] = await self(None, request.params)
        return answers


def _ticked(schema: object) -> ElicitResult:
    """Tick every box of the form. One that wants more than boxes can't be filled in here."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or any(p.get("type") != "boolean" for p in properties.values()):
        say("the form asks for more than a confirmation; it is left unanswered")
        return ElicitResult(action="cancel")
    return ElicitResult(action="accept", content=dict.fromkeys(properties, True))

"""Answers that last: ended when their caller may no longer have them.

One task looks at all of them each second, so that a lock holds within seconds and a call that is quick pays
next to nothing for it: a scope of its own would cost it more than being decided does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from pdp.reasons import Reason

_Look: TypeAlias = Callable[[], Reason | None]

CHECK_EVERY = 1.0
"""Seconds between two looks at whether callers are still welcome."""


class Streams:
    """The answers that are on their way."""

    def __init__(self) -> None:
        self._held: dict[asyncio.Task[None], _Look] = {}
        self._why: dict[asyncio.Task[None], Reason] = {}

    async def sweep(self) -> None:
        """End what its caller may no longer have, again and again until cancelled."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            for task, ended in list(self._held.items()):
                reason = ended()
                if reason is not None and task not in self._why:
                    self._why[task] = reason
                    task.cancel()

    async def hold(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, ended: _Look
    ) -> Reason | None:
        """Run `app` until it ends by itself or `ended` says so; then end its answer properly.

        Returns why, where it was ended before any of it was sent, so that somebody has to answer.
        """
        started = finished = False

        async def watched(event: Event) -> None:
            nonlocal started, finished
            started = started or event["type"] == "http.response.start"
            finished = finished or (
                event["type"] == "http.response.body" and not event.get("more_body", False)
            )
            await send(event)

        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an answer is given within a task")
        self._held[task] = ended
        try:
            await app(scope, receive, watched)
        except asyncio.CancelledError:
            if task not in self._why:
                raise  # somebody else's doing
            task.uncancel()
        finally:
            del self._held[task]
            reason = self._why.pop(task, None)
        if started and not finished:
            # Ended here, or left open by an application that stops because the process does.
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        return None if started else reason

"""Answers that last: ended when their caller may no longer have them.

One task looks at all of them each second, so that a lock holds within seconds and a call that is quick pays
next to nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from pdp.reasons import Reason

_Look: TypeAlias = Callable[[], Reason | None]

CHECK_EVERY = 1.0
"""Seconds between two looks at whether callers are still welcome."""


class Streams:
    """The answers that are on their way."""

    def __init__(self) -> None:
        self._held: dict[anyio.CancelScope, _Look] = {}
        self._why: dict[anyio.CancelScope, Reason] = {}

    async def sweep(self) -> None:
        """End what its caller may no longer have, again and again until cancelled."""
        while True:
            await anyio.sleep(CHECK_EVERY)
            for scope, ended in list(self._held.items()):
                reason = ended()
                if reason is not None:
                    self._why[scope] = reason
                    scope.cancel()

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

        with anyio.CancelScope() as cut:
            self._held[cut] = ended
            try:
                await app(scope, receive, watched)
            finally:
                del self._held[cut]
        reason = self._why.pop(cut, None)
        if not cut.cancelled_caught:
            return None
        if started and not finished:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        return None if started else reason

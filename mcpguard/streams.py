"""Streams without an end: closed when their caller may no longer have them."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

CHECK_EVERY = 1.0
"""Seconds between two looks at whether the caller is still welcome; a lock holds within seconds."""


async def hold(app: ASGIApp, scope: Scope, receive: Receive, send: Send, ended: Callable[[], bool]) -> None:
    """Run `app` until it ends by itself or `ended` says so, and then end its answer properly."""
    started = finished = False

    async def watched(event: Event) -> None:
        nonlocal started, finished
        started = started or event["type"] == "http.response.start"
        finished = finished or (event["type"] == "http.response.body" and not event.get("more_body", False))
        await send(event)

    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while not ended():  # noqa: ASYNC110 - time alone ends a stream as well as an event does
                await anyio.sleep(CHECK_EVERY)
            group.cancel_scope.cancel()

        group.start_soon(watch)
        await app(scope, receive, watched)
        group.cancel_scope.cancel()
    if started and not finished:
        await send({"type": "http.response.body", "body": b"", "more_body": False})

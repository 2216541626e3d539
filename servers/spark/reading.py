"""Runs beside the event loop: reading a log takes a while, and a History Server may take longer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio

from mcpguard.backends import backend
from servers.spark.diagnosis import TasksOf, diagnose
from servers.spark.engine import Engine, EngineError, Listing
from servers.spark.findings import Diagnosis
from servers.spark.model import Run

AT_ONCE = 4
MAX_SECONDS = 50.0
"""Less than a call may take, so that its caller is told what took so long."""
_LATE = (
    "Reading took longer than {:g} seconds. The log is large: try again in a minute, "
    "by then more of it may be in a cache."
)

Answer = TypeVar("Answer")


class Reader:
    """An engine with room for a few readings at a time; the others wait, and the wait counts."""

    def __init__(self, engine: Engine, seconds: float = MAX_SECONDS) -> None:
        self._engine = engine
        self._seconds = seconds
        self._room: anyio.CapacityLimiter | None = None

    async def applications(self, name: str, limit: int) -> Listing:
        """Return the newest applications. Raises `EngineError`, as all of these do."""
        return await self._beside(partial(self._engine.applications, name, limit))

    async def run(self, key: str) -> Run:
        """Return one run."""
        return await self._beside(partial(self._engine.run, key))

    async def diagnose(self, key: str) -> tuple[Run, Diagnosis]:
        """Return one run and what is wrong with it."""
        return await self.examine(key, diagnose)

    async def examine(self, key: str, look: Callable[[Run, TasksOf], Answer]) -> tuple[Run, Answer]:
        """Return one run and what `look` makes of it and of its tasks."""

        def work() -> tuple[Run, Answer]:
            run = self._engine.run(key)
            return run, look(run, partial(self._engine.tasks, run))

        return await self._beside(work)

    async def _beside(self, work: Callable[[], Answer]) -> Answer:

        def measured() -> Answer:
            with backend(self._engine.name):
                return work()

        if self._room is None:  # a limiter belongs to an event loop, so it can't be made before there is one
            self._room = anyio.CapacityLimiter(AT_ONCE)
        try:
            with anyio.fail_after(self._seconds):
                return await anyio.to_thread.run_sync(measured, limiter=self._room, abandon_on_cancel=True)
        except TimeoutError:
            raise EngineError(_LATE.format(self._seconds)) from None

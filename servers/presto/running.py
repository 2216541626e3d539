"""Run one query beside the event loop, and stop it when its time is up or its caller is gone."""

from __future__ import annotations

import anyio

from servers.presto.engine import Engine, EngineError, Execution, Limits, Parameters, Rows

_INSIST = 0.05
"""Seconds between two tries: an interrupt that comes just before a query begins is lost."""
_LATE = (
    "The query took longer than {:g} seconds and was stopped. Filter by day, aggregate, or join fewer rows."
)


class Runner:
    """An engine with room for a few queries at a time; the others wait, and the wait counts."""

    def __init__(self, engine: Engine, at_once: int = 4) -> None:
        self.engine = engine
        self._at_once = at_once
        self._room: anyio.CapacityLimiter | None = None

    async def run(self, sql: str, parameters: Parameters, limits: Limits) -> Rows:
        """Run a guarded query.

        Raises:
            EngineError: the engine refused it, or its time was up.

        """
        execution = self.engine.start(sql, parameters)
        finished, late = anyio.Event(), False

        async def stop_in_time() -> None:
            nonlocal late
            try:
                await anyio.sleep(limits.seconds)
                late = True
            finally:  # also when the caller went away: a thread can't be cancelled, but its query can
                with anyio.CancelScope(shield=True):
                    await _stop(execution, finished)

        outcome: Rows | EngineError
        async with anyio.create_task_group() as group:
            group.start_soon(stop_in_time)
            try:
                outcome = await anyio.to_thread.run_sync(execution.fetch, limits, limiter=self._limiter())
            except EngineError as error:  # raised after the group, which would wrap it
                outcome = error
            finally:
                finished.set()
                group.cancel_scope.cancel()
        if isinstance(outcome, Rows):
            return outcome
        raise EngineError(_LATE.format(limits.seconds)) if late else outcome

    def _limiter(self) -> anyio.CapacityLimiter:
        if self._room is None:  # a limiter belongs to an event loop, so it can't be made before there is one
            self._room = anyio.CapacityLimiter(self._at_once)
        return self._room


async def _stop(execution: Execution, finished: anyio.Event) -> None:
    while not finished.is_set():
        execution.interrupt()
        with anyio.move_on_after(_INSIST):
            await finished.wait()

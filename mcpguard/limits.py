"""How long a tool may take, how many calls may run at once, how much a result may bring.

What is over a limit ends as a tool error that tells the model what to do next. All of it is within one
process: replicas each have their own.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Self, TypeAlias, TypeVar

import anyio
import anyio.to_thread
from mcp.server.mcpserver.exceptions import ToolError

from mcpguard.current import current

Limit: TypeAlias = Literal["deadline_exceeded", "caller_busy", "tool_busy", "result_too_large"]

_ATTRIBUTE = "__gatehouse_limits__"
_Function = TypeVar("_Function", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Limits:
    """What one tool may use. Waiting for a person's answer counts against none of it."""

    seconds: float = 60.0
    """From the start of the tool's function to its end."""
    at_once: int = 32
    """Calls of one tool."""
    per_caller: int = 8
    """Calls of one caller, over all tools of the server."""
    result_bytes: int = 256 * 1024
    """Of a result as JSON, the text and the structured content together."""


@dataclass(frozen=True, slots=True)
class _Said:
    seconds: float | None
    at_once: int | None
    result_bytes: int | None


class LimitReached(ToolError):
    """The message is for the model: what to do next."""

    def __init__(self, limit: Limit, message: str) -> None:
        super().__init__(message)
        self.limit = limit


def limits(
    *, seconds: float | None = None, at_once: int | None = None, result_bytes: int | None = None
) -> Callable[[_Function], _Function]:
    """Give a tool limits of its own, in place of the server's. Stands above or below `@mcp.tool()`.

    Raises:
        ValueError: a limit that lets nothing through.

    """
    if any(value is not None and value <= 0 for value in (seconds, at_once, result_bytes)):
        raise ValueError("limits are greater than zero")
    said = _Said(seconds, at_once, result_bytes)

    def annotate(function: _Function) -> _Function:
        setattr(function, _ATTRIBUTE, said)
        return function

    return annotate


def limits_of(function: Callable[..., object], default: Limits) -> Limits:
    """Return what holds for a tool: its author's word, else the server's."""
    said: object = getattr(function, _ATTRIBUTE, None)
    if not isinstance(said, _Said):
        return default
    return replace(
        default,
        seconds=default.seconds if said.seconds is None else said.seconds,
        at_once=default.at_once if said.at_once is None else said.at_once,
        result_bytes=default.result_bytes if said.result_bytes is None else said.result_bytes,
    )


class Slots:
    """Counts what runs, for each key; held from threads as well as from the loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[str, int] = {}

    def take(self, key: str, most: int) -> bool:
        """Take one of `most` slots; False where none is free."""
        with self._lock:
            taken = self._taken.get(key, 0)
            if taken >= most:
                return False
            self._taken[key] = taken + 1
            return True

    def give_back(self, key: str) -> None:
        """Free one slot."""
        with self._lock:
            left = self._taken[key] - 1
            if left:
                self._taken[key] = left
            else:
                del self._taken[key]

    def taken(self, key: str) -> int:
        """Return how many slots are taken."""
        return self._taken.get(key, 0)


class Bounds:
    """The slots of one server, and the way to run a function within its limits."""

    def __init__(self) -> None:
        self.callers = Slots()
        self.tools = Slots()
        self._threads: anyio.CapacityLimiter | None = None

    def bounded(
        self, name: str, function: Callable[..., Any], limits: Limits, *, is_async: bool
    ) -> Callable[..., Awaitable[Any]]:
        """Wrap a tool's function. A sync one runs in a thread."""
        run = self._in_loop if is_async else self._in_thread
        return partial(run, name, function, limits)

    async def _in_loop(
        self, name: str, function: Callable[..., Awaitable[Any]], limits: Limits, /, **kwargs: Any
    ) -> Any:
        release = self._take(name, limits)
        try:
            async with asyncio.timeout(limits.seconds) as clock:
                return await function(**kwargs)
        except TimeoutError:
            if clock.expired():
                raise _late(limits) from None
            raise  # the tool's own
        finally:
            release()

    async def _in_thread(
        self, name: str, function: Callable[..., Any], limits: Limits, /, **kwargs: Any
    ) -> Any:
        with _Hold(self._take(name, limits)) as hold:
            try:
                async with asyncio.timeout(limits.seconds) as clock:
                    # Abandoned, the thread goes on: nothing can stop it. Its slots stay taken until it ends,
                    # so that a tool that hangs runs out of slots before the process runs out of threads.
                    return await anyio.to_thread.run_sync(
                        hold.run, partial(function, **kwargs), abandon_on_cancel=True, limiter=self._room()
                    )
            except TimeoutError:
                if clock.expired():
                    raise _late(limits, goes_on=True) from None
                raise  # the tool's own

    def _take(self, name: str, limits: Limits) -> Callable[[], None]:
        """Take both slots and return what gives them back.

        Raises:
            LimitReached: there is none.

        """
        call = current()
        who = call.who if call is not None else ""
        if not self.callers.take(who, limits.per_caller):
            raise LimitReached(
                "caller_busy",
                f"You have {limits.per_caller} calls running here already, which is the most. Wait for one "
                "of them to end, then call again.",
            )
        if not self.tools.take(name, limits.at_once):
            self.callers.give_back(who)
            raise LimitReached(
                "tool_busy",
                f"This tool runs {limits.at_once} calls already, which is the most. Call again in some "
                "seconds.",
            )

        def release() -> None:
            self.tools.give_back(name)
            self.callers.give_back(who)

        return release

    def _room(self) -> anyio.CapacityLimiter:
        if self._threads is None:  # belongs to an event loop, so it can't be made before there is one
            self._threads = anyio.CapacityLimiter(math.inf)  # the slots are the bound
        return self._threads


class _Hold:
    """Slots that whoever ends last gives back: the thread, or the call where the thread never began."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self._lock = threading.Lock()
        self._began = self._left = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._left = True
            began = self._began
        if not began:
            self._release()

    def run(self, work: Callable[[], Any]) -> Any:
        """Run in the thread, unless the call is over already."""
        with self._lock:
            if self._left:
                return None
            self._began = True
        try:
            return work()
        finally:
            self._release()


def _late(limits: Limits, *, goes_on: bool = False) -> LimitReached:
    told = f"It took longer than {limits.seconds:g} seconds"
    told += (
        " and may still be at work; look at its effect before you call it again. "
        if goes_on
        else (" and was stopped. ")
    )
    return LimitReached("deadline_exceeded", told + "Ask for less at once: a narrower filter, fewer items.")


def too_large(size: int, limits: Limits) -> LimitReached:
    """Return what to tell the model in place of a result that is too large for it."""
    return LimitReached(
        "result_too_large",
        f"The result has {size} bytes, more than the {limits.result_bytes} that a result may have, so it was "
        "left out. Ask for less at once: a narrower filter, fewer fields, a smaller page.",
    )

"""Limits hold, say what to do next, and leave nothing taken behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from mcpguard.limits import Bounds, LimitReached, Limits, limits, limits_of, too_large

ONE = Limits(seconds=0.1, at_once=2, per_caller=2)


def until(condition: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + 10, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.01)


def free(bounds: Bounds) -> bool:
    return bounds.tools.taken("t") == 0 and bounds.callers.taken("") == 0


class TestSlow:
    def test_an_async_tool_is_stopped(self) -> None:
        bounds, stopped = Bounds(), []

        async def slow() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                stopped.append(True)

        with pytest.raises(
            LimitReached, match=r"longer than 0.1 seconds and was stopped.*narrower"
        ) as caught:
            anyio.run(bounds.bounded("t", slow, ONE, is_async=True))
        assert caught.value.limit == "deadline_exceeded"
        assert stopped
        assert free(bounds)

    def test_a_sync_tool_is_left_and_its_slot_comes_back(self) -> None:
        bounds, go_on, done = Bounds(), threading.Event(), threading.Event()

        def slow() -> None:
            go_on.wait(20)
            done.set()

        async def call() -> None:
            start = time.monotonic()
            with pytest.raises(LimitReached, match="may still be at work") as caught:
                await bounds.bounded("t", slow, ONE, is_async=False)()
            assert caught.value.limit == "deadline_exceeded"
            assert time.monotonic() - start < 5
            assert bounds.tools.taken("t") == 1  # the thread has it
            go_on.set()

        anyio.run(call)
        assert done.wait(10)
        until(lambda: free(bounds))

    def test_a_tool_that_hangs_runs_out_of_its_own_slots(self) -> None:
        bounds, go_on = Bounds(), threading.Event()
        roomy = Limits(seconds=0.1, at_once=2, per_caller=100)

        async def call() -> None:
            hang = bounds.bounded("t", lambda: go_on.wait(20), roomy, is_async=False)
            for _ in range(2):
                with pytest.raises(LimitReached, match="may still be at work"):
                    await hang()
            with pytest.raises(LimitReached, match=r"runs 2 calls already.*again") as caught:
                await hang()
            assert caught.value.limit == "tool_busy"
            assert await bounds.bounded("other", lambda: "ran", roomy, is_async=False)() == "ran"
            go_on.set()

        anyio.run(call)
        until(lambda: free(bounds))

    def test_a_hundred_calls_that_are_given_up_leave_nothing_taken(self) -> None:
        """Among them some whose thread never began."""
        bounds, ended = Bounds(), threading.Event()

        def work() -> None:
            ended.wait(0.005)

        many = Limits(seconds=30, at_once=1000, per_caller=1000)

        async def call() -> None:
            run = bounds.bounded("t", work, many, is_async=False)
            for n in range(100):
                with anyio.move_on_after(0 if n % 2 else 0.002):
                    await run()

        anyio.run(call)
        until(lambda: free(bounds))


class TestAtOnce:
    @pytest.mark.parametrize("is_async", [True, False])
    def test_no_more_than_agreed(self, is_async: bool) -> None:
        bounds = Bounds()
        limits = Limits(seconds=10, at_once=3, per_caller=8)
        go_on = threading.Event()

        async def wait() -> None:
            while not go_on.is_set():  # noqa: ASYNC110 - a thread's event
                await anyio.sleep(0.01)

        function: Callable[..., Any] = wait if is_async else lambda: go_on.wait(20)
        refused: list[LimitReached] = []

        async def one(run: Callable[..., Awaitable[Any]]) -> None:
            try:
                await run()
            except LimitReached as error:
                refused.append(error)
            if len(refused) == 2:
                go_on.set()

        async def call() -> None:
            run = bounds.bounded("t", function, limits, is_async=is_async)
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(one, run)

        anyio.run(call)
        assert [error.limit for error in refused] == ["tool_busy"] * 2
        assert free(bounds)

    def test_one_caller_over_all_tools(self) -> None:
        bounds = Bounds()
        limits = Limits(per_caller=1)

        async def call() -> None:
            inner = bounds.bounded("inner", anyio.lowlevel.checkpoint, limits, is_async=True)
            with pytest.raises(LimitReached, match="1 calls running here already") as caught:
                await bounds.bounded("outer", inner, limits, is_async=True)()
            assert caught.value.limit == "caller_busy"

        anyio.run(call)
        assert bounds.callers.taken("") == 0

    def test_a_failure_gives_its_slots_back(self) -> None:
        bounds = Bounds()

        def fail() -> None:
            raise ZeroDivisionError

        async def afail() -> None:
            raise ZeroDivisionError

        for function, is_async in ((fail, False), (afail, True)):
            with pytest.raises(ZeroDivisionError):
                anyio.run(bounds.bounded("t", function, ONE, is_async=is_async))
            assert free(bounds)


class TestWhoseLimits:
    def test_the_authors_word_stands_before_the_servers(self) -> None:
        @limits(seconds=300, result_bytes=10)
        def tool() -> None: ...

        default = Limits(seconds=1, at_once=2, per_caller=3, result_bytes=4)
        assert limits_of(tool, default) == Limits(seconds=300, at_once=2, per_caller=3, result_bytes=10)
        assert limits_of(lambda: None, default) is default

    @pytest.mark.parametrize("wrong", [{"seconds": 0}, {"at_once": -1}, {"result_bytes": 0}])
    def test_a_limit_that_lets_nothing_through_is_an_error(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="greater than zero"):
            limits(**wrong)

    def test_what_a_result_that_is_too_large_says(self) -> None:
        error = too_large(300_000, Limits(result_bytes=1000))
        assert error.limit == "result_too_large"
        assert "300000 bytes, more than the 1000" in str(error)
        assert "narrower filter" in str(error)

"""How soon a saved change is in force for real calls, and how soon calls are served again after a part was lost."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.results import Result
from tests.e2e import mcp
from tests.e2e.policy import edited
from tests.e2e.stack import Stack, eventually

ROUNDS = 5
CHANGE_S = 1.0
BACK_S = 2.0
NARROW = "groups: [ads, finance, data-infra], tools: all"
WIDE = "groups: [ads, finance, data-infra, employees], tools: all"


def run() -> Iterator[Result]:
    """Yield medians over rounds, each timed by real calls through Envoy."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), presto=False, absent=("scratchpad",))
        try:
            stack.start()
            stack.wait_serving()
            yield _row("an approved edit is saved, to the first call it allows", stack, _edit, CHANGE_S)
            yield _row("a lock is saved, to the first call it refuses", stack, _lock, CHANGE_S)
            yield _row(
                "ext_authz is killed and listens again, to the first call served", stack, _back, BACK_S
            )
        finally:
            stack.close()


def _row(name: str, stack: Stack, once: Callable[[Stack], float], bound: float) -> Result:
    return Result(name, statistics.median(once(stack) for _ in range(ROUNDS)), "s", "lower", bound)


def _edit(stack: Stack) -> float:
    with edited(stack) as policy:
        policy.replace("servers/presto.yaml", NARROW, WIDE)
        policy.approve("presto")
        saved = time.perf_counter()
        eventually(lambda: _asks(stack, "presto", "hana") == 200, "hana is let in")
        return time.perf_counter() - saved


def _lock(stack: Stack) -> float:
    with edited(stack) as policy:
        policy.lock("user", "sso:ana")
        saved = time.perf_counter()
        eventually(lambda: _asks(stack, "presto", "ana") == 403, "ana is locked")
        return time.perf_counter() - saved


def _back(stack: Stack) -> float:
    stack.kill("extauthz")
    eventually(lambda: _asks(stack, "presto", "ana") == 503, "nobody can decide")
    stack.start("extauthz")
    listening = time.perf_counter()
    eventually(lambda: _asks(stack, "presto", "ana") == 200, "served again")
    return time.perf_counter() - listening


def _asks(stack: Stack, server: str, person: str) -> int:
    with contextlib.suppress(OSError):
        return stack.post(mcp.call("list_tables"), server=server, token=stack.forge.token(person)).status
    return 0

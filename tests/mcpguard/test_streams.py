"""An answer on its way ends when its caller may no longer have it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from identity.assertion import Assertion
from identity.principal import User
from tests.mcpguard.running import LEGACY, MODERN, Running, legacy, modern, reason, serving
from tests.mcpguard.test_reports import world
from tests.mcpguard.test_sessions import opened
from tests.mcpguard.workshop import NAME, Workshop
from tests.mcpguard.world import assertion

LOU = assertion(User("sso", "lou", client="ide-plugin"), groups=frozenset({"ads"}), server=NAME)


class Clock:
    """The time, and as much later as a test wants."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Bench:
    def __init__(self, shop: Workshop, server: Running, clock: Clock) -> None:
        self.shop, self.server, self.clock = shop, server, clock

    def lock(self) -> None:
        line = '{user: "sso:lou", until: 2099-01-01T00:00:00Z, why: INC-1, by: dana@corp.example}'
        self.server.world.write_locks(line)

    def expire(self) -> None:
        """Let Lou's token expire: for the server an hour passes."""
        self.clock.ahead = 3601


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    shop, clock = Workshop(), Clock()
    with serving(shop.mcp, world(tmp_path), tmp_path, NAME, clock=clock) as server:
        try:
            yield Bench(shop, server, clock)
        finally:
            shop.go_on.set()


class Reader:
    """Reads one answer in a thread, to its end."""

    def __init__(self, server: Running, body: dict[str, Any], headers: dict[str, str]) -> None:
        self.status: int | None = None
        self.content = b""
        self.began, self.ended = threading.Event(), threading.Event()
        self._request = (server, body, headers)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        server, body, headers = self._request
        try:
            with httpx.stream(
                "POST",
                f"{server.url}/mcp",
                content=json.dumps(body),
                headers=headers,
                timeout=30,
                trust_env=False,
            ) as answer:
                self.status = answer.status_code
                self.began.set()
                for chunk in answer.iter_bytes():
                    self.content += chunk
        finally:
            self.ended.set()


def legacy_call(bench: Bench, who: Assertion) -> Reader:
    session = opened(bench.server, who)
    headers = bench.server.headers(who, mcp_session_id=session, mcp_protocol_version=LEGACY)
    return Reader(bench.server, legacy("tools/call", {"name": "gate", "arguments": {}}, 7), headers)


def modern_call(bench: Bench, who: Assertion) -> Reader:
    headers = bench.server.headers(who, mcp_protocol_version=MODERN, mcp_method="tools/call", mcp_name="gate")
    return Reader(bench.server, modern("tools/call", {"name": "gate", "arguments": {}}), headers)


WAYS = pytest.mark.parametrize("end", [Bench.lock, Bench.expire], ids=["locked", "expired"])


@WAYS
def test_a_call_in_progress_ends_in_a_session(bench: Bench, end: Callable[[Bench], None]) -> None:
    reader = legacy_call(bench, LOU)
    assert reader.began.wait(10)
    assert bench.shop.begun.wait(10)
    assert reader.status == 200
    assert not reader.ended.is_set()
    end(bench)
    assert reader.ended.wait(10), "the call's stream outlived its caller's access"
    assert b"open" not in reader.content
    bench.shop.go_on.set()


@WAYS
def test_a_call_in_progress_ends_without_one(bench: Bench, end: Callable[[Bench], None]) -> None:
    reader = modern_call(bench, LOU)
    assert bench.shop.begun.wait(10)
    end(bench)
    assert reader.ended.wait(10), "the call outlived its caller's access"
    assert b"open" not in reader.content
    if reader.status != 200:  # nothing was sent before: it is a refusal, not silence
        error = json.loads(reader.content)["error"]
        expected = ("locked", 403) if end is Bench.lock else ("token_expired", 401)
        assert (error["data"]["reason"], reader.status) == expected


@pytest.mark.parametrize("way", [legacy_call, modern_call])
def test_a_call_whose_caller_stays_welcome_ends_by_itself(
    bench: Bench, way: Callable[[Bench, Assertion], Reader]
) -> None:
    reader = way(bench, LOU)
    assert bench.shop.begun.wait(10)
    assert not reader.ended.wait(2.5), "it was swept away"
    bench.shop.go_on.set()
    assert reader.ended.wait(10)
    assert b"open" in reader.content


def test_another_caller_goes_on(bench: Bench) -> None:
    eva = modern_call(bench, assertion(server=NAME))
    assert bench.shop.begun.wait(10)
    bench.shop.begun.clear()
    lou = modern_call(bench, LOU)
    assert bench.shop.begun.wait(10)
    bench.lock()
    assert lou.ended.wait(10)
    assert not eva.ended.is_set()
    bench.shop.go_on.set()
    assert eva.ended.wait(10)
    assert b"open" in eva.content


def test_the_locked_caller_gets_no_further(bench: Bench) -> None:
    reader = modern_call(bench, LOU)
    assert bench.shop.begun.wait(10)
    bench.lock()
    assert reader.ended.wait(10)
    assert reason(bench.server.call("echo", LOU, {"text": "x"})) == "locked"

"""The caller's trace reaches the backend, and nothing else of the caller does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from mcpguard.tracing import join, leave, trace_headers, trace_id


@contextmanager
def joined(meta: dict[str, Any] | None, headers: dict[str, str] | None) -> Iterator[None]:
    token = join(meta, [(k.encode(), v.encode()) for k, v in (headers or {}).items()])
    yield
    leave(token)


ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{ID}-b7ad6b7169203331-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-00"


def test_without_a_trace_there_are_no_headers() -> None:
    assert trace_headers() == {}
    assert trace_id() is None
    with joined(None, None):
        assert trace_headers() == {}


@pytest.mark.parametrize("where", ["meta", "headers"])
def test_it_is_carried_on(where: str) -> None:
    carrier = {"traceparent": PARENT, "tracestate": "vendor=1", "baggage": "user=eva"}
    with joined(carrier if where == "meta" else None, carrier if where == "headers" else None):
        assert trace_headers() == {"traceparent": PARENT, "tracestate": "vendor=1"}
        assert trace_id() == ID
    assert trace_headers() == {}


def test_what_the_call_itself_says_wins() -> None:
    with joined({"traceparent": PARENT}, {"traceparent": OTHER}):
        assert trace_headers() == {"traceparent": PARENT}


@pytest.mark.parametrize(
    "parent",
    ["", "nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff" + PARENT[2:], PARENT + "\r\nx: y", 7],
)
def test_nonsense_is_not_carried_on(parent: object) -> None:
    with joined({"traceparent": parent}, None):
        assert trace_headers() == {}


def test_a_tools_thread_has_it_too() -> None:
    async def call() -> dict[str, str]:
        with joined({"traceparent": PARENT}, None):
            return await anyio.to_thread.run_sync(trace_headers)

    assert anyio.run(call) == {"traceparent": PARENT}

"""W3C trace context, from the caller to the backends that a tool asks.

It comes in `params._meta` or in HTTP headers; the former wins, since it was written nearer to the caller.
Only `traceparent` and `tracestate` cross: baggage is a stranger's text, and no backend has asked for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import attach, detach
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
_PARENT, _STATE = "traceparent", "tracestate"


def trace_headers() -> dict[str, str]:
    """Return the headers that make a backend's work part of the caller's trace; none where there is no trace.

    Add them to each HTTP request of an engine. Also right within a thread that the SDK runs a tool in.
    """
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    return headers


def trace_id() -> str | None:
    """Return the current trace's id in hex, for logs."""
    context = get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


@contextmanager
def joined(meta: Mapping[str, Any] | None, headers: Mapping[str, str] | None) -> Iterator[None]:
    """Work within the trace that a call came with; without one this does nothing."""
    carrier = _carrier(meta) or _carrier(headers)
    if carrier is None:
        yield
        return
    token = attach(_PROPAGATOR.extract(carrier))
    try:
        yield
    finally:
        detach(token)


def _carrier(found: Mapping[str, Any] | None) -> dict[str, str] | None:
    parent = found.get(_PARENT) if found else None
    if found is None or not isinstance(parent, str):
        return None
    state = found.get(_STATE)
    return {_PARENT: parent, _STATE: state} if isinstance(state, str) else {_PARENT: parent}

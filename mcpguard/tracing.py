"""W3C trace context, from the caller to the backends that a tool asks.

It comes in `params._meta` or in HTTP headers; the former wins, since it was written nearer to the caller.
Only `traceparent` and `tracestate` cross: baggage is a stranger's text, and no backend has asked for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import Token
from typing import Any, TypeAlias

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
_PARENT, _STATE = "traceparent", "tracestate"
_NAMES = {name.encode(): name for name in (_PARENT, _STATE)}
RawHeaders: TypeAlias = Iterable[tuple[bytes, bytes]]


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


def join(meta: Mapping[str, Any] | None, headers: RawHeaders = ()) -> Token[Context] | None:
    """Work within the trace that a call came with, until `leave`; None where it came with none."""
    carrier = _carrier(meta) or _carrier(_named(headers))
    return attach(_PROPAGATOR.extract(carrier)) if carrier is not None else None


def leave(joined: Token[Context] | None) -> None:
    """Leave the trace that `join` entered."""
    if joined is not None:
        detach(joined)


def _named(headers: RawHeaders) -> dict[str, str]:
    return {_NAMES[name]: value.decode("latin-1") for name, value in headers if name in _NAMES}


def _carrier(found: Mapping[str, Any] | None) -> dict[str, str] | None:
    parent = found.get(_PARENT) if found else None
    if found is None or not isinstance(parent, str):
        return None
    state = found.get(_STATE)
    return {_PARENT: parent, _STATE: state} if isinstance(state, str) else {_PARENT: parent}

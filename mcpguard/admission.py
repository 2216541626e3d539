"""What the front hands to the SDK's middleware: the one message that was admitted, and for whom.

It travels in the ASGI scope, which a client can't write to.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from identity.assertion import Assertion
from mcpguard.message import Message

_KEY = "gatehouse.admission"


@dataclass(frozen=True, slots=True)
class Admission:
    """A message that policy allowed, and whose it is."""

    assertion: Assertion
    message: Message
    decision_id: str


def admit(scope: MutableMapping[str, Any], admission: Admission) -> None:
    """Mark the request that this scope belongs to."""
    scope[_KEY] = admission


def admitted(request: object) -> Admission | None:
    """Return what was admitted, from the HTTP request that the SDK hands on with each message."""
    scope: object = getattr(request, "scope", None)
    found: object = scope.get(_KEY) if isinstance(scope, dict) else None
    return found if isinstance(found, Admission) else None


def headers_of(request: object) -> list[tuple[bytes, bytes]]:
    """Return the headers of the HTTP request that the SDK hands on with each message, as they came."""
    scope: object = getattr(request, "scope", None)
    found: object = scope.get("headers") if isinstance(scope, dict) else None
    return found if isinstance(found, list) else []

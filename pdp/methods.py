"""MCP methods in classes: what each needs from policy. The one table of them.

Methods are matched by exact case. What stands in no row is refused (`method_not_allowed`): a method that a
future protocol version adds stays closed until somebody decides what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class MethodClass(StrEnum):
    """What a method needs from an access rule."""

    CONNECT = "connect"
    """A rule that could match this caller."""
    LIST = "list"
    """The same, and the server's `listing_requires`."""
    CALL = "call"
    """A rule that names the tool."""
    RESOURCES = "resources"
    PROMPTS = "prompts"
    ANSWER = "answer"
    """A JSON-RPC response, to something the server asked within a session."""


STREAM_METHOD = "GET"
END_METHOD = "DELETE"
ANSWER_METHOD = "__jsonrpc_response"
"""What Envoy's MCP filter calls a JSON-RPC response."""

# https://modelcontextprotocol.io/specification/2025-11-25 and /2026-07-28, client requests and notifications.
CLASSES: Mapping[str, MethodClass] = MappingProxyType(
    {
        "initialize": MethodClass.CONNECT,
        "server/discover": MethodClass.CONNECT,
        "ping": MethodClass.CONNECT,
        "logging/setLevel": MethodClass.CONNECT,
        STREAM_METHOD: MethodClass.CONNECT,
        END_METHOD: MethodClass.CONNECT,
        "tools/list": MethodClass.LIST,
        "tools/call": MethodClass.CALL,
        "resources/list": MethodClass.RESOURCES,
        "resources/templates/list": MethodClass.RESOURCES,
        "resources/read": MethodClass.RESOURCES,
        "resources/subscribe": MethodClass.RESOURCES,
        "resources/unsubscribe": MethodClass.RESOURCES,
        "subscriptions/listen": MethodClass.RESOURCES,
        "prompts/list": MethodClass.PROMPTS,
        "prompts/get": MethodClass.PROMPTS,
        "completion/complete": MethodClass.PROMPTS,
        ANSWER_METHOD: MethodClass.ANSWER,
    }
)

_NOTIFICATIONS = "notifications/"


def classify(method: str) -> MethodClass | None:
    """The class of an MCP method, of `GET` or of `DELETE`; None for one that policy doesn't know."""
    found = CLASSES.get(method)
    if found is None and method.startswith(_NOTIFICATIONS):
        return MethodClass.CONNECT
    return found

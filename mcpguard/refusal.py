"""How a call is refused: one JSON-RPC error, the same shape that ext_authz answers with at Envoy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote

from identity.principal import JsonValue
from mcpguard.message import RequestId
from pdp import reasons
from pdp.model import Deny, Snapshot
from pdp.reasons import Reason

_CODES = {400: -32600, 401: -32001, 403: -32003, 503: -32000}
HEADER_MISMATCH = -32020
"""What the specification of 2026-07-28 answers where headers and body differ."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call ends here, with what helps its caller and nothing about what else exists."""

    reason: Reason
    decision_id: str
    detail: str = ""
    request_id: RequestId | None = None
    support: str = ""
    request_access: str = ""

    @property
    def code(self) -> int:
        """The JSON-RPC error code."""
        return HEADER_MISMATCH if self.reason is reasons.MALFORMED_MCP else _CODES[self.reason.status]

    def data(self) -> dict[str, JsonValue]:
        """Return the error's `data`: what a program can read."""
        data: dict[str, JsonValue] = {
            "reason": self.reason.code,
            "decision_id": self.decision_id,
            "help": self.reason.remedy,
        }
        if self.support:
            data["support"] = self.support
        if self.request_access:
            data["request_access"] = self.request_access
        return data

    def body(self) -> bytes:
        """Return the whole answer."""
        error = {"code": self.code, "message": self.detail or self.reason.meaning, "data": self.data()}
        answer = {"jsonrpc": "2.0", "id": self.request_id, "error": error}
        return json.dumps(answer, separators=(",", ":")).encode()


def from_deny(deny: Deny, snapshot: Snapshot, decision_id: str, request_id: RequestId | None) -> Refusal:
    """Build the answer to a denial; of the groups that would have helped, one reaches the caller."""
    group = deny.groups_wanted[0] if deny.groups_wanted else ""
    return Refusal(
        reason=deny.reason,
        decision_id=decision_id,
        detail=deny.detail,
        request_id=request_id,
        support=deny.server.support if deny.server is not None else "",
        request_access=snapshot.request_access.replace("{group}", quote(group, safe="")) if group else "",
    )

"""A check from its bytes to the bytes of its answer, in the order of a decision.

Parse, authenticate, identify, decide, respond: the first that fails answers. This module holds the one place
of the process that turns whatever goes wrong into a refusal; nothing else catches more than it understands.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from google.protobuf.message import DecodeError

from extauthz.basis import Basis
from extauthz.log import DecisionLog
from extauthz.metrics import Metrics
from extauthz.request import Malformed, parse
from extauthz.response import Refusal, TooManyNames, allow, deny
from extauthz.trail import Trail, facts
from extauthz.wire.ext_authz_pb2 import CheckRequest
from identity.errors import IdentityError
from pdp import reasons
from pdp.decide import decide
from pdp.model import Allow, Decision, Deny, Request, Unavailable

_logger = logging.getLogger(__name__)

_NO_POLICY: Final = Unavailable(reasons.POLICY_UNAVAILABLE)
_FAILED: Final = Unavailable(reasons.INTERNAL_ERROR)


class CheckService:
    """Answers checks, from any number of threads, on whatever basis is in force."""

    def __init__(self, log: DecisionLog, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        """Tell `log` and `metrics` of every decision. Until a basis is in force, nobody can decide."""
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._basis: Basis | None = None

    @property
    def basis(self) -> Basis | None:
        """What checks stand on now."""
        return self._basis

    def stand_on(self, basis: Basis) -> None:
        """Put `basis` in force: one reference, so that a check that runs finishes on the old one."""
        self._basis = basis

    def check(self, request: bytes) -> bytes:
        """Answer one serialized `CheckRequest`. Whatever fails on the way is not an allow."""
        began = time.perf_counter_ns()
        trail = Trail(os.urandom(16).hex(), self._clock())
        basis = self._basis
        try:
            answer = _answer(basis, request, trail)
            self._note(trail, basis, began)
        except Exception:
            # The one boundary of this process: fail closed, and say where to look.
            _logger.exception("check failed", extra={"decision_id": trail.decision_id})
            trail.decision = _FAILED
            answer = _refuse(None, trail, _FAILED)
            self._note(trail, basis, began)
        return answer

    def _note(self, trail: Trail, basis: Basis | None, began: int) -> None:
        trail.nanoseconds = time.perf_counter_ns() - began
        known = basis is not None and trail.server in basis.snapshot.servers
        self._metrics.decided(trail, trail.server or "" if known else "")
        self._log.put(trail)


def _answer(basis: Basis | None, request: bytes, trail: Trail) -> bytes:
    decision = trail.decision = _judge(basis, request, trail)
    caller, call = trail.caller, trail.call
    if not isinstance(decision, Allow) or basis is None or caller is None or call is None:
        return _refuse(basis, trail, decision)
    try:
        admitted = basis.admit(caller, call, decision, trail)
    except TooManyNames as error:
        refused = trail.decision = Deny(
            reasons.TOO_MANY_GROUPS, nearest_miss=str(error), surface=decision.surface, server=decision.server
        )
        return _refuse(basis, trail, refused)
    return allow(admitted, trail.decision_id)


def _judge(basis: Basis | None, request: bytes, trail: Trail) -> Decision:
    """The steps of a decision, each noting on the trail what it found out."""
    try:
        call, credentials = parse(CheckRequest.FromString(request))
    except DecodeError:
        return Deny(reasons.MALFORMED_REQUEST, nearest_miss="not a CheckRequest")
    except Malformed as fault:
        trail.server = fault.server
        return Deny(fault.reason, fault.detail)
    trail.call, trail.server = call, call.server
    if basis is None:
        return _NO_POLICY
    trail.policy = basis.snapshot.digest
    try:
        principal = basis.authenticate(call, credentials, trail.time)
    except IdentityError as error:
        return _not_authenticated(error)
    caller = trail.caller = basis.identify(principal, trail.time)
    asked = Request(
        caller,
        call.server,
        call.method,
        call.target,
        call.channel,
        protocol_version=call.protocol_version,
        session=call.session,
    )
    return decide(basis.snapshot, asked, trail.time)


def _not_authenticated(error: IdentityError) -> Deny | Unavailable:
    """The caller learns the reason's own sentence; what exactly is wrong with the token, only the log."""
    reason = reasons.REASONS[error.code]
    if reason.status == 503:
        return Unavailable(reason, error.detail)
    return Deny(reason, nearest_miss=error.detail)


def _refuse(basis: Basis | None, trail: Trail, decision: Decision) -> bytes:
    if isinstance(decision, Allow):
        raise TypeError("an allow without a caller")
    refusal = Refusal(
        decision.reason,
        trail.decision_id,
        detail=decision.detail if isinstance(decision, Deny) else "",
        support=decision.server.support if isinstance(decision, Deny) and decision.server else "",
        request_access=_request_access(basis, decision),
        resource_metadata=basis.resource_metadata(trail.server) if basis is not None else "",
    )
    return deny(refusal, facts(trail))


def _request_access(basis: Basis | None, decision: Deny | Unavailable) -> str:
    """Where to ask for the first group that would have allowed: one, never the list of what exists."""
    if basis is None or not isinstance(decision, Deny) or not decision.groups_wanted:
        return ""
    return basis.snapshot.request_access.replace("{group}", quote(decision.groups_wanted[0], safe=""))

"""May this caller do this here, now? The server's own enforcement point, asked before the SDK sees a call.

It adds nothing to policy: `pdp.decide` answers, and what a server alone can know is held against it, namely
whether the tool's code and the policy name the same rule, and whether anybody could confirm the call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from identity.assertion import Assertion
from identity.principal import Principal
from identity.tokens import LEEWAY
from mcpguard.authorize import HasFunction, disagreement
from mcpguard.message import Message, Question
from pdp import reasons
from pdp.decide import decide
from pdp.model import Allow, Caller, Deny, Point, Request, Snapshot, Unavailable
from pdp.reasons import Reason

CALL = "tools/call"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one message, and under which policy."""

    decision: Allow | Deny | Unavailable
    snapshot: Snapshot | None

    @property
    def reason(self) -> Reason | None:
        return None if isinstance(self.decision, Allow) else self.decision.reason


def caller_of(assertion: Assertion) -> Caller:
    """The caller as ext_authz saw it: business groups travel in the assertion, the issuer's own don't."""
    return Caller(Principal(assertion.user, assertion.workload), assertion.groups)


@dataclass(frozen=True, slots=True)
class Guard:
    """Holds one server's tools against the policy in force."""

    server: str
    policy: Callable[[], Snapshot | None]
    offered: Callable[[str], HasFunction | None]
    """A tool by name, as the SDK registered it."""

    def judge(self, assertion: Assertion, message: Message, now: float) -> Verdict:
        """Decide everything that a message asks for; the first refusal counts."""
        snapshot = self.policy()
        if snapshot is None:
            return Verdict(Unavailable(reasons.POLICY_UNAVAILABLE), None)
        if assertion.user is not None and assertion.user.expires + LEEWAY <= now:
            return Verdict(Deny(reasons.TOKEN_EXPIRED), snapshot)
        first = self._decide(snapshot, assertion, message, message.question, now)
        for question in message.also:
            other = self._decide(snapshot, assertion, message, question, now)
            if isinstance(first, Allow) and isinstance(other, Deny):
                return Verdict(other, snapshot)
        if isinstance(first, Allow) and message.question.method == CALL:
            return Verdict(self._confirmable(first, assertion, message.question.target or ""), snapshot)
        return Verdict(first, snapshot)

    def may(self, assertion: Assertion, question: Question, now: float) -> Deny | None:
        """Whether this caller could ask this, for lists: the same decision as on the call itself."""
        snapshot = self.policy()
        if snapshot is None:
            return Deny(reasons.POLICY_UNAVAILABLE)
        decision = self._decide(snapshot, assertion, Message(question), question, now)
        return None if isinstance(decision, Allow) else decision

    def _decide(
        self, snapshot: Snapshot, assertion: Assertion, message: Message, question: Question, now: float
    ) -> Allow | Deny:
        request = Request(
            caller=caller_of(assertion),
            server=self.server,
            method=question.method,
            target=question.target,
            channel=assertion.channel_id,
            point=Point.SERVER,
            protocol_version=message.version,
            session=message.session,
        )
        decision = decide(snapshot, request, now)
        if isinstance(decision, Unavailable):
            return Deny(decision.reason, decision.detail)
        if isinstance(decision, Allow) and question.method == CALL:
            return self._agreed(decision, question.target or "")
        return decision

    def _agreed(self, allow: Allow, name: str) -> Allow | Deny:
        offered = self.offered(name)
        named = allow.server.tools.get(name)
        reason = disagreement(offered, named) if offered is not None else None
        if reason is None:
            return allow
        location = named.location if named is not None else allow.server.location
        return Deny(reason, location=location, surface=allow.surface, server=allow.server)

    @staticmethod
    def _confirmable(allow: Allow, assertion: Assertion, name: str) -> Allow | Deny:
        """Refuse what nobody can confirm. What its caller can, `mcpguard.confirmation` asks that person."""
        tool = allow.server.tools.get(name)
        if tool is None or tool.confirm is None:
            return allow
        if tool.confirm == "caller" and assertion.user is not None:
            return allow
        detail = (
            "The tool runs only after the person who calls it confirms it, and no person calls."
            if tool.confirm == "caller"
            else "The tool runs only after another person approves it, and this server can't ask one yet."
        )
        return Deny(
            reasons.CONFIRMATION_REQUIRED,
            detail,
            location=tool.location,
            surface=allow.surface,
            server=allow.server,
        )

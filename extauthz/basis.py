"""What checks stand on: one policy snapshot, who may sign tokens, and what signs assertions.

A `Basis` is immutable but for what it remembers. Whatever changes (policy, signing keys), a new one replaces
it, so a check never sees half of a change, and nothing remembered outlives what it was worked out from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from extauthz.recent import Recent
from extauthz.request import Call, Credentials
from extauthz.response import Admission, admission, encode_names, encode_value, metadata_url
from extauthz.trail import Trail, facts
from identity.assertion import Assertion, Minter
from identity.authenticate import Authenticator
from identity.errors import IdentityError
from identity.principal import Principal, SpiffeId, User
from pdp import headers
from pdp.decide import identify
from pdp.model import FOREVER, Allow, Caller, Server, Snapshot

REMEMBERED: Final = 10_000
ADMISSION_SECONDS: Final = 5.0
"""For how long an admission is used again. The assertion in it is up to 30 s old then, and lives 60 s."""


class _Known(NamedTuple):
    """A caller worked out before, and the wall-clock span in which their groups are the same."""

    user: User | None
    caller: Caller
    since: float
    until: float


class _Admitted(NamedTuple):
    """An admission built before. It holds the caller, so that no other object can have its `id`."""

    caller: Caller
    server: Server
    admission: Admission
    since: float


class Basis:
    """One snapshot with everything that a check needs beside it."""

    def __init__(
        self,
        snapshot: Snapshot,
        authenticator: Authenticator,
        minter: Minter,
        resource_url: Callable[[str], str],
    ) -> None:
        """Stand on `snapshot`; `resource_url` gives a server's URL, which tokens are made for."""
        self.snapshot = snapshot
        self.authenticator = authenticator
        self._minter = minter
        self._resource_url = resource_url
        self._resources: Recent[str, str] = Recent(REMEMBERED)
        self._callers: Recent[tuple[int, SpiffeId | None], _Known] = Recent(REMEMBERED)
        self._admissions: Recent[tuple[int | str | None, ...], _Admitted] = Recent(REMEMBERED)

    def authenticate(self, call: Call, credentials: Credentials, now: float) -> Principal:
        """Who calls.

        Raises:
            IdentityError: what is present doesn't hold, or what the listener demands is absent.

        """
        if call.listener == "mesh" and credentials.certificate is None:
            raise IdentityError("credentials_required", "the mesh listener passed no client certificate")
        resource = self.resource(call.server)
        return self.authenticator.authenticate(credentials.bearer, credentials.certificate, resource, now)

    def resource(self, server: str | None) -> str:
        """The URL of `server`, which a token may be made for; empty for the address of no server."""
        if server is None:
            return ""
        url = self._resources.get(server)
        if url is None:
            url = self._resource_url(server)
            self._resources.put(server, url)
        return url

    def resource_metadata(self, server: str | None) -> str:
        """Where a client learns which issuer to ask (RFC 9728); empty for the address of no server."""
        return metadata_url(self.resource(server)) if server is not None else ""

    def identify(self, principal: Principal, now: float) -> Caller:
        """`pdp.decide.identify`, remembered: a verified user is one object for as long as their token is."""
        key = (id(principal.user), principal.workload)
        known = self._callers.get(key)
        if known is not None and known.user is principal.user and known.since <= now < known.until:
            return known.caller
        caller = identify(self.snapshot, principal, now)
        ends = (group.until for group in self.snapshot.groups.values() if group.until > now)
        self._callers.put(key, _Known(principal.user, caller, now, min(ends, default=FOREVER)))
        return caller

    def admit(self, caller: Caller, call: Call, decision: Allow, trail: Trail) -> Admission:
        """What an allow says about `caller` to the server, signed.

        Raises:
            TooManyNames: the caller is in more groups than a header can carry.

        """
        server, surface, now = decision.server, decision.surface, trail.time
        key = (id(caller), server.name, surface.name, call.channel, decision.rule, call.tool)
        known = self._admissions.get(key)
        if (
            known is not None
            and known.caller is caller
            and known.server is server
            and 0 <= now - known.since < ADMISSION_SECONDS
        ):
            return known.admission
        forwarded = self._forwarded(caller, call, decision, now)
        admitted = admission(forwarded, facts(trail), trail.decision_id)
        self._admissions.put(key, _Admitted(caller, server, admitted, now))
        return admitted

    def _forwarded(self, caller: Caller, call: Call, decision: Allow, now: float) -> dict[str, str]:
        """The value of each forwarded header. Servers trust the assertion alone; the rest is for people."""
        groups = encode_names(caller.groups)
        user = _without_what_stays_here(caller.user, decision.server)
        roles = encode_names(user.roles) if user is not None else ""
        channel_id = call.channel if decision.channel is not None else None
        assertion = Assertion(
            server=decision.server.name,
            user=user,
            workload=caller.workload,
            groups=caller.groups,
            surface=decision.surface.name,
            channel=decision.channel,
            channel_id=channel_id,
            policy=self.snapshot.digest,
        )
        return {
            headers.USER: encode_value(user.subject if user is not None else None),
            headers.ISSUER: encode_value(user.issuer if user is not None else None),
            headers.GROUPS: groups,
            headers.ROLES: roles,
            headers.CLIENT: encode_value(user.client if user is not None else None),
            headers.SURFACE: encode_value(decision.surface.name),
            headers.CHANNEL: encode_value(decision.channel),
            headers.IDENTITY: self._minter.mint(assertion, now),
        }


def _without_what_stays_here(user: User | None, server: Server) -> User | None:
    """The user as this server needs them: of the roles only those that its policy asks about."""
    if user is None:
        return None
    asked = frozenset().union(*(policy.roles for policy in server.tool_policies.values()))
    return User(
        user.issuer, user.subject, client=user.client, roles=user.roles & asked,
        token_id=user.token_id, expires=user.expires,
    )  # fmt: skip

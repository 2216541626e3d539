"""One ADS stream: its subscriptions, in an order that never leaves Envoy with a dangling name.

Make before break: clusters and endpoints that are new go out, and are answered, before the listeners and
routes that use them; those that are gone are taken away only after Envoy has accepted the routes that no
longer do. Pure: requests, resource sets and times go in; responses and answers come out.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#eventual-consistency-considerations
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from xds.resource import ORDER, Kind, ResourceSet
from xds.subscription import Answer, Request, Response, Subscription

WARMING_SECONDS = 5.0
"""How long routes wait for clusters that Envoy doesn't warm: a fault there must not hold back policy."""

_SECOND = (Kind.LISTENER, Kind.ROUTE)
_REMOVED_LAST = frozenset({Kind.CLUSTER, Kind.ENDPOINT, Kind.SECRET})


@dataclass(frozen=True, slots=True)
class Turn:
    """What one event leads to: how the client answered (where it did), and what to send now, in order."""

    answer: Answer
    responses: tuple[Response, ...]


class Stream:
    """The state of one client's ADS stream, of either variant."""

    def __init__(self, *, delta: bool) -> None:
        self._delta = delta
        self._subscriptions: dict[Kind, Subscription] = {}
        self._target: ResourceSet | None = None
        self._nonces = itertools.count(1)
        self._patience = 0.0

    def receive(self, request: Request, now: float) -> Turn:
        """Take in a request from the client."""
        subscription = self._subscriptions.get(request.kind)
        if subscription is None:
            subscription = Subscription(request.kind, delta=self._delta)
            self._subscriptions[request.kind] = subscription
        return Turn(subscription.receive(request), self._advance(now))

    def publish(self, target: ResourceSet, now: float) -> Turn:
        """Make `target` what the client is to have."""
        self._target = target
        self._patience = now + WARMING_SECONDS
        return Turn(Answer.NONE, self._advance(now))

    def tick(self, now: float) -> Turn:
        """Let time pass: call it at `deadline`."""
        return Turn(Answer.NONE, self._advance(now))

    def deadline(self, now: float) -> float | None:
        """When `tick` next does something by time alone; None: not before the client speaks."""
        waits = self._target is not None and not self._upstreams_settled(self._target)
        return self._patience if waits and now < self._patience else None

    def _advance(self, now: float) -> tuple[Response, ...]:
        target = self._target
        if target is None:
            return ()
        responses: list[Response] = []
        for kind in ORDER:
            subscription = self._subscriptions.get(kind)
            if subscription is None or (kind in _SECOND and self._held(target, now)):
                continue
            keep = kind in _REMOVED_LAST and not self._routes_settled(target)
            updated = subscription.outdated(target.of_kind(kind))
            response = subscription.respond(target.of_kind(kind), str(next(self._nonces)), keep=keep)
            if response is None:
                continue
            responses.append(response)
            if kind is Kind.CLUSTER:
                self._warm(updated)
        return tuple(responses)

    def _warm(self, clusters: set[str]) -> None:
        """Send the endpoints of updated clusters again: Envoy waits for them, and doesn't always ask."""
        endpoints = self._subscriptions.get(Kind.ENDPOINT)
        if endpoints is not None:
            endpoints.force(clusters)

    def _held(self, target: ResourceSet, now: float) -> bool:
        return now < self._patience and not self._upstreams_settled(target)

    def _upstreams_settled(self, target: ResourceSet) -> bool:
        """Whether the client has answered for every cluster of `target`, and has their endpoints."""
        clusters = self._subscriptions.get(Kind.CLUSTER)
        if clusters is None:
            return True
        if clusters.behind(target.of_kind(Kind.CLUSTER)):
            return False
        if clusters.rejected:  # which of them Envoy took it doesn't say; nothing to wait for
            return True
        endpoints = self._subscriptions.get(Kind.ENDPOINT)
        needed = [name for name in target.of_kind(Kind.ENDPOINT) if clusters.wants(name)]
        if endpoints is None:
            return not needed
        return not endpoints.behind(target.of_kind(Kind.ENDPOINT)) and all(map(endpoints.holds, needed))

    def _routes_settled(self, target: ResourceSet) -> bool:
        """Whether the client has accepted the listeners and routes of `target`."""
        users = (self._subscriptions.get(kind) for kind in _SECOND)
        return not any(
            user is not None and (user.rejected or user.behind(target.of_kind(user.kind))) for user in users
        )

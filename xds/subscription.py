"""One client's subscription to one kind of resource: the discovery protocol without I/O.

Everything that affects what a client knows, wants and has answered lives here. A request goes in, what it
meant comes out; `respond` says what to send next, if anything. There is at most one unanswered response a
kind, so every question of "which of them was that?" has one answer. The two variants of the protocol differ
in how a request changes the subscription and in what a response holds; `Stream` (stream.py) orders kinds.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from xds.resource import Kind, Resource, set_version

WILDCARD = "*"
# Only these may be subscribed to without naming anything, and SotW sends their whole set each time.
# https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#how-the-client-specifies-what-resources-to-return
WHOLE_SET = frozenset({Kind.LISTENER, Kind.CLUSTER})


@dataclass(frozen=True, slots=True)
class SotwRequest:
    """State of the world: the whole list of names, each time."""

    kind: Kind
    names: tuple[str, ...] = ()
    nonce: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """Incremental: what to add to the subscription, what to take from it."""

    kind: Kind
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    nonce: str = ""
    error: str | None = None


Request = SotwRequest | DeltaRequest


@dataclass(frozen=True, slots=True)
class Response:
    """What to send. `removed` is for the incremental variant, `version` is SotW's `version_info`."""

    kind: Kind
    nonce: str
    version: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...] = ()


class Answer(Enum):
    """What a request said about the response before it."""

    NONE = "none"
    """Nothing: a first request, or a change of the subscription."""
    ACK = "ack"
    NACK = "nack"
    """The client keeps its last good resources; the same content isn't sent to it again."""
    STALE = "stale"
    """About a response that a newer one has replaced: the request is dropped."""


class Subscription:
    """What one client knows and wants of one kind."""

    def __init__(self, kind: Kind, *, delta: bool) -> None:
        self.kind = kind
        self.delta = delta
        self.wildcard = False
        self.names: set[str] = set()
        self.waiting = False
        """Whether a response is unanswered."""
        self.rejected = False
        """Whether the last answer was a NACK."""
        self._sent: dict[str, Resource] = {}
        """What the client has been sent, also where it rejected it."""
        self._asked: set[str] = set()
        """Names to send although nothing about them changed."""
        self._owed = False
        """Whether the client waits for an answer even if it is empty."""
        self._nonce = ""
        self._begun = False
        self._named_once = False

    def receive(self, request: Request) -> Answer:
        """Take in one request; afterwards `respond` may have something to say."""
        answer = self._answer(request)
        if answer is Answer.STALE and not self.delta:
            return answer
        if answer in (Answer.ACK, Answer.NACK):
            self.rejected = answer is Answer.NACK
            self.waiting = False
        if isinstance(request, SotwRequest):
            self._replace_names(request, again=answer is Answer.NONE and self._begun)
        else:
            self._change_names(request)
        self._begun = True
        return answer

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def force(self, names: set[str]) -> None:
        """Send these again, unchanged or not: Envoy warms an updated cluster only once its endpoints come."""
        self._asked |= {name for name in names if self.wants(name)}

    def holds(self, name: str) -> bool:
        """Whether the client was sent some version of `name`."""
        return name in self._sent

    def outdated(self, target: Mapping[str, Resource]) -> set[str]:
        """The names that the client has in another version than `target`'s."""
        return {resource.name for resource in self._news(target) if resource.name in self._sent}

    def behind(self, target: Mapping[str, Resource]) -> bool:
        """Whether the client lacks, or has yet to answer for, anything it wants of `target`."""
        return self.waiting or self._owed or bool(self._asked) or any(self._news(target))

    def respond(self, target: Mapping[str, Resource], nonce: str, *, keep: bool) -> Response | None:
        """The next response, or None where the client needs none now.

        With `keep`, resources that have left `target` stay with the client for now.
        """
        if self.waiting or not self._begun:
            return None
        response = self._incremental(target, nonce, keep) if self.delta else self._state(target, nonce, keep)
        self._asked.clear()
        self._owed = False
        if response is not None:
            self._nonce = nonce
            self.waiting = True
        return response

    def _answer(self, request: Request) -> Answer:
        if not self._nonce or not request.nonce:
            return Answer.NONE
        if request.nonce != self._nonce:
            return Answer.STALE
        if request.error is not None:
            return Answer.NACK
        return Answer.ACK if self.waiting else Answer.NONE

    def _replace_names(self, request: SotwRequest, *, again: bool) -> None:
        names = set(request.names) - {WILDCARD}
        self._named_once = self._named_once or bool(request.names)
        # Naming nothing means everything until the stream has named something; from then on, nothing.
        legacy = not self._named_once and self.kind in WHOLE_SET
        wildcard = legacy or WILDCARD in request.names
        added = names - self.names if not self.wildcard else set()
        same = names == self.names and wildcard == self.wildcard
        started = wildcard and not self.wildcard
        self.names, self.wildcard = names, wildcard
        for name in [name for name in self._sent if not self.wants(name)]:
            del self._sent[name]
        self._asked |= added
        if again and same:  # a client that repeats itself waits for something: a warming cluster, a restart
            self._asked |= set(self._sent) | names
        self._owed = self._owed or (self.kind in WHOLE_SET and (started or bool(self._asked)))

    def _change_names(self, request: DeltaRequest) -> None:
        known: Mapping[str, str] = {}
        if not self._begun:
            known = request.initial_versions
            self._sent = {name: Resource(self.kind, name, known[name], b"") for name in known}
            legacy = not request.subscribe and self.kind in WHOLE_SET
            self.wildcard = legacy
            self._owed = legacy
        for name in request.subscribe:
            if name == WILDCARD:
                self._owed = self._owed or not self.wildcard
                self.wildcard = True
            else:
                self.names.add(name)
                # https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#subscribing-to-resources:
                # a name subscribed to again is sent again, unless the client says that it has it.
                self._asked |= {name} - known.keys()
        for name in request.unsubscribe:
            if name == WILDCARD:
                self.wildcard = False
            elif name in self.names and self.wildcard:
                self._asked.add(name)
            self.names.discard(name)
        for name in [name for name in self._sent if not self.wants(name)]:
            del self._sent[name]
        self._asked = {name for name in self._asked if self.wants(name)}

    def _news(self, target: Mapping[str, Resource]) -> list[Resource]:
        """What the client wants of `target` and hasn't been sent in this version."""
        if self.wildcard:
            wanted = list(target.values())
        else:
            wanted = [target[name] for name in sorted(self.names) if name in target]
        return [r for r in wanted if (sent := self._sent.get(r.name)) is None or sent.version != r.version]

    def _changed(self, target: Mapping[str, Resource]) -> dict[str, Resource]:
        changed = {r.name: r for r in self._news(target)}
        return changed | {name: target[name] for name in sorted(self._asked) if name in target}

    def _incremental(self, target: Mapping[str, Resource], nonce: str, keep: bool) -> Response | None:
        changed = self._changed(target)
        gone = set() if keep else self._sent.keys() - target.keys()
        removed = tuple(sorted(gone | (self._asked - target.keys() - self._sent.keys())))
        if not (changed or removed or self._owed):
            return None
        self._sent.update(changed)
        for name in gone:
            del self._sent[name]
        version = set_version(self._sent.values())
        return Response(self.kind, nonce, version, tuple(changed.values()), removed)

    def _state(self, target: Mapping[str, Resource], nonce: str, keep: bool) -> Response | None:
        changed = self._changed(target)
        gone = self._sent.keys() - target.keys()
        kept = {name: self._sent[name] for name in gone if keep}
        whole = self.kind in WHOLE_SET
        if not (changed or (whole and (self._owed or gone - kept.keys()))):
            return None
        for name in gone - kept.keys():
            del self._sent[name]
        self._sent.update(changed)
        resources = tuple(self._sent.values()) if whole else tuple(changed.values())
        return Response(self.kind, nonce, set_version(self._sent.values()), resources)

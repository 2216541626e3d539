"""What policy says once it is compiled: frozen, indexed, named by its content.

Everything here is built by `pdp.compile` and read by `pdp.decide`; nothing changes after it is built, so a
reload swaps one reference. Times are seconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, TypeAlias

from identity.principal import Issuer, Principal, SpiffeId, User
from pdp.reasons import Reason

FOREVER = float("inf")

Lifecycle: TypeAlias = Literal["production", "experimental"]
Environment: TypeAlias = Literal["prod", "dev"]
SideEffect: TypeAlias = Literal["none", "write", "destroy"]
Risk: TypeAlias = Literal["low", "medium", "high"]
Confirm: TypeAlias = Literal["caller", "approver"]


@dataclass(frozen=True, slots=True)
class Location:
    """Where a policy says something: a path below the policy folder, with line and column from 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which names a rule grants: all of them, or exactly `names`."""

    all: bool = False
    names: frozenset[str] = frozenset()

    def __contains__(self, name: object) -> bool:
        return self.all or name in self.names

    def __bool__(self) -> bool:
        return self.all or bool(self.names)


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open span of time, `start <= now < end`."""

    start: float
    end: float

    def __contains__(self, now: object) -> bool:
        return isinstance(now, (int, float)) and self.start <= now < self.end


@dataclass(frozen=True, slots=True)
class Surface:
    """Where calls come from. On the mesh it has a SPIFFE ID, off the mesh an OAuth client; never both."""

    name: str
    location: Location
    environment: Environment
    owner: str = ""
    spiffe: SpiffeId | None = None
    client: str | None = None
    issuer: str = ""
    """Name of the issuer whose client ids `client` and `user_clients` are."""
    user_clients: frozenset[str] = frozenset()
    channels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Channel id, as the surface sends it, to the channel's name in policy."""

    @property
    def kind(self) -> Literal["mesh", "client"]:
        return "client" if self.spiffe is None else "mesh"


@dataclass(frozen=True, slots=True)
class BusinessGroup:
    """A named set of one issuer's users. Exactly one of the four ways is set; none of them: every user."""

    name: str
    location: Location
    issuer: str
    any_of: frozenset[str] = frozenset()
    all_of: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    claims: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    until: float = FOREVER


@dataclass(frozen=True, slots=True)
class AccessRule:
    """From these surfaces, users of these groups (or: these services) may use these tools."""

    id: str
    location: Location
    surfaces: frozenset[str] | None
    """None: any known surface. For a rule with `services`, the services themselves."""
    groups: frozenset[str]
    """Empty for a rule about services."""
    services: frozenset[str]
    channels: frozenset[str]
    """Empty: wherever the call comes from."""
    tools: Selection
    resources: Selection = Selection()
    prompts: Selection = Selection()
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """The fine rule that one tool asks for. It only narrows; an empty set asks nothing of that kind."""

    name: str
    location: Location
    groups: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool as policy describes it."""

    name: str
    location: Location
    side_effect: SideEffect
    risk: Risk
    policy: str | None = None
    shadow_policy: str | None = None
    confirm: Confirm | None = None
    approvers: frozenset[str] = frozenset()
    minutes_saved: float = 0.0


@dataclass(frozen=True, slots=True)
class Guardrail:
    """An organisation-wide deny. Keys are ANDed; None means that the guardrail doesn't ask about it."""

    id: str
    location: Location
    why: str
    shadow: bool = False
    surface_environment: frozenset[str] | None = None
    surface_kind: frozenset[str] | None = None
    surfaces: frozenset[str] | None = None
    server_lifecycle: frozenset[str] | None = None
    server_environment: frozenset[str] | None = None
    servers: frozenset[str] | None = None
    caller: frozenset[str] | None = None
    """Of `user` and `service`."""
    groups: frozenset[str] | None = None
    side_effect: frozenset[str] | None = None
    risk: frozenset[str] | None = None
    tools: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """One counted approval of one digest, as it stands in `reviews/<kind>/<subject>.yaml`."""

    kind: str
    ticket: str
    approver: str
    window: Window
    location: Location


@dataclass(frozen=True, slots=True)
class InForce:
    """Why and when a reviewed text holds. `windows` is empty when it never did."""

    digest: str
    required: frozenset[str]
    windows: tuple[Window, ...]
    approvals: tuple[Approval, ...] = ()
    missing: frozenset[str] = frozenset()
    """Required kinds without any approval of this digest."""

    def at(self, now: float) -> bool:
        # A loop, not `any(...)`: this is asked twice for each call, and a generator costs more than it.
        for window in self.windows:  # noqa: SIM110
            if window.start <= now < window.end:
                return True
        return False


@dataclass(frozen=True, slots=True)
class Server:
    """One MCP server, as the text in force describes it, with everything `decide` looks up indexed."""

    name: str
    location: Location
    title: str
    description: str
    team: str
    support: str
    lifecycle: Lifecycle
    environment: Environment
    uses_genai: bool
    listing_requires: Literal["user", "surface"]
    rules: tuple[AccessRule, ...]
    tools: Mapping[str, Tool]
    tool_policies: Mapping[str, ToolPolicy]
    in_force: InForce
    rules_by_surface: Mapping[str, tuple[AccessRule, ...]]
    """Enforced rules (no shadow ones) that name this surface or any surface, in the file's order."""
    shadow_rules_by_surface: Mapping[str, tuple[AccessRule, ...]]
    guardrails: tuple[Guardrail, ...]
    """Those whose conditions on the server hold and that ask nothing about a tool."""
    tool_guardrails: Mapping[str, tuple[Guardrail, ...]]
    """By tool: those whose conditions on server and tool hold."""


@dataclass(frozen=True, slots=True)
class Lock:
    """A deny of one user, token, workload or server, at once, until a time. `subject` is its key."""

    kind: Literal["user", "token", "workload", "server"]
    subject: str
    until: float
    why: str
    by: str
    location: Location


@dataclass(frozen=True, slots=True)
class GroupIndex:
    """Business groups by what makes a user one of them, for one issuer."""

    everyone: frozenset[str] = frozenset()
    by_group: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    """Issuer group to the business groups that any one of such groups gives."""
    by_subject: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    all_of: tuple[BusinessGroup, ...] = ()
    by_claims: tuple[BusinessGroup, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole compiled policy in force: immutable, indexed, named by its content digest."""

    digest: str
    """`sha256:` and 64 hex digits over everything that is enforced."""
    trust_domains: frozenset[str]
    issuers: tuple[Issuer, ...]
    """The first is the default."""
    groups: Mapping[str, BusinessGroup]
    group_index: Mapping[str, GroupIndex]
    """By issuer name."""
    surfaces: Mapping[str, Surface]
    surface_by_spiffe: Mapping[SpiffeId, Surface]
    surface_by_client: Mapping[tuple[str, str], Surface]
    """By (issuer name, client id), among surfaces off the mesh."""
    servers: Mapping[str, Server]
    locks: Mapping[tuple[str, str], Lock]
    """By (kind, subject)."""
    guardrails: tuple[Guardrail, ...]
    organization: InForce
    request_access: str = ""
    """A URL template with `{group}`."""

    def next_change(self, now: float) -> float:
        """When this snapshot next decides otherwise by time alone: a review, group or lock begins or ends."""
        times = [
            w for f in (self.organization, *(s.in_force for s in self.servers.values())) for w in f.windows
        ]
        edges = [t for w in times for t in (w.start, w.end)]
        edges += [g.until for g in self.groups.values()]
        edges += [lock.until for lock in self.locks.values()]
        return min((t for t in edges if t > now), default=FOREVER)


class Point(StrEnum):
    """Which policy enforcement point asks."""

    EDGE = "edge"
    """Envoy, before the server: everything but the tool's own policy."""
    SERVER = "server"
    """The server itself, and preflight: everything, the tool's own policy too."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal as policy sees it: with its business groups. Built by `pdp.decide.identify`, or from a
    verified identity assertion (which carries business groups already).
    """

    principal: Principal
    groups: frozenset[str] = frozenset()

    @property
    def user(self) -> User | None:
        return self.principal.user

    @property
    def workload(self) -> SpiffeId | None:
        return self.principal.workload


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of `decide`: may this caller do this, to this server, now?"""

    caller: Caller
    server: str | None
    """None where the address asked for belongs to no server."""
    method: str
    """The MCP method, or `GET`, `DELETE`, or `pdp.methods.ANSWER_METHOD`."""
    target: str | None = None
    """The tool of `tools/call`, the URI of `resources/*`, the name of `prompts/get`."""
    channel: str | None = None
    """The channel's id, as the surface sent it."""
    point: Point = Point.EDGE
    protocol_version: str | None = None
    session: bool = False
    """Whether the call carries an `mcp-session-id`."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """What a rule in shadow mode would have done; logged, never enforced."""

    id: str
    location: Location
    would: Literal["allow", "deny"]


@dataclass(frozen=True, slots=True)
class Allow:
    """The call may go on. Built in exactly one place, `pdp.decide.decide`."""

    rule: str
    location: Location
    surface: Surface
    channel: str | None
    """The channel's name in policy, where a surface that asserts channels sent a known one."""
    server: Server
    shadows: tuple[Shadow, ...] = ()


@dataclass(frozen=True, slots=True)
class Deny:
    """The call ends here, and why. `detail`, for the caller, tells nothing of what exists."""

    reason: Reason
    detail: str = ""
    rule: str | None = None
    """The guardrail, lock, rule or tool policy that decided; None where the absence of a rule did."""
    location: Location | None = None
    nearest_miss: str | None = None
    """For the decision log only: what is the least that would have to be different."""
    surface: Surface | None = None
    server: Server | None = None
    groups_wanted: tuple[str, ...] = ()
    """Business groups that would have allowed; one of them reaches the caller, in the link to ask."""
    shadows: tuple[Shadow, ...] = ()


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nobody can decide now: no policy, no keys. Answered 503, never as a denial."""

    reason: Reason
    detail: str = ""


Decision: TypeAlias = Allow | Deny | Unavailable

"""The one evaluator: may this caller do this, to this server, now?

ext_authz, preflight, the filtering of `tools/list` and `@authorize_tool` all call `decide`, so "may I?" and
"I may" can't disagree. It is a pure function of the snapshot, the request and the time, and its steps run in
the order that `docs/reasons.md` gives; the first that fails decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from identity.principal import JsonValue, Principal, User, claim_at
from pdp import reasons
from pdp.methods import MethodClass, classify
from pdp.model import (
    AccessRule,
    Allow,
    BusinessGroup,
    Caller,
    Decision,
    Deny,
    Guardrail,
    Point,
    Request,
    Selection,
    Server,
    Shadow,
    Snapshot,
    Surface,
    Tool,
    ToolPolicy,
)
from pdp.reasons import Reason

STATELESS_SINCE = "2026-07-28"
"""From this protocol version on nobody answers a server's request with a message of its own."""


def identify(snapshot: Snapshot, principal: Principal, now: float) -> Caller:
    """Give a verified principal its business groups. Groups count only from the user's own issuer."""
    user = principal.user
    index = snapshot.group_index.get(user.issuer) if user is not None else None
    if user is None or index is None:
        return Caller(principal)
    groups = set(index.everyone)
    for issuer_group in index.by_group.keys() & user.groups:
        groups |= index.by_group[issuer_group]
    groups |= index.by_subject.get(user.subject, frozenset())
    groups.update(group.name for group in index.all_of if group.all_of <= user.groups)
    groups.update(group.name for group in index.by_claims if _claims_match(group, user))
    return Caller(principal, frozenset(name for name in groups if now < snapshot.groups[name].until))


def _claims_match(group: BusinessGroup, user: User) -> bool:
    return all(
        not accepted.isdisjoint(_strings(claim_at(user.claims, name)))
        for name, accepted in group.claims.items()
    )


def _strings(value: JsonValue) -> Iterable[str]:
    if isinstance(value, str):
        return (value,)
    return (item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def decide(snapshot: Snapshot, request: Request, now: float) -> Decision:
    """Decide one request at the time `now`, in seconds since the epoch. Never raises for any input.

    The caller's credentials were checked before (`identity`), and whether it is well-formed; `decide` begins
    with the locks of step 2. At `Point.EDGE` it stops after the access rules; at `Point.SERVER` the tool's
    own policy follows.
    """
    if (denied := _locked(snapshot, request, now)) is not None:
        return denied
    surface = _surface(snapshot, request.caller)
    if isinstance(surface, Deny):
        return surface
    channel = surface.channels.get(request.channel) if request.channel else None
    server = _server(snapshot, request.server, surface, now)
    if isinstance(server, Deny):
        return server
    tool = server.tools.get(request.target or "") if request.method == "tools/call" else None
    broken, shadows = _guardrails(server, tool, request.caller, surface)
    if broken is not None:
        return _deny_by_guardrail(broken, server, surface, shadows)
    rule = _access(server, surface, channel, request)
    if isinstance(rule, Deny):
        return replace(rule, shadows=shadows + _shadow_rules(server, surface, channel, request))
    if request.point is Point.SERVER and tool is not None:
        refused, shadow = _tool_policy(server, tool, request.caller, surface, channel)
        shadows += shadow
        if refused is not None:
            return refused
    return Allow(rule.id, rule.location, surface, channel, server, shadows)


def _locked(snapshot: Snapshot, request: Request, now: float) -> Deny | None:
    """Step 2, after the credentials: a lock takes away at once, whatever else policy says."""
    if not snapshot.locks:
        return None
    user, workload = request.caller.user, request.caller.workload
    keys = (
        ("user", user.key if user else None),
        ("token", user.token_id if user else None),
        ("workload", str(workload) if workload else None),
        ("server", request.server),
    )
    for kind, subject in keys:
        lock = snapshot.locks.get((kind, subject)) if subject is not None else None
        if lock is not None and now < lock.until:
            return Deny(reasons.LOCKED, rule=f"lock:{kind}", location=lock.location)
    return None


def _surface(snapshot: Snapshot, caller: Caller) -> Surface | Deny:
    """Step 3: on the mesh a surface is its SPIFFE ID alone; off the mesh it is the token's client."""
    user, workload = caller.user, caller.workload
    if workload is None:
        client = (user.issuer, user.client) if user is not None and user.client else None
        found = snapshot.surface_by_client.get(client) if client else None
        if found is None:
            miss = (
                f"no surface off the mesh has client {client[1]!r}" if client else "the token names no client"
            )
            return Deny(reasons.SURFACE_UNKNOWN, nearest_miss=miss)
        return found
    found = snapshot.surface_by_spiffe.get(workload)
    if found is None:
        return Deny(reasons.SURFACE_UNKNOWN, nearest_miss=f"no surface has spiffe {workload}")
    if user is not None and (user.client not in found.user_clients or user.issuer != found.issuer):
        return Deny(
            reasons.SURFACE_CLIENT_MISMATCH,
            rule=f"surface:{found.name}",
            location=found.location,
            nearest_miss=f"client {user.client!r} is not among the user_clients of {found.location}",
            surface=found,
        )
    return found


def _server(snapshot: Snapshot, name: str | None, surface: Surface, now: float) -> Server | Deny:
    """Step 4: the server is known, and its reviewed text in force at `now`."""
    server = snapshot.servers.get(name) if name is not None else None
    if server is None:
        return Deny(reasons.SERVER_UNKNOWN, surface=surface)
    organization = snapshot.organization
    closed = server.in_force if organization.at(now) else organization
    if closed is server.in_force and closed.at(now):
        return server
    lapsed = any(window.end <= now for window in closed.windows)
    missing = ", ".join(sorted(closed.missing or closed.required))
    return Deny(
        reasons.REVIEW_EXPIRED if lapsed else reasons.SERVER_NOT_APPROVED,
        location=server.location,
        nearest_miss=f"an approval of {closed.digest} by {missing} would open it",
        surface=surface,
        server=server,
    )


def _guardrails(
    server: Server, tool: Tool | None, caller: Caller, surface: Surface
) -> tuple[Guardrail | None, tuple[Shadow, ...]]:
    """Step 5. What a guardrail asks of the server and the tool was settled when the snapshot was built."""
    shadows: tuple[Shadow, ...] = ()
    about_tool = server.tool_guardrails.get(tool.name, ()) if tool is not None else ()
    for guardrails in (server.guardrails, about_tool):
        for guardrail in guardrails:
            if not _forbids(guardrail, caller, surface):
                continue
            if not guardrail.shadow:
                return guardrail, shadows
            shadows += (Shadow(guardrail.id, guardrail.location, "deny"),)
    return None, shadows


def _forbids(guardrail: Guardrail, caller: Caller, surface: Surface) -> bool:
    return (
        (guardrail.surface_environment is None or surface.environment in guardrail.surface_environment)
        and (guardrail.surface_kind is None or surface.kind in guardrail.surface_kind)
        and (guardrail.surfaces is None or surface.name in guardrail.surfaces)
        and (guardrail.caller is None or ("service" if caller.user is None else "user") in guardrail.caller)
        and (guardrail.groups is None or not guardrail.groups.isdisjoint(caller.groups))
    )


def _deny_by_guardrail(
    guardrail: Guardrail, server: Server, surface: Surface, shadows: tuple[Shadow, ...]
) -> Deny:
    return Deny(
        reasons.GUARDRAIL,
        detail=guardrail.why,
        rule=guardrail.id,
        location=guardrail.location,
        surface=surface,
        server=server,
        shadows=shadows,
    )


def _access(server: Server, surface: Surface, channel: str | None, request: Request) -> AccessRule | Deny:
    """Step 6: rules are ORed; of those that don't allow, the one that came furthest says why."""
    kind = classify(request.method)
    rules = server.rules_by_surface.get(surface.name, ())
    user = request.caller.user
    if user is None and rules:
        rules, needed = _without_user(server, rules, kind)
        if not rules:
            return Deny(
                needed,
                nearest_miss=f"a user's token is what {server.location} asks for",
                surface=surface,
                server=server,
            )
    best: tuple[int, Reason, AccessRule] | None = None
    for rule in rules:
        if user is not None and not rule.groups:
            continue
        progress, missed = _match(rule, server, kind, channel, request)
        if missed is None:
            return rule
        if best is None or progress > best[0]:
            best = (progress, missed, rule)
    if best is None:
        return Deny(reasons.SURFACE_NOT_ALLOWED, surface=surface, server=server)
    return _missed(best[1], best[2], surface, server, request)


def _without_user(
    server: Server, rules: tuple[AccessRule, ...], kind: MethodClass | None
) -> tuple[tuple[AccessRule, ...], Reason]:
    """The rules that count for a service alone; where there are none, what would have to be brought."""
    listing = kind in (MethodClass.CONNECT, MethodClass.LIST)
    if listing and server.listing_requires == "surface":
        return rules, reasons.LISTING_NEEDS_USER
    if kind is MethodClass.LIST:
        return (), reasons.LISTING_NEEDS_USER
    return tuple(rule for rule in rules if rule.services), reasons.CREDENTIALS_REQUIRED


def _match(
    rule: AccessRule, server: Server, kind: MethodClass | None, channel: str | None, request: Request
) -> tuple[int, Reason | None]:
    """How far a rule that names this surface goes with this request, and what stopped it, if anything."""
    if request.caller.user is not None and rule.groups.isdisjoint(request.caller.groups):
        return 0, reasons.GROUP_NOT_ALLOWED
    if rule.channels and channel not in rule.channels:
        return 1, reasons.CHANNEL_NOT_ALLOWED
    if kind is MethodClass.CALL:
        if request.target in server.tools:
            return 2, None if request.target in rule.tools else reasons.TOOL_NOT_IN_RULE
        return (3, reasons.TOOL_UNKNOWN) if rule.tools.all else (2, reasons.TOOL_NOT_IN_RULE)
    if kind is MethodClass.RESOURCES:
        return 2, None if _grants(rule.resources, request.target) else reasons.RESOURCE_NOT_ALLOWED
    if kind is MethodClass.PROMPTS:
        return 2, None if _grants(rule.prompts, request.target) else reasons.PROMPT_NOT_ALLOWED
    if kind is None or (kind is MethodClass.ANSWER and not _may_answer(request)):
        return 2, reasons.METHOD_NOT_ALLOWED
    return 2, None


def _grants(selection: Selection, target: str | None) -> bool:
    """Whether the one that is asked for is granted; a list asks for none, and needs that there be any."""
    return bool(selection) if target is None else target in selection


def _may_answer(request: Request) -> bool:
    """Only within a user's session, in a version with sessions: an answer runs what the server waits for."""
    version = request.protocol_version
    return (
        request.caller.user is not None and request.session and (version is None or version < STATELESS_SINCE)
    )


def _missed(reason: Reason, rule: AccessRule, surface: Surface, server: Server, request: Request) -> Deny:
    wanted: tuple[str, ...] = ()
    if reason is reasons.GROUP_NOT_ALLOWED:
        wanted = tuple(sorted(rule.groups))
        miss = f"{_any_of(wanted)} is what {rule.location} asks for"
    elif reason is reasons.CHANNEL_NOT_ALLOWED:
        miss = f"channel {_any_of(sorted(rule.channels))} is what {rule.location} asks for"
    elif reason is reasons.TOOL_UNKNOWN:
        miss = f"{server.location.file} names no tool {request.target!r}"
    else:
        miss = f"{rule.location} does not grant {request.target or request.method!r}"
    return Deny(
        reason,
        rule=rule.id,
        location=rule.location,
        nearest_miss=miss,
        surface=surface,
        server=server,
        groups_wanted=wanted,
    )


def _shadow_rules(
    server: Server, surface: Surface, channel: str | None, request: Request
) -> tuple[Shadow, ...]:
    """Which rules in shadow mode would have allowed what no enforced rule did."""
    return tuple(
        Shadow(rule.id, rule.location, "allow")
        for rule in server.shadow_rules_by_surface.get(surface.name, ())
        if bool(rule.groups) == (request.caller.user is not None)
        and _match(rule, server, classify(request.method), channel, request)[1] is None
    )


def _tool_policy(
    server: Server, tool: Tool, caller: Caller, surface: Surface, channel: str | None
) -> tuple[Deny | None, tuple[Shadow, ...]]:
    """Step 7: the tool's own policy only narrows. One in shadow mode is noted and never enforced."""
    shadows: tuple[Shadow, ...] = ()
    if tool.shadow_policy is not None:
        shadow = server.tool_policies[tool.shadow_policy]
        if _lacks(shadow, caller, channel) is not None:
            shadows = (Shadow(shadow.name, shadow.location, "deny"),)
    if tool.policy is None:
        return None, shadows
    policy = server.tool_policies[tool.policy]
    lacking = _lacks(policy, caller, channel)
    if lacking is None:
        return None, shadows
    reason, wanted = lacking
    return (
        Deny(
            reason,
            rule=policy.name,
            location=policy.location,
            nearest_miss=f"{_any_of(wanted)} is what {policy.location} asks for",
            surface=surface,
            server=server,
            groups_wanted=wanted if reason is reasons.TOOL_GROUP_REQUIRED else (),
            shadows=shadows,
        ),
        shadows,
    )


def _lacks(policy: ToolPolicy, caller: Caller, channel: str | None) -> tuple[Reason, tuple[str, ...]] | None:
    if policy.groups and policy.groups.isdisjoint(caller.groups):
        return reasons.TOOL_GROUP_REQUIRED, tuple(sorted(policy.groups))
    roles = caller.user.roles if caller.user is not None else frozenset()
    if policy.roles and policy.roles.isdisjoint(roles):
        return reasons.TOOL_ROLE_REQUIRED, tuple(sorted(policy.roles))
    if policy.channels and channel not in policy.channels:
        return reasons.TOOL_CHANNEL_REQUIRED, tuple(sorted(policy.channels))
    return None


def _any_of(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last

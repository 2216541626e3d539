"""Warnings about a policy that is valid and perhaps not meant: nothing here keeps it from being enforced."""

from __future__ import annotations

from collections.abc import Iterator

from pdp.model import FOREVER, AccessRule, Guardrail, InForce, Server, Snapshot, Surface
from pdp.problem import Problem

DAY = 86_400
NOTICE = (1, 7, 30)
"""Days before its end at which a review is warned about, the nearest first."""


def lint(snapshot: Snapshot, now: float) -> list[Problem]:
    """Warnings about a whole policy, in the order of its files. `now` is in epoch seconds.

    It reads best over what is proposed (`pdp.compile.compile_proposals`), where no server is closed.
    """
    found = [*_groups(snapshot, now), *_guardrails(snapshot)]
    for server in snapshot.servers.values():
        found += [*_rules(snapshot, server), *_tools(server)]
    return sorted(found, key=lambda problem: (problem.location.file, problem.location.line, problem.message))


def expiring(snapshot: Snapshot, now: float) -> list[Problem]:
    """Reviews that end within 30, 7 or 1 days, or are dated in the future, over what is enforced."""
    found = list(_expiring("organization", snapshot.organization, now))
    found += _postdated("organization", snapshot.organization, now)
    for server in snapshot.servers.values():
        found += _expiring(server.name, server.in_force, now)
        found += _postdated(server.name, server.in_force, now)
    return found


def _expiring(subject: str, in_force: InForce, now: float) -> Iterator[Problem]:
    """By kind: what matters is the last approval of each, and the kind that ends first closes the subject."""
    for kind in sorted(in_force.required):
        given = [a for a in in_force.approvals if a.kind == kind]
        last = max(given, key=lambda a: a.window.end, default=None)
        if last is None or last.window.end == FOREVER or last.window.end <= now:
            continue
        days = next((days for days in NOTICE if last.window.end - now <= days * DAY), None)
        if days is not None:
            within = "a day" if days == 1 else f"{days} days"
            message = f"the {kind} review of {subject} ends within {within}"
            yield Problem(last.location, message, "have it reviewed again")


def _postdated(subject: str, in_force: InForce, now: float) -> Iterator[Problem]:
    """An approval of tomorrow lets a review outlive `valid_for`; nobody can have made it."""
    for approval in in_force.approvals:
        if approval.window.start > now:
            yield Problem(approval.location, f"an approval of {subject} is dated in the future", "remove it")


def _groups(snapshot: Snapshot, now: float) -> Iterator[Problem]:
    used: set[str] = set()
    for server in snapshot.servers.values():
        used.update(name for rule in server.rules for name in rule.groups)
        used.update(name for policy in server.tool_policies.values() for name in policy.groups)
        used.update(name for tool in server.tools.values() for name in tool.approvers)
    used.update(name for guardrail in snapshot.guardrails for name in guardrail.groups or ())
    for group in snapshot.groups.values():
        if group.name not in used:
            yield Problem(group.location, f"nothing uses the group {group.name!r}")
        elif group.until <= now:
            yield Problem(group.location, f"the group {group.name!r} has ended: nobody is in it any more")


def _guardrails(snapshot: Snapshot) -> Iterator[Problem]:
    surfaces = list(snapshot.surfaces.values())
    for guardrail in snapshot.guardrails:
        reached = any(_may_meet(guardrail, surface) for surface in surfaces)
        asked = any(guardrail in _of(server) for server in snapshot.servers.values())
        if not (reached and asked):
            what = "server or tool" if reached else "surface"
            message = f"the guardrail {guardrail.id!r} never matches: no {what} is as it says"
            yield Problem(guardrail.location, message)


def _of(server: Server) -> set[Guardrail]:
    """Every guardrail that may apply to a server or to a tool of it."""
    return {*server.guardrails, *(g for found in server.tool_guardrails.values() for g in found)}


def _may_meet(guardrail: Guardrail, surface: Surface) -> bool:
    """Whether a call from this surface could be what the guardrail speaks of."""
    callers = (
        {"user"} if surface.spiffe is None else {"service"} | ({"user"} if surface.user_clients else set())
    )
    return (
        (guardrail.surface_environment is None or surface.environment in guardrail.surface_environment)
        and (guardrail.surface_kind is None or surface.kind in guardrail.surface_kind)
        and (guardrail.surfaces is None or surface.name in guardrail.surfaces)
        and (guardrail.caller is None or not callers.isdisjoint(guardrail.caller))
    )


def _rules(snapshot: Snapshot, server: Server) -> Iterator[Problem]:
    for rule in server.rules:
        surfaces = [s for s in snapshot.surfaces.values() if rule.surfaces is None or s.name in rule.surfaces]
        bringing = [s for s in surfaces if rule.services or _brings(snapshot, s, rule.groups)]
        if not bringing:
            message = (
                f"nobody can satisfy the rule {rule.id!r}: none of its surfaces brings users of its groups"
            )
            yield Problem(rule.location, message, "add user_clients to the surface, or use services")
            continue
        idle = [s for s in bringing if _all_forbidden(server, rule, s)]
        if len(idle) == len(bringing):
            message = f"nobody can satisfy the rule {rule.id!r}: guardrails forbid all that it grants"
            yield Problem(rule.location, message)
        elif idle and rule.surfaces is not None:
            names = ", ".join(surface.name for surface in idle)
            message = f"in the rule {rule.id!r} guardrails forbid all that it grants to {names}"
            yield Problem(rule.location, message)


def _brings(snapshot: Snapshot, surface: Surface, groups: frozenset[str]) -> bool:
    """Whether the surface can bring a user of one of these groups."""
    if surface.spiffe is not None and not surface.user_clients:
        return False
    return any(snapshot.groups[name].issuer == surface.issuer for name in groups)


def _all_forbidden(server: Server, rule: AccessRule, surface: Surface) -> bool:
    """Whether guardrails take away everything that the rule grants to this surface, whoever calls."""
    caller = "service" if rule.services else "user"
    if any(_forbids_all(guardrail, surface, caller) for guardrail in server.guardrails):
        return True
    granted = [name for name in server.tools if name in rule.tools]
    if rule.resources or rule.prompts or not granted:
        return False
    return all(
        any(_forbids_all(guardrail, surface, caller) for guardrail in server.tool_guardrails.get(name, ()))
        for name in granted
    )


def _forbids_all(guardrail: Guardrail, surface: Surface, caller: str) -> bool:
    return (
        not guardrail.shadow
        and guardrail.groups is None
        and (guardrail.caller is None or caller in guardrail.caller)
        and _may_meet(guardrail, surface)
    )


def _tools(server: Server) -> Iterator[Problem]:
    for tool in server.tools.values():
        granting = [rule for rule in server.rules if tool.name in rule.tools]
        if not granting:
            yield Problem(tool.location, f"no rule grants the tool {tool.name!r}")
        elif tool.side_effect == "destroy" and tool.confirm is None and tool.policy is None:
            message = f"{tool.name!r} destroys, and asks for neither a policy nor a confirmation"
            yield Problem(tool.location, message, "add `confirm: caller`")
    used = {name for tool in server.tools.values() for name in (tool.policy, tool.shadow_policy)}
    for policy in server.tool_policies.values():
        if policy.name not in used:
            yield Problem(policy.location, f"no tool asks for the tool policy {policy.name!r}")

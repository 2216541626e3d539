"""One server's text in force to the rules, tools and guardrails that `decide` looks up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pdp.compile_organization import CompiledOrganization
from pdp.model import AccessRule, Guardrail, InForce, Selection, Server, Tool, ToolPolicy
from pdp.schema import RulePart, ServerFile
from pdp.source import Source


def compile_server(
    text: Source[ServerFile],
    file: ServerFile,
    prose: ServerFile,
    in_force: InForce,
    organization: CompiledOrganization,
) -> Server:
    """Compile `file`, the text in force, which stands in `text`; what people read comes from `prose`."""
    rules = tuple(_rule(text, index, part) for index, part in enumerate(file.access))
    tools = {name: _tool(text, file, prose, name) for name in file.tools}
    applicable = [guardrail for guardrail in organization.guardrails if _about_server(guardrail, file)]
    return Server(
        name=file.name,
        location=text.at("name"),
        title=prose.title or file.name,
        description=prose.description,
        team=prose.owner.team,
        support=prose.owner.support,
        lifecycle=file.lifecycle,
        environment=file.environment,
        uses_genai=file.uses_genai,
        listing_requires=file.listing_requires,
        rules=rules,
        tools=tools,
        tool_policies={name: _tool_policy(text, file, name) for name in file.tool_policies},
        in_force=in_force,
        rules_by_surface=_by_surface((r for r in rules if not r.shadow), organization.surfaces),
        shadow_rules_by_surface=_by_surface((r for r in rules if r.shadow), organization.surfaces),
        guardrails=tuple(g for g in applicable if not _asks_about_tool(g)),
        tool_guardrails=_by_tool([g for g in applicable if _asks_about_tool(g)], tools.values()),
    )


def _selection(names: Literal["all"] | tuple[str, ...]) -> Selection:
    return Selection(all=True) if names == "all" else Selection(names=frozenset(names))


def _rule(text: Source[ServerFile], index: int, part: RulePart) -> AccessRule:
    services = frozenset(part.services or ())
    surfaces = frozenset(part.surfaces) if part.surfaces is not None else None
    return AccessRule(
        id=part.id,
        location=text.at("access", index),
        surfaces=services or surfaces,
        groups=frozenset(part.groups or ()),
        services=services,
        channels=frozenset(part.channels or ()),
        tools=_selection(part.tools),
        resources=_selection(part.resources),
        prompts=_selection(part.prompts),
        shadow=part.mode == "shadow",
    )


def _tool(text: Source[ServerFile], file: ServerFile, prose: ServerFile, name: str) -> Tool:
    part = file.tools[name]
    described = prose.tools.get(name, part)
    return Tool(
        name=name,
        location=text.at("tools", name),
        side_effect=part.side_effect,
        risk=part.risk,
        policy=part.policy,
        shadow_policy=part.shadow_policy,
        confirm=part.confirm,
        approvers=frozenset(part.approvers),
        minutes_saved=described.minutes_saved,
    )


def _tool_policy(text: Source[ServerFile], file: ServerFile, name: str) -> ToolPolicy:
    part = file.tool_policies[name]
    return ToolPolicy(
        name=name,
        location=text.at("tool_policies", name),
        groups=frozenset(part.groups or ()),
        roles=frozenset(part.roles or ()),
        channels=frozenset(part.channels or ()),
    )


def _by_surface(rules: Iterable[AccessRule], surfaces: Iterable[str]) -> Mapping[str, tuple[AccessRule, ...]]:
    """Rules by every surface they hold for, in the file's order."""
    every = list(surfaces)
    found: dict[str, list[AccessRule]] = {}
    for rule in rules:
        for surface in every if rule.surfaces is None else rule.surfaces:
            found.setdefault(surface, []).append(rule)
    return {surface: tuple(found[surface]) for surface in sorted(found)}


def _about_server(guardrail: Guardrail, file: ServerFile) -> bool:
    return (
        (guardrail.server_lifecycle is None or file.lifecycle in guardrail.server_lifecycle)
        and (guardrail.server_environment is None or file.environment in guardrail.server_environment)
        and (guardrail.servers is None or file.name in guardrail.servers)
    )


def _asks_about_tool(guardrail: Guardrail) -> bool:
    return not (guardrail.side_effect is None and guardrail.risk is None and guardrail.tools is None)


def _about_tool(guardrail: Guardrail, tool: Tool) -> bool:
    return (
        (guardrail.side_effect is None or tool.side_effect in guardrail.side_effect)
        and (guardrail.risk is None or tool.risk in guardrail.risk)
        and (guardrail.tools is None or tool.name in guardrail.tools)
    )


def _by_tool(guardrails: Iterable[Guardrail], tools: Iterable[Tool]) -> Mapping[str, tuple[Guardrail, ...]]:
    asked = list(guardrails)
    found = {tool.name: tuple(g for g in asked if _about_tool(g, tool)) for tool in tools}
    return {name: matching for name, matching in found.items() if matching}

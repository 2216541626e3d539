"""Which mesh surfaces policy could ever let reach a server: what Envoy's RBAC filter holds a second time.

Coarse on purpose. Users, groups, tools and times are `pdp.decide`'s; here a surface stands out only where no
call of it could be allowed, so that whatever `decide` allows, this allows too (a property test holds that).
"""

from __future__ import annotations

from collections.abc import Mapping

from pdp.model import Guardrail, Server, Snapshot, Surface


def mesh_surfaces(snapshot: Snapshot) -> Mapping[str, Surface]:
    """By name, the surfaces that are known by their SPIFFE ID."""
    return {surface.name: surface for surface in snapshot.surface_by_spiffe.values()}


def mesh_reach(server: Server, mesh: Mapping[str, Surface]) -> frozenset[str]:
    """The SPIFFE IDs of the surfaces in `mesh` that an enforced rule names and no guardrail shuts out."""
    named = [mesh[name] for name, rules in server.rules_by_surface.items() if rules and name in mesh]
    coarse = [g for g in server.guardrails if not g.shadow and g.groups is None and g.caller is None]
    return frozenset(
        str(surface.spiffe)
        for surface in named
        if surface.spiffe is not None and not any(_shuts_out(guardrail, surface) for guardrail in coarse)
    )


def _shuts_out(guardrail: Guardrail, surface: Surface) -> bool:
    """Whether the guardrail forbids this surface whoever calls; conditions on the server hold already."""
    return (
        (guardrail.surface_environment is None or surface.environment in guardrail.surface_environment)
        and (guardrail.surface_kind is None or surface.kind in guardrail.surface_kind)
        and (guardrail.surfaces is None or surface.name in guardrail.surfaces)
    )

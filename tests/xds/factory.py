"""Small snapshots and deployments, built from `pdp.model` itself, for tests that need just some policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from identity.principal import Issuer, SpiffeId
from pdp.deployment import Address, Deployment, Endpoint, Listener, Service
from pdp.model import (
    FOREVER,
    AccessRule,
    Guardrail,
    InForce,
    Location,
    Selection,
    Server,
    Snapshot,
    Surface,
    Tool,
    Window,
)

NOWHERE = Location("test.yaml", 1)
ALWAYS = InForce("sha256:0", frozenset(), (Window(0.0, FOREVER),))
NEVER = InForce("sha256:0", frozenset({"security"}), ())

AI_CHAT = Surface(
    "ai-chat",
    NOWHERE,
    "prod",
    spiffe=SpiffeId.parse("spiffe://corp.example/ns/prod/sa/ai-chat"),
    issuer="sso",
    user_clients=frozenset({"ai-chat-web"}),
)
REPORT_BOT = Surface(
    "report-bot", NOWHERE, "prod", spiffe=SpiffeId.parse("spiffe://corp.example/ns/prod/sa/report-bot")
)
IDE = Surface("ide", NOWHERE, "prod", client="ide-plugin", issuer="sso")
SURFACES = (AI_CHAT, REPORT_BOT, IDE)


def rule(name: str, *surfaces: str, services: Iterable[str] = ()) -> AccessRule:
    alone = frozenset(services)
    groups = frozenset() if alone else frozenset({"ads"})
    return AccessRule(
        name, NOWHERE, alone or frozenset(surfaces), groups, alone, frozenset(), Selection(all=True)
    )


def server(
    name: str,
    rules: Iterable[AccessRule] = (),
    *,
    in_force: InForce = ALWAYS,
    guardrails: Iterable[Guardrail] = (),
) -> Server:
    listed = tuple(rules)
    by_surface: dict[str, tuple[AccessRule, ...]] = {}
    for one in listed:
        for surface in one.surfaces or {s.name for s in SURFACES}:
            by_surface[surface] = (*by_surface.get(surface, ()), one)
    return Server(
        name=name,
        location=NOWHERE,
        title=name,
        description="",
        team="team",
        support="#help",
        lifecycle="production",
        environment="prod",
        uses_genai=False,
        listing_requires="user",
        rules=listed,
        tools={"t": Tool("t", NOWHERE, "none", "low")},
        tool_policies={},
        in_force=in_force,
        rules_by_surface=by_surface,
        shadow_rules_by_surface={},
        guardrails=tuple(guardrails),
        tool_guardrails={},
    )


def snapshot(*servers: Server, organization: InForce = ALWAYS) -> Snapshot:
    return Snapshot(
        digest="sha256:test",
        trust_domains=frozenset({"corp.example"}),
        issuers=(Issuer("sso", "https://sso.corp.example", frozenset({"mcp"}), frozenset({"RS256"})),),
        groups={},
        group_index={},
        surfaces={s.name: s for s in SURFACES},
        surface_by_spiffe={s.spiffe: s for s in SURFACES if s.spiffe is not None},
        surface_by_client={("sso", "ide-plugin"): IDE},
        servers={s.name: s for s in servers},
        locks=MappingProxyType({}),
        guardrails=(),
        organization=organization,
    )


def deployment(
    endpoints: Mapping[str, Endpoint] | None = None,
    *,
    users: Listener | None = None,
    mesh: Listener | None = None,
    ext_authz: Service | None = None,
    public_url: str = "http://127.0.0.1:8443",
    cors_origins: tuple[str, ...] = (),
) -> Deployment:
    return Deployment(
        public_url=public_url,
        users=users or Listener(Address("127.0.0.1", 8443)),
        mesh=mesh,
        ext_authz=ext_authz or Service((Address("127.0.0.1", 9001),)),
        control_plane=Service((Address("127.0.0.1", 9002),)),
        endpoints=endpoints or {},
        cors_origins=cors_origins,
    )


def endpoint(port: int, path: str = "/mcp") -> Endpoint:
    return Endpoint((Address("127.0.0.1", port),), path)


NO_FILES: Mapping[Path, bytes] = MappingProxyType({})

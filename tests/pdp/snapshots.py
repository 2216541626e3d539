"""Small snapshots, written out as dataclasses: what `decide` is asked about, without a loader in between."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from identity.principal import Issuer, Principal, SpiffeId, User
from pdp.model import (
    AccessRule,
    BusinessGroup,
    Caller,
    GroupIndex,
    Guardrail,
    InForce,
    Location,
    Lock,
    Request,
    Selection,
    Server,
    Snapshot,
    Surface,
    Tool,
    ToolPolicy,
    Window,
)

NOW = 1_800_000_000.0
HERE = Location("servers/presto.yaml", 1)
ALWAYS = InForce("sha256:a", frozenset({"security"}), (Window(0, NOW + 1000),))
BOT = SpiffeId.parse("spiffe://corp.example/ns/prod/sa/report-bot")
CHAT = SpiffeId.parse("spiffe://corp.example/ns/prod/sa/ai-chat")

SURFACES = {
    "ai-chat": Surface(
        "ai-chat", HERE, "prod", spiffe=CHAT, issuer="sso", user_clients=frozenset({"chat-web"}),
        channels=MappingProxyType({"C1": "spark-help"}),
    ),
    "ide": Surface("ide", HERE, "prod", client="ide-plugin", issuer="sso"),
    "lab": Surface("lab", HERE, "dev", client="lab-client", issuer="sso"),
    "report-bot": Surface("report-bot", HERE, "prod", spiffe=BOT),
}  # fmt: skip

RULES = (
    AccessRule(
        "analysts", Location("servers/presto.yaml", 10), frozenset({"ai-chat", "ide"}), frozenset({"ads"}),
        frozenset(), frozenset(), Selection(all=True),
    ),
    AccessRule(
        "channel", Location("servers/presto.yaml", 11), frozenset({"ai-chat"}), frozenset({"infra"}),
        frozenset(), frozenset({"spark-help"}), Selection(names=frozenset({"list_tables"})),
    ),
    AccessRule(
        "reports", Location("servers/presto.yaml", 12), frozenset({"report-bot"}), frozenset(),
        frozenset({"report-bot"}), frozenset(), Selection(names=frozenset({"list_tables"})),
    ),
)  # fmt: skip

TOOLS = {
    "list_tables": Tool("list_tables", HERE, "none", "low"),
    "run_query": Tool("run_query", HERE, "none", "medium"),
    "revenue": Tool("revenue", HERE, "none", "medium", policy="eng-only"),
    "overwrite": Tool("overwrite", HERE, "destroy", "high", policy="writers"),
}
POLICIES = {
    "eng-only": ToolPolicy("eng-only", Location("servers/presto.yaml", 30), groups=frozenset({"ads-eng"})),
    "writers": ToolPolicy("writers", Location("servers/presto.yaml", 31), roles=frozenset({"table-writer"})),
}


def server(rules: tuple[AccessRule, ...] = RULES, **changes: object) -> Server:
    def by_surface(*, shadow: bool) -> dict[str, tuple[AccessRule, ...]]:
        return {
            name: tuple(r for r in rules if r.shadow is shadow and (r.surfaces is None or name in r.surfaces))
            for name in SURFACES
        }

    plain = Server(
        "presto", HERE, "Presto", "", "data", "#presto-help", "production", "prod", False, "user", rules,
        TOOLS, POLICIES, ALWAYS, by_surface(shadow=False), by_surface(shadow=True), (), {},
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def snapshot(presto: Server | None = None, *locks: Lock, **changes: object) -> Snapshot:
    groups = {
        "ads": BusinessGroup("ads", HERE, "sso", any_of=frozenset({"ads-eng", "ads-sales"})),
        "ads-eng": BusinessGroup("ads-eng", HERE, "sso", any_of=frozenset({"ads-eng"})),
        "infra": BusinessGroup("infra", HERE, "sso", all_of=frozenset({"eng", "oncall"})),
        "contractors": BusinessGroup(
            "contractors", HERE, "sso", claims={"/hr/employment": frozenset({"contractor"})}
        ),
        "beta": BusinessGroup("beta", HERE, "sso", users=frozenset({"u1"}), until=NOW + 10),
        "employees": BusinessGroup("employees", HERE, "sso"),
    }
    index = GroupIndex(
        everyone=frozenset({"employees"}),
        by_group={"ads-eng": frozenset({"ads", "ads-eng"}), "ads-sales": frozenset({"ads"})},
        by_subject={"u1": frozenset({"beta"})},
        all_of=(groups["infra"],),
        by_claims=(groups["contractors"],),
    )
    plain = Snapshot(
        "sha256:policy",
        frozenset({"corp.example"}),
        (Issuer("sso", "https://sso.corp.example", frozenset({"mcp"}), frozenset({"ES256"})),),
        groups,
        {"sso": index},
        SURFACES,
        {s.spiffe: s for s in SURFACES.values() if s.spiffe},
        {(s.issuer, s.client): s for s in SURFACES.values() if s.client},
        {"presto": presto or server()},
        {(lock.kind, lock.subject): lock for lock in locks},
        (),
        ALWAYS,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def user(*groups: str, client: str | None = "ide-plugin", **changes: object) -> User:
    plain = User("sso", "u1", client=client, groups=frozenset(groups), token_id="t1", expires=NOW + 60)
    return replace(plain, **changes)  # type: ignore[arg-type]


def caller(
    *groups: str, client: str = "ide-plugin", workload: SpiffeId | None = None, **changes: object
) -> Caller:
    """A user already in these business groups."""
    return Caller(Principal(user(client=client, **changes), workload), frozenset(groups))


BOT_ALONE = Caller(Principal(workload=BOT))
CHAT_ALONE = Caller(Principal(workload=CHAT))


def call(who: Caller, tool: str = "run_query", **changes: object) -> Request:
    return replace(Request(who, "presto", "tools/call", tool), **changes)  # type: ignore[arg-type]


def guardrail(**conditions: object) -> Guardrail:
    return Guardrail("fence", Location("org.yaml", 40), "because", **conditions)  # type: ignore[arg-type]

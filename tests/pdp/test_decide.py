from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.principal import Principal, SpiffeId
from pdp import reasons
from pdp.decide import decide, identify
from pdp.methods import ANSWER_METHOD, CLASSES
from pdp.model import (
    AccessRule,
    Allow,
    Caller,
    Deny,
    InForce,
    Location,
    Lock,
    Point,
    Request,
    Selection,
    Window,
)
from tests.pdp.snapshots import (
    ALWAYS,
    BOT_ALONE,
    CHAT,
    CHAT_ALONE,
    HERE,
    NOW,
    RULES,
    call,
    caller,
    guardrail,
    server,
    snapshot,
    user,
)

ADS = caller("ads")


def reason(decision: object) -> str:
    return decision.reason.code if isinstance(decision, Deny) else "allow"


def decided(request: Request, **world: object) -> str:
    return reason(decide(snapshot(server(**world)), request, NOW))  # type: ignore[arg-type]


def test_an_allow_names_the_rule_and_its_line() -> None:
    decision = decide(snapshot(), call(ADS), NOW)
    assert isinstance(decision, Allow)
    assert (decision.rule, str(decision.location)) == ("analysts", "servers/presto.yaml:10")
    assert decision.surface.name == "ide"


class TestIdentify:
    @pytest.mark.parametrize(
        ("groups", "claims", "expected"),
        [
            ((), {}, {"beta", "employees"}),
            (("ads-eng",), {}, {"ads", "ads-eng", "beta", "employees"}),
            (("ads-sales", "eng"), {}, {"ads", "beta", "employees"}),
            (("eng", "oncall"), {}, {"infra", "beta", "employees"}),
            ((), {"hr": {"employment": "contractor"}}, {"contractors", "beta", "employees"}),
            ((), {"hr": {"employment": ["intern", "contractor"]}}, {"contractors", "beta", "employees"}),
            ((), {"hr": "contractor"}, {"beta", "employees"}),
            ((), {"hr": {"employment": True}}, {"beta", "employees"}),
        ],
    )
    def test_business_groups(
        self, groups: tuple[str, ...], claims: dict[str, object], expected: set[str]
    ) -> None:
        who = identify(snapshot(), Principal(user(*groups, claims=claims)), NOW)
        assert who.groups == expected

    def test_a_group_ends(self) -> None:
        assert "beta" not in identify(snapshot(), Principal(user()), NOW + 10).groups

    def test_groups_count_only_from_their_own_issuer(self) -> None:
        assert identify(snapshot(), Principal(user("ads-eng", issuer="partner")), NOW).groups == frozenset()


class TestLocks:
    @pytest.mark.parametrize(
        ("kind", "subject", "who"),
        [
            ("user", "sso:u1", ADS),
            ("token", "t1", ADS),
            ("server", "presto", ADS),
            ("workload", "spiffe://corp.example/ns/prod/sa/report-bot", BOT_ALONE),
        ],
    )
    def test_a_lock_denies_until_it_ends(self, kind: str, subject: str, who: Caller) -> None:
        lock = Lock(kind, subject, NOW + 5, "INC-1", "dana", HERE)  # type: ignore[arg-type]
        locked = snapshot(None, lock)
        assert reason(decide(locked, call(who, "list_tables"), NOW)) == "locked"
        assert reason(decide(locked, call(who, "list_tables"), NOW + 5)) == "allow"

    def test_a_lock_comes_before_every_other_reason(self) -> None:
        lock = Lock("user", "sso:u1", NOW + 5, "INC-1", "dana", HERE)
        assert reason(decide(snapshot(None, lock), call(caller(client="nobody")), NOW)) == "locked"


class TestSurfaces:
    def test_off_the_mesh_a_surface_is_the_tokens_client(self) -> None:
        assert decided(call(caller("ads", client="ide-plugin"))) == "allow"
        assert decided(call(caller("ads", client="somebody"))) == "surface_unknown"
        assert decided(call(Caller(Principal(user(client=None))))) == "surface_unknown"

    def test_a_token_made_for_a_mesh_surface_is_worthless_elsewhere(self) -> None:
        assert decided(call(caller("ads", client="chat-web"))) == "surface_unknown"

    def test_a_client_of_another_issuer_is_not_this_surface(self) -> None:
        assert decided(call(caller("ads", issuer="partner"))) == "surface_unknown"

    def test_on_the_mesh_a_surface_is_its_spiffe_id(self) -> None:
        assert decided(call(caller("ads", client="chat-web", workload=CHAT))) == "allow"
        stranger = SpiffeId.parse("spiffe://corp.example/ns/prod/sa/ai-chat2")
        assert decided(call(caller("ads", client="chat-web", workload=stranger))) == "surface_unknown"

    @pytest.mark.parametrize(
        "change", [{"client": "ide-plugin"}, {"client": "chat-web", "issuer": "partner"}]
    )
    def test_a_mesh_surface_brings_only_its_own_clients_users(self, change: dict[str, str]) -> None:
        assert decided(call(caller("ads", workload=CHAT, **change))) == "surface_client_mismatch"


class TestServers:
    def test_unknown(self) -> None:
        assert decided(call(ADS, server="nothing")) == "server_unknown"
        assert decided(call(ADS, server=None)) == "server_unknown"

    @pytest.mark.parametrize(
        ("windows", "expected"),
        [
            ((), "server_not_approved"),
            ((Window(NOW + 1, NOW + 9),), "server_not_approved"),
            ((Window(0, NOW),), "review_expired"),
            ((Window(NOW, NOW + 1),), "allow"),
            ((Window(0, 5), Window(NOW - 1, NOW + 1)), "allow"),
        ],
    )
    @pytest.mark.parametrize("subject", ["server", "organization"])
    def test_in_force_is_judged_at_now(
        self, windows: tuple[Window, ...], expected: str, subject: str
    ) -> None:
        in_force = InForce("sha256:b", frozenset({"security"}), windows)
        world = (
            snapshot(server(in_force=in_force)) if subject == "server" else snapshot(organization=in_force)
        )
        assert reason(decide(world, call(ADS), NOW)) == expected


class TestGuardrails:
    def test_it_wins_over_every_rule_and_says_why(self) -> None:
        world = snapshot(server(guardrails=(guardrail(groups=frozenset({"ads"})),)))
        denied = decide(world, call(ADS), NOW)
        assert isinstance(denied, Deny)
        assert (denied.reason, denied.rule, denied.detail) == (reasons.GUARDRAIL, "fence", "because")

    @pytest.mark.parametrize(
        ("conditions", "expected"),
        [
            ({"surface_environment": frozenset({"dev"})}, "allow"),
            ({"surface_environment": frozenset({"prod", "dev"})}, "guardrail"),
            ({"surface_kind": frozenset({"mesh"})}, "allow"),
            ({"surface_kind": frozenset({"client"})}, "guardrail"),
            ({"caller": frozenset({"service"})}, "allow"),
            ({"caller": frozenset({"user"}), "groups": frozenset({"contractors"})}, "allow"),
            ({"caller": frozenset({"user"}), "groups": frozenset({"contractors", "ads"})}, "guardrail"),
            ({"surfaces": frozenset({"ide"})}, "guardrail"),
        ],
    )
    def test_keys_are_anded_and_items_ored(self, conditions: dict[str, object], expected: str) -> None:
        assert decided(call(ADS), guardrails=(guardrail(**conditions),)) == expected

    def test_one_about_a_tool_closes_that_tool_only(self) -> None:
        about = {"run_query": (guardrail(caller=frozenset({"user"})),)}
        assert decided(call(ADS), tool_guardrails=about) == "guardrail"
        assert decided(call(ADS, "list_tables"), tool_guardrails=about) == "allow"
        assert decided(call(ADS, method="tools/list", target=None), tool_guardrails=about) == "allow"

    def test_a_shadow_is_noted_and_never_enforced(self) -> None:
        shadow = replace(guardrail(), shadow=True)
        allowed = decide(snapshot(server(guardrails=(shadow,))), call(ADS), NOW)
        assert isinstance(allowed, Allow)
        assert [(s.id, s.would) for s in allowed.shadows] == [("fence", "deny")]


class TestAccess:
    def test_groups(self) -> None:
        denied = decide(snapshot(), call(caller("employees")), NOW)
        assert isinstance(denied, Deny)
        assert denied.reason is reasons.GROUP_NOT_ALLOWED
        assert denied.nearest_miss == "ads is what servers/presto.yaml:10 asks for"
        assert denied.groups_wanted == ("ads",)

    def test_a_surface_without_rules(self) -> None:
        assert decided(call(caller("ads", client="lab-client"))) == "surface_not_allowed"

    def test_channels(self) -> None:
        infra = caller("infra", client="chat-web", workload=CHAT)
        assert decided(call(infra, "list_tables", channel="C1")) == "allow"
        assert decided(call(infra, "list_tables", channel="C2")) == "channel_not_allowed"
        assert decided(call(infra, "list_tables")) == "channel_not_allowed"

    def test_a_channel_counts_only_from_the_surface_that_names_it(self) -> None:
        rule = replace(RULES[0], channels=frozenset({"spark-help"}))
        world = server((rule,))
        assert reason(decide(snapshot(world), call(ADS, channel="C1"), NOW)) == "channel_not_allowed"

    def test_tools(self) -> None:
        infra = caller("infra", client="chat-web", workload=CHAT)
        assert decided(call(infra, "run_query", channel="C1")) == "tool_not_in_rule"
        assert decided(call(infra, "nonsense", channel="C1")) == "tool_not_in_rule"
        assert decided(call(ADS, "nonsense")) == "tool_unknown"
        assert decided(call(ADS, "Run_Query")) == "tool_unknown"

    def test_the_rule_that_came_furthest_says_why(self) -> None:
        both = caller("infra", client="chat-web", workload=CHAT)
        denied = decide(snapshot(), call(both, channel="C1"), NOW)
        assert isinstance(denied, Deny)
        assert denied.rule == "channel"

    def test_services(self) -> None:
        assert decided(call(BOT_ALONE, "list_tables")) == "allow"
        assert decided(call(BOT_ALONE, "run_query")) == "tool_not_in_rule"

    def test_a_mesh_surface_without_its_user_is_asked_for_one(self) -> None:
        assert decided(call(CHAT_ALONE)) == "credentials_required"

    def test_a_service_rule_doesnt_count_for_a_user(self) -> None:
        open_to_services = replace(RULES[2], surfaces=frozenset({"ide"}), services=frozenset({"ide"}))
        assert reason(decide(snapshot(server((open_to_services,))), call(ADS, "list_tables"), NOW)) == (
            "surface_not_allowed"
        )

    def test_a_shadow_rule_is_noted(self) -> None:
        world = snapshot(server((replace(RULES[0], shadow=True),)))
        denied = decide(world, call(ADS), NOW)
        assert isinstance(denied, Deny)
        assert [(s.id, s.would) for s in denied.shadows] == [("analysts", "allow")]


class TestMethods:
    @pytest.mark.parametrize("method", ["initialize", "ping", "notifications/initialized", "GET", "DELETE"])
    def test_connecting_needs_a_rule_that_could_match(self, method: str) -> None:
        assert decided(call(ADS, method=method, target=None)) == "allow"
        assert decided(call(caller(), method=method, target=None)) == "group_not_allowed"

    @pytest.mark.parametrize(
        "method", ["Tools/call", "tools/call ", "tasks/get", "", "sampling/createMessage"]
    )
    def test_what_no_class_holds_is_refused(self, method: str) -> None:
        assert decided(call(ADS, method=method)) == "method_not_allowed"

    def test_listing_needs_a_user_unless_the_server_says_otherwise(self) -> None:
        listing = call(CHAT_ALONE, method="tools/list", target=None)
        assert decided(listing) == "listing_needs_user"
        assert decided(listing, listing_requires="surface") == "allow"
        assert decided(replace(listing, method="tools/call"), listing_requires="surface") != "allow"

    def test_resources_and_prompts_are_none_unless_said(self) -> None:
        for method, code in (("resources/read", "resource"), ("prompts/get", "prompt")):
            assert decided(call(ADS, method=method, target="x")) == f"{code}_not_allowed"
        rule = replace(RULES[0], resources=Selection(names=frozenset({"x"})), prompts=Selection(all=True))
        for method, target, expected in (
            ("resources/read", "x", "allow"),
            ("resources/read", "y", "resource_not_allowed"),
            ("resources/list", None, "allow"),
            ("prompts/get", "anything", "allow"),
        ):
            world = snapshot(server((rule,)))
            assert reason(decide(world, call(ADS, method=method, target=target), NOW)) == expected

    @pytest.mark.parametrize(
        ("version", "session", "who", "expected"),
        [
            ("2025-11-25", True, ADS, "allow"),
            (None, True, ADS, "allow"),
            ("2026-07-28", True, ADS, "method_not_allowed"),
            ("2027-01-01", True, ADS, "method_not_allowed"),
            ("2025-11-25", False, ADS, "method_not_allowed"),
            ("2025-11-25", True, BOT_ALONE, "method_not_allowed"),
        ],
    )
    def test_answers(self, version: str | None, session: bool, who: Caller, expected: str) -> None:
        request = call(who, method=ANSWER_METHOD, target=None, protocol_version=version, session=session)
        assert decided(request) == expected


class TestToolPolicies:
    def test_they_are_the_servers_business(self) -> None:
        assert decided(call(ADS, "revenue")) == "allow"
        assert decided(call(ADS, "revenue", point=Point.SERVER)) == "tool_group_required"
        assert decided(call(caller("ads", "ads-eng"), "revenue", point=Point.SERVER)) == "allow"

    def test_roles(self) -> None:
        writer = caller("ads", roles=frozenset({"table-writer"}))
        assert decided(call(ADS, "overwrite", point=Point.SERVER)) == "tool_role_required"
        assert decided(call(writer, "overwrite", point=Point.SERVER)) == "allow"

    def test_they_only_narrow(self) -> None:
        outsider = caller("ads-eng")
        assert decided(call(outsider, "revenue", point=Point.SERVER)) == "group_not_allowed"


groups = st.frozensets(st.sampled_from(["ads", "ads-eng", "infra", "employees", "contractors"]))
rules = st.lists(
    st.builds(
        AccessRule,
        id=st.just("r"),
        location=st.just(Location("servers/presto.yaml", 5)),
        surfaces=st.none() | st.frozensets(st.sampled_from(["ai-chat", "ide", "lab"]), min_size=1),
        groups=st.frozensets(st.sampled_from(["ads", "ads-eng", "infra"]), min_size=1),
        services=st.just(frozenset()),
        channels=st.frozensets(st.just("spark-help")),
        tools=st.builds(Selection, all=st.booleans(),
            names=st.frozensets(st.sampled_from(["list_tables", "revenue"]))),
    ),
    max_size=4,
)  # fmt: skip
requests = st.builds(
    Request,
    caller=st.builds(caller, client=st.sampled_from(["ide-plugin", "lab-client", "x"])).flatmap(
        lambda who: groups.map(lambda names: Caller(who.principal, names))
    ),
    server=st.sampled_from(["presto", "other", None]),
    method=st.sampled_from([*CLASSES, "x"]),
    target=st.sampled_from(["list_tables", "revenue", "nonsense", None]),
    channel=st.sampled_from(["C1", None]),
    point=st.sampled_from(Point),
)


@given(rules, requests)
def test_more_rules_never_take_away(some: list[AccessRule], request: Request) -> None:
    fewer = decide(snapshot(server(tuple(some[:-1]))), request, NOW)
    more = decide(snapshot(server(tuple(some))), request, NOW)
    assert not (isinstance(fewer, Allow) and isinstance(more, Deny))


@given(rules, requests)
def test_the_server_is_never_more_open_than_the_edge(some: list[AccessRule], request: Request) -> None:
    world = snapshot(server(tuple(some)))
    inside = decide(world, replace(request, point=Point.SERVER), NOW)
    edge = decide(world, replace(request, point=Point.EDGE), NOW)
    assert not (isinstance(inside, Allow) and isinstance(edge, Deny))


@given(rules, requests)
def test_an_allowed_call_is_of_a_tool_that_policy_names(some: list[AccessRule], request: Request) -> None:
    decision = decide(snapshot(server(tuple(some))), request, NOW)
    if isinstance(decision, Allow) and request.method == "tools/call":
        assert request.target in decision.server.tools
        rule = next(r for r in some if r.id == decision.rule)
        assert rule.groups & request.caller.groups or any(r.groups & request.caller.groups for r in some)


def test_next_change_is_the_first_edge_after_now() -> None:
    world = snapshot(server(in_force=replace(ALWAYS, windows=(Window(0, NOW + 50),))))
    assert world.next_change(NOW) == NOW + 10  # the group `beta` ends
    assert world.next_change(NOW + 10) == NOW + 50

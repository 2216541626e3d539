"""Envoy's RBAC is the wider of the two: what `decide` allows on the mesh, it allows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from identity.principal import Principal, User
from pdp.decide import decide
from pdp.model import Allow, Caller, Guardrail, Request
from tests.xds import factory
from xds.reach import mesh_reach, mesh_surfaces

RULES = st.lists(
    st.sampled_from(
        [
            factory.rule("chat", "ai-chat"),
            factory.rule("ide", "ide"),
            factory.rule("anyone"),
            factory.rule("reports", services=["report-bot"]),
        ]
    ),
    max_size=3,
)
SOME = st.none() | st.frozensets(st.sampled_from(["ai-chat", "report-bot", "ide"]), min_size=1)
GUARDRAILS = st.lists(
    st.builds(
        Guardrail,
        id=st.just("g"),
        location=st.just(factory.NOWHERE),
        why=st.just("because"),
        shadow=st.booleans(),
        surfaces=SOME,
        surface_kind=st.none() | st.just(frozenset({"mesh"})) | st.just(frozenset({"client"})),
        surface_environment=st.none() | st.just(frozenset({"prod"})) | st.just(frozenset({"dev"})),
        caller=st.none() | st.just(frozenset({"service"})) | st.just(frozenset({"user"})),
        groups=st.none() | st.just(frozenset({"contractors"})),
    ),
    max_size=2,
)
ALICE = User("sso", "alice", client="ai-chat-web")


@given(rules=RULES, guardrails=GUARDRAILS, with_user=st.booleans(), contractor=st.booleans())
def test_whatever_is_allowed_gets_through(
    rules: list[factory.AccessRule], guardrails: list[Guardrail], with_user: bool, contractor: bool
) -> None:
    server = factory.server("presto", rules, guardrails=guardrails)
    snapshot = factory.snapshot(server)
    reach = mesh_reach(server, mesh_surfaces(snapshot))
    groups = frozenset({"ads", "contractors"}) if contractor else frozenset({"ads"})
    for surface in (factory.AI_CHAT, factory.REPORT_BOT):
        user = ALICE if with_user and surface.user_clients else None
        caller = Caller(Principal(user, surface.spiffe), groups)
        decision = decide(snapshot, Request(caller, "presto", "tools/call", "t"), 1.0)
        if isinstance(decision, Allow):
            assert str(surface.spiffe) in reach


def test_a_surface_that_no_rule_names_is_out() -> None:
    server = factory.server("presto", [factory.rule("chat", "ai-chat")])
    assert mesh_reach(server, mesh_surfaces(factory.snapshot(server))) == {str(factory.AI_CHAT.spiffe)}


def test_a_surface_that_a_guardrail_shuts_out_is_out() -> None:
    guardrail = Guardrail("g", factory.NOWHERE, "why", surface_environment=frozenset({"prod"}))
    rules = [factory.rule("chat", "ai-chat"), factory.rule("reports", services=["report-bot"])]
    server = factory.server("presto", rules, guardrails=[guardrail])
    assert mesh_reach(server, mesh_surfaces(factory.snapshot(server))) == frozenset()


def test_surfaces_off_the_mesh_have_no_certificate_to_show() -> None:
    server = factory.server("presto", [factory.rule("ide", "ide")])
    assert mesh_reach(server, mesh_surfaces(factory.snapshot(server))) == frozenset()

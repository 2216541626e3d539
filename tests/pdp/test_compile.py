# ruff: noqa: E501 - one case a line
from __future__ import annotations

from identity.principal import Principal, SpiffeId, User
from pdp.compile import compile_proposals
from pdp.decide import decide, identify
from pdp.load import load_folder
from pdp.model import Allow, Caller, Decision, Deny, Point, Request, Snapshot
from tests.pdp.folder import NOW, PolicyFolder


def test_business_groups_are_indexed_by_what_makes_them(folder: PolicyFolder) -> None:
    index = folder.store().load().group_index["sso"]
    assert index.everyone == {"employees"}
    assert index.by_group["ads-eng"] == {"ads", "ads-eng"}
    assert index.by_group["fin-analytics"] == {"finance"}
    assert index.by_subject["00u1"] == {"churn-beta"}
    assert [group.name for group in index.by_claims] == ["contractors"]
    assert index.all_of == ()


def test_surfaces_are_found_by_what_they_are(folder: PolicyFolder) -> None:
    snapshot = folder.store().load()
    spiffe = SpiffeId.parse("spiffe://corp.example/ns/prod/sa/chat-bot")
    assert snapshot.surface_by_spiffe[spiffe].channels == {
        "C024BE91L": "airflow-support",
        "C0LAN2Q65": "spark-help",
    }
    assert snapshot.surface_by_client["sso", "ide-plugin"].name == "ide"
    assert ("sso", "chat-bot") not in snapshot.surface_by_client


def test_rules_are_indexed_by_surface(folder: PolicyFolder) -> None:
    snapshot = folder.store().load()
    presto, scratchpad = snapshot.servers["presto"], snapshot.servers["scratchpad"]
    assert [rule.id for rule in presto.rules_by_surface["ide"]] == ["analysts"]
    assert [rule.id for rule in presto.rules_by_surface["report-bot"]] == ["reports"]
    assert presto.rules[2].surfaces == presto.rules[2].services == {"report-bot"}
    assert scratchpad.rules_by_surface.keys() == snapshot.surfaces.keys()
    assert str(presto.rules[0].location) == "approved/servers/presto.yaml:14"
    assert str(presto.tools["run_query"].location) == "approved/servers/presto.yaml:29"


def test_a_rule_in_shadow_is_kept_apart(folder: PolicyFolder) -> None:
    folder.edit("servers/scratchpad.yaml", "tools: all}", "tools: all, mode: shadow}")
    scratchpad = folder.store().load().servers["scratchpad"]
    assert scratchpad.rules_by_surface == {}
    assert [rule.id for rule in scratchpad.shadow_rules_by_surface["notebook"]] == ["tinkerers"]


def test_guardrails_are_settled_as_far_as_server_and_tool_go(folder: PolicyFolder) -> None:
    servers = folder.store().load().servers
    assert [g.id for g in servers["presto"].guardrails] == ["no-contractors-in-presto"]
    assert [g.id for g in servers["scratchpad"].guardrails] == ["prod-not-to-experiments"]
    assert [g.id for g in servers["presto"].tool_guardrails["overwrite_table"]] == ["services-never-write", "services-low-risk"]  # fmt: skip
    assert "list_tables" not in servers["presto"].tool_guardrails


def test_what_is_proposed_can_be_looked_at_without_enforcing_it(folder: PolicyFolder) -> None:
    folder.edit("servers/presto.yaml", "id: analysts", "id: people")
    folder.write("servers/spark.yaml", "a: [")
    proposed = compile_proposals(load_folder(folder.root, folder.reviewers))
    assert proposed is not None
    assert proposed.servers["presto"].rules[0].id == "people"
    assert "spark" not in proposed.servers


EMPLOYED = {"employment": "employee"}


def caller(snapshot: Snapshot, *groups: str, client: str | None = "ide-plugin", surface: str | None = None,
           employment: str = "employee", roles: tuple[str, ...] = ()) -> Caller:  # fmt: skip
    user = User("sso", "u", client=client, groups=frozenset(groups), roles=frozenset(roles),
                claims={"employment": employment}) if client is not None else None  # fmt: skip
    workload = snapshot.surfaces[surface].spiffe if surface is not None else None
    return identify(snapshot, Principal(user, workload), NOW)


def call(snapshot: Snapshot, who: Caller, server: str, tool: str, channel: str | None = None) -> Decision:
    request = Request(who, server, "tools/call", tool, channel=channel, point=Point.SERVER)
    return decide(snapshot, request, NOW)


def reason(decision: Decision) -> str:
    return "allow" if isinstance(decision, Allow) else decision.reason.code


def test_the_shipped_policies_decide_as_they_say(folder: PolicyFolder) -> None:
    s = folder.store().load()
    bot = {"surface": "chat-bot", "client": "chat-bot"}
    alone = {"surface": "report-bot", "client": None}
    expected = [
        (caller(s, "ads-sales"), "presto", "run_query", None, "allow"),
        (caller(s, "ads-eng"), "presto", "get_revenue_metrics", None, "allow"),
        (caller(s, "ads-sales"), "presto", "get_revenue_metrics", None, "tool_group_required"),
        (caller(s, "hr"), "presto", "run_query", None, "group_not_allowed"),
        (caller(s, "ads-eng", employment="contractor"), "presto", "run_query", None, "guardrail"),
        (caller(s, "data-infra"), "presto", "overwrite_table", None, "tool_role_required"),
        (caller(s, "data-infra", roles=("table-writer",)), "presto", "overwrite_table", None, "allow"),
        (caller(s, "data-infra"), "presto", "drop_table", None, "tool_unknown"),
        (caller(s, **alone), "presto", "list_tables", None, "allow"),
        (caller(s, **alone), "presto", "run_query", None, "guardrail"),
        (caller(s, **alone), "spark", "list_applications", None, "surface_not_allowed"),
        (caller(s, "data-infra", **bot), "spark", "diagnose_failure", "C024BE91L", "allow"),
        (caller(s, "data-infra", **bot), "spark", "diagnose_failure", "C0LAN2Q65", "channel_not_allowed"),
        (caller(s, "data-infra", **bot), "spark", "diagnose_failure", None, "channel_not_allowed"),
        (caller(s, "data-infra", surface="ai-chat", client="ide-plugin"), "presto", "run_query", None, "surface_client_mismatch"),
        (caller(s, client="chat-bot"), "presto", "run_query", None, "surface_unknown"),
        (caller(s), "knowledge", "search", None, "allow"),
        (caller(s, "data-infra"), "airflow", "trigger_dag", None, "tool_role_required"),
        (caller(s, "ads-sales"), "airflow", "get_task_log", None, "tool_not_in_rule"),
        (caller(s, "data-infra"), "scratchpad", "read_note", None, "guardrail"),
        (caller(s, "data-infra", surface="notebook", client="notebook"), "scratchpad", "write_note", None, "allow"),
    ]  # fmt: skip
    for who, server, tool, channel, said in expected:
        decision = call(s, who, server, tool, channel)
        assert reason(decision) == said, (who, server, tool, decision)


def test_a_closed_server_tells_not_approved_from_expired(folder: PolicyFolder) -> None:
    snapshot = folder.store().load()
    who = caller(snapshot, "ads-eng")
    late = decide(snapshot, Request(who, "presto", "ping"), NOW + 365 * 86_400)
    assert isinstance(late, Deny)
    assert late.reason.code == "review_expired"
    (folder.root / "reviews/security/presto.yaml").unlink()
    closed = call(folder.store().load(), who, "presto", "run_query")
    assert reason(closed) == "server_not_approved"

"""Everything wrong with a folder is said at once, with its place and the nearest known name."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pdp.load import PolicyError, load_folder, problems_of
from pdp.schema import KINDS
from pdp.source import read
from tests.pdp.folder import PolicyFolder

PRESTO = "servers/presto.yaml"
ANALYSTS = "{id: analysts, surfaces: [ai-chat, ide], groups: [ads, finance, data-infra], tools: all}"


def test_the_shipped_policies_have_no_problems(folder: PolicyFolder) -> None:
    assert folder.errors() == []
    assert folder.closed() == []


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (PRESTO, "tools: all}", "toolz: all}", "servers/presto.yaml:13:82: unknown key 'toolz'; did you mean 'tools'?"),
        (PRESTO, "[ads, finance,", "[asd, finance,", "13:55: unknown group 'asd'; did you mean 'ads'?"),
        (PRESTO, "[ai-chat, ide]", "[ai-chat, ied]", "13:40: unknown surface 'ied'; did you mean 'ide'?"),
        (PRESTO, "policy: ads-eng-only", "policy: ads-eng-onyl", "unknown tool policy 'ads-eng-onyl'; did you mean"),
        (PRESTO, "    tools: [list_catalogs,", "    tools: [list_catalog,", "unknown tool 'list_catalog'; did you mean"),
        (PRESTO, "[spark-help]", "[sparkhelp]", "unknown channel 'sparkhelp' of chat-bot; did you mean 'spark-help'?"),
        (PRESTO, "[report-bot]", "[report-bto]", "unknown surface 'report-bto'; did you mean 'report-bot'?"),
        (PRESTO, "[report-bot]", "[ide]", "'ide' is a surface off the mesh: without a user's token nobody knows"),
        (PRESTO, ANALYSTS, "{id: analysts, surfaces: [ide], tools: all}", "says neither groups nor services"),
        (PRESTO, ANALYSTS, "{id: analysts, groups: [ads]}", "13:5: the key 'tools' is missing"),
        (PRESTO, ANALYSTS, "{id: analysts, groups: [], tools: all}", "13:28: an empty list; name at least one"),
        (PRESTO, ANALYSTS, "{id: analysts, groups: [ads], services: [report-bot], tools: all}", "says groups and services"),
        (PRESTO, ANALYSTS, "{id: analysts, groups: [ads, ads], tools: all}", "13:28: 'ads' is listed twice"),
        (PRESTO, ANALYSTS, "{id: reports, groups: [ads], tools: all}", "the id 'reports' stands here twice"),
        (PRESTO, ANALYSTS, "{id: analysts, groups: [no], tools: all}", "13:29: no is text to some readers of YAML"),
        (PRESTO, ANALYSTS, "{id: analysts, groups: ads, tools: all}", "13:28: expected a list"),
        (PRESTO, ANALYSTS, "{id: analysts, groups: [7], tools: all}", "13:29: expected text; quote it"),
        (PRESTO, ANALYSTS, "{id: Analysts, groups: [ads], tools: all}", "13:10: expected a name"),
        (PRESTO, ANALYSTS, "{id: analysts, groups: [ads], tools: any}", "expected 'all'"),
        (PRESTO, ANALYSTS, "{id: analysts, groups: [ads], tools: []}", "the rule 'analysts' grants nothing"),
        (PRESTO, "name: presto", "name: prezto", "the server is called 'prezto' and its file 'presto'"),
        (PRESTO, "lifecycle: production", "lifecycle: prod", "expected 'production' or 'experimental'"),
        (PRESTO, "risk: high, policy", "risk: high, confirm: approver, policy", "the key 'confirm' stands here twice"),
        (PRESTO, "confirm: caller", "confirm: approver", "an approver must be of some group; add approvers"),
        (PRESTO, "table-writers: {groups: [data-infra], roles: [table-writer]}", "table-writers: {}", "asks for nothing"),
        (PRESTO, "apiVersion: gatehouse/v1", "apiVersion: gatehouse/v2", "expected 'gatehouse/v1'"),
        ("org.yaml", "deny: {surface_environment: prod, server_lifecycle: experimental}", "deny: {}", "would forbid everything"),
        ("org.yaml", "groups: [contractors], servers: [presto]", "groups: [contractor], servers: [pesto]", "unknown server 'pesto'; did you mean 'presto'?"),
        ("org.yaml", "{issuer: sso}", "{issuer: ssso}", "unknown issuer 'ssso'; did you mean 'sso'?"),
        ("org.yaml", "{issuer: sso}", "{}", "holds everybody; name the issuer to mean every user of it"),
        ("org.yaml", "{any_of: [ads-eng]}", "{any_of: [ads-eng], users: [u]}", "a group is made in one way"),
        ("org.yaml", "    jwks_uri: https://sso.corp.example/jwks\n", "", "an issuer says one of jwks_uri, jwks_file"),
        ("org.yaml", "jwks_uri: https", "jwks_uri: http", "http:// is for loopback only"),
        ("org.yaml", "[RS256, ES256]", "[RS256, HS256]", "expected 'RS256', 'PS256', 'ES256', 'ES384' or 'EdDSA'"),
        ("org.yaml", "until: 2027-06-01T00:00:00Z", "until: 2027-06-01", "expected a time with its zone"),
        ("org.yaml", "why: The warehouse", "why: no people, no risk\n    x: The warehouse", "unknown key 'x'"),
        ("org.yaml", "{group}\n", "group\n", "expected an address with {group} in it"),
        ("surfaces.yaml", "    client: ide-plugin\n", "", "a surface says one of spiffe, client"),
        ("surfaces.yaml", "client: ide-plugin", "client: ai-chat-web", "ai-chat brings users of the client of ide over the mesh"),
        ("surfaces.yaml", "sa/report-bot", "sa/chat-bot", "chat-bot has the SPIFFE ID of report-bot already"),
        ("surfaces.yaml", "sa/report-bot", "sa/report-bot/..", "no '.' or '..' path segment"),
        ("surfaces.yaml", "spiffe://corp.example/ns/prod/sa/report-bot", "spiffe://other.example/bot", "unknown trust domain 'other.example'"),
        ("surfaces.yaml", "C0LAN2Q65", "C024BE91L", "two channels of chat-bot have the id 'C024BE91L'"),
        ("locks.yaml", "locks: []", "locks:\n  - {user: 00u7, until: 2026-12-24T00:00:00Z, why: x, by: y}", "names no user; the issuer's name"),
        ("locks.yaml", "locks: []", "locks:\n  - {server: presta, until: 2026-12-24T00:00:00Z, why: x, by: y}", "unknown server 'presta'; did you mean 'presto'?"),
        ("locks.yaml", "locks: []", "locks:\n  - {user: 'ss:u', until: 2026-12-24T00:00:00Z, why: x, by: y}", "unknown user's issuer 'ss'"),
        ("locks.yaml", "locks: []", "locks:\n  - {user: 'sso:u', token: t, until: 2026-12-24T00:00:00Z, why: x, by: y}", "a lock says one of"),
        ("reviews/security/presto.yaml", "expires: 2027-05-21", "expires: 2026-11-22", "an approval that ends before it begins"),
        ("reviews/security/presto.yaml", "digest: sha256:", "digest: sha1:", "expected sha256: and 64 hex digits"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(
    folder: PolicyFolder, file: str, old: str, new: str, said: str
) -> None:
    folder.edit(file, old, new)
    found = folder.errors()
    assert any(said in problem and problem.startswith(f"{file}:") for problem in found), found


def test_all_problems_of_a_folder_are_told_at_once(folder: PolicyFolder) -> None:
    folder.edit(PRESTO, "tools: all}", "toolz: all}")
    folder.edit(PRESTO, "[ads, finance,", "[asd, finance,")
    folder.edit("servers/spark.yaml", "[data-infra, ads-eng], tools: all}", "[data-infro], tools: all}")
    folder.edit("org.yaml", "valid_for: 180d", "valid_for: 180 days")
    folder.write("servers/trino.yml", "x")
    folder.write("reviews/security/spark.yaml", "[")
    files = [problem.split(":")[0] for problem in folder.errors()]
    assert set(files) == {
        "org.yaml", "servers/presto.yaml", "servers/spark.yaml", "servers/trino.yml", "reviews/security/spark.yaml",
    }  # fmt: skip
    assert files.count(PRESTO) == 3
    assert files == sorted(files)


def test_files_in_odd_places(folder: PolicyFolder) -> None:
    folder.write("servers/trino.yml", "x")
    folder.write("extra.yaml", "x")
    folder.write("servers/.presto.yaml.swp.yaml", "x")
    folder.write("servers/README.md", "x")
    folder.write("tests/case.yaml", "x")
    assert folder.errors() == [
        "extra.yaml:1:1: nothing reads a file here",
        "servers/trino.yml:1:1: nothing reads a file here; policy files end in .yaml",
    ]


def test_a_missing_file(folder: PolicyFolder) -> None:
    (folder.root / "org.yaml").unlink()
    assert folder.errors()[0] == "org.yaml:1:1: the file is missing"


def test_without_locks_nothing_is_locked(folder: PolicyFolder) -> None:
    (folder.root / "locks.yaml").unlink()
    assert folder.store().load().locks == {}


def test_a_server_may_not_take_the_name_of_another_subject(folder: PolicyFolder) -> None:
    text = folder.read("servers/scratchpad.yaml").replace("name: scratchpad", "name: organization")
    folder.write("servers/organization.yaml", text)
    assert any("no server may be called 'organization'" in problem for problem in folder.errors())


def test_an_org_that_does_not_parse_brings_no_complaints_about_its_names(folder: PolicyFolder) -> None:
    folder.write("org.yaml", "a: [")
    assert [problem.split(":")[0] for problem in folder.errors()] == ["org.yaml"]


def test_an_org_with_one_mistake_still_gives_its_names(folder: PolicyFolder) -> None:
    folder.edit("org.yaml", "valid_for: 180d", "valid_for: long")
    folder.edit(PRESTO, "[ads, finance,", "[asd, finance,")
    assert len(folder.errors()) == 2


def test_the_reviewers_file_is_judged_too(folder: PolicyFolder) -> None:
    folder.reviewers.write_text("apiVersion: gatehouse/v1\nkind: Reviewers\nreviewer: {}\n")
    assert "unknown key 'reviewer'; did you mean 'reviewers'?" in "\n".join(folder.errors())
    with pytest.raises(PolicyError, match="did you mean 'reviewers'"):
        folder.store().load()


MODELS = st.sampled_from(sorted(KINDS))


@given(MODELS, st.text(alphabet="ab: -[]{},'\"#&*!|\n0~.kindServer", max_size=120))
def test_no_yaml_makes_the_loader_fail(kind: str, text: str) -> None:
    source = read("f.yaml", text.encode(), KINDS[kind])
    assert source.problems
    assert source.model is None


KEYS = st.sampled_from(
    ["apiVersion", "kind", "name", "access", "tools", "tool_policies", "business_groups", "issuers", "surfaces",
     "guardrails", "deny", "groups", "id", "owner", "reviews", "locks", "approvals", "channels", "user"]
)  # fmt: skip
TREES = st.recursive(
    st.sampled_from(["Server", "Organization", "Surfaces", "Locks", "gatehouse/v1", "x", "all", "sso:u"])
    | st.integers(-5, 5)
    | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    tree=st.dictionaries(KEYS, TREES, min_size=1, max_size=6),
    kind=st.sampled_from(["Server", "Organization", "Surfaces", "Locks"]),
)
def test_no_tree_makes_a_folder_fail(folder: PolicyFolder, tree: dict[str, object], kind: str) -> None:
    import json

    text = json.dumps({**tree, "kind": kind, "apiVersion": "gatehouse/v1"})
    file = {
        "Server": "servers/x.yaml",
        "Organization": "org.yaml",
        "Surfaces": "surfaces.yaml",
        "Locks": "locks.yaml",
    }
    path = folder.root / file[kind]
    before = path.read_bytes() if path.exists() else None
    path.write_text(text)
    try:
        loaded = load_folder(folder.root, folder.reviewers)
        assert all(str(problem) for problem in problems_of(loaded, folder.reviewers))
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"org\.yaml:1:1: the file is missing"):
        PolicyFolder(tmp_path / "gone", tmp_path / "reviewers.yaml").store().load()

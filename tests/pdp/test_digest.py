from __future__ import annotations

import hashlib
import json
import random

import pytest
import rfc8785
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pdp.digest import canonical, organization_digest, server_digest
from pdp.schema import OrganizationFile, ServerFile, SurfacesFile
from pdp.source import read
from tests.pdp.folder import ROOT, PolicyFolder

PRESTO = (ROOT / "policies/servers/presto.yaml").read_text()


def digest(text: str) -> str:
    source = read("servers/presto.yaml", text.encode(), ServerFile)
    assert source.model is not None, source.problems
    return server_digest(source.model)


def test_the_digest_is_as_documented() -> None:
    """Independently: drop prose, drop defaults, sort sets, RFC 8785."""
    plain = yaml.safe_load(PRESTO)
    del plain["title"], plain["description"], plain["owner"], plain["listing_requires"]
    for rule in plain["access"]:
        for key in ("surfaces", "groups", "services", "channels", "tools"):
            if isinstance(rule.get(key), list):
                rule[key].sort()
    for tool in plain["tools"].values():
        del tool["minutes_saved"]
    expected = hashlib.sha256(b"gatehouse-policy-v1\n" + rfc8785.dumps(plain)).hexdigest()
    assert digest(PRESTO) == f"sha256:{expected}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("title: Presto", "title: The warehouse"),
        ("description: Query the warehouse.", "description: >\n  Another\n  text"),
        ("team: data-platform", "team: somebody-else"),
        ("minutes_saved: 30", "minutes_saved: 45.5"),
        ("listing_requires: user\n", ""),
        ("groups: [ads, finance, data-infra]", "groups: [finance, data-infra, ads]"),
        ("surfaces: [chat-bot]", "surfaces: ['chat-bot']"),
        ("apiVersion", "# a comment\napiVersion"),
        ("roles: [table-writer]", "roles:\n    - table-writer"),
    ],
)
def test_what_needs_no_review(old: str, new: str) -> None:
    text = PRESTO.replace(old, new)
    assert text != PRESTO
    if "\n    - " in new:
        text = text.replace(
            "  table-writers: {groups: [data-infra], roles:\n    - table-writer}",
            "  table-writers:\n    groups: [data-infra]\n    roles:\n    - table-writer",
        )
    assert digest(text) == digest(PRESTO)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("listing_requires: user", "listing_requires: surface"),
        ("groups: [ads, finance, data-infra]", "groups: [ads, finance]"),
        ("tools: all}", "tools: [run_query]}"),
        ("id: analysts", "id: analyst"),
        ("policy: ads-eng-only, ", ""),
        ("confirm: caller, ", ""),
        ("risk: high", "risk: medium"),
        ("roles: [table-writer]", "roles: [table-writers]"),
        ("environment: prod", "environment: dev"),
        ("tools: all}", "tools: all, mode: shadow}"),
        ("environment: prod", "environment: prod\nuses_genai: true"),
    ],
)
def test_what_needs_a_review(old: str, new: str) -> None:
    assert PRESTO.count(old) >= 1
    assert digest(PRESTO.replace(old, new, 1)) != digest(PRESTO)


def test_the_order_of_rules_is_part_of_it() -> None:
    plain = yaml.safe_load(PRESTO)
    plain["access"].reverse()
    assert digest(json.dumps(plain)) != digest(PRESTO)


def _shuffled(value: object, rng: random.Random, path: tuple[str, ...] = ()) -> object:
    """Keys in another order, sets in another order; lists that are no sets as they are."""
    if isinstance(value, dict):
        items = list(value.items())
        rng.shuffle(items)
        return {key: _shuffled(item, rng, (*path, key)) for key, item in items}
    if isinstance(value, list):
        if path in {("access",), ("issuers",), ("guardrails",)}:
            return [_shuffled(item, rng, path) for item in value]
        return rng.sample(value, len(value))
    return value


@given(st.randoms(use_true_random=False), st.text(max_size=30), st.text(max_size=30), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_stable_under_order_and_prose(rng: random.Random, title: str, team: str, minutes: int) -> None:
    plain = _shuffled(yaml.safe_load(PRESTO), rng)
    assert isinstance(plain, dict)
    plain |= {"title": title, "owner": {"team": team, "support": title}}
    plain["tools"]["run_query"]["minutes_saved"] = float(minutes)
    model = ServerFile.model_validate(plain)
    assert server_digest(model) == digest(PRESTO)


@given(st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_organizations_digest_is_stable_too(rng: random.Random) -> None:
    org = yaml.safe_load(
        (ROOT / "policies/org.yaml")
        .read_text()
        .replace("until: 2027-06-01T00:00:00Z", "until: '2027-06-01T02:00:00+02:00'")
    )
    surfaces = yaml.safe_load((ROOT / "policies/surfaces.yaml").read_text())
    surfaces["surfaces"]["ide"]["owner"] = "else"
    shuffled = organization_digest(
        OrganizationFile.model_validate(_shuffled(org, rng)),
        SurfacesFile.model_validate(_shuffled(surfaces, rng)),
    )
    line = (ROOT / "policies/approved/org.yaml").read_text().split("\n")[0]
    assert line == f"# approved {shuffled}"


def test_one_and_a_list_of_one_are_the_same() -> None:
    text = (ROOT / "policies/org.yaml").read_text()
    other = text.replace("surface_environment: prod,", "surface_environment: [prod],")
    assert text != other
    models = [read("org.yaml", t.encode(), OrganizationFile).model for t in (text, other)]
    assert models[0] is not None
    assert models[1] is not None
    assert canonical(models[0]) == canonical(models[1])


def test_where_the_folder_lies_is_no_part_of_the_snapshots_digest(folder: PolicyFolder) -> None:
    here = PolicyFolder(ROOT / "policies", ROOT / "envoy/reviewers.local.yaml").store().load()
    assert folder.store().load().digest == here.digest

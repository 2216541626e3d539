"""What is in force, and when: approvals, windows, altered copies, exemptions."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.load import PolicyError
from pdp.model import FOREVER, Server, Window
from pdp.review import intersect, union
from tests.pdp.folder import DAY, NOW, PolicyFolder

REVIEW = "reviews/security/presto.yaml"
COPY = "approved/servers/presto.yaml"


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def presto(folder: PolicyFolder) -> Server:
    return folder.store().load().servers["presto"]


def test_in_force_from_approval_to_expiry(folder: PolicyFolder) -> None:
    in_force = presto(folder).in_force
    assert in_force.windows == (Window(at("2026-11-22"), at("2027-05-21")),)
    assert in_force.required == {"security", "legal-privacy"}
    assert in_force.missing == frozenset()
    assert {a.approver for a in in_force.approvals} == {"dana@corp.example", "lee@corp.example"}
    assert not in_force.at(at("2026-11-22") - 1)
    assert in_force.at(at("2026-11-22"))
    assert not in_force.at(at("2027-05-21"))


def test_the_kinds_windows_are_intersected(folder: PolicyFolder) -> None:
    folder.edit(REVIEW, "expires: 2027-05-21", "expires: 2027-01-01")
    folder.edit("reviews/legal-privacy/presto.yaml", "approved: 2026-11-22", "approved: 2026-12-01")
    assert presto(folder).in_force.windows == (Window(at("2026-12-01"), at("2027-01-01")),)


def test_no_server_outlives_the_organizations_own_review(folder: PolicyFolder) -> None:
    folder.edit("reviews/security/organization.yaml", "expires: 2027-05-21", "expires: 2026-12-31")
    snapshot = folder.store().load()
    assert {s.in_force.windows[0].end for s in snapshot.servers.values()} == {at("2026-12-31")}


def test_revoking_ends_it(folder: PolicyFolder) -> None:
    folder.edit(REVIEW, "expires: 2027-05-21", "expires: 2027-05-21\n    revoked: 2026-11-23T06:00:00Z")
    in_force = presto(folder).in_force
    assert in_force.windows == (Window(at("2026-11-22"), NOW - 6 * 3600),)
    assert in_force.missing == frozenset()


def test_an_approval_is_cut_to_valid_for_and_told(folder: PolicyFolder) -> None:
    folder.edit(REVIEW, "expires: 2027-05-21", "expires: 2030-01-01")
    assert presto(folder).in_force.windows[0].end == at("2027-05-21")
    assert "longer than reviews.valid_for" in folder.closed()[0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("dana@corp.example", "dan@corp.example", "'dan@corp.example' is no reviewer; did you mean 'dana@corp.example'?"),
        ("dana@corp.example", "lee@corp.example", "'lee@corp.example' may not approve security"),
    ],
)  # fmt: skip
def test_an_approval_by_somebody_else_does_not_count(
    folder: PolicyFolder, old: str, new: str, said: str
) -> None:
    folder.edit(REVIEW, old, new)
    in_force = presto(folder).in_force
    assert in_force.windows == ()
    assert in_force.missing == {"security"}
    assert folder.closed() == [f"{REVIEW}:5:5: this approval doesn't count: {said}"]


def test_a_reviewer_who_left(folder: PolicyFolder) -> None:
    """What they approved before stands; nothing after does."""
    text = folder.reviewers.read_text()
    for until, missing in (("2026-11-23", set()), ("2026-11-22", {"legal-privacy"})):
        folder.reviewers.write_text(text.replace("[legal-privacy]", f"[legal-privacy], until: {until}"))
        assert presto(folder).in_force.missing == missing


def test_an_approval_of_another_digest_does_not_count(folder: PolicyFolder) -> None:
    folder.write(REVIEW, re.sub("sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, folder.read(REVIEW)))
    assert presto(folder).in_force.missing == {"security"}
    assert folder.closed() == []


def test_an_altered_copy_is_not_in_force(folder: PolicyFolder) -> None:
    folder.edit(COPY, "groups: [ads, finance, data-infra]", "groups: [employees]")
    server = presto(folder)
    assert server.in_force.windows == ()
    assert (server.rules, server.tools, server.rules_by_surface) == ((), {}, {})
    assert "the text is not the one that was approved" in folder.closed()[0]


@pytest.mark.parametrize(
    "line", ["", "# approved\n", "# approved sha256:00\n", " # approved sha256:" + "0" * 64 + "\n"]
)
def test_a_copy_without_its_first_line_is_not_in_force(folder: PolicyFolder, line: str) -> None:
    folder.write(COPY, line + folder.read(COPY).split("\n", 1)[1])
    assert presto(folder).in_force.windows == ()
    assert folder.closed()[0].startswith(f"{COPY}:1:1: an approved copy begins with the line")


@pytest.mark.parametrize("text", ["a: [", "kind: Server\n", ""])
def test_a_copy_that_is_no_policy_closes_its_server_alone(folder: PolicyFolder, text: str) -> None:
    folder.write(COPY, text)
    snapshot = folder.store().load()
    assert snapshot.servers["presto"].in_force.windows == ()
    assert snapshot.servers["presto"].support == "#presto-help"
    assert snapshot.servers["spark"].in_force.at(NOW)


def test_a_copy_under_another_servers_name_is_not_in_force(folder: PolicyFolder) -> None:
    folder.write("approved/servers/spark.yaml", folder.read(COPY))
    assert folder.store().load().servers["spark"].in_force.windows == ()
    assert "its file 'spark'" in "".join(folder.closed())


def test_prose_may_differ_and_is_read_from_the_proposal(folder: PolicyFolder) -> None:
    folder.edit("servers/presto.yaml", "title: Presto", "title: The warehouse")
    folder.edit(
        "servers/presto.yaml", "confirm: caller, minutes_saved: 30", "confirm: caller, minutes_saved: 31"
    )
    server = presto(folder)
    assert server.title == "The warehouse"
    assert server.tools["overwrite_table"].minutes_saved == 31
    assert server.in_force.at(NOW)


def test_an_unreviewed_edit_changes_nothing(folder: PolicyFolder) -> None:
    before = folder.store().load()
    folder.edit("servers/presto.yaml", "groups: [ads, finance, data-infra]", "groups: [employees]")
    folder.edit("servers/presto.yaml", "lifecycle: production", "lifecycle: experimental")
    folder.edit("org.yaml", "ads-eng:     {any_of: [ads-eng]}", "ads-eng:     {issuer: sso}")
    folder.edit("surfaces.yaml", "client: ide-plugin", "client: another")
    assert folder.store().load() == before


def test_without_a_copy_production_is_closed_and_an_experiment_runs(folder: PolicyFolder) -> None:
    (folder.root / COPY).unlink()
    snapshot = folder.store().load()
    assert snapshot.servers["presto"].in_force.windows == ()
    assert snapshot.servers["presto"].in_force.missing == {"security", "legal-privacy"}
    scratchpad = snapshot.servers["scratchpad"].in_force
    assert scratchpad.required == frozenset()
    assert scratchpad.windows == snapshot.organization.windows


def test_a_server_with_a_copy_is_never_exempt(folder: PolicyFolder) -> None:
    digest = folder.store().load().servers["scratchpad"].in_force.digest
    folder.write(
        "approved/servers/scratchpad.yaml", f"# approved {digest}\n" + folder.read("servers/scratchpad.yaml")
    )
    in_force = folder.store().load().servers["scratchpad"].in_force
    assert in_force.missing == {"security", "legal-privacy"}
    assert in_force.windows == ()


def test_genai_is_needed_where_a_server_says_so(folder: PolicyFolder) -> None:
    assert folder.store().load().servers["knowledge"].in_force.required == {
        "security",
        "legal-privacy",
        "genai",
    }
    (folder.root / "reviews/genai/knowledge.yaml").unlink()
    assert folder.store().load().servers["knowledge"].in_force.missing == {"genai"}
    folder.edit("servers/scratchpad.yaml", "environment: dev", "environment: dev\nuses_genai: true")
    assert folder.store().load().servers["scratchpad"].in_force.missing == {"genai"}


def test_a_name_that_the_organization_in_force_does_not_know_closes_the_server(folder: PolicyFolder) -> None:
    """An experiment runs from its proposal, which may use groups that are themselves only proposed."""
    folder.edit("org.yaml", "  churn-beta:", "  brand-new:   {users: [u]}\n  churn-beta:")
    folder.edit("servers/scratchpad.yaml", "[data-infra, churn-beta]", "[data-infra, brand-new]")
    assert folder.errors() == []
    assert folder.store().load().servers["scratchpad"].in_force.windows == ()
    assert "unknown group 'brand-new'" in folder.closed()[0]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("approved/org.yaml", "the organization was never approved"),
        ("approved/surfaces.yaml", "the organization was never approved"),
        ("reviews/security/organization.yaml", "the organization lacks an approval of sha256:"),
    ],
)
def test_without_an_approved_organization_there_is_no_policy(
    folder: PolicyFolder, file: str, said: str
) -> None:
    (folder.root / file).unlink()
    with pytest.raises(PolicyError, match=said):
        folder.store().load()


def test_an_altered_organization_is_no_policy(folder: PolicyFolder) -> None:
    folder.edit("approved/surfaces.yaml", "client: ide-plugin", "client: evil")
    with pytest.raises(PolicyError, match=r"approved/surfaces\.yaml:1:1: the text is not the one"):
        folder.store().load()


def test_a_server_no_longer_proposed_stays_and_is_told(folder: PolicyFolder) -> None:
    (folder.root / "servers/spark.yaml").unlink()
    server = folder.store().load().servers["spark"]
    assert server.in_force.at(NOW)
    assert server.title == "Spark"
    assert "spark is in force and no longer proposed" in folder.closed()[0]


def test_reviews_that_nothing_asks_for_are_told(folder: PolicyFolder) -> None:
    text = folder.read(REVIEW)
    folder.write("reviews/secruity/presto.yaml", text)
    folder.write("reviews/security/prestoo.yaml", text)
    said = "\n".join(folder.closed())
    assert "no text needs reviews of kind 'secruity'; did you mean 'security'?" in said
    assert "reviews of 'prestoo', which is no server; did you mean 'presto'?" in said


WINDOWS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 10)).map(lambda t: Window(t[0], t[0] + t[1])), max_size=5
)


@given(WINDOWS, WINDOWS)
def test_windows_are_sets_of_times(left: list[Window], right: list[Window]) -> None:
    both = intersect(union(left), union(right))
    for now in range(42):
        in_left, in_right = any(now in w for w in left), any(now in w for w in right)
        assert any(now in w for w in union(left)) == in_left
        assert any(now in w for w in both) == (in_left and in_right)
    assert all(a.end < b.start for a, b in itertools.pairwise(both))


def test_snapshots_know_when_they_next_change(folder: PolicyFolder) -> None:
    snapshot = folder.store().load()
    assert snapshot.next_change(NOW) == at("2027-05-21")
    assert snapshot.next_change(NOW + 365 * DAY) == FOREVER


def test_a_server_that_lost_its_copy_is_not_exempt_while_its_reviews_stand(folder: PolicyFolder) -> None:
    """Or deleting approved/servers/x.yaml and saying `experimental` would be a way around every review."""
    (folder.root / "approved/servers/presto.yaml").unlink()
    folder.edit("servers/presto.yaml", "lifecycle: production", "lifecycle: experimental")
    in_force = folder.store().load().servers["presto"].in_force
    assert in_force.required == {"security", "legal-privacy"}
    assert in_force.windows == ()


def test_an_approval_of_tomorrow_is_warned_about(folder: PolicyFolder) -> None:
    assert not [line for line in folder.warnings() if "future" in line]
    warned = [line for line in folder.warnings(NOW - 30 * DAY) if "dated in the future" in line]
    assert "an approval of presto" in "\n".join(warned)


def test_a_tool_that_destroys_unasked_is_warned_about(folder: PolicyFolder) -> None:
    folder.edit("servers/presto.yaml", "policy: table-writers, confirm: caller, ", "")
    assert [
        line for line in folder.warnings() if "overwrite_table" in line and "neither a policy nor" in line
    ]

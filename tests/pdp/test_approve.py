# ruff: noqa: E501 - one case a line
from __future__ import annotations

import threading

import pytest

from pdp.approve import ApprovalRefused, approve, promote
from pdp.load import PolicyError
from pdp.status import State, status
from tests.pdp.folder import DAY, NOW, PEOPLE, PolicyFolder


def edit(folder: PolicyFolder) -> None:
    folder.edit("servers/presto.yaml", "groups: [ads, finance, data-infra]", "groups: [finance, data-infra]")


def test_the_last_approval_missing_promotes(folder: PolicyFolder) -> None:
    edit(folder)
    store = folder.store()
    before = store.load()
    first = folder.approve("presto", "security")
    assert (first.promoted, first.missing) == (False, {"legal-privacy"})
    assert not store.poll() or store.snapshot is not before
    assert store.snapshot is not None
    assert store.snapshot.digest == before.digest
    second = folder.approve("presto", "legal-privacy")
    assert (second.promoted, second.missing) == (True, frozenset())
    assert store.poll()
    server = store.snapshot.servers["presto"]
    assert server.rules[0].groups == {"finance", "data-infra"}
    assert server.in_force.digest == second.digest
    assert second.until == NOW + 180 * DAY
    assert folder.read("approved/servers/presto.yaml") == (
        f"# approved {second.digest}\n" + folder.read("servers/presto.yaml")
    )
    assert folder.closed() == []


def test_what_was_in_a_review_file_stays(folder: PolicyFolder) -> None:
    before = folder.read("reviews/security/presto.yaml")
    folder.write("reviews/security/presto.yaml", before + "# a comment of dana's\n")
    folder.approve("presto", "security")
    after = folder.read("reviews/security/presto.yaml")
    assert after.startswith(before + "# a comment of dana's\n")
    assert after.count("\n") == before.count("\n") + 2


def test_the_organization_is_one_subject_of_two_files(folder: PolicyFolder) -> None:
    folder.edit("surfaces.yaml", "client: ide-plugin", "client: ide-2")
    store = folder.store()
    assert store.load().surfaces["ide"].client == "ide-plugin"
    done = folder.approve("organization", "security")
    assert done.promoted
    for file in ("org.yaml", "surfaces.yaml"):
        assert folder.read(f"approved/{file}").startswith(f"# approved {done.digest}\n")
    assert store.poll()
    assert store.snapshot is not None
    assert store.snapshot.surfaces["ide"].client == "ide-2"


def test_an_older_text_needs_its_own_approval_to_come_back(folder: PolicyFolder) -> None:
    original = folder.read("servers/presto.yaml")
    edit(folder)
    folder.approve("presto", "security", "legal-privacy")
    folder.write("servers/presto.yaml", original)
    store = folder.store()
    assert store.load().servers["presto"].rules[0].groups == {"finance", "data-infra"}
    # Its old approvals still hold, so one more of any kind is the last one missing.
    assert folder.approve("presto", "security").promoted
    assert store.poll()


@pytest.mark.parametrize(
    ("subject", "kind", "approver", "said"),
    [
        ("presto", "security", "mallory@corp.example", "'mallory@corp.example' is no reviewer"),
        ("presto", "security", "lee@corp.example", "'lee@corp.example' may not approve security"),
        ("presto", "genai", "kim@corp.example", "presto needs no review of kind 'genai'; it needs legal-privacy, security"),
        ("prest", "security", "dana@corp.example", "nothing called 'prest' is proposed; did you mean 'presto'?"),
        ("../presto", "security", "dana@corp.example", "nothing called '../presto' is proposed"),
        ("scratchpad", "security", "dana@corp.example", "scratchpad needs no review"),
        ("organization", "legal-privacy", "lee@corp.example", "it needs security"),
    ],
)  # fmt: skip
def test_refused(folder: PolicyFolder, subject: str, kind: str, approver: str, said: str) -> None:
    before = {path: path.read_bytes() for path in folder.root.rglob("*.yaml")}
    with pytest.raises(ApprovalRefused) as refused:
        approve(folder.root, folder.reviewers, subject, kind=kind, approver=approver, ticket="T", now=NOW)
    assert said in str(refused.value)
    assert {path: path.read_bytes() for path in folder.root.rglob("*.yaml")} == before


def test_a_reviewer_who_left_is_refused(folder: PolicyFolder) -> None:
    text = folder.reviewers.read_text()
    folder.reviewers.write_text(text.replace("[security]", "[security], until: 2026-11-23"))
    with pytest.raises(ApprovalRefused, match="was no reviewer any more"):
        folder.approve("presto", "security")


@pytest.mark.parametrize("days", [-1.0, 0.0, 181.0])
def test_an_approval_ends_within_valid_for(folder: PolicyFolder, days: float) -> None:
    with pytest.raises(ApprovalRefused, match=r"by 2027-05-22T12:00:00Z \(reviews.valid_for\)"):
        approve(
            folder.root, folder.reviewers, "presto", kind="security", approver=PEOPLE["security"],
            ticket="T", now=NOW, expires=NOW + days * DAY,
        )  # fmt: skip


@pytest.mark.parametrize("ticket", ["", "a\nb", "x" * 300, " padded "])
def test_a_ticket_is_a_line_of_text(folder: PolicyFolder, ticket: str) -> None:
    with pytest.raises(ApprovalRefused, match="ticket"):
        approve(
            folder.root, folder.reviewers, "presto", kind="security", approver=PEOPLE["security"], ticket=ticket, now=NOW
        )  # fmt: skip


@pytest.mark.parametrize("ticket", ['SEC-1, {"x": y}', "#1", "ü → 🙂", "no", "- a: b"])
def test_any_line_of_text_is_kept_exactly(folder: PolicyFolder, ticket: str) -> None:
    approve(
        folder.root, folder.reviewers, "presto", kind="security", approver=PEOPLE["security"], ticket=ticket, now=NOW
    )  # fmt: skip
    approvals = folder.store().load().servers["presto"].in_force.approvals
    assert ticket in {approval.ticket for approval in approvals}


def test_a_proposal_with_a_mistake_cannot_be_approved(folder: PolicyFolder) -> None:
    folder.edit("servers/presto.yaml", "[ads, finance, data-infra]", "[adz]")
    with pytest.raises(PolicyError, match="unknown group 'adz'"):
        folder.approve("presto", "security")


def test_a_mistake_elsewhere_does_not_hinder(folder: PolicyFolder) -> None:
    folder.write("servers/spark.yaml", "a: [")
    assert folder.approve("presto", "security").promoted


def test_a_server_waits_for_the_organization_that_it_needs(folder: PolicyFolder) -> None:
    folder.edit("org.yaml", "  churn-beta:", "  brand-new:   {users: [u]}\n  churn-beta:")
    folder.edit("servers/presto.yaml", "[ads, finance, data-infra]", "[brand-new]")
    with pytest.raises(PolicyError, match="unknown group 'brand-new'"):
        folder.approve("presto", "security")
    folder.approve("organization", "security")
    assert folder.approve("presto", "security", "legal-privacy").promoted


def test_the_organization_may_not_drop_what_a_server_in_force_uses(folder: PolicyFolder) -> None:
    folder.edit("org.yaml", "  finance:     {any_of: [fin-analytics]}\n", "")
    with pytest.raises(PolicyError, match=r"approved/servers/presto\.yaml:14:\d+: unknown group 'finance'"):
        folder.approve("organization", "security")


def test_the_bar_is_the_organizations_in_force_not_the_proposed(folder: PolicyFolder) -> None:
    folder.edit("org.yaml", "production: [security, legal-privacy]", "production: [security]")
    edit(folder)
    assert folder.approve("presto", "security").missing == {"legal-privacy"}


def test_two_reviewers_at_once(folder: PolicyFolder) -> None:
    """Each sees the other's approval or comes first; neither is lost, and the text is promoted."""
    edit(folder)
    together = threading.Barrier(2)
    done = []

    def one(kind: str) -> None:
        together.wait(timeout=10)
        done.append(folder.approve("presto", kind))

    threads = [threading.Thread(target=one, args=(kind,)) for kind in ("security", "legal-privacy")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(approved.promoted for approved in done) == [False, True]
    assert folder.store().load().servers["presto"].in_force.at(NOW)


def test_after_a_merge_of_two_branches_promote_is_enough(folder: PolicyFolder) -> None:
    edit(folder)
    folder.approve("presto", "security")
    theirs = folder.read("reviews/security/presto.yaml")
    folder.approve("presto", "legal-privacy")
    copy = folder.root / "approved/servers/presto.yaml"
    copy.write_text("# approved sha256:" + "0" * 64 + "\n")
    folder.write("reviews/security/presto.yaml", theirs)
    assert promote(folder.root, folder.reviewers, "presto", NOW).promoted
    assert folder.store().load().servers["presto"].in_force.at(NOW)


def test_promote_without_the_reviews_changes_nothing(folder: PolicyFolder) -> None:
    edit(folder)
    before = folder.read("approved/servers/presto.yaml")
    done = promote(folder.root, folder.reviewers, "presto", NOW)
    assert (done.promoted, done.missing, done.files) == (False, {"security", "legal-privacy"}, ())
    assert folder.read("approved/servers/presto.yaml") == before


def test_a_first_folder_is_approved_from_nothing(folder: PolicyFolder) -> None:
    import shutil

    for name in ("approved", "reviews"):
        shutil.rmtree(folder.root / name)
    with pytest.raises(PolicyError):
        folder.store().load()
    assert folder.approve("organization", "security").promoted
    assert folder.store().load().servers["presto"].in_force.windows == ()
    folder.approve("presto", "security", "legal-privacy")
    assert folder.store().load().servers["presto"].in_force.at(NOW)


def test_status(folder: PolicyFolder) -> None:
    edit(folder)
    folder.approve("presto", "security")
    found = {subject.subject: subject for subject in status(folder.root, folder.reviewers, NOW).subjects}
    presto = found["presto"]
    assert (presto.state, presto.differs, presto.proposal_missing) == (
        State.IN_FORCE,
        True,
        {"legal-privacy"},
    )
    assert [approval.kind for approval in presto.proposal_approvals] == ["security"]
    assert found["scratchpad"].state is State.EXEMPT
    assert found["organization"].state is State.IN_FORCE
    assert not found["spark"].differs
    later = {s.subject: s for s in status(folder.root, folder.reviewers, NOW + 365 * DAY).subjects}
    assert later["spark"].state is State.EXPIRED
    (folder.root / "approved/servers/spark.yaml").unlink()
    closed = {s.subject: s for s in status(folder.root, folder.reviewers, NOW).subjects}
    assert closed["spark"].state is State.NOT_APPROVED


def test_status_of_a_folder_that_cannot_be_enforced(folder: PolicyFolder) -> None:
    folder.write("servers/presto.yaml", "a: [")
    found = status(folder.root, folder.reviewers, NOW)
    assert found.snapshot is None
    assert found.problems
    assert {s.subject: s.state for s in found.subjects}["presto"] is State.IN_FORCE

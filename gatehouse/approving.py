"""`gatehouse policy approve`: one reviewer's word, for every kind of review that they may give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gatehouse.errors import Failure
from pdp import approve as approvals
from pdp.candidate import UnknownSubject, candidate_of
from pdp.load import ORGANIZATION, load_folder


@dataclass(frozen=True, slots=True)
class Approval:
    """What one person approves, as the command line says it. Times are seconds since the epoch."""

    subject: str
    """A server's name, or `organization`."""
    approver: str
    ticket: str
    now: float
    kinds: tuple[str, ...] = ()
    """Empty: every kind that the text needs and this reviewer may give."""
    expires: float | None = None
    """None: as late as policy lets."""


def approve(policies: Path, reviewers: Path, wanted: Approval) -> tuple[tuple[str, ...], approvals.Approved]:
    """Record the approvals; returns their kinds, and what the last one did.

    Raises:
        Failure: this person may not give any review that the text needs.
        ApprovalRefused, PolicyError, OSError: as `pdp.approve.approve` does.

    """
    kinds = wanted.kinds or _kinds(policies, reviewers, wanted)
    for kind in kinds:
        done = approvals.approve(
            policies,
            reviewers,
            wanted.subject,
            kind=kind,
            approver=wanted.approver,
            ticket=wanted.ticket,
            now=wanted.now,
            expires=wanted.expires,
        )
    return kinds, done


def _kinds(policies: Path, reviewers: Path, wanted: Approval) -> tuple[str, ...]:
    try:
        candidate = candidate_of(load_folder(policies, reviewers), reviewers, wanted.subject)
    except UnknownSubject as error:
        raise Failure(str(error)) from error
    people = candidate.reviewers.reviewers
    reviewer = people.get(wanted.approver)
    if reviewer is None:
        raise Failure(f"{wanted.approver} is no reviewer", f"reviewers are {', '.join(sorted(people))}")
    required = candidate.subject.required
    if not required:
        raise Failure(f"{wanted.subject} needs no review: it runs from its proposal")
    kinds = required & frozenset(reviewer.kinds)
    if not kinds:
        needs, may = ", ".join(sorted(required)), ", ".join(sorted(reviewer.kinds))
        raise Failure(f"{wanted.subject} needs {needs}, and {wanted.approver} may approve {may}")
    return tuple(sorted(kinds))


def subjects(policies: Path, reviewers: Path) -> tuple[str, ...]:
    """Everything that can be approved: the organization, and every proposed server."""
    return (ORGANIZATION, *sorted(load_folder(policies, reviewers).servers))

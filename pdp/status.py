"""What of a policy folder is in force, what is proposed, and which reviews lie between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pdp.candidate import Candidate, UnknownSubject, candidate_of
from pdp.compile import Compiler
from pdp.load import ORGANIZATION, Folder, load_folder, problems_of
from pdp.model import Approval, InForce, Snapshot
from pdp.problem import PolicyError, Problem
from pdp.review import judge


class State(StrEnum):
    """One subject's state at one time."""

    IN_FORCE = "in_force"
    EXEMPT = "exempt"
    """It runs from its proposal, because its lifecycle needs no review."""
    NOT_APPROVED = "not_approved"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class SubjectStatus:
    """One server, or the organization."""

    subject: str
    state: State
    digest: str
    """Of the text in force; of the text that would be, where none is."""
    until: float
    """When it stops being in force, in epoch seconds; `FOREVER` where no review ends, 0 while it isn't."""
    approvals: tuple[Approval, ...]
    """Those that hold it in force."""
    proposed: str | None
    """Digest of the proposal; None where there is none, or it is wrong."""
    proposal_approvals: tuple[Approval, ...]
    proposal_missing: frozenset[str]
    """Kinds that the proposal still needs. Empty with `differs`: it waits for `promote` alone."""
    problems: tuple[Problem, ...]
    """Why it is closed, and approvals that don't count."""

    @property
    def differs(self) -> bool:
        """Whether what is proposed is not what is in force."""
        return self.proposed is not None and self.proposed != self.digest


@dataclass(frozen=True, slots=True)
class Status:
    """A whole folder's."""

    snapshot: Snapshot | None
    """What would be enforced; None where the folder can't be."""
    subjects: tuple[SubjectStatus, ...]
    problems: tuple[Problem, ...]
    """Why the folder can't be enforced."""
    warnings: tuple[Problem, ...]


def status(root: Path, reviewers: Path, now: float) -> Status:
    """The state of a policy folder at a time, in epoch seconds. What is wrong is in the answer.

    Raises:
        OSError: a file can't be read.

    """
    folder = load_folder(root, reviewers)
    problems = problems_of(folder, reviewers)
    try:
        compiled = Compiler().compile(folder)
    except PolicyError as error:
        return Status(None, (), (*problems, *error.problems), ())
    snapshot = compiled.snapshot
    texts = [
        (ORGANIZATION, snapshot.organization),
        *((s.name, s.in_force) for s in snapshot.servers.values()),
    ]
    subjects = tuple(
        _subject(_candidate(folder, reviewers, name), name, in_force, compiled.warnings, now)
        for name, in_force in texts
    )
    return Status(None if problems else snapshot, subjects, tuple(problems), compiled.warnings)


def _subject(
    candidate: Candidate | None, name: str, in_force: InForce, warnings: Iterable[Problem], now: float
) -> SubjectStatus:
    waiting = (
        judge(candidate.subject, candidate.reviews, candidate.reviewers, candidate.valid_for).in_force
        if candidate is not None
        else None
    )
    given = tuple(a for a in waiting.approvals if now in a.window) if waiting is not None else ()
    return SubjectStatus(
        subject=name,
        state=_state(in_force, now),
        digest=in_force.digest,
        until=next((window.end for window in in_force.windows if now in window), 0.0),
        approvals=tuple(a for a in in_force.approvals if now in a.window),
        proposed=candidate.subject.digest if candidate is not None else None,
        proposal_approvals=given,
        proposal_missing=(waiting.required if waiting is not None else frozenset()) - {a.kind for a in given},
        problems=tuple(w for w in warnings if _concerns(w, name)),
    )


def _candidate(folder: Folder, reviewers: Path, name: str) -> Candidate | None:
    try:
        return candidate_of(folder, reviewers, name)
    except (PolicyError, UnknownSubject):
        return None


def _state(in_force: InForce, now: float) -> State:
    if in_force.at(now):
        return State.IN_FORCE if in_force.required else State.EXEMPT
    lapsed = any(window.end <= now for window in in_force.windows)
    return State.EXPIRED if lapsed else State.NOT_APPROVED


def _concerns(problem: Problem, name: str) -> bool:
    file = problem.location.file
    if name == ORGANIZATION:
        return file in ("approved/org.yaml", "approved/surfaces.yaml") or file.endswith(f"/{name}.yaml")
    return file.endswith(f"/{name}.yaml")

"""Which reviewed text is in force, and when: approvals, the kinds that are needed, windows of time.

An approval counts for one digest, when a reviewer of its kind made it, from `approved` until it expires or is
revoked. A text is in force while every kind it needs has one. Nothing here reads a clock: what depends on the
time is a window, and `decide` looks whether `now` lies in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from pdp.model import FOREVER, Approval, InForce, Window
from pdp.problem import Problem, quoted, suggest
from pdp.schema import ApprovalPart, OrganizationFile, ReviewersFile, ReviewsFile, ServerFile
from pdp.signature import verified
from pdp.source import Source

ORGANIZATION_KINDS = frozenset({"security"})
GENAI = "genai"

ALWAYS = (Window(0.0, FOREVER),)

Reviews = Mapping[str, Source[ReviewsFile]]
"""One subject's review files by kind."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A text under review: its server's name or `organization`, its digest, the kinds that it needs."""

    name: str
    digest: str
    required: frozenset[str]


@dataclass(frozen=True, slots=True)
class Judged:
    """When a digest is in force, and what was wrong with approvals that would have counted for it."""

    in_force: InForce
    warnings: tuple[Problem, ...] = ()


def required_kinds(organization: OrganizationFile, server: ServerFile, *, reviewed: bool) -> frozenset[str]:
    """The kinds of review that a server's text needs.

    A server that was reviewed once is never exempt: where its lifecycle asks for nothing, what production
    needs is needed.
    """
    required = organization.reviews.required
    kinds = frozenset(required.get(server.lifecycle, required["production"]))
    if reviewed and not kinds:
        kinds = frozenset(required["production"]) or ORGANIZATION_KINDS
    return kinds | {GENAI} if server.uses_genai else kinds


def known_kinds(organization: OrganizationFile) -> frozenset[str]:
    """Every kind of review that anything may need."""
    return ORGANIZATION_KINDS.union({GENAI}, *organization.reviews.required.values())


def judge(subject: Subject, reviews: Reviews, reviewers: ReviewersFile, valid_for: int) -> Judged:
    """When the subject's text is in force by these reviews. `valid_for` is in seconds."""
    approvals: list[Approval] = []
    warnings: list[Problem] = []
    windows: tuple[Window, ...] = ALWAYS
    for kind in sorted(subject.required):
        source = reviews.get(kind)
        found = list(_counted(subject, kind, source, reviewers, valid_for)) if source is not None else []
        approvals += [item for item in found if isinstance(item, Approval)]
        warnings += [item for item in found if isinstance(item, Problem)]
        windows = intersect(windows, union(a.window for a in approvals if a.kind == kind))
    missing = subject.required - {approval.kind for approval in approvals}
    in_force = InForce(subject.digest, subject.required, windows, tuple(approvals), missing)
    return Judged(in_force, tuple(warnings))


def unapproved(digest: str, required: frozenset[str]) -> InForce:
    """A text that isn't in force, whatever approvals there may be."""
    return InForce(digest, required, (), (), required)


def _counted(
    subject: Subject, kind: str, source: Source[ReviewsFile], reviewers: ReviewersFile, valid_for: int
) -> Iterator[Approval | Problem]:
    """The approvals of this text that count, and why others of it don't."""
    for index, approval in enumerate(source.model.approvals if source.model is not None else ()):
        if approval.digest != subject.digest:
            continue
        location = source.at("approvals", index)
        wrong = why_not(subject.name, kind, approval, reviewers)
        if wrong is not None:
            yield Problem(location, f"this approval doesn't count: {wrong[0]}", wrong[1])
            continue
        longest = approval.approved.timestamp() + valid_for
        if approval.expires.timestamp() > longest:
            yield Problem(location, "an approval longer than reviews.valid_for ends with that")
        window = _window(approval, longest)
        if window is not None:
            yield Approval(kind, approval.ticket, approval.approver, window, location)


def why_not(
    subject: str, kind: str, approval: ApprovalPart, reviewers: ReviewersFile
) -> tuple[str, str | None] | None:
    """Why an approval doesn't count, and a hint; None where it counts."""
    reviewer = reviewers.reviewers.get(approval.approver)
    name = quoted(approval.approver)
    if reviewer is None:
        hint = suggest(approval.approver, reviewers.reviewers)
        return f"{name} is no reviewer", hint
    if kind not in reviewer.kinds:
        return f"{name} may not approve {kind}", None
    if reviewer.until is not None and approval.approved >= reviewer.until:
        return f"{name} was no reviewer any more", None
    if (reviewers.require_signatures or approval.signature) and not verified(
        subject, kind, approval, reviewer.keys
    ):
        what = "doesn't verify with a key" if approval.signature else "is missing"
        return f"the signature of {name} {what}", None
    return None


def _window(approval: ApprovalPart, longest: float) -> Window | None:
    ends = [_seconds(approval.expires), longest]
    if approval.revoked is not None:
        ends.append(_seconds(approval.revoked))
    start, end = _seconds(approval.approved), min(ends)
    return Window(start, end) if start < end else None


def _seconds(time: datetime) -> float:
    return time.timestamp()


def union(windows: Iterable[Window]) -> tuple[Window, ...]:
    """The windows' union, as few windows as can be, in order."""
    merged: list[Window] = []
    for window in sorted(windows, key=lambda w: (w.start, w.end)):
        if merged and window.start <= merged[-1].end:
            merged[-1] = Window(merged[-1].start, max(merged[-1].end, window.end))
        else:
            merged.append(window)
    return tuple(merged)


def intersect(left: tuple[Window, ...], right: tuple[Window, ...]) -> tuple[Window, ...]:
    """The times in both of two unions."""
    both = (Window(max(a.start, b.start), min(a.end, b.end)) for a in left for b in right)
    return union(window for window in both if window.start < window.end)


def strangers(
    reviews: Mapping[str, Reviews], subjects: Iterable[str], organization: OrganizationFile
) -> Iterator[Problem]:
    """Review files of kinds or subjects that nothing asks for: by a slip of the name they count nowhere."""
    names, kinds = frozenset(subjects), known_kinds(organization)
    for subject, by_kind in reviews.items():
        for kind, source in by_kind.items():
            if subject not in names:
                message = f"reviews of {quoted(subject)}, which is no server"
                yield Problem(source.at(), message, suggest(subject, names))
            if kind not in kinds:
                yield Problem(
                    source.at(), f"no text needs reviews of kind {quoted(kind)}", suggest(kind, kinds)
                )

"""Recording a review, and putting a text in force once it has every review it needs.

The only writer of `reviews/` and `approved/`. Everything is checked before anything is written; files change
one at a time and whole, the review first: a crash between leaves the old text in force.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from pdp.atomic import exclusively, write
from pdp.candidate import Candidate, UnknownSubject, candidate_of
from pdp.listing import NoListError, appended, flow
from pdp.load import Folder, load_folder, real_root
from pdp.model import InForce
from pdp.problem import PolicyError
from pdp.review import judge, why_not
from pdp.schema import ApprovalPart, ReviewsFile
from pdp.signature import sign
from pdp.source import Source, read

_NEW = """\
# yaml-language-server: $schema=../../../docs/schema/reviews.json
apiVersion: gatehouse/v1
kind: Reviews
approvals: []
"""


class ApprovalRefused(Exception):
    """An approval that can't be given; the message is for the person who tried."""


@dataclass(frozen=True, slots=True)
class Approved:
    """What an approval, or a promotion, did."""

    subject: str
    digest: str
    promoted: bool
    """Whether the text approved is in force now."""
    missing: frozenset[str]
    """Kinds of review that are still needed."""
    until: float
    """When the first of its reviews ends, in seconds since the epoch; 0 while it isn't in force."""
    files: tuple[Path, ...]
    """The files written."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One reviewer's word. `expires` is by default as late as policy lets it be; times are epoch seconds."""

    kind: str
    approver: str
    ticket: str
    expires: float | None = None
    key: Path | None = None
    """An SSH key to sign with: private, or public where an agent holds the private one."""


def approve(
    root: Path,
    reviewers: Path,
    subject: str,
    *,
    kind: str,
    approver: str,
    ticket: str,
    now: float,
    expires: float | None = None,
    key: Path | None = None,
) -> Approved:
    """Record one approval of what is proposed now, and promote it when that was the last one missing.

    `subject` is a server's name or `organization`.

    Raises:
        ApprovalRefused: this person may not approve this, or there is nothing of that name to approve.
        PolicyError: the proposal is wrong, or would be once in force.
        SigningFailed: `key` can't be signed with.
        OSError: the folder can't be read or written.

    """
    grant = Grant(kind, approver, ticket, expires, key)
    real = Path(real_root(root))
    with exclusively(real):
        folder = load_folder(real, reviewers)
        candidate = _candidate(folder, reviewers, subject)
        texts = _texts(real, candidate)
        review = real / "reviews" / kind / f"{subject}.yaml"
        text = _with_approval(candidate, grant, _current(review), now)
        write(review, text)
        reviews = {**candidate.reviews, kind: read(str(review), text.encode(), ReviewsFile)}
        done = _promote(real, candidate, texts, reviews, now)
        return replace(done, files=(review, *done.files))


def promote(root: Path, reviewers: Path, subject: str, now: float) -> Approved:
    """Put a proposal in force that has all of its approvals, as after a merge of two reviewers' branches.

    Raises:
        ApprovalRefused, PolicyError, OSError: as `approve` does.

    """
    real = Path(real_root(root))
    with exclusively(real):
        candidate = _candidate(load_folder(real, reviewers), reviewers, subject)
        return _promote(real, candidate, _texts(real, candidate), candidate.reviews, now)


def _candidate(folder: Folder, reviewers: Path, subject: str) -> Candidate:
    try:
        candidate = candidate_of(folder, reviewers, subject)
    except UnknownSubject as error:
        raise ApprovalRefused(str(error)) from error
    if not candidate.subject.required:
        raise ApprovalRefused(f"{subject} needs no review: it runs from its proposal")
    return candidate


def _texts(real: Path, candidate: Candidate) -> dict[str, str]:
    """The proposal's files, exactly as they were when the digest was made of them."""
    texts = {}
    for source in candidate.sources:
        data = (real / source.file).read_bytes()
        if hashlib.sha256(data).digest() != source.text_digest:
            raise ApprovalRefused(f"{source.file} was changed just now; read it again before approving it")
        texts[source.file] = data.decode("utf-8")
    return texts


def _current(review: Path) -> str:
    try:
        return review.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return _NEW


def _with_approval(candidate: Candidate, grant: Grant, before: str, now: float) -> str:
    """The review file with one approval more."""
    subject = candidate.subject
    if grant.kind not in subject.required:
        needed = ", ".join(sorted(subject.required))
        raise ApprovalRefused(f"{subject.name} needs no review of kind {grant.kind!r}; it needs {needed}")
    approval, pairs = _approval(candidate, grant, now)
    wrong = why_not(subject.name, grant.kind, approval, candidate.reviewers)
    if wrong is not None:
        raise ApprovalRefused("; ".join(part for part in wrong if part))
    try:
        text = appended(before, "approvals", flow(pairs))
    except NoListError as error:
        raise ApprovalRefused(f"reviews/{grant.kind}/{subject.name}.yaml has no list of approvals") from error
    written = read(f"reviews/{grant.kind}/{subject.name}.yaml", text.encode(), ReviewsFile)
    if written.model is None:
        raise PolicyError(written.problems)
    if written.model.approvals[-1] != approval:
        raise ApprovalRefused(
            f"{written.file} can't be added to; write 'approvals:' as a list of one item a line"
        )
    return text


def _approval(candidate: Candidate, grant: Grant, now: float) -> tuple[ApprovalPart, dict[str, str]]:
    latest = int(now) + candidate.valid_for
    expires = latest if grant.expires is None else int(grant.expires)
    if not now < expires <= latest:
        raise ApprovalRefused(
            f"an approval ends after now, and by {_time(latest)} (reviews.valid_for); not {_time(expires)}"
        )
    pairs = {
        "digest": candidate.subject.digest,
        "ticket": grant.ticket,
        "approver": grant.approver,
        "approved": _time(int(now)),
        "expires": _time(expires),
    }
    try:
        approval = ApprovalPart.model_validate(pairs)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ApprovalRefused(f"{first['loc'][0]}: {first['msg']}") from error
    if grant.key is not None:
        pairs["signature"] = sign(candidate.subject.name, grant.kind, approval, grant.key)
    return ApprovalPart.model_validate(pairs), pairs


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _promote(
    real: Path,
    candidate: Candidate,
    texts: Mapping[str, str],
    reviews: Mapping[str, Source[ReviewsFile]],
    now: float,
) -> Approved:
    """Write the approved copies if every review is there."""
    judged = judge(candidate.subject, reviews, candidate.reviewers, candidate.valid_for).in_force
    missing = _missing(judged, now)
    written: list[Path] = []
    if not missing:
        for file, text in texts.items():
            copy = real / "approved" / file
            write(copy, f"# approved {candidate.subject.digest}\n{text}")
            written.append(copy)
    return Approved(
        subject=candidate.subject.name,
        digest=candidate.subject.digest,
        promoted=not missing,
        missing=missing,
        until=next((window.end for window in judged.windows if now in window), 0.0),
        files=tuple(written),
    )


def _missing(judged: InForce, now: float) -> frozenset[str]:
    """Kinds without an approval that counts now."""
    given = {approval.kind for approval in judged.approvals if now in approval.window}
    return judged.required - given

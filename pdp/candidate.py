"""What stands to be approved: a proposal, what it is judged by, and whether it could be in force at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pdp.digest import organization_digest, server_digest
from pdp.load import ORGANIZATION, Folder, misnamed, proposed_names, server_names, shared_identities_of
from pdp.model import Location
from pdp.names import Definitions, unknown
from pdp.problem import PolicyError, Problem, quoted, suggest
from pdp.review import ORGANIZATION_KINDS, Reviews, Subject, required_kinds
from pdp.schema import OrganizationFile, PolicyFile, ReviewersFile
from pdp.source import Source


class UnknownSubject(Exception):
    """Nothing of this name is proposed."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposal without problems."""

    subject: Subject
    sources: tuple[Source[PolicyFile], ...]
    """Its files, as they were read."""
    valid_for: int
    """Longest approval, in seconds."""
    reviews: Reviews
    reviewers: ReviewersFile


def candidate_of(folder: Folder, reviewers: Path, subject: str) -> Candidate:
    """The proposal of this name.

    Raises:
        UnknownSubject: there is none.
        PolicyError: it is wrong, or would be once in force.

    """
    if folder.reviewers is None or folder.reviewers.model is None:
        missing = Problem(Location(str(reviewers), 1), "the file is missing")
        raise PolicyError(folder.reviewers.problems if folder.reviewers is not None else (missing,))
    judges = folder.reviewers.model
    reviews = folder.reviews.get(subject, {})
    broken = [problem for source in reviews.values() for problem in source.problems]
    if broken:
        raise PolicyError(broken)
    if subject == ORGANIZATION:
        digest, required, sources, valid_for = _organization(folder)
    else:
        digest, required, sources, valid_for = _server(folder, subject)
    return Candidate(Subject(subject, digest, required), sources, valid_for, reviews, judges)


_Parts = tuple[str, frozenset[str], tuple[Source[PolicyFile], ...], int]


def _organization(folder: Folder) -> _Parts:
    org, surfaces = folder.organization, folder.surfaces
    if org is None or surfaces is None:
        missing = "org.yaml" if org is None else "surfaces.yaml"
        raise PolicyError([Problem(Location(missing, 1), "the file is missing")])
    known = proposed_names(folder)
    problems = [*org.problems, *surfaces.problems, *_unknown((org, surfaces), known)]
    problems += shared_identities_of(folder)
    # A server in force must not lose a name that it uses: it would be closed by somebody else's approval.
    problems += _unknown(folder.approved_servers.values(), known)
    if problems or org.model is None or surfaces.model is None:
        raise PolicyError(problems)
    digest = organization_digest(org.model, surfaces.model)
    return digest, ORGANIZATION_KINDS, (org, surfaces), org.model.reviews.valid_for


def _server(folder: Folder, name: str) -> _Parts:
    source = folder.servers.get(name)
    if source is None:
        hint = suggest(name, {*folder.servers, ORGANIZATION})
        raise UnknownSubject(f"nothing called {quoted(name)} is proposed" + (f"; {hint}" if hint else ""))
    organization, known = _judged_by(folder)
    problems = [*source.problems, *misnamed(name, source), *_unknown((source,), known)]
    if problems or source.model is None or organization is None:
        raise PolicyError(problems)
    reviewed = name in folder.approved_servers or name in folder.reviews
    required = required_kinds(organization, source.model, reviewed=reviewed)
    return server_digest(source.model), required, (source,), organization.reviews.valid_for


def _judged_by(folder: Folder) -> tuple[OrganizationFile | None, Definitions]:
    """The organization in force; before the first there is only the one that is proposed."""
    org, surfaces = folder.approved_organization, folder.approved_surfaces
    if org is not None and surfaces is not None and org.model is not None and surfaces.model is not None:
        return org.model, org.defines | surfaces.defines | server_names(folder)
    if folder.organization is None or folder.organization.model is None:
        broken = folder.organization.problems if folder.organization is not None else ()
        raise PolicyError(broken or [Problem(Location("org.yaml", 1), "the file is missing")])
    return folder.organization.model, proposed_names(folder)


def _unknown(sources: Iterable[Source[PolicyFile]], known: Definitions) -> Iterator[Problem]:
    for source in sources:
        for problem in unknown(source.references, known, source.defines):
            hint = (
                "has the organization that knows it been approved?" if problem.hint is None else problem.hint
            )
            yield Problem(problem.location, problem.message, hint)

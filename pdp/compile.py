"""A parsed folder to the snapshot that is enforced.

Only what is in force is compiled: the approved copies, checked against their digests, their approvals and the
names that the organization in force knows; and proposals of servers that need no review. A server whose text
isn't in force is in the snapshot with nothing granted, so that its callers are told why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from pdp.compile_organization import CompiledOrganization, compile_locks, compile_organization
from pdp.compile_server import compile_server
from pdp.digest import digest_of_lines, organization_digest, server_digest
from pdp.load import ORGANIZATION, Folder, misnamed
from pdp.model import InForce, Location, Lock, Server, Snapshot
from pdp.names import Definitions, unknown
from pdp.problem import PolicyError, Problem
from pdp.review import (
    ALWAYS,
    GENAI,
    ORGANIZATION_KINDS,
    Reviews,
    Subject,
    intersect,
    judge,
    known_kinds,
    required_kinds,
    strangers,
    unapproved,
)
from pdp.schema import OrganizationFile, PolicyFile, ReviewersFile, ServerFile
from pdp.source import Source

APPROVED_LINE = re.compile(r"# approved (sha256:[0-9a-f]{64})\s*")
"""First line of an approved copy."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A snapshot, and what is wrong beside it: a server that is closed, an approval that does not count."""

    snapshot: Snapshot
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Basis:
    """What every server is compiled against. One object per organization and set of reviewers: its identity
    is part of each cached server's key.
    """

    file: OrganizationFile
    compiled: CompiledOrganization
    names: Definitions
    in_force: InForce
    reviewers: ReviewersFile
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Texts:
    """All that a server's state depends on besides the basis."""

    name: str
    proposal: Source[ServerFile] | None
    copy: Source[ServerFile] | None
    reviews: Reviews

    @property
    def candidate(self) -> Source[ServerFile]:
        """The text that would be in force."""
        text = self.copy or self.proposal
        if text is None:
            raise ValueError(f"{self.name} has no text")
        return text


_Key = tuple[object, ...]


@dataclass(slots=True)
class Compiler:
    """Compiles folders one after another, each time only what changed. Not for several threads at once."""

    _basis: tuple[_Key, _Basis] | None = None
    _servers: dict[str, tuple[_Key, Server, tuple[Problem, ...]]] = field(default_factory=dict)
    compiled: int = 0
    """How many servers were compiled so far, for tests and metrics."""

    def compile(self, folder: Folder) -> Compiled:
        """The snapshot of a folder whose proposals are without problems (`pdp.load.problems_of`).

        Raises:
            PolicyError: the organization was never approved as it stands in `approved/`.

        """
        basis = self._based_on(folder)
        servers: dict[str, Server] = {}
        warnings = list(basis.warnings)
        for name in sorted({*folder.servers, *folder.approved_servers}):
            servers[name], wrong = self._server(basis, folder, name)
            warnings += wrong
        for gone in self._servers.keys() - servers.keys():
            del self._servers[gone]
        subjects = (ORGANIZATION, *servers)
        warnings += strangers(folder.reviews, subjects, basis.file)
        snapshot = _built(basis.compiled, basis.in_force, servers, compile_locks(folder.locks))
        return Compiled(snapshot, tuple(warnings))

    def _based_on(self, folder: Folder) -> _Basis:
        reviews = folder.reviews.get(ORGANIZATION, {})
        key = _identity(
            folder.approved_organization, folder.approved_surfaces, folder.reviewers, *_files(reviews)
        )
        if self._basis is None or not _same(self._basis[0], key):
            self._basis = (key, _organization(folder, reviews))
        return self._basis[1]

    def _server(self, basis: _Basis, folder: Folder, name: str) -> tuple[Server, tuple[Problem, ...]]:
        reviews = folder.reviews.get(name, {})
        texts = _Texts(name, folder.servers.get(name), folder.approved_servers.get(name), reviews)
        key = _identity(basis, texts.proposal, texts.copy, *_files(reviews))
        known = self._servers.get(name)
        if known is not None and _same(known[0], key):
            return known[1], known[2]
        server, warnings = _judged_server(basis, texts)
        self._servers[name] = (key, server, warnings)
        self.compiled += 1
        return server, warnings


def _files(reviews: Reviews) -> Iterator[object]:
    for kind in sorted(reviews):
        yield reviews[kind]


def _identity(*parts: object) -> _Key:
    return parts


def _same(left: _Key, right: _Key) -> bool:
    """Whether two keys are the same objects: parsed files are kept as long as they don't change."""
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))


def approved_digest(copy: Source[PolicyFile]) -> str | None:
    """The digest that an approved copy says it was approved under."""
    match = APPROVED_LINE.fullmatch(copy.first_line)
    return match[1] if match else None


def _copy_problems(copy: Source[PolicyFile], digest: str | None) -> list[Problem]:
    """Why an approved copy is not what it says it is."""
    if copy.problems:
        return list(copy.problems)
    said = approved_digest(copy)
    if said is None:
        message = "an approved copy begins with the line '# approved sha256:…'"
        return [Problem(Location(copy.file, 1), message, "gatehouse policy approve writes it")]
    if said != digest:
        message = f"the text is not the one that was approved: it says {said} and is {digest}"
        hint = "restore it from version control, or have the change reviewed"
        return [Problem(Location(copy.file, 1), message, hint)]
    return []


def _organization(folder: Folder, reviews: Reviews) -> _Basis:
    """The organization in force.

    Raises:
        PolicyError: there is none.

    """
    org, surfaces = folder.approved_organization, folder.approved_surfaces
    reviewers = folder.reviewers.model if folder.reviewers is not None else None
    if org is None or surfaces is None or reviewers is None:
        missing = "approved/org.yaml" if org is None else "approved/surfaces.yaml"
        hint = "gatehouse policy approve organization"
        raise PolicyError([Problem(Location(missing, 1), "the organization was never approved", hint)])
    digest = (
        organization_digest(org.model, surfaces.model)
        if org.model is not None and surfaces.model is not None
        else None
    )
    problems = [problem for copy in (org, surfaces) for problem in _copy_problems(copy, digest)]
    if problems or digest is None or org.model is None or surfaces.model is None:
        raise PolicyError(problems)
    names = org.defines | surfaces.defines
    subject = Subject(ORGANIZATION, digest, ORGANIZATION_KINDS)
    judged = judge(subject, reviews, reviewers, org.model.reviews.valid_for)
    if judged.in_force.missing:
        message = f"the organization lacks an approval of {digest} by {', '.join(sorted(ORGANIZATION_KINDS))}"
        raise PolicyError([Problem(Location(org.file, 1), message), *judged.warnings])
    compiled = compile_organization(org, org.model, surfaces, surfaces.model)
    return _Basis(org.model, compiled, names, judged.in_force, reviewers, judged.warnings)


def _judged_server(basis: _Basis, texts: _Texts) -> tuple[Server, tuple[Problem, ...]]:
    """One server as it is in force, or closed."""
    text = texts.candidate
    if text.model is None:
        required = known_kinds(basis.file) - {GENAI}
        return _closed(texts, unapproved("", required)), text.problems
    digest = server_digest(text.model)
    reviewed = texts.copy is not None or bool(texts.reviews)
    required = required_kinds(basis.file, text.model, reviewed=reviewed)
    problems = _copy_problems(texts.copy, digest) if texts.copy is not None else []
    problems += misnamed(texts.name, text)
    problems += unknown(text.references, basis.names, text.defines)
    if problems or (texts.copy is None and required):
        return _closed(texts, unapproved(digest, required)), tuple(problems)
    subject = Subject(texts.name, digest, required)
    judged = judge(subject, texts.reviews, basis.reviewers, basis.file.reviews.valid_for)
    windows = intersect(judged.in_force.windows, basis.in_force.windows)
    prose = (texts.proposal.model if texts.proposal is not None else None) or text.model
    in_force = replace(judged.in_force, windows=windows)
    server = compile_server(text, text.model, prose, in_force, basis.compiled)
    return server, (*judged.warnings, *_orphaned(texts))


def _orphaned(texts: _Texts) -> Iterator[Problem]:
    if texts.proposal is None:
        message = f"{texts.name} is in force and no longer proposed"
        yield Problem(texts.candidate.at("name"), message, "delete the approved copy to close it")


def _closed(texts: _Texts, in_force: InForce) -> Server:
    """A server that nobody may use, known by name so that its callers are told so."""
    prose = texts.candidate.model or (texts.proposal.model if texts.proposal is not None else None)
    return Server(
        name=texts.name,
        location=texts.candidate.at("name"),
        title=prose.title if prose and prose.title else texts.name,
        description=prose.description if prose else "",
        team=prose.owner.team if prose else "",
        support=prose.owner.support if prose else "",
        lifecycle=prose.lifecycle if prose else "production",
        environment=prose.environment if prose else "prod",
        uses_genai=bool(prose and prose.uses_genai),
        listing_requires="user",
        rules=(),
        tools={},
        tool_policies={},
        in_force=in_force,
        rules_by_surface={},
        shadow_rules_by_surface={},
        guardrails=(),
        tool_guardrails={},
    )


def compile_proposals(folder: Folder) -> Snapshot | None:
    """What is proposed as if all of it were in force, for warnings and previews; never to be enforced.

    None where org.yaml or surfaces.yaml can't be used; servers that can't be are left out.
    """
    org, surfaces = folder.organization, folder.surfaces
    if org is None or surfaces is None or org.model is None or surfaces.model is None:
        return None
    compiled = compile_organization(org, org.model, surfaces, surfaces.model)
    known = org.defines | surfaces.defines
    servers = {}
    for name, source in sorted(folder.servers.items()):
        if source.model is not None and not unknown(source.references, known, source.defines):
            in_force = InForce(server_digest(source.model), frozenset(), ALWAYS)
            servers[name] = compile_server(source, source.model, source.model, in_force, compiled)
    digest = organization_digest(org.model, surfaces.model)
    return _built(compiled, InForce(digest, frozenset(), ALWAYS), servers, compile_locks(folder.locks))


def _enforced(name: str, in_force: InForce) -> str:
    """What of a text's state is enforced, on a line. A closed server is closed, whatever its text."""
    windows = " ".join(f"{window.start!r}..{window.end!r}" for window in in_force.windows)
    return f"{name} {in_force.digest} {windows}" if windows else f"{name} closed"


def _built(
    compiled: CompiledOrganization,
    organization: InForce,
    servers: Mapping[str, Server],
    locks: Mapping[tuple[str, str], Lock],
) -> Snapshot:
    # Lines rather than JSON: it is made of a thousand servers each time one of them changes.
    lines = [_enforced(ORGANIZATION, organization)]
    lines += [_enforced(name, servers[name].in_force) for name in sorted(servers)]
    lines += [f"lock {kind} {locks[kind, subject].until!r} {subject}" for kind, subject in sorted(locks)]
    return Snapshot(
        digest=digest_of_lines("gatehouse-snapshot-v1", lines),
        trust_domains=compiled.trust_domains,
        issuers=compiled.issuers,
        groups=compiled.groups,
        group_index=compiled.group_index,
        surfaces=compiled.surfaces,
        surface_by_spiffe=compiled.surface_by_spiffe,
        surface_by_client=compiled.surface_by_client,
        servers=servers,
        locks=locks,
        guardrails=compiled.guardrails,
        organization=organization,
        request_access=compiled.request_access,
    )

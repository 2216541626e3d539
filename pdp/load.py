"""A policy folder on disk to its parsed files, and everything wrong with what they propose.

The folder: `org.yaml surfaces.yaml locks.yaml`, `servers/NAME.yaml` (proposals), `approved/` (what is in
force), `reviews/KIND/SUBJECT.yaml`. `tests/` and files that begin with a dot are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pdp.files import FileCache, Stamp, real_root, scan, slot, stamp_of
from pdp.model import Location
from pdp.names import Definitions, unknown
from pdp.problem import PolicyError, Problem
from pdp.rules import shared_identities
from pdp.schema import (
    LocksFile,
    OrganizationFile,
    PolicyFile,
    ReviewersFile,
    ReviewsFile,
    ServerFile,
    SurfacesFile,
)
from pdp.source import Source

__all__ = ["ORGANIZATION", "Folder", "PolicyError", "Problem", "load_folder", "problems_of", "real_root"]

ORGANIZATION = "organization"
"""The subject of reviews of org.yaml and surfaces.yaml."""


@dataclass(frozen=True, slots=True)
class Folder:
    """All files of a policy folder, parsed, problems and all."""

    organization: Source[OrganizationFile] | None
    surfaces: Source[SurfacesFile] | None
    locks: Source[LocksFile] | None
    servers: Mapping[str, Source[ServerFile]]
    approved_organization: Source[OrganizationFile] | None
    approved_surfaces: Source[SurfacesFile] | None
    approved_servers: Mapping[str, Source[ServerFile]]
    reviews: Mapping[str, Mapping[str, Source[ReviewsFile]]]
    """By subject, then by kind."""
    reviewers: Source[ReviewersFile] | None
    stray: tuple[Problem, ...] = ()
    """Files that look like policy and stand where nothing reads them."""


def load_folder(root: Path, reviewers: Path, cache: FileCache | None = None) -> Folder:
    """Read a policy folder. Files that are wrong are in it with their problems.

    Raises:
        OSError: a file can't be read.

    """
    real = real_root(root)
    stamps, stray = scan(real)
    return assemble(real, stamps, stray, reviewers, cache or FileCache())


def assemble(
    real: str, stamps: Mapping[str, Stamp], stray: tuple[Problem, ...], reviewers: Path, cache: FileCache
) -> Folder:
    """The folder out of scanned stamps, with every file whose stamp didn't change taken from the cache."""
    cache.forget(cache.entries.keys() - stamps.keys() - {str(reviewers)})
    single: dict[str, Source[PolicyFile]] = {}
    servers: dict[str, Source[ServerFile]] = {}
    reviews: dict[str, dict[str, Source[ReviewsFile]]] = {}
    copies: list[tuple[str, str]] = []
    for file, stamp in stamps.items():
        what = slot(file)
        if what is None:
            continue
        section, name, kind, model = what
        if section == "approved/servers":
            copies.append((file, name))
        elif section == "servers":
            servers[name] = cache.get(file, f"{real}/{file}", stamp, ServerFile)
        elif section == "reviews":
            reviews.setdefault(name, {})[kind] = cache.get(file, f"{real}/{file}", stamp, ReviewsFile)
        else:
            single[file] = cache.get(file, f"{real}/{file}", stamp, model)
    approved = {
        name: cache.get(file, f"{real}/{file}", stamps[file], ServerFile, servers.get(name))
        for file, name in copies
    }
    return Folder(
        organization=cast("Source[OrganizationFile] | None", single.get("org.yaml")),
        surfaces=cast("Source[SurfacesFile] | None", single.get("surfaces.yaml")),
        locks=cast("Source[LocksFile] | None", single.get("locks.yaml")),
        servers=servers,
        approved_organization=cast("Source[OrganizationFile] | None", single.get("approved/org.yaml")),
        approved_surfaces=cast("Source[SurfacesFile] | None", single.get("approved/surfaces.yaml")),
        approved_servers=approved,
        reviews=reviews,
        reviewers=_reviewers(reviewers, cache),
        stray=stray,
    )


def _reviewers(path: Path, cache: FileCache) -> Source[ReviewersFile] | None:
    try:
        stamp = stamp_of(path.stat())
    except FileNotFoundError:
        return None
    return cache.get(str(path), str(path), stamp, ReviewersFile)


def problems_of(folder: Folder, reviewers: Path, cache: FileCache | None = None) -> list[Problem]:
    """Everything wrong with what is proposed: these keep a folder from being loaded at all.

    The approved copies are not judged here: one that is wrong closes its own server (`pdp.compile`).
    """
    cache = cache or FileCache()
    found = [*folder.stray, *_missing(folder, reviewers)]
    organization = cache.names_of(folder.organization, folder.surfaces)
    for name, server in folder.servers.items():
        found += server.problems
        found += cache.unknown(server, organization)
        found += misnamed(name, server)
    found += shared_identities_of(folder)
    known = proposed_names(folder)
    for source in (folder.organization, folder.surfaces, folder.locks):
        if source is not None:
            found += source.problems
            found += unknown(source.references, known, source.defines)
    for kinds in folder.reviews.values():
        for review in kinds.values():
            found += review.problems
    if folder.reviewers is not None:
        found += folder.reviewers.problems
    return sorted(found, key=_place)


def _place(problem: Problem) -> tuple[str, int, int]:
    return problem.location.file, problem.location.line, problem.location.column


def _missing(folder: Folder, reviewers: Path) -> Iterator[Problem]:
    for file, source in (("org.yaml", folder.organization), ("surfaces.yaml", folder.surfaces)):
        if source is None:
            yield Problem(Location(file, 1), "the file is missing")
    if folder.reviewers is None:
        yield Problem(Location(str(reviewers), 1), "the file is missing", "it names who may approve")


def shared_identities_of(folder: Folder) -> Iterator[Problem]:
    """Surfaces that can't be told apart, as far as both files can be read."""
    org, surfaces = folder.organization, folder.surfaces
    if org is None or surfaces is None or org.model is None or surfaces.model is None:
        return
    for fault in shared_identities(surfaces.model, org.model.issuers[0].name):
        yield Problem(surfaces.at(*fault.path), fault.message, fault.hint)


def misnamed(name: str, server: Source[ServerFile]) -> Iterator[Problem]:
    """A server is called as its file is: reviews, paths and routes all go by that name."""
    if server.model is not None and server.model.name != name:
        message = f"the server is called {server.model.name!r} and its file {name!r}"
        yield Problem(server.at("name"), message, "make them the same")


def proposed_names(folder: Folder) -> Definitions:
    """Names that proposals may use: those that are proposed beside them, and every server there is."""
    return FileCache().names_of(folder.organization, folder.surfaces) | server_names(folder)


def server_names(folder: Folder) -> Definitions:
    """Every server, proposed or approved, and every tool of one."""
    names = {"server": frozenset(folder.servers) | frozenset(folder.approved_servers)}
    if folder.organization is None or any(use.kind == "tool" for use in folder.organization.references):
        names["tool"] = frozenset(_tools((*folder.servers.values(), *folder.approved_servers.values())))
    return Definitions(names)


def _tools(sources: Iterable[Source[ServerFile]]) -> Iterator[str]:
    for source in sources:
        yield from source.defines.names.get("tool", ())

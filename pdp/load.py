"""A policy folder on disk to its parsed files, each read again only when it changed.

The folder: `org.yaml surfaces.yaml locks.yaml`, `servers/NAME.yaml` (proposals), `approved/` (what is in
force), `reviews/KIND/SUBJECT.yaml`. `tests/` and files that begin with a dot are left alone.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, cast

from pdp.model import Location
from pdp.names import Definitions, unknown
from pdp.problem import PolicyError, Problem
from pdp.schema import (
    LocksFile,
    OrganizationFile,
    PolicyFile,
    ReviewersFile,
    ReviewsFile,
    ServerFile,
    SurfacesFile,
)
from pdp.source import Source, read

__all__ = ["Folder", "PolicyError", "Problem", "load_folder", "problems_of"]

Stamp: TypeAlias = tuple[int, int, int, int, int]
"""Device, inode, size, change time and modification time of a file, times in nanoseconds."""

ORGANIZATION = "organization"
"""The subject of reviews of org.yaml and surfaces.yaml."""

_RACY_NS = 50_000_000
"""A file changed so shortly before it was read may change again in the same tick of its clock."""


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


_FIXED: Mapping[str, type[PolicyFile]] = {
    "org.yaml": OrganizationFile,
    "surfaces.yaml": SurfacesFile,
    "locks.yaml": LocksFile,
    "approved/org.yaml": OrganizationFile,
    "approved/surfaces.yaml": SurfacesFile,
}


def _kind_of(file: str) -> type[PolicyFile] | None:
    """What a file below the root is, by its path alone."""
    if file in _FIXED:
        return _FIXED[file]
    parts = file.split("/")
    if not file.endswith(".yaml"):
        return None
    if parts[:-1] in (["servers"], ["approved", "servers"]):
        return ServerFile
    if len(parts) == 3 and parts[0] == "reviews":
        return ReviewsFile
    return None


@dataclass(slots=True)
class FileCache:
    """Parsed files by path, valid while their stamps hold. One folder's; not for several threads at once."""

    entries: dict[str, tuple[Stamp, Source[PolicyFile]]] = field(default_factory=dict)
    parsed: int = 0
    """How many files were parsed so far, for tests and metrics."""

    racy: set[str] = field(default_factory=set)
    """Files read so soon after their last change that another one may bear the same stamp."""

    def get(self, name: str, path: str, stamp: Stamp, kind: type[PolicyFile]) -> Source[PolicyFile]:
        """The file at `path`, called `name` in messages.

        Raises:
            OSError: it is gone, or can't be read.

        """
        known = self.entries.get(name)
        if known is not None and known[0] == stamp and name not in self.racy:
            return known[1]
        with open(path, "rb") as file:
            stamp = stamp_of(os.fstat(file.fileno()))
            data = file.read()
        # The file system's clock, not policy's: what was changed in this very tick may change again unseen.
        if time.time_ns() - stamp[3] < _RACY_NS:
            self.racy.add(name)
        else:
            self.racy.discard(name)
        if known is not None and known[1].text_digest == hashlib.sha256(data).digest():
            source = known[1]
        else:
            source = read(name, data, kind)
            self.parsed += 1
        self.entries[name] = (stamp, source)
        return source

    def forget(self, names: Iterable[str]) -> None:
        """Drop files that are gone."""
        for name in names:
            del self.entries[name]
            self.racy.discard(name)


def stamp_of(status: os.stat_result) -> Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns, status.st_mtime_ns


def real_root(root: Path) -> str:
    """The folder itself, behind symbolic links: reading goes on in one version while a link is swapped.

    A Kubernetes volume keeps its own root and swaps `..data` below it.
    """
    data = os.path.join(root, "..data")
    return os.path.realpath(data if os.path.isdir(data) else root)


def scan(root: str) -> tuple[dict[str, Stamp], tuple[Problem, ...]]:
    """Stamps of all policy files below a real path, and what stands there without a meaning."""
    stamps: dict[str, Stamp] = {}
    stray: list[Problem] = []
    for file, status in _walk(root, ""):
        if _kind_of(file) is not None:
            stamps[file] = stamp_of(status)
        elif file.endswith((".yaml", ".yml")):
            hint = "policy files end in .yaml" if _kind_of(file[:-4] + ".yaml") else None
            stray.append(Problem(Location(file, 1), "nothing reads a file here", hint))
    return stamps, tuple(stray)


_FOLDERS = frozenset({"", "servers", "approved", "approved/servers", "reviews"})


def _walk(root: str, folder: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = sorted(os.scandir(os.path.join(root, folder)), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        name = f"{folder}/{entry.name}" if folder else entry.name
        if entry.name.startswith("."):
            continue
        try:
            status = entry.stat()
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            yield name, status
        elif name in _FOLDERS or folder == "reviews":
            yield from _walk(root, name)


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
    sources: dict[str, Source[PolicyFile]] = {}
    for file, stamp in stamps.items():
        kind = _kind_of(file)
        if kind is not None:
            sources[file] = cache.get(file, os.path.join(real, file), stamp, kind)
    return Folder(
        organization=cast("Source[OrganizationFile] | None", sources.get("org.yaml")),
        surfaces=cast("Source[SurfacesFile] | None", sources.get("surfaces.yaml")),
        locks=cast("Source[LocksFile] | None", sources.get("locks.yaml")),
        servers=_servers(sources, "servers/"),
        approved_organization=cast("Source[OrganizationFile] | None", sources.get("approved/org.yaml")),
        approved_surfaces=cast("Source[SurfacesFile] | None", sources.get("approved/surfaces.yaml")),
        approved_servers=_servers(sources, "approved/servers/"),
        reviews=_reviews(sources),
        reviewers=_reviewers(reviewers, cache),
        stray=stray,
    )


def _servers(sources: Mapping[str, Source[PolicyFile]], folder: str) -> dict[str, Source[ServerFile]]:
    return {
        file[len(folder) : -len(".yaml")]: cast("Source[ServerFile]", source)
        for file, source in sources.items()
        if file.startswith(folder)
    }


def _reviews(sources: Mapping[str, Source[PolicyFile]]) -> dict[str, dict[str, Source[ReviewsFile]]]:
    found: dict[str, dict[str, Source[ReviewsFile]]] = {}
    for file, source in sources.items():
        if file.startswith("reviews/"):
            _, kind, subject = file.removesuffix(".yaml").split("/")
            found.setdefault(subject, {})[kind] = cast("Source[ReviewsFile]", source)
    return found


def _reviewers(path: Path, cache: FileCache) -> Source[ReviewersFile] | None:
    try:
        stamp = stamp_of(path.stat())
    except FileNotFoundError:
        return None
    return cast("Source[ReviewersFile]", cache.get(str(path), str(path), stamp, ReviewersFile))


def problems_of(folder: Folder, reviewers: Path) -> list[Problem]:
    """Everything wrong with what is proposed: these keep a folder from being loaded at all.

    The approved copies are not judged here: one that is wrong closes its own server (`pdp.review`).
    """
    found = list(folder.stray)
    for file, source in (("org.yaml", folder.organization), ("surfaces.yaml", folder.surfaces)):
        if source is None:
            found.append(Problem(Location(file, 1), "the file is missing"))
    if folder.reviewers is None:
        found.append(Problem(Location(str(reviewers), 1), "the file is missing", "it names who may approve"))
    known = proposed_names(folder)
    for proposal in _proposals(folder):
        found += proposal.problems
        found += unknown(proposal.references, known, proposal.defines)
    for name, server in folder.servers.items():
        found += misnamed(name, server)
    found += _other_files(folder)
    return found


def _proposals(folder: Folder) -> Iterator[Source[PolicyFile]]:
    singles: Iterable[Source[PolicyFile] | None] = (folder.organization, folder.surfaces, folder.locks)
    yield from (source for source in singles if source is not None)
    yield from folder.servers.values()


def _other_files(folder: Folder) -> Iterator[Problem]:
    for kinds in folder.reviews.values():
        for source in kinds.values():
            yield from source.problems
    if folder.reviewers is not None:
        yield from folder.reviewers.problems


def misnamed(name: str, server: Source[ServerFile]) -> Iterator[Problem]:
    """A server is called as its file is: reviews, paths and routes all go by that name."""
    if server.model is not None and server.model.name != name:
        message = f"the server is called {server.model.name!r} and its file {name!r}"
        yield Problem(server.at("name"), message, "make them the same")


def proposed_names(folder: Folder) -> Definitions:
    """Names that proposals may use: those that are proposed beside them. Locks may name any server."""
    known = Definitions()
    for source in (folder.organization, folder.surfaces):
        if source is not None and not (source.model is None and not source.defines.names):
            known |= source.defines
    return known | server_names(folder)


def server_names(folder: Folder) -> Definitions:
    """Every server, proposed or approved, and every tool of one."""
    sources = (*folder.servers.values(), *folder.approved_servers.values())
    tools = frozenset().union(*(source.defines.names.get("tool", frozenset()) for source in sources))
    return Definitions(
        {"server": frozenset(folder.servers) | frozenset(folder.approved_servers), "tool": tools}
    )

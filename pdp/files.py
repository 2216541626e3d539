"""The files of a policy folder: what each path is, which changed, and what is parsed, kept while it holds."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

from pdp.model import Location
from pdp.names import Definitions, unknown
from pdp.problem import Problem
from pdp.schema import LocksFile, OrganizationFile, PolicyFile, ReviewsFile, ServerFile, SurfacesFile
from pdp.source import Source, copied, read

Kind = TypeVar("Kind", bound=PolicyFile)

Stamp: TypeAlias = tuple[int, int, int, int, int]
"""Device, inode, size, change time and modification time of a file, times in nanoseconds."""

_RACY_NS = 50_000_000
"""A file changed so shortly before it was read may change again in the same tick of its clock."""


Slot: TypeAlias = tuple[str, str, str, type[PolicyFile]]
"""What a file below the root is: section, name, kind of review, model."""

_SINGLE: Mapping[str, type[PolicyFile]] = {
    "org.yaml": OrganizationFile,
    "surfaces.yaml": SurfacesFile,
    "locks.yaml": LocksFile,
    "approved/org.yaml": OrganizationFile,
    "approved/surfaces.yaml": SurfacesFile,
}


@lru_cache(maxsize=65_536)
def slot(file: str) -> Slot | None:
    """What a file is, by its path alone; None for one that nothing reads."""
    if file in _SINGLE:
        return file, "", "", _SINGLE[file]
    folder, _, name = file.rpartition("/")
    name, extension = os.path.splitext(name)
    if extension != ".yaml":
        return None
    if folder in ("servers", "approved/servers"):
        return folder, name, "", ServerFile
    parent, _, kind = folder.partition("/")
    if parent == "reviews" and kind and "/" not in kind:
        return parent, name, kind, ReviewsFile
    return None


@dataclass(slots=True)
class FileCache:
    """Parsed files by path, valid while their stamps hold. One folder's; not for several threads at once."""

    entries: dict[str, tuple[Stamp, Source[PolicyFile]]] = field(default_factory=dict)
    parsed: int = 0
    """How many files were parsed so far, for tests and metrics."""
    racy: set[str] = field(default_factory=set)
    """Files read so soon after their last change that another one may bear the same stamp."""
    checked: dict[str, tuple[object, object, tuple[Problem, ...]]] = field(default_factory=dict)
    """Problems of names, by file: of which source, against which names."""
    merged: tuple[tuple[object, ...], Definitions] | None = None
    """Names of org.yaml and surfaces.yaml together, and of which sources."""

    def get(
        self, name: str, path: str, stamp: Stamp, kind: type[Kind], original: Source[Kind] | None = None
    ) -> Source[Kind]:
        """The file at `path`, called `name` in messages; `original` is what it may be an approved copy of.

        Raises:
            OSError: it is gone, or can't be read.

        """
        known = self.entries.get(name)
        if known is not None and known[0] == stamp and name not in self.racy:
            return cast("Source[Kind]", known[1])
        with open(path, "rb") as file:
            stamp = stamp_of(os.fstat(file.fileno()))
            data = file.read()
        # The file system's clock, not policy's: what was changed in this very tick may change again unseen.
        if time.time_ns() - stamp[3] < _RACY_NS:
            self.racy.add(name)
        else:
            self.racy.discard(name)
        if known is not None and known[1].text_digest == hashlib.sha256(data).digest():
            source = cast("Source[Kind]", known[1])
        else:
            source = _copy(name, data, original) or read(name, data, kind)
            self.parsed += 1
        self.entries[name] = (stamp, source)
        return source

    def forget(self, names: Iterable[str]) -> None:
        """Drop files that are gone."""
        for name in names:
            del self.entries[name]
            self.racy.discard(name)
            self.checked.pop(name, None)

    def names_of(self, *sources: Source[PolicyFile] | None) -> Definitions:
        """The names that these files give, as the same object while they stay the same."""
        if self.merged is None or not all(a is b for a, b in zip(self.merged[0], sources, strict=True)):
            names = Definitions()
            for source in sources:
                # A file that can't be read at all gives no names, which is not the same as giving none.
                if source is not None and (source.model is not None or source.defines.names):
                    names |= source.defines
            self.merged = sources, names
        return self.merged[1]

    def unknown(self, source: Source[PolicyFile], known: Definitions) -> tuple[Problem, ...]:
        """`pdp.names.unknown`, worked out again only where the source or the names are other objects."""
        found = self.checked.get(source.file)
        if found is None or found[0] is not source or found[1] is not known:
            found = source, known, tuple(unknown(source.references, known, source.defines))
            self.checked[source.file] = found
        return found[2]


def _copy(name: str, data: bytes, original: Source[Kind] | None) -> Source[Kind] | None:
    """Most approved copies are their proposals below one more line, and need no parsing of their own."""
    if original is None or original.problems:
        return None
    line, _, rest = data.partition(b"\n")
    if not line.startswith(b"# approved ") or not line.isascii() or b"\r" in line:
        return None
    if hashlib.sha256(rest).digest() != original.text_digest:
        return None
    return copied(original, name, hashlib.sha256(data).digest(), line.decode("ascii"))


def stamp_of(status: os.stat_result) -> Stamp:
    """What changes whenever a file does."""
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns, status.st_mtime_ns


def real_root(root: Path) -> str:
    """The folder itself, behind symbolic links: reading goes on in one version while a link is swapped.

    A Kubernetes volume keeps its own root and swaps `..data` below it: always a link. A real folder of that
    name would be a second policy that owners of `approved/` and `reviews/` never see; it is no policy.
    """
    data = os.path.join(root, "..data")
    return os.path.realpath(data if os.path.islink(data) and os.path.isdir(data) else root)


def scan(root: str) -> tuple[dict[str, Stamp], tuple[Problem, ...]]:
    """Stamps of all policy files below a real path, and what stands there without a meaning."""
    stamps: dict[str, Stamp] = {}
    stray: list[Problem] = []
    folders = ["", "servers", "approved", "approved/servers", "reviews"]
    for folder in folders:
        try:
            entries = list(os.scandir(os.path.join(root, folder)))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                continue
            if slot(name) is not None:
                _stat(entry, name, stamps)
            elif folder == "reviews" and entry.is_dir():
                folders.append(name)
            elif name.endswith((".yaml", ".yml")):
                stray.append(_stray(name))
    return stamps, tuple(stray)


def _stat(entry: os.DirEntry[str], name: str, stamps: dict[str, Stamp]) -> None:
    try:
        stamps[name] = stamp_of(entry.stat())
    except FileNotFoundError:
        return  # deleted since the folder was listed


def _stray(name: str) -> Problem:
    hint = "policy files end in .yaml" if slot(f"{name.removesuffix('.yml')}.yaml") is not None else None
    return Problem(Location(name, 1), "nothing reads a file here", hint)

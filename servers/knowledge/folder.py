"""Walk the folder of documents. Nothing outside it is ever opened: no link below the root is followed.

Links are refused whole, even those that stay inside: a link in a public folder would carry a document out of
its own folder's ACL.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers.knowledge.acl import EVERYBODY, NOBODY, Acl, AclRefused, folder_level
from servers.knowledge.engine import Kind
from servers.knowledge.reading import kind_of

DEEPEST = 32
"""Folders below the root."""
LARGEST = 4 * 1024 * 1024
"""Bytes of a document; a larger one is no document but data."""
LONGEST_PATH = 1024
_LARGEST_ACL = 64 * 1024
_ACL_FILES = frozenset({"acl.yaml", "acl.yml"})
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without NONBLOCK opening a named pipe would wait for its writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_log = logging.getLogger("servers.knowledge")


class FolderError(Exception):
    """The folder itself can't be read."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What `stat` says of a file. Alike means unchanged, but for files written a moment before."""

    modified: int
    changed: int
    size: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        return cls(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


@dataclass(frozen=True, slots=True)
class Found:
    """One file that may be a document."""

    path: str
    kind: Kind
    acl: Acl
    """What the folders above it say."""
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder that is passed over, and why."""

    path: str
    why: str


class Folder:
    """The folder, opened anew for each use: its name may be a link that moves to the next version."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def walk(self) -> Iterator[Found | Skipped]:
        """Yield every document, in the order of their paths within each folder.

        Raises:
            FolderError: the root can't be read.

        """
        with self._opened() as root:
            yield from _walk(root, "", EVERYBODY, 0)

    def read(self, path: str) -> tuple[bytes, Stamp]:
        """Read one file, walking down from the root so that no step can be a link by now.

        Raises:
            OSError: it is gone, or no regular file any more, or too large.

        """
        *folders, name = path.split("/")
        with self._opened() as root:
            here = os.dup(root)
            try:
                for folder in folders:
                    below = os.open(folder, _FOLDER, dir_fd=here)
                    os.close(here)
                    here = below
                return _read(here, name, LARGEST)
            finally:
                os.close(here)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            root = os.open(self._root.resolve(strict=True), _FOLDER)
        except OSError as error:
            raise FolderError(f"{self._root}: {error.strerror}") from None
        try:
            yield root
        finally:
            os.close(root)


def _walk(folder: int, prefix: str, acl: Acl, depth: int) -> Iterator[Found | Skipped]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if not prefix:
            raise FolderError(str(error.strerror)) from None
        yield Skipped(prefix, f"can't be listed: {error.strerror}")
        return
    for entry in listed:
        if entry.name.lower() in _ACL_FILES:
            level, problem = _level(folder, entry.name)
            acl = acl.narrowed(level)
            if problem:
                yield Skipped(prefix + entry.name, f"{problem}; so the folder is closed")
    if acl.levels >= NOBODY.levels:
        return
    for entry in listed:
        yield from _entry(folder, entry, prefix + entry.name, acl, depth)


def _entry(
    folder: int, entry: os.DirEntry[str], path: str, acl: Acl, depth: int
) -> Iterator[Found | Skipped]:
    if entry.name.startswith(".") or entry.name.lower() in _ACL_FILES:
        return
    if not nameable(path):
        yield Skipped(ascii(path), "its name is no text, or too long")
        return
    try:
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            yield Skipped(path, "links are not followed")
        elif stat.S_ISDIR(found.st_mode):
            yield from _below(folder, entry.name, path, acl, depth)
        elif (kind := kind_of(entry.name)) is None or not stat.S_ISREG(found.st_mode):
            return
        elif found.st_size > LARGEST:
            yield Skipped(path, f"{found.st_size} bytes; documents have up to {LARGEST}")
        else:
            yield Found(path, kind, acl, Stamp.of(found))
    except FileNotFoundError:
        return
    except OSError as error:
        yield Skipped(path, f"can't be read: {error.strerror}")


def _below(folder: int, name: str, path: str, acl: Acl, depth: int) -> Iterator[Found | Skipped]:
    if depth >= DEEPEST:
        yield Skipped(path, f"more than {DEEPEST} folders deep")
        return
    below = os.open(name, _FOLDER, dir_fd=folder)
    try:
        yield from _walk(below, f"{path}/", acl, depth + 1)
    finally:
        os.close(below)


def _level(folder: int, name: str) -> tuple[frozenset[str], str]:
    """What an ACL file says; nobody, with the reason, where it can't be understood."""
    try:
        content, _ = _read(folder, name, _LARGEST_ACL)
        return folder_level(content.decode("utf-8-sig")), ""
    except (OSError, UnicodeDecodeError, AclRefused) as error:
        return frozenset(), str(error)


def _read(folder: int, name: str, largest: int) -> tuple[bytes, Stamp]:
    handle = os.open(name, _FILE, dir_fd=folder)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("no regular file")
        content = file.read(largest + 1)
        if len(content) > largest:
            raise OSError(f"more than {largest} bytes")
        return content, Stamp.of(found)


def nameable(path: str) -> bool:
    """Whether a document can have this path at all; one that can't is no text that SQLite would take."""
    try:
        return len(path.encode()) <= LONGEST_PATH and path.isprintable()
    except UnicodeEncodeError:
        return False

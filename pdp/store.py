"""The policy in force, watched: a folder's snapshot, replaced as a whole when the folder changes.

What can't be enforced changes nothing: the last good snapshot stays, and the problems are told once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pdp.compile import Compiler
from pdp.files import FileCache, Stamp, real_root, scan, stamp_of
from pdp.load import assemble, problems_of
from pdp.model import Location, Snapshot
from pdp.problem import PolicyError, Problem

POLL_INTERVAL = 0.2
"""Seconds. Polled, because no event comes when a symbolic link is swapped, nor on network file systems."""

GIT_PATIENCE = 10.0
"""How long git's `index.lock` is waited for, in seconds: a git that was killed leaves it behind."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """The folder as one look found it."""

    real: str
    stamps: Mapping[str, Stamp]
    stray: tuple[Problem, ...]
    reviewers: Stamp | None


class PolicyStore:
    """Loads a policy folder and keeps it current.

    `snapshot`, `problems` and `warnings` may be read from any thread; `load`, `poll` and `watch` are for one.
    """

    def __init__(self, root: Path, reviewers: Path, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self.reviewers = reviewers
        self.snapshot: Snapshot | None = None
        """The last good one; None until a load succeeded."""
        self.problems: tuple[Problem, ...] = ()
        """Why the folder as it stands now is not what is enforced. Empty when it is."""
        self.warnings: tuple[Problem, ...] = ()
        """What is wrong in the enforced folder without keeping it from being enforced."""
        self.files = FileCache()
        self.compiler = Compiler()
        self._clock = clock
        self._seen: _Seen | None = None
        self._waiting_since: float | None = None

    def load(self) -> Snapshot:
        """Load the folder as it stands and make it the snapshot in force.

        Raises:
            PolicyError: it can't be enforced; an earlier snapshot, if any, stays in force.

        """
        try:
            return self._load(self._look())
        except OSError as error:
            raise self._unreadable(error) from error

    def poll(self) -> bool:
        """Look once. True when a new snapshot came in force; a bad folder is False and leaves `problems`."""
        before = self.snapshot
        try:
            seen = self._look()
            if (seen == self._seen and not self.files.racy) or self._git_is_writing(seen.real):
                return False
            return self._load(seen) is not before
        except OSError as error:
            self._unreadable(error)
            return False
        except PolicyError:
            return False

    def _look(self) -> _Seen:
        real = real_root(self.root)
        stamps, stray = scan(real)
        return _Seen(real, stamps, stray, _stamp_of(self.reviewers))

    def _load(self, seen: _Seen) -> Snapshot:
        self._seen = seen
        try:
            folder = assemble(seen.real, seen.stamps, seen.stray, self.reviewers, self.files)
            problems = problems_of(folder, self.reviewers, self.files)
            if problems:
                raise PolicyError(problems)
            compiled = self.compiler.compile(folder)
        except PolicyError as error:
            self.problems = error.problems
            raise
        self.problems = ()
        self.warnings = compiled.warnings
        if self.snapshot is None or not _equal(self.snapshot, compiled.snapshot):
            self.snapshot = compiled.snapshot
        return self.snapshot

    def _unreadable(self, error: OSError) -> PolicyError:
        """A file vanished or can't be read. Nothing was seen, so that the next poll looks again."""
        self._seen = None
        place = Location(str(error.filename or self.root), 1)
        self.problems = (Problem(place, f"can't be read: {error.strerror or error}"),)
        return PolicyError(self.problems)

    def watch(
        self,
        on_change: Callable[[Snapshot], None],
        stop: threading.Event,
        interval: float = POLL_INTERVAL,
        on_error: Callable[[tuple[Problem, ...]], None] | None = None,
    ) -> None:
        """Poll until `stop` is set. `on_error` hears once of each distinct set of problems."""
        told = self.problems
        while not stop.wait(interval):
            if self.poll() and self.snapshot is not None:
                on_change(self.snapshot)
            if self.problems != told:
                told = self.problems
                if told and on_error is not None:
                    on_error(told)

    def _git_is_writing(self, real: str) -> bool:
        """Whether git changes the folder right now: half a checkout is nobody's policy."""
        if not _git_locked(real):
            self._waiting_since = None
            return False
        now = self._clock()
        if self._waiting_since is None or now < self._waiting_since:
            self._waiting_since = now
        return now - self._waiting_since < GIT_PATIENCE


def _equal(old: Snapshot, new: Snapshot) -> bool:
    """Whether nothing differs, prose and places included. Unchanged servers are the same objects."""
    return old.digest == new.digest and old == new


def _stamp_of(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return stamp_of(status)


def _git_locked(real: str) -> bool:
    folder = Path(real)
    for parent in (folder, *folder.parents):
        git = parent / ".git"
        if git.is_dir():
            return (git / "index.lock").exists()
        if git.is_file():
            return _worktree_locked(git)
    return False


def _worktree_locked(git: Path) -> bool:
    """A linked worktree or submodule: `.git` is a file that says where its index is."""
    try:
        text = git.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return False
    where = text.removeprefix("gitdir:").strip()
    return os.path.exists(os.path.join(git.parent, where, "index.lock"))

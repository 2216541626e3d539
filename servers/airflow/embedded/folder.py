"""The folder of DAG files: what is in it now, and what in it can't be read.

A file is read again only when it changed. One that becomes unreadable keeps its last good DAG, marked broken,
as Airflow does; one that goes away takes its DAG along.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from servers.airflow.embedded.dagfile import MAX_BYTES, DagFileInvalid, DagSpec, parse
from servers.airflow.embedded.nodes import Problem

MAX_FILES = 1000
_SUFFIXES = frozenset({".yaml", ".yml"})


@dataclass(frozen=True, slots=True)
class Loaded:
    """One DAG with the text that it was read from."""

    spec: DagSpec
    text: str
    file: str
    """Its name within the folder."""
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """One problem of one file, and when the file was written."""

    file: str
    problem: Problem
    modified: float


@dataclass(frozen=True, slots=True)
class Contents:
    """The folder at one moment."""

    dags: Mapping[str, Loaded]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class _File:
    stamp: tuple[int, int, int]
    loaded: Loaded | None
    problems: tuple[Problem, ...]


class Folder:
    """Reads the DAG files of one folder, not of those below it."""

    def __init__(self, root: Path, passable: frozenset[str] = frozenset()) -> None:
        self.root = root
        self._passable = passable
        self._files: dict[str, _File] = {}
        self._lock = threading.Lock()

    def read(self) -> Contents:
        """Look at every file, and read those that changed.

        Raises:
            OSError: the folder itself can't be read.

        """
        with self._lock:
            found: dict[str, _File] = {}
            for path in sorted(self.root.iterdir())[:MAX_FILES]:
                if path.suffix in _SUFFIXES and path.is_file() and not path.name.startswith("."):
                    found[path.name] = self._look(path, self._files.get(path.name))
            self._files = found
            return self._contents()

    def _look(self, path: Path, before: _File | None) -> _File:
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if before is not None and before.stamp == stamp:
                return before
            return self._read(path, stamp, before)
        except (OSError, UnicodeDecodeError) as error:
            return _File((0, 0, 0), _broken(before), (Problem(1, f"can't be read: {error}"),))

    def _read(self, path: Path, stamp: tuple[int, int, int], before: _File | None) -> _File:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode()
        try:
            return _File(stamp, Loaded(parse(text, self._passable), text, path.name), ())
        except DagFileInvalid as invalid:
            return _File(stamp, _broken(before), invalid.problems)

    def _contents(self) -> Contents:
        dags: dict[str, Loaded] = {}
        failures: list[Failure] = []
        for name, file in self._files.items():
            modified = file.stamp[0] / 1e9
            failures += [Failure(name, problem, modified) for problem in file.problems]
            if file.loaded is None:
                continue
            dag_id = file.loaded.spec.dag_id
            if dag_id in dags:
                message = f"the DAG {dag_id!r} is already in {dags[dag_id].file}; this one is left out"
                failures.append(Failure(name, Problem(1, message), modified))
            else:
                dags[dag_id] = file.loaded
        return Contents(dags, tuple(failures))


def _broken(before: _File | None) -> Loaded | None:
    if before is None or before.loaded is None:
        return None
    kept = before.loaded
    return Loaded(kept.spec, kept.text, kept.file, broken=True)

"""Everything there is to say about a policy folder, as `gatehouse policy check` and CI say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pdp.compile import Compiler, compile_proposals
from pdp.lint import expiring, lint
from pdp.load import load_folder, problems_of
from pdp.model import Snapshot
from pdp.problem import PolicyError, Problem


@dataclass(frozen=True, slots=True)
class Report:
    """`errors` keep the folder from being enforced; `closed` keeps single servers out; `warnings` nothing."""

    snapshot: Snapshot | None
    """What would be enforced; None where there are errors."""
    errors: tuple[Problem, ...]
    closed: tuple[Problem, ...]
    """In `approved/` and `reviews/`: altered copies, approvals that don't count."""
    warnings: tuple[Problem, ...]


def check(root: Path, reviewers: Path, now: float) -> Report:
    """Judge a policy folder. `now` (epoch seconds) matters to warnings alone.

    Raises:
        OSError: a file can't be read.

    """
    folder = load_folder(root, reviewers)
    errors = problems_of(folder, reviewers)
    snapshot: Snapshot | None = None
    closed: tuple[Problem, ...] = ()
    try:
        compiled = Compiler().compile(folder)
    except PolicyError as error:
        errors += [problem for problem in error.problems if problem not in errors]
    else:
        snapshot, closed = compiled.snapshot, compiled.warnings
    proposed = compile_proposals(folder)
    warnings = lint(proposed, now) if proposed is not None else []
    if snapshot is not None:
        warnings += expiring(snapshot, now)
    return Report(snapshot if not errors else None, tuple(errors), closed, tuple(warnings))

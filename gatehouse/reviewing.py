"""`gatehouse policy check` and `status`: what stands in a policy folder and what of it is in force."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gatehouse.errors import Failure
from gatehouse.shipped import POLICIES, shipped
from gatehouse.state import State
from gatehouse.working_policy import REVIEWERS
from identity.principal import JsonValue
from pdp.check import check as pdp_check
from pdp.digest import organization_digest, server_digest
from pdp.load import ORGANIZATION, Folder, load_folder
from pdp.model import FOREVER, InForce
from pdp.store import PolicyStore


@dataclass(frozen=True, slots=True)
class Checked:
    """What is wrong with a folder, and the digest of what it enforces where it can be enforced."""

    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    digest: str | None
    servers: int

    def as_json(self) -> JsonValue:
        return {
            "ok": self.digest is not None,
            "digest": self.digest,
            "servers": self.servers,
            "problems": list(self.problems),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class Row:
    """One subject's state."""

    subject: str
    open: bool
    digest: str
    until: float | None
    """When it ends; None where it isn't in force or doesn't end."""
    missing: tuple[str, ...]
    pending: bool
    """Whether the proposal differs from what is in force."""

    def __str__(self) -> str:
        state = "in force" if self.open else "closed"
        until = f" until {_time(self.until)}" if self.until else ""
        lacks = f", lacks {', '.join(self.missing)}" if self.missing else ""
        pending = ", proposal differs: needs review" if self.pending else ""
        return f"{self.subject:<16}{state}{until}{lacks}{pending}"

    def as_json(self) -> JsonValue:
        return {
            "subject": self.subject,
            "in_force": self.open,
            "digest": self.digest,
            "until": _time(self.until) if self.until else None,
            "missing": list(self.missing),
            "pending": self.pending,
        }


def folders(
    policies: Path | None, reviewers: Path | None, state: State, *, named: bool = False
) -> tuple[Path, Path]:
    """The policy folder and the reviewers meant: named, else the working copy's, else the shipped ones.

    With `named` there has to be one of the first two: nobody means to write into what was installed.
    """
    working = state.policies.is_dir() and policies is None
    if named and policies is None and not working:
        raise Failure(
            f"there is no policy folder {state.policies}",
            "start a stack with gatehouse up, or name a folder with --policies",
        )
    folder = policies or (state.policies if working else shipped(POLICIES))
    if not folder.is_dir():
        raise Failure(f"there is no policy folder {folder}")
    fallback = state.reviewers if working and state.reviewers.exists() else shipped(REVIEWERS)
    return folder, reviewers or fallback


def check(policies: Path, reviewers: Path, now: float | None = None) -> Checked:
    """Everything wrong with the folder, of proposals and of what is in force, and what deserves a look."""
    report = pdp_check(policies, reviewers, time.time() if now is None else now)
    digest = report.snapshot.digest if report.snapshot is not None else None
    servers = len(report.snapshot.servers) if report.snapshot is not None else 0
    warnings = tuple(str(warning) for warning in (*report.closed, *report.warnings))
    return Checked(tuple(str(problem) for problem in report.errors), warnings, digest, servers)


def must_be_enforced(where: tuple[Path, Path], done: str) -> None:
    """Fail where what was just written can't come into force.

    Raises:
        Failure: the folder is refused, for whatever reason; the last good policy goes on.

    """
    problems = check(*where).problems
    if problems:
        raise Failure(
            f"{done}, and NOT in force: the folder is refused for {problems[0]}",
            "mend that, and it comes into force by itself",
        )


def status(policies: Path, reviewers: Path, now: float) -> list[Row]:
    """The organization, then every server.

    Raises:
        PolicyError: the folder can't be enforced.

    """
    snapshot = PolicyStore(policies, reviewers).load()
    proposed = _proposed(load_folder(policies, reviewers))
    subjects = [(ORGANIZATION, snapshot.organization)]
    subjects += [(name, server.in_force) for name, server in sorted(snapshot.servers.items())]
    return [_row(name, in_force, proposed.get(name), now) for name, in_force in subjects]


def _row(name: str, in_force: InForce, proposal: str | None, now: float) -> Row:
    ends = [window.end for window in in_force.windows if now in window and window.end != FOREVER]
    pending = proposal is not None and proposal != in_force.digest
    missing = tuple(sorted(in_force.missing))
    return Row(name, in_force.at(now), in_force.digest, min(ends, default=None), missing, pending)


def _proposed(folder: Folder) -> dict[str, str]:
    """Digests of what is proposed."""
    found = {name: server_digest(s.model) for name, s in folder.servers.items() if s.model is not None}
    org, surfaces = folder.organization, folder.surfaces
    if org is not None and surfaces is not None and org.model is not None and surfaces.model is not None:
        found[ORGANIZATION] = organization_digest(org.model, surfaces.model)
    return found


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%MZ")

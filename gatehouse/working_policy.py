"""The stack's own copy of the shipped policies, which development reviewers keep in force.

A newcomer's stack must not stand still because the shipped reviews have lapsed, nor because nobody at hand
may approve. So the copy has a reviewer of its own, who approves whatever isn't in force, and every such
approval is said aloud. None of this touches a policy folder that somebody names.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import yaml

from gatehouse.approving import Approval, approve, subjects
from gatehouse.errors import Failure
from gatehouse.shipped import shipped
from gatehouse.state import State, write
from pdp.approve import ApprovalRefused
from pdp.load import ORGANIZATION, load_folder
from pdp.problem import PolicyError
from pdp.review import GENAI, known_kinds
from pdp.store import PolicyStore

DEVELOPMENT_REVIEWER = "development-reviewer@localhost"
TICKET = "DEVELOPMENT"
REVIEWERS = "envoy/reviewers.local.yaml"
_KINDS = ["genai", "legal-privacy", "security"]


def write_reviewers(state: State, policies: Path | None) -> None:
    """Write STATE/reviewers.yaml: the shipped reviewers, and a development one for every kind."""
    document = yaml.safe_load(shipped(REVIEWERS).read_bytes())
    document["reviewers"][DEVELOPMENT_REVIEWER] = {"kinds": _kinds(policies or shipped("policies"))}
    header = "# Development reviewers, written by `gatehouse up`. Never review anything real by them.\n"
    write(state.reviewers, header + yaml.safe_dump(document, sort_keys=False))


def _kinds(policies: Path) -> list[str]:
    """Every kind of review that this policy asks for."""
    organization = load_folder(policies, policies / "none").organization
    if organization is None or organization.model is None:
        return _KINDS
    return sorted(known_kinds(organization.model) | {GENAI})


def refresh(
    state: State,
    source: Path,
    reviewers: Path,
    now: float,
    say: Callable[[str], None],
    *,
    linked: Mapping[str, Path] = MappingProxyType({}),
) -> None:
    """Have a working copy of `source` with everything in it in force.

    A copy that somebody edited is theirs and stays. One that nobody did follows the source. `linked` are the
    policies of servers that lie elsewhere, by name: the copy has links to them, so that an edit there counts.
    """
    shipped_now = _digest(source)
    copied, left = _remembered(state)
    if not (state.policies / "org.yaml").exists():
        _copy(source, state.policies)
        say(f"  copied {source} to {state.policies}: edit them there")
    elif copied != shipped_now and _digest(state.policies) == left:
        shutil.rmtree(state.policies)
        _copy(source, state.policies)
        say(f"  {source} changed: copied anew to {state.policies}")
    elif copied != shipped_now:
        say(f"  {source} changed; {state.policies} has edits and stays: delete it to start over")
        shipped_now = copied
    _link(state.policies / "servers", linked, say)
    approve_all(state.policies, reviewers, now, say)
    write(_memory(state), json.dumps({"copied": shipped_now, "left": _digest(state.policies)}))


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copytree(source, target, dirs_exist_ok=True)
    except OSError as error:
        raise Failure(f"cannot copy the policies to {target}: {error}") from error


def _link(servers: Path, linked: Mapping[str, Path], say: Callable[[str], None]) -> None:
    """Have exactly these links among the servers' policies. A file that stands in a link's place stays."""
    for path in servers.glob("*.yaml"):
        if path.is_symlink() and path.stem not in linked:
            path.unlink()
    for name, policy in linked.items():
        path = servers / f"{name}.yaml"
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            say(f"  {path} is in force for {name}, not {policy}: delete one of them")
            continue
        path.symlink_to(policy.absolute())


def _digest(folder: Path) -> str:
    """The folder's content, files' names included, without what only links to it."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*.yaml") if not path.is_symlink()):
        content = path.read_bytes()
        found.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return found.hexdigest()


def _memory(state: State) -> Path:
    """What the working copy was copied from, and how this command left it: two digests."""
    return state.root / "policies.json"


def _remembered(state: State) -> tuple[str, str]:
    try:
        parsed = json.loads(_memory(state).read_bytes())
        return str(parsed["copied"]), str(parsed["left"])
    except (OSError, ValueError, LookupError, TypeError):
        return "", ""


def approve_all(policies: Path, reviewers: Path, now: float, say: Callable[[str], None]) -> None:
    """Approve whatever is in force no more, or never was, as the development reviewer."""
    lapsed = [name for name in subjects(policies, reviewers) if not in_force(policies, reviewers, name, now)]
    for subject in sorted(lapsed, key=lambda name: name != ORGANIZATION):
        approval = Approval(subject, DEVELOPMENT_REVIEWER, TICKET, now)
        try:
            approve(policies, reviewers, approval)
        except (PolicyError, ApprovalRefused, Failure) as error:
            say(f"  {subject} stays closed: {error}")
        else:
            say(f"  DEVELOPMENT REVIEW: {subject} approved by {DEVELOPMENT_REVIEWER}, for this copy only")


def in_force(policies: Path, reviewers: Path, subject: str, now: float) -> bool:
    """Whether an approved copy of the subject is in force now, or it needs none."""
    store = PolicyStore(policies, reviewers)
    try:
        snapshot = store.load()
    except PolicyError:
        return False
    if subject == ORGANIZATION:
        return snapshot.organization.at(now)
    return snapshot.servers[subject].in_force.at(now)


def problems(policies: Path, reviewers: Path) -> tuple[str, ...]:
    """Why the folder, as it stands, can't be enforced; none where it can."""
    try:
        PolicyStore(policies, reviewers).load()
    except PolicyError as error:
        return tuple(str(problem) for problem in error.problems)
    return ()

"""Adding to locks.yaml: a deny that needs no review, in force with the next poll."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from pdp.atomic import exclusively, write
from pdp.listing import NoListError, appended, flow
from pdp.load import load_folder, proposed_names, real_root
from pdp.names import unknown
from pdp.problem import PolicyError
from pdp.schema import LockPart, LocksFile
from pdp.source import read

_FILE = "locks.yaml"
_NEW = """\
# yaml-language-server: $schema=../docs/schema/locks.json
apiVersion: gatehouse/v1
kind: Locks
locks: []
"""


class LockRefused(Exception):
    """A lock that can't be written; the message is for the person who tried."""


def lock(
    root: Path,
    reviewers: Path,
    kind: Literal["user", "token", "workload", "server"],
    subject: str,
    *,
    until: float,
    why: str,
    by: str,
    now: float,
) -> Path:
    """Lock one user (`issuer:sub`), token (`jti`), workload or server until a time, in epoch seconds.

    Raises:
        LockRefused: the lock is wrong in itself.
        PolicyError: locks.yaml is wrong, or names what nobody knows.
        OSError: the folder can't be read or written.

    """
    if until <= now:
        raise LockRefused("a lock ends in the future")
    end = datetime.fromtimestamp(int(until), UTC).isoformat().replace("+00:00", "Z")
    pairs = {kind: subject, "until": end, "why": why, "by": by}
    try:
        part = LockPart.model_validate(pairs)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise LockRefused(f"{first['loc'][0]}: {first['msg']}") from error
    real = Path(real_root(root))
    with exclusively(real):
        write(real / _FILE, _with_lock(real, reviewers, part, pairs))
    return real / _FILE


def _with_lock(real: Path, reviewers: Path, part: LockPart, pairs: dict[str, str]) -> str:
    try:
        before = (real / _FILE).read_bytes().decode("utf-8")
    except FileNotFoundError:
        before = _NEW
    standing = read(_FILE, before.encode(), LocksFile)
    if standing.model is None:
        raise PolicyError(standing.problems)
    try:
        text = appended(before, "locks", flow(pairs))
    except NoListError as error:
        raise LockRefused(f"{_FILE} has no list called locks") from error
    written = read(_FILE, text.encode(), LocksFile)
    if written.model is None:
        raise PolicyError(written.problems)
    if written.model.locks[-1] != part:
        raise LockRefused(f"{_FILE} can't be added to; write 'locks:' as a list of one item a line")
    known = proposed_names(load_folder(real, reviewers))
    problems = unknown(written.references, known, written.defines)
    if problems:
        raise PolicyError(problems)
    return text

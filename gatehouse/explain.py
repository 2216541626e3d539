"""Errors of other rooms that a person can mend, as the line they read."""

from __future__ import annotations

from identity.errors import IdentityError, KeyFileError
from pdp.approve import ApprovalRefused
from pdp.locking import LockRefused
from pdp.problem import PolicyError


def explained(error: Exception) -> str | None:
    """The line for an error of ours or of the machine's; None for a defect."""
    if isinstance(error, PolicyError | ApprovalRefused | LockRefused | KeyFileError):
        return str(error)
    if isinstance(error, IdentityError):
        return f"{error.code}: {error.detail}"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return None

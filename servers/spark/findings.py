"""What was found in a run: the words of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from servers.spark.errors import ErrorKind, TaskError

Kind: TypeAlias = ErrorKind | Literal["skew", "straggler", "spill", "garbage_collection"]
Severity: TypeAlias = Literal["failure", "warning"]
Verdict: TypeAlias = Literal["failed", "slow", "healthy", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, with what shows it and what to do about it."""

    kind: Kind
    severity: Severity
    title: str
    fingerprint: str
    stage: int | None = None
    evidence: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()
    error: TaskError | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was found, the cause of a failure first."""

    verdict: Verdict
    summary: str
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = field(default=())

"""What can be set about a server besides where it is and what guards it; the defaults suit most."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mcpguard.ingest import Ingest
from mcpguard.limits import Limits
from mcpguard.listener import StartError
from mcpguard.payloads import Level, Payloads
from mcpguard.redact import Redactor
from mcpguard.reporter import Reporter
from mcpguard.spool import FolderSpool, MemorySpool

SPOOL_BYTES = 64 * 1024 * 1024
MEMORY_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits, and what is reported to whom."""

    limits: Limits = field(default_factory=Limits)
    payloads: Level = "all"
    payload_limit: int = 4096
    redact: tuple[str, ...] = ()
    """Names of fields that are secret besides those that always are."""
    usage_file: Path | None = None
    ingest: Ingest | None = None
    spool: Path | None = None
    """A folder for events that the registry doesn't have yet; None: they are kept in memory."""
    otlp: str | None = None
    """Base address of an OpenTelemetry collector (OTLP over HTTP)."""

    def redactor(self) -> Redactor:
        """Return what leaves secrets out of logs."""
        return Redactor(self.redact)

    def logged_payloads(self) -> Payloads:
        """Return how inputs and outputs are logged."""
        return Payloads(self.payloads, self.payload_limit, self.redactor())

    def reporter(self) -> Reporter:
        """Return the way out for events; it does nothing before it is started.

        Raises:
            StartError: the spool can't be written to.

        """
        if self.ingest is None:
            return Reporter(self.usage_file)
        if self.spool is None:
            return Reporter(self.usage_file, self.ingest, MemorySpool(MEMORY_BYTES))
        try:
            return Reporter(self.usage_file, self.ingest, FolderSpool(self.spool, SPOOL_BYTES))
        except OSError as error:
            raise StartError(f"--usage-spool {self.spool}: {error.strerror}") from None

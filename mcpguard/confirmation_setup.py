"""From options to confirmations: which record, which keys, which page."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mcp.server.mcpserver.tools import Tool as OfferedTool
from mcp.server.request_state import RequestStateSecurity
from prometheus_client import CollectorRegistry

from identity.errors import KeyFileError
from mcpguard.confirmation import Confirmations
from mcpguard.confirmation_ledger import LIFETIME, Ledger, counter
from mcpguard.confirmation_records import Records, RecordsUnavailable, SqliteRecords
from mcpguard.confirmation_state import StateCodec, derived, new_keys, read_keys
from mcpguard.guard import Guard
from mcpguard.listener import StartError

_log = logging.getLogger("mcpguard")
_DATABASES = ("postgresql://", "postgres://")
_TOOLS_OWN = "mcp-request-state"


@dataclass(frozen=True, slots=True)
class ConfirmationOptions:
    """How a server confirms. By default one process does alone, and its records end with it."""

    records: str | None = None
    """A SQLite file that the replicas of one host share, or a `postgresql://` address."""
    keys: Path | None = None
    """Secrets that the replicas share, a line each."""
    page: str | None = None
    """Address of a confirmation page, for clients that know URL mode only: `https://…/{server}/{id}`."""
    lifetime: float = LIFETIME
    """Seconds from question to answer."""


def read_secrets(options: ConfirmationOptions) -> tuple[bytes, ...]:
    """Return the shared keys, or a fresh one.

    Raises:
        StartError: the file can't be used.

    """
    if options.keys is None:
        _log.info("confirmations are sealed with a key of this process; replicas need --confirmation-keys")
        return new_keys()
    try:
        return read_keys(options.keys)
    except KeyFileError as error:
        raise StartError(f"confirmation keys: {error}") from None


def state_security(secrets: tuple[bytes, ...], server: str) -> RequestStateSecurity:
    """Seal the state of tools that ask by themselves, under keys of their own that replicas share too."""
    return RequestStateSecurity(keys=[derived(secret, _TOOLS_OWN) for secret in secrets], audience=server)


def build(
    options: ConfirmationOptions,
    secrets: tuple[bytes, ...],
    guard: Guard,
    offered: Callable[[str], OfferedTool | None],
    *,
    registry: CollectorRegistry,
    clock: Callable[[], float],
) -> Confirmations:
    """Open the record and build what asks.

    Raises:
        StartError: the record can't be opened, or the page's address is not one.

    """
    page = None if options.page is None else _checked_page(options.page)
    try:
        records = _records(options.records)
    except RecordsUnavailable as error:
        raise StartError(f"confirmations: {error}") from None
    ledger = Ledger(records, counter(registry), clock, options.lifetime)
    return Confirmations(guard, offered, ledger, StateCodec(secrets), page)


def _records(where: str | None) -> Records:
    if where is None or not where.startswith(_DATABASES):
        return SqliteRecords(None if where is None else Path(where))
    try:
        from mcpguard.confirmation_postgres import PostgresRecords
    except ImportError:
        raise StartError(
            "confirmations in PostgreSQL need psycopg: pip install 'gatehouse[postgres]'"
        ) from None
    return PostgresRecords(where)


def _checked_page(address: str) -> str:
    parts = urlsplit(address)
    loopback = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not (parts.hostname and (parts.scheme == "https" or loopback)) or "{id}" not in address:
        raise StartError(f"--confirmation-page {address}: expected https://… with {{id}} in it")
    return address

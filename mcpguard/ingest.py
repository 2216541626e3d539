"""The registry's ingest address: one POST a batch, and what its answer means for the batch.

    POST ADDRESS
    content-type: application/json
    authorization: Bearer ...            (where a credential file is given; read anew for each batch)

    {"version": 1, "events": [{"kind": "usage", "id": ...}, {"kind": "inventory", "id": ...}]}

Any 2xx says that the registry has every event, those it had before among them. 400, 413 and 422 say that it
will never take this batch as it is; everything else, that it may later.
"""

from __future__ import annotations

import http.client
import ipaddress
import ssl
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from mcpguard.listener import StartError
from mcpguard.spool import Batch

TIMEOUT = 10.0
"""Seconds for one POST."""
_MAX_CREDENTIAL = 16 * 1024
_LONGEST_ANSWER = 300


class Answer(Enum):
    """What becomes of a batch."""

    TAKEN = "taken"
    LATER = "later"
    NEVER = "never"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class Posted:
    """How one POST went."""

    answer: Answer
    why: str = ""
    after: float = 0.0
    """Seconds that the registry asked to be left alone for."""


@dataclass(frozen=True, slots=True)
class Ingest:
    """Where to send events, and as whom."""

    url: str
    credential: Path | None = None
    """A file that holds a bearer token; whoever renews it replaces the file."""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        """Check.

        Raises:
            StartError: the address is no HTTP address, or leaves this host without TLS.

        """
        check_address(self.url, "--usage-ingest")
        if (self.certificate is None) != (self.key is None):
            raise StartError("--usage-certificate and --usage-key go together")

    def post(self, batch: Batch, timeout: float = TIMEOUT) -> Posted:
        """Send one batch; never raises for what the network or the registry does."""
        try:
            return self._post(batch, timeout)
        except (OSError, http.client.HTTPException, ValueError) as error:
            # ssl.SSLError and timeouts are OSErrors; a ValueError is a credential that can't be a header.
            return Posted(Answer.LATER, f"{type(error).__name__}: {error}"[:_LONGEST_ANSWER])

    def _post(self, batch: Batch, timeout: float) -> Posted:
        parts = urlsplit(self.url)
        connection = self._connection(parts.hostname or "", parts.port, parts.scheme == "https", timeout)
        try:
            path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            connection.request("POST", path, body(batch), self._headers())
            answer = connection.getresponse()
            text = answer.read(_LONGEST_ANSWER).decode("utf-8", "replace")
            return _posted(answer.status, text, answer.getheader("retry-after"))
        finally:
            connection.close()

    def _connection(
        self, host: str, port: int | None, tls: bool, timeout: float
    ) -> http.client.HTTPConnection:
        if not tls:
            return http.client.HTTPConnection(host, port, timeout=timeout)
        # Made anew for each batch: certificates are renewed while we run.
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)

    def _headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json", "user-agent": "gatehouse-mcpguard"}
        if self.credential is not None:
            with self.credential.open("rb") as file:
                token = file.read(_MAX_CREDENTIAL).decode("ascii").strip()
            headers["authorization"] = f"Bearer {token}"
        return headers


def body(batch: Batch) -> bytes:
    """Return what is posted."""
    return b'{"version":1,"events":[' + b",".join(batch.events) + b"]}"


def _posted(status: int, text: str, retry_after: str | None) -> Posted:
    if 200 <= status < 300:
        return Posted(Answer.TAKEN)
    why = f"{status}: {text}"
    if status == 413:
        return Posted(Answer.TOO_LARGE, why)
    if status in (400, 422):
        return Posted(Answer.NEVER, why)
    after = float(retry_after) if retry_after is not None and retry_after.isdigit() else 0.0
    return Posted(Answer.LATER, why, min(after, 3600.0))


def check_address(url: str, option: str) -> None:
    """Accept an HTTP address; without TLS only on loopback.

    Raises:
        StartError: it is not one.

    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.username is not None:
        raise StartError(f"{option} {url}: expected http://… or https://…, without a password")
    if parts.scheme == "http" and not _is_loopback(host):
        raise StartError(f"{option} {url}: plain HTTP is for loopback only; use https://")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

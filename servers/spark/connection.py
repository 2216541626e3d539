"""The HTTP client for a History Server."""

from __future__ import annotations

import ssl
from collections.abc import Generator
from pathlib import Path

import httpx

from servers.spark.history import HistoryEngine

READ_SECONDS = 45.0
"""A History Server reads a log when it is first asked for it, which takes long for a large one."""


def connect(url: str, *, token: Path | None = None, ca: Path | None = None) -> HistoryEngine:
    """Return an engine on the History Server at `url`; nothing is sent yet.

    The token's file is read for each request, so that it may be replaced. No proxy of the environment is
    used, and no redirect is followed: either would take the token elsewhere.

    Raises:
        OSError: a file can't be read.

    """
    if token is not None:
        token.read_bytes()
    client = httpx.Client(
        base_url=url.rstrip("/"),
        timeout=httpx.Timeout(5.0, read=READ_SECONDS),
        verify=ssl.create_default_context(cafile=str(ca) if ca is not None else None),
        auth=_Bearer(token) if token is not None else None,
        trust_env=False,
        follow_redirects=False,
        headers={"accept": "application/json"},
    )
    return HistoryEngine(client)


class _Bearer(httpx.Auth):
    def __init__(self, file: Path) -> None:
        self._file = file

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["authorization"] = f"Bearer {self._file.read_text('ascii').strip()}"
        yield request

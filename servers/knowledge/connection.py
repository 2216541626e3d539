"""The HTTP client for OpenSearch."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import httpx

READ_SECONDS = 15.0


def connect(url: str, *, credentials: Path | None = None, ca: Path | None = None) -> httpx.Client:
    """Return a client for the OpenSearch at `url`; nothing is sent yet.

    No proxy of the environment is used, and no redirect is followed: either would take documents and
    credentials elsewhere.

    Raises:
        ValueError: the address is none, or plain HTTP off loopback.
        OSError: a file can't be read.

    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise ValueError("OpenSearch's address is a URL such as https://search.corp.example:9200")
    if parts.scheme == "http" and not _loopback(host):
        raise ValueError("OpenSearch off loopback is reached by https")
    user = password = ""
    if credentials is not None:
        user, colon, password = credentials.read_text("utf-8").strip().partition(":")
        if not colon or not user:
            raise ValueError(f"{credentials}: expected user:password")
    return httpx.Client(
        base_url=url.rstrip("/"),
        timeout=httpx.Timeout(5.0, read=READ_SECONDS),
        verify=_context(ca) if parts.scheme == "https" else False,
        auth=(user, password) if user else None,
        trust_env=False,
        follow_redirects=False,
        headers={"accept": "application/json"},
    )


def _context(ca: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca) if ca is not None else None)


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

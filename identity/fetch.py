"""Where key sets come from, an HTTPS address or a local file: what opens a `JwksCache` for an issuer."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from identity import keyfiles
from identity.jwk import MAX_SET_BYTES, JwkSet
from identity.jwks import FILE_INTERVAL, Fetch, FetchError, JwksCache
from identity.principal import Issuer

TOTAL_SECONDS = 2.0
"""For all of a fetch: name look-up, handshake, and the last byte."""


def open_issuer(issuer: Issuer) -> JwksCache:
    """A cache, not started, for the keys of one issuer.

    Raises:
        ValueError: where it has no source, two, or an address that is neither https nor on loopback.

    """
    if (issuer.jwks_uri is None) == (issuer.jwks_file is None):
        raise ValueError(f"issuer {issuer.name}: give either jwks_uri or jwks_file")
    if issuer.jwks_uri is not None:
        return JwksCache(issuer.name, from_uri(issuer.jwks_uri))
    return JwksCache(issuer.name, from_file(Path(str(issuer.jwks_file))), interval=FILE_INTERVAL)


def open_bundle(trust_domain: str, path: Path) -> JwksCache:
    """A cache, not started, for the JWT authorities of one trust domain, in a SPIFFE bundle file."""
    return JwksCache(trust_domain, from_file(path), parse=JwkSet.parse_spiffe_bundle, interval=FILE_INTERVAL)


def open_public_keys(path: Path) -> JwksCache:
    """A cache, not started, for the public keys of identity assertions."""
    return JwksCache("identity", from_file(path), interval=FILE_INTERVAL)


def from_file(path: Path) -> Fetch:
    """Read a file each time."""
    return lambda: keyfiles.read_public(path)


def from_uri(uri: str, trust: ssl.SSLContext | None = None) -> Fetch:
    """Get an address each time: 2 s in all, 256 KiB at most, no redirects, no proxy of the environment.

    `trust` says which authorities are believed: those of the system, where it is left out.

    Raises:
        ValueError: at once, where the address is neither https nor http on loopback.

    """
    check_uri(uri)
    context = trust or ssl.create_default_context()
    return lambda: asyncio.run(_get(uri, context))


def check_uri(uri: str) -> None:
    """Check that an address is https, or http on loopback, with nothing secret in it.

    Raises:
        ValueError: where it isn't.

    """
    parts = urlsplit(uri)
    if not parts.hostname or parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("a JWKS address has a host, and neither user nor fragment")
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname)):
        return
    raise ValueError("a JWKS address is https; http is for loopback only")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _get(uri: str, context: ssl.SSLContext) -> bytes:
    try:
        # A deadline over the whole, since httpx's own are for each read: a byte a second would never end.
        async with (
            asyncio.timeout(TOTAL_SECONDS),
            httpx.AsyncClient(verify=context, trust_env=False, timeout=TOTAL_SECONDS) as client,
            client.stream("GET", uri, headers={"accept-encoding": "identity"}) as response,
        ):
            return await _body(response)
    except TimeoutError:
        raise FetchError(f"no whole answer within {TOTAL_SECONDS:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise FetchError(f"no answer ({type(error).__name__})") from None


async def _body(response: httpx.Response) -> bytes:
    if response.status_code != httpx.codes.OK:
        raise FetchError(f"answered {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise FetchError("answered in a content encoding that was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_SET_BYTES:
            raise FetchError(f"answered more than {MAX_SET_BYTES} bytes")
    return bytes(body)

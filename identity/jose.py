"""The strict reading of a JWS in compact form (RFC 7515), before any crypto sees it.

Every token that is accepted has exactly one spelling: base64url without padding that encodes back to itself,
JSON without duplicate keys. So its SHA-256 names it, and two readers can't see two different tokens.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from identity import strictjson
from identity.errors import IdentityError
from identity.principal import JsonValue

MAX_TOKEN_BYTES = 16 * 1024
MAX_KID_CHARACTERS = 128

USUAL_HEADERS = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})

# These change what the bytes mean (RFC 7515 4.1.10 and 4.1.11, RFC 7516 4.1.3, RFC 7797). An issuer's own
# list of headers can't lift them. `jku`, `jwk`, `x5u`, `x5c`, where it allows them, are never read.
NEVER_HEADERS = frozenset({"crit", "zip", "b64", "cty"})

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Compact:
    """A well-formed JWS, not verified: header and payload are only what somebody wrote."""

    header: dict[str, JsonValue]
    payload: bytes
    signing_input: bytes
    signature: bytes
    alg: str
    kid: str | None
    typ: str | None
    digest: bytes
    """SHA-256 of the whole token."""


@dataclass(frozen=True, slots=True)
class Jws(Compact):
    """A well-formed JWT, not verified."""

    claims: dict[str, JsonValue]


def split(token: str, *, extra_headers: frozenset[str] = frozenset()) -> Compact:
    """Read a compact JWS with any payload.

    Raises:
        IdentityError: `token_malformed`.

    """
    if len(token) > MAX_TOKEN_BYTES:
        raise _malformed(f"longer than {MAX_TOKEN_BYTES} bytes")
    if not token.isascii():
        raise _malformed("not ASCII")
    parts = token.split(".")
    if len(parts) != 3:
        raise _malformed("not three parts")
    raw = token.encode("ascii")
    header_bytes, payload, signature = (_decode(part) for part in parts)
    if not header_bytes or not signature:
        raise _malformed("the header or the signature is empty")
    header = _object(header_bytes, "header")
    _check_names(header, USUAL_HEADERS | extra_headers)
    return Compact(
        header=header,
        payload=payload,
        signing_input=raw[: raw.rindex(b".")],
        signature=signature,
        alg=_alg(header),
        kid=_kid(header),
        typ=_text(header, "typ"),
        digest=hashlib.sha256(raw).digest(),
    )


def parse(token: str, *, extra_headers: frozenset[str] = frozenset()) -> Jws:
    """Read a compact JWS whose payload is a JSON object: a JWT.

    `extra_headers` are header names accepted beside the usual ones; their values are not looked at.

    Raises:
        IdentityError: `token_malformed`.

    """
    compact = split(token, extra_headers=extra_headers)
    claims = _object(compact.payload, "payload")
    return Jws(
        header=compact.header,
        payload=compact.payload,
        signing_input=compact.signing_input,
        signature=compact.signature,
        alg=compact.alg,
        kid=compact.kid,
        typ=compact.typ,
        digest=compact.digest,
        claims=claims,
    )


def decode_base64url(text: str) -> bytes:
    """Decode unpadded base64url (RFC 7515 2) that encodes back to the same text.

    Raises:
        ValueError: where it doesn't, the text not repeated.

    """
    if _BASE64URL.fullmatch(text) is None or len(text) % 4 == 1:
        raise ValueError("not unpadded base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode_base64url(data) != text:
        raise ValueError("base64url with stray bits at its end")
    return data


def encode_base64url(data: bytes) -> str:
    """Encode as unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _malformed(why: str) -> IdentityError:
    return IdentityError("token_malformed", why)


def _decode(part: str) -> bytes:
    try:
        return decode_base64url(part)
    except ValueError as error:
        raise _malformed(str(error)) from None


def _object(data: bytes, what: str) -> dict[str, JsonValue]:
    try:
        return strictjson.loads_object(data)
    except strictjson.JsonError as error:
        raise _malformed(f"{what}: {error}") from None


def _check_names(header: dict[str, JsonValue], allowed: frozenset[str]) -> None:
    if not header.keys() <= allowed - NEVER_HEADERS:
        raise _malformed("the header has a parameter that is not accepted")


def _text(header: dict[str, JsonValue], name: str) -> str | None:
    value = header.get(name)
    if value is None and name not in header:
        return None
    if not isinstance(value, str):
        raise _malformed(f"the header's {name} is not a string")
    return value


def _alg(header: dict[str, JsonValue]) -> str:
    alg = _text(header, "alg")
    if not alg:
        raise _malformed("the header has no alg")
    return alg


def _kid(header: dict[str, JsonValue]) -> str | None:
    kid = _text(header, "kid")
    if kid is not None and not is_kid(kid):
        raise _malformed(f"the header's kid is not 1 to {MAX_KID_CHARACTERS} printable characters")
    return kid


def is_kid(text: str) -> bool:
    """Whether `text` may name a key, in a token or in a key set."""
    return 1 <= len(text) <= MAX_KID_CHARACTERS and text.isprintable()

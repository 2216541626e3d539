"""What a confirmation is bound to, and the sealed text that a client carries from the question to the call.

In 2026-07-28 nothing stays at the server between the two, so the client brings it back as `requestState`; a
client is nobody to trust, so it is sealed (AES-256-GCM) under keys that all replicas share. Being sealed does
not make it single-use: that is the record's part (`mcpguard.confirmation_records`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import rfc8785
from mcp.server.request_state import AESGCMRequestStateCodec, InvalidRequestState

from identity import strictjson
from identity.errors import KeyFileError
from identity.keyfiles import read_private
from identity.principal import JsonValue

MIN_SECRET = 32
"""Bytes of one shared secret."""
MAX_STATE = 64 * 1024
"""Characters of a sealed state; one that carries a tool's own state is longer than ours."""

_VERSION = 1
_KIND = "gatehouse-confirmation"
_MEMBERS = frozenset(
    {"v", "kind", "id", "expires", "issuer", "subject", "surface", "server", "tool", "arguments", "policy"}
    | {"asked", "inner"}
)


class StateError(ValueError):
    """The text is not a state that one of these keys sealed. The message never repeats it."""


class DigestError(ValueError):
    """The arguments have no digest: RFC 8785 can't write one of their numbers exactly."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What a confirmation is for. Another value in any field, and it is for something else."""

    issuer: str
    subject: str
    surface: str
    server: str
    tool: str
    arguments: str
    """`arguments_digest` of the call."""
    policy: str
    """The digest of the policy that the question was asked under."""


@dataclass(frozen=True, slots=True)
class State:
    """What a client brings back."""

    id: str
    """Of the record that makes it single-use."""
    expires: float
    binding: Binding
    asked: str
    """`form` or `url`; `no` where the confirmation is given and the tool itself asks for more."""
    inner: str | None = None
    """The tool's own state, as the SDK sealed it."""


def new_id() -> str:
    """Return 128 random bits, in hex."""
    return secrets.token_hex(16)


def arguments_digest(arguments: dict[str, JsonValue]) -> str:
    """Return the SHA-256 of the arguments as RFC 8785 writes them: order and spelling don't count.

    Raises:
        DigestError: they hold an integer beyond 2^53, which RFC 8785 has no exact form for.

    """
    try:
        canonical = rfc8785.dumps(arguments)
    except rfc8785.CanonicalizationError as error:
        raise DigestError(str(error)) from None
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"


class StateCodec:
    """Seals under the first of its keys and opens under any, so that keys can be rotated."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._codec = AESGCMRequestStateCodec([derived(key, _KIND) for key in keys])

    def seal(self, state: State) -> str:
        """Return the text that the client carries."""
        bound = state.binding
        claims = {
            "v": _VERSION,
            "kind": _KIND,
            "id": state.id,
            "expires": state.expires,
            "issuer": bound.issuer,
            "subject": bound.subject,
            "surface": bound.surface,
            "server": bound.server,
            "tool": bound.tool,
            "arguments": bound.arguments,
            "policy": bound.policy,
            "asked": state.asked,
            "inner": state.inner,
        }
        return self._codec.seal(json.dumps(claims, separators=(",", ":")).encode())

    def open(self, text: str) -> State:
        """Open what `seal` made.

        Raises:
            StateError: it is anything else, or changed in a single bit.

        """
        if len(text) > MAX_STATE:
            raise StateError("too long")
        try:
            claims = strictjson.loads_object(self._codec.unseal(text))
        except (InvalidRequestState, strictjson.JsonError) as error:
            raise StateError(str(error)) from None
        return _read(claims)


def derived(secret: bytes, purpose: str) -> bytes:
    """Return a key for one purpose alone: what it seals, no key for another purpose opens."""
    return hmac.digest(secret, purpose.encode(), "sha256")


def new_keys() -> tuple[bytes, ...]:
    """Return a key that only this process has."""
    return (secrets.token_bytes(MIN_SECRET),)


def read_keys(path: Path) -> tuple[bytes, ...]:
    """Read shared secrets, a line each; the first seals, the others still open. `#` begins a comment line.

    Raises:
        KeyFileError: the file can't be read, others can touch it, or a key is missing, short or twice.

    """
    lines = [line.strip() for line in read_private(path).splitlines()]
    found = [line for line in lines if line and not line.startswith(b"#")]
    if not found:
        raise KeyFileError(f"{path}: holds no key")
    for number, secret in enumerate(found, start=1):
        if len(secret) < MIN_SECRET:
            raise KeyFileError(f"{path}: key {number} has fewer than {MIN_SECRET} bytes")
    if len(set(found)) != len(found):
        raise KeyFileError(f"{path}: the same key stands there twice")
    return tuple(found)


def _read(claims: dict[str, JsonValue]) -> State:
    """Sealed by us, so anything unexpected is another version's, or another purpose's."""
    if claims.keys() != _MEMBERS or claims["v"] != _VERSION or claims["kind"] != _KIND:
        raise StateError("sealed for another purpose, or by another version")
    expires, inner = claims["expires"], claims["inner"]
    if isinstance(expires, bool) or not isinstance(expires, (int, float)):
        raise StateError("expires is no time")
    if inner is not None and not isinstance(inner, str):
        raise StateError("inner is no text")

    def text(name: str) -> str:
        value = claims[name]
        if not isinstance(value, str):
            raise StateError(f"{name} is no text")
        return value

    binding = Binding(
        text("issuer"),
        text("subject"),
        text("surface"),
        text("server"),
        text("tool"),
        text("arguments"),
        text("policy"),
    )
    return State(text("id"), float(expires), binding, text("asked"), inner)

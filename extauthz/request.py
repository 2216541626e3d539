"""Envoy's `CheckRequest` becomes a `Call`, or is refused as malformed: step 1 of a decision.

Nothing here decides about access. What is read comes from three sources, each trusted for one thing: the
route's `context_extensions` say which server and listener, the MCP filter's metadata says what the body asks
for, and the raw headers carry what only the client knows. A header that two readers could understand
differently (repeated, joined, not ASCII) is refused rather than interpreted.
"""

from __future__ import annotations

import base64
import re
from binascii import Error as Base64Error
from typing import Final, Literal, NamedTuple

from google.protobuf.struct_pb2 import Struct

from extauthz.wire.ext_authz_pb2 import AttributeContext, CheckRequest
from pdp import headers, reasons
from pdp.decide import STATELESS_SINCE
from pdp.methods import ANSWER_METHOD, END_METHOD, STREAM_METHOD
from pdp.reasons import Reason

MCP_NAMESPACE: Final = "envoy.filters.http.mcp"
SERVER_EXTENSION: Final = "server"
LISTENER_EXTENSION: Final = "listener"

MAX_METHOD_CHARACTERS = 128
MAX_NAME_CHARACTERS = 128
MAX_URI_CHARACTERS = 2048
MAX_SESSION_CHARACTERS = 256

Listener = Literal["users", "mesh"]

_READ: Final = frozenset(headers.READ)
"""A repeated one is refused, whichever it is."""

# Which member of `params` names what a method is about, and how long it may be. Those with a header
# are the ones whose name 2026-07-28 repeats in `Mcp-Name`.
_TARGETS: Final = {
    "tools/call": ("name", MAX_NAME_CHARACTERS),
    "prompts/get": ("name", MAX_NAME_CHARACTERS),
    "resources/read": ("uri", MAX_URI_CHARACTERS),
    "resources/subscribe": ("uri", MAX_URI_CHARACTERS),
    "resources/unsubscribe": ("uri", MAX_URI_CHARACTERS),
}
_NAMED_IN_HEADER: Final = frozenset({"tools/call", "prompts/get", "resources/read"})

_NOT_RAW: Final = "Envoy sends no raw headers: set encode_raw_headers."
_PRINTABLE: Final = bytes(range(0x20, 0x7F))
_TOKEN: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_VERSIONS: Final = frozenset({"2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"})  # no regex for these
_VERSION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ENCODED_NAME = re.compile(r"=\?base64\?([A-Za-z0-9+/]*={0,2})\?=")


class Malformed(Exception):
    """The request can't be judged. `server` is set where the route told it before the fault was found."""

    def __init__(self, reason: Reason, detail: str, server: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.server = server


class Credentials(NamedTuple):
    """What a call proves itself with. Apart from the call, so that nothing that is logged ever holds them."""

    bearer: str | None
    certificate: str | None
    """The peer's certificate as URL-encoded PEM; only ever on the mesh listener."""


class Call(NamedTuple):
    """One well-formed call, before anybody knows whose it is. A tuple, since one is made for every check."""

    listener: Listener
    server: str | None
    """None on the catch-all route: the address belongs to no server."""
    method: str
    """The MCP method, or `GET`, `DELETE` or `pdp.methods.ANSWER_METHOD`."""
    target: str | None
    """The tool, the prompt's name or the resource's URI; None for every other method."""
    channel: str | None
    """The channel's raw id, as the surface sent it."""
    protocol_version: str | None
    session: bool

    @property
    def tool(self) -> str | None:
        return self.target if self.method == "tools/call" else None


def parse(request: CheckRequest) -> tuple[Call, Credentials]:
    """Read a `CheckRequest`.

    Raises:
        Malformed: with the reason's code and a sentence for the caller.

    """
    attributes = request.attributes
    extensions = attributes.context_extensions
    server = extensions.get(SERVER_EXTENSION) or None
    try:
        return _call(attributes, extensions.get(LISTENER_EXTENSION), server)
    except Malformed as fault:
        fault.server = server
        raise


def _call(attributes: AttributeContext, listener: str | None, server: str | None) -> tuple[Call, Credentials]:
    if listener not in ("users", "mesh"):
        raise Malformed(reasons.MALFORMED_REQUEST, "The route does not say which listener it belongs to.")
    http = attributes.request.http
    read = _read_headers(http)
    version = _version(_text(read, headers.PROTOCOL_VERSION))
    method, target = _asked(http.method, attributes, read)
    if http.method == "POST":
        _check_era(method, target, version, read)
    call = Call(
        "mesh" if listener == "mesh" else "users",
        server,
        method,
        target,
        _channel(_text(read, headers.ASSERTED_CHANNEL)),
        version,
        _session(read.get(headers.SESSION)),
    )
    certificate = attributes.source.certificate if listener == "mesh" else ""
    return call, Credentials(_bearer(read.get(headers.AUTHORIZATION)), certificate or None)


def _read_headers(http: AttributeContext.HttpRequest) -> dict[str, bytes]:
    """The headers that policy reads, by name. Envoy keeps duplicates apart in `header_map`."""
    if not http.HasField("header_map"):
        raise Malformed(reasons.MALFORMED_REQUEST, _NOT_RAW)
    read: dict[str, bytes] = {}
    for header in http.header_map.headers:
        name = header.key  # in lower case, as Envoy has every name
        if name not in _READ:
            continue
        if name in read:
            raise Malformed(reasons.MALFORMED_HEADER, f"The header {name} is repeated.")
        raw = read[name] = header.raw_value
        if name != headers.AUTHORIZATION and raw.translate(None, _PRINTABLE):
            raise _not_printable(name)
        if not raw and header.value:
            # Envoy has replaced what it could not decode: what the server sees may differ.
            raise Malformed(reasons.MALFORMED_REQUEST, _NOT_RAW)
    return read


def _text(read: dict[str, bytes], name: str) -> str | None:
    raw = read.get(name)
    return None if raw is None else raw.decode("ascii")


def _version(text: str | None) -> str | None:
    if text not in _VERSIONS and text is not None and _VERSION.fullmatch(text) is None:
        raise Malformed(reasons.MALFORMED_HEADER, f"The header {headers.PROTOCOL_VERSION} is not a version.")
    return text


def _bearer(raw: bytes | None) -> str | None:
    """The token of `Authorization`, RFC 6750 section 2.1: one pass over its bytes, in C."""
    if raw is None:
        return None
    beside_token = raw.translate(None, _TOKEN)
    if beside_token == b" " and raw[:7].lower() == b"bearer " and len(raw) > 7:
        return raw[7:].decode("ascii")
    if b"," in beside_token:
        # Envoy joins two Authorization headers with a comma; no token holds one.
        raise Malformed(reasons.MALFORMED_HEADER, "The header authorization is repeated or holds a comma.")
    if beside_token.translate(None, _PRINTABLE):
        raise _not_printable(headers.AUTHORIZATION)
    raise Malformed(reasons.TOKEN_MALFORMED, "Authorization is not a bearer token.")


def _not_printable(name: str) -> Malformed:
    return Malformed(reasons.MALFORMED_HEADER, f"The header {name} holds more than printable ASCII.")


def _channel(text: str | None) -> str | None:
    if text is not None and _CHANNEL.fullmatch(text) is None:
        raise Malformed(reasons.CHANNEL_MALFORMED, "X-Mcp-Channel is not a channel id.")
    return text


def _session(raw: bytes | None) -> bool:
    if raw is None:
        return False
    if not raw or b" " in raw or len(raw) > MAX_SESSION_CHARACTERS:
        raise Malformed(reasons.MALFORMED_HEADER, f"The header {headers.SESSION} is not of its form.")
    return True


def _asked(verb: str, attributes: AttributeContext, read: dict[str, bytes]) -> tuple[str, str | None]:
    """What is asked: an MCP method and its target."""
    metadata = attributes.metadata_context.filter_metadata
    inspected = MCP_NAMESPACE in metadata
    if verb in (STREAM_METHOD, END_METHOD):
        announced = read.get(headers.CONTENT_LENGTH, b"0") != b"0"
        if inspected or announced or attributes.request.http.raw_body:
            raise Malformed(reasons.MALFORMED_BODY, f"A {verb} carries no body.")
        return verb, None
    if verb != "POST":
        raise Malformed(reasons.MALFORMED_REQUEST, "MCP is spoken by POST, GET and DELETE.")
    if not inspected:
        raise Malformed(reasons.MALFORMED_BODY, "The body is not one JSON-RPC message.")
    return _message(metadata[MCP_NAMESPACE])


def _message(message: Struct) -> tuple[str, str | None]:
    """Method and target of one JSON-RPC message, as Envoy's MCP filter read it from the body."""
    fields = message.fields
    if fields["status"].string_value != "mcp_ok" or not fields["is_mcp_request"].bool_value:
        raise Malformed(reasons.MALFORMED_BODY, "The body is not one JSON-RPC message of MCP.")
    method = fields["method"].string_value
    if not method or len(method) > MAX_METHOD_CHARACTERS:
        raise Malformed(reasons.MALFORMED_MCP, "The message names no method.")
    if method in (STREAM_METHOD, END_METHOD):
        raise Malformed(reasons.MALFORMED_MCP, "GET and DELETE are methods of HTTP, not of MCP.")
    if method == ANSWER_METHOD and "params" in fields:
        # `result` beside `method` and `params`: the filter sees an answer, a lax server runs a call.
        raise Malformed(reasons.MALFORMED_MCP, "A response carries no method or params.")
    kind = _TARGETS.get(method)
    if kind is None:
        return method, None
    member, longest = kind
    # A number, a list or nothing reads as "": a name is a string or there is none.
    target = fields["params"].struct_value.fields[member].string_value
    if not target or len(target) > longest:
        raise Malformed(reasons.MALFORMED_MCP, f"{method} needs params.{member} as a string.")
    return method, target


def _check_era(method: str, target: str | None, version: str | None, read: dict[str, bytes]) -> None:
    """From 2026-07-28 on headers repeat what the body says. The body counts; a header that lies is refused.

    Envoy compares them for exactly the version it knows; a made-up later version would pass there.
    """
    named_method, named_target = _text(read, headers.METHOD), _text(read, headers.NAME)
    if version is not None and version >= STATELESS_SINCE:
        if named_method is None:
            raise Malformed(reasons.MALFORMED_MCP, "This protocol version needs the header Mcp-Method.")
        if named_target is None and method in _NAMED_IN_HEADER:
            raise Malformed(reasons.MALFORMED_MCP, "This method needs the header Mcp-Name.")
    if named_method is not None and named_method != method:
        raise Malformed(reasons.MALFORMED_MCP, "Mcp-Method and the body name different methods.")
    if named_target is not None and target is not None and _decoded(named_target) != target:
        raise Malformed(reasons.MALFORMED_MCP, "Mcp-Name and the body name different things.")


def _decoded(name: str) -> str | None:
    """`Mcp-Name`, which may come as `=?base64?...?=` where it is not ASCII; None where that can't be read."""
    match = _ENCODED_NAME.fullmatch(name)
    if match is None:
        return name
    try:
        return base64.b64decode(match[1], validate=True).decode()
    except (Base64Error, UnicodeDecodeError):
        return None

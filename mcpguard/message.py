"""One MCP message as it came over HTTP: strictly parsed, its headers held against its body. No I/O.

What the body says is what counts; a header that says otherwise is refused in every protocol version. The SDK
picks the era from `mcp-protocol-version` alone and ignores `mcp-method` and `mcp-name` in the older one, so a
gateway that trusts them there would let a body call anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from mcp.shared.inbound import NAME_BEARING_METHODS, decode_header_value
from mcp_types import PROTOCOL_VERSION_META_KEY
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from identity import strictjson
from identity.principal import JsonValue
from pdp import reasons
from pdp.headers import DECISION, IDENTITY, PROTOCOL_VERSION, SESSION
from pdp.methods import ANSWER_METHOD, END_METHOD, STREAM_METHOD
from pdp.reasons import Reason

MAX_BODY = 1024 * 1024
"""Bytes of a request's body; Envoy's MCP filter is held to the same."""
MAX_DEPTH = 64
_MAX_ID = 256

METHOD = "mcp-method"
NAME = "mcp-name"
CONTENT_TYPE = "content-type"

# Whoever reads the first copy and whoever reads the last would disagree, so each may stand once.
_SINGLE: Mapping[bytes, str] = MappingProxyType(
    {
        name.encode(): name
        for name in (
            IDENTITY,
            DECISION,
            PROTOCOL_VERSION,
            SESSION,
            METHOD,
            NAME,
            CONTENT_TYPE,
            "last-event-id",
        )
    }
)

# JSON-RPC 2.0, sections 4 and 5: there are no other members.
_REQUEST_MEMBERS = frozenset({"jsonrpc", "id", "method", "params"})
_ANSWER_MEMBERS = frozenset({"jsonrpc", "id", "result", "error"})

# What policy calls a request without a message, and an answer: a message that says so poses as one.
_NO_METHODS = frozenset({STREAM_METHOD, END_METHOD, ANSWER_METHOD})

# Where `params` names what the method is about.
TARGETS: Mapping[str, str] = MappingProxyType(
    {
        "tools/call": "name",
        "prompts/get": "name",
        "resources/read": "uri",
        "resources/subscribe": "uri",
        "resources/unsubscribe": "uri",
    }
)

RequestId: TypeAlias = str | int
RawHeaders: TypeAlias = Iterable[tuple[bytes, bytes]]


class Malformed(Exception):
    """The request can't be judged, so it is refused. `detail` never repeats what was sent."""

    def __init__(self, reason: Reason, detail: str, request_id: RequestId | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that policy has to allow."""

    method: str
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What one HTTP request asks for."""

    question: Question
    request_id: RequestId | None = None
    """None for a notification, an answer, GET and DELETE."""
    version: str | None = None
    session: bool = False
    also: tuple[Question, ...] = ()
    """What must be allowed besides, where one message is about several things."""


def read_headers(raw: RawHeaders) -> dict[str, str]:
    """Return the headers that are read here, by name; ASGI has the names in lower case.

    Raises:
        Malformed: one of them stands twice, or holds anything but visible ASCII.

    """
    found: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name = _SINGLE.get(raw_name)
        if name is None:
            continue
        if name in found:
            raise Malformed(reasons.MALFORMED_HEADER, f"{name} stands more than once")
        value = raw_value.decode("latin-1")
        if not (value.isascii() and (value.isprintable() or not value)):
            raise Malformed(reasons.MALFORMED_HEADER, f"{name} holds more than visible ASCII")
        found[name] = value
    return found


def bodiless(http_method: str, headers: Mapping[str, str], body: bytes) -> Message:
    """Describe a GET, which opens a stream, or a DELETE, which ends a session.

    Raises:
        Malformed: it brings a body, which nobody has judged.

    """
    if body:
        raise Malformed(reasons.MALFORMED_BODY, f"a {http_method} has no body")
    return Message(
        Question(http_method), version=headers.get(PROTOCOL_VERSION), session=bool(headers.get(SESSION))
    )


def parse(body: bytes, headers: Mapping[str, str]) -> Message:
    """Parse a POST.

    Raises:
        Malformed: it is not one JSON-RPC message, or its headers say something else.

    """
    if headers.get(CONTENT_TYPE, "").partition(";")[0].strip().lower() != "application/json":
        raise Malformed(reasons.MALFORMED_REQUEST, "a POST's content-type is application/json")
    try:
        value = strictjson.loads(body, MAX_DEPTH)
    except strictjson.JsonError as error:
        raise Malformed(reasons.MALFORMED_BODY, f"the body is not strict JSON: {error}") from None
    if not isinstance(value, dict):
        raise Malformed(reasons.MALFORMED_BODY, "the body is not one JSON-RPC message; MCP has no batches")
    request_id = _request_id(value)
    try:
        return _message(value, headers, request_id)
    except Malformed as error:
        raise Malformed(error.reason, error.detail, request_id) from None


def _request_id(value: Mapping[str, JsonValue]) -> RequestId | None:
    if "id" not in value:
        return None
    found = value["id"]
    if isinstance(found, bool) or not isinstance(found, (str, int)) or len(str(found)) > _MAX_ID:
        raise Malformed(reasons.MALFORMED_BODY, "a JSON-RPC id is a short string or an integer")
    return found


def _message(
    value: Mapping[str, JsonValue], headers: Mapping[str, str], request_id: RequestId | None
) -> Message:
    if value.get("jsonrpc") != "2.0":
        raise Malformed(reasons.MALFORMED_BODY, 'a JSON-RPC message says "jsonrpc": "2.0"')
    session, version = bool(headers.get(SESSION)), headers.get(PROTOCOL_VERSION)
    if "method" not in value:
        _check_answer(value, headers, request_id)
        return Message(Question(ANSWER_METHOD), None, version, session)
    method, params = value["method"], value.get("params")
    if value.keys() - _REQUEST_MEMBERS:
        # Among them `result` and `error`: a body with `method` beside one of them passes Envoy's MCP filter
        # as an answer, and the SDK executes it as a call.
        raise Malformed(reasons.MALFORMED_BODY, "a JSON-RPC request has a member that requests don't have")
    if not isinstance(method, str):
        raise Malformed(reasons.MALFORMED_BODY, "a JSON-RPC method is a string")
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise Malformed(reasons.MALFORMED_BODY, "MCP's params are an object")
    if method in _NO_METHODS:
        raise Malformed(reasons.MALFORMED_MCP, "the method is one that no message has")
    question, also = _questions(method, params)
    _check_headers(question, params, headers, is_request=request_id is not None)
    return Message(question, request_id, version, session, also)


def _check_answer(
    value: Mapping[str, JsonValue], headers: Mapping[str, str], request_id: RequestId | None
) -> None:
    """JSON-RPC 2.0, section 5: an answer has an id, and one of `result` and `error`."""
    if value.keys() - _ANSWER_MEMBERS or request_id is None or ("result" in value) == ("error" in value):
        raise Malformed(reasons.MALFORMED_BODY, "neither a JSON-RPC request nor an answer to one")
    if METHOD in headers or NAME in headers:
        raise Malformed(reasons.MALFORMED_MCP, "an answer has no method, but a header names one")


def _questions(method: str, params: Mapping[str, JsonValue]) -> tuple[Question, tuple[Question, ...]]:
    key = TARGETS.get(method)
    if key is not None:
        return Question(method, _string(params, key)), ()
    if method == "completion/complete":
        ref = params.get("ref")
        if not isinstance(ref, dict):
            raise Malformed(reasons.MALFORMED_BODY, "completion/complete needs params.ref")
        if ref.get("type") == "ref/prompt":
            return Question(method, _string(ref, "name")), ()
        return Question(method), (Question("resources/read", _string(ref, "uri")),)
    if method == "subscriptions/listen":
        wanted = params.get("notifications")
        uris = wanted.get("resourceSubscriptions") if isinstance(wanted, dict) else None
        return Question(method), tuple(_read(uri) for uri in (uris if isinstance(uris, list) else ()))
    return Question(method), ()


def _string(params: Mapping[str, JsonValue], key: str) -> str:
    value = params.get(key)
    if not isinstance(value, str):
        raise Malformed(reasons.MALFORMED_BODY, f"params lacks the string {key}")
    return value


def _read(uri: JsonValue) -> Question:
    if not isinstance(uri, str):
        raise Malformed(reasons.MALFORMED_BODY, "resourceSubscriptions are strings")
    return Question("resources/read", uri)


def _check_headers(
    question: Question, params: Mapping[str, JsonValue], headers: Mapping[str, str], *, is_request: bool
) -> None:
    """Hold each MCP header against the body, whatever the version: body and headers say the same, or nothing.

    From 2026-07-28 on a request must carry them. An unknown version is held to that as well; the SDK then
    answers which versions it speaks.
    """
    version, method, name = headers.get(PROTOCOL_VERSION), headers.get(METHOD), headers.get(NAME)
    meta = params.get("_meta")
    claimed = meta.get(PROTOCOL_VERSION_META_KEY) if isinstance(meta, dict) else None
    mandatory = is_request and version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS
    if method != question.method and (mandatory or method is not None):
        raise Malformed(reasons.MALFORMED_MCP, "the mcp-method header is not the body's method")
    target = question.target if question.method in NAME_BEARING_METHODS else None
    if (name is not None or (mandatory and target is not None)) and decode_header_value(name) != target:
        raise Malformed(reasons.MALFORMED_MCP, "the mcp-name header is not what the body names")
    if claimed is not None and claimed != version:
        raise Malformed(
            reasons.MALFORMED_MCP, "the mcp-protocol-version header is not the body's protocol version"
        )

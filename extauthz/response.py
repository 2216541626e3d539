"""A decision becomes Envoy's `CheckResponse`: an allow in `admission` alone, a denial in `deny` alone.

Envoy takes an empty `CheckResponse`, and `status.code = 0` beside a `denied_response`, for an allow; and a
header that an allow doesn't set passes through from the client. So every allow sets every header of
`pdp.headers.FORWARDED`, empty where there is nothing, and every denial carries a status that is not 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from extauthz.wire.ext_authz_pb2 import CheckResponse, HeaderValueOption
from pdp import headers, reasons
from pdp.reasons import Reason

MAX_NAMES: Final = 100
MAX_NAMES_BYTES: Final = 8 * 1024
MAX_BODY_BYTES: Final = 4096
"""Envoy cuts a longer body off (`max_denied_response_body_bytes`), and half a JSON document is none."""
RETRY_AFTER_SECONDS: Final = "5"

# google.rpc.Code and the JSON-RPC error code for each HTTP status of a reason that is decided here.
_RPC_CODES: Final = {400: 3, 401: 16, 403: 7, 503: 14}
_JSON_RPC_CODES: Final = {400: -32600, 401: -32001, 403: -32003, 503: -32000}

_OVERWRITE: Final = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
# Printable ASCII but the comma, which separates, and "%", which escapes: what a value keeps as it is.
_PLAIN: Final = "!\"#$&'()*+-./:;<=>?@[\\]^_`{|}~"


class TooManyNames(Exception):
    """More groups or roles than a header can carry. They are never cut short: a denial tells why."""


def encode_names(names: Iterable[str]) -> str:
    """A header's list of names: sorted, percent-encoded (all but RFC 3986 unreserved), joined with commas.

    Raises:
        TooManyNames: over 100 names or 8 KiB.

    """
    encoded = [quote(name, safe="") for name in sorted(names)]
    text = ",".join(encoded)
    if len(encoded) > MAX_NAMES or len(text) > MAX_NAMES_BYTES:
        raise TooManyNames(f"{len(encoded)} names of {len(text)} bytes")
    return text


def encode_value(value: str | None) -> str:
    """One value of a header: percent-encoded where it is not ASCII, a control, a space, a comma or "%"."""
    return quote(value, safe=_PLAIN) if value else ""


@dataclass(frozen=True, slots=True)
class Admission:
    """What every allow of one caller, server, surface, channel and rule has in common: all but its id.

    A serialized `CheckResponse`, cut where the decision's id stands. Ids are of one length, so any fits.
    """

    pieces: tuple[bytes, ...]


def admission(forwarded: Mapping[str, str], facts: Mapping[str, str | None], decision_id: str) -> Admission:
    """The one constructor of an allow; `forwarded` has a value for each of `pdp.headers.FORWARDED`.

    It is built for `decision_id`, which is random: nobody can have put it anywhere else in the response.

    Raises:
        KeyError: a forwarded header is missing: one that is not set is one that the client could forge.

    """
    response = CheckResponse()
    response.status.code = 0
    for name in headers.FORWARDED:
        _set_header(response.ok_response.headers.add(), name, forwarded[name])
    _set_header(response.ok_response.headers.add(), headers.DECISION, decision_id)
    response.ok_response.headers_to_remove.extend(headers.CONSUMED)
    _set_metadata(response, facts, decision_id)
    return Admission(tuple(response.SerializeToString().split(decision_id.encode("ascii"))))


def allow(admitted: Admission, decision_id: str) -> bytes:
    """An allow, as a serialized `CheckResponse`, under the id of this call's decision."""
    return decision_id.encode("ascii").join(admitted.pieces)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the caller is told of a denial."""

    reason: Reason
    decision_id: str
    detail: str = ""
    """One sentence; empty: the reason's own meaning."""
    support: str = ""
    request_access: str = ""
    resource_metadata: str = ""
    """URL of the RFC 9728 document of the server that was called."""


def deny(refusal: Refusal, facts: Mapping[str, str | None]) -> bytes:
    """The one constructor of a denial (400, 401, 403) and of "nobody can decide" (503)."""
    reason = refusal.reason
    response = CheckResponse()
    response.status.code = _RPC_CODES[reason.status]
    response.status.message = reason.code
    denied = response.denied_response
    denied.status.code = reason.status
    denied.body = _body(refusal)
    for name, value in _denial_headers(refusal):
        _set_header(denied.headers.add(), name, value)
    _set_metadata(response, facts, refusal.decision_id)
    return response.SerializeToString()


def _denial_headers(refusal: Refusal) -> list[tuple[str, str]]:
    pairs = [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        (headers.DECISION, refusal.decision_id),
    ]
    if refusal.reason.status == 401:
        pairs.append(("www-authenticate", _challenge(refusal)))
    if refusal.reason.status == 503:
        pairs.append(("retry-after", RETRY_AFTER_SECONDS))
    return pairs


def _challenge(refusal: Refusal) -> str:
    """`WWW-Authenticate`, RFC 6750 section 3: no `error` where the call simply brought no credentials."""
    parts = []
    if refusal.resource_metadata:
        parts.append(f'resource_metadata="{refusal.resource_metadata}"')
    if refusal.reason not in (reasons.CREDENTIALS_REQUIRED, reasons.LISTING_NEEDS_USER):
        # The reason's own sentence: nothing that a caller sent comes back in a header.
        parts += ['error="invalid_token"', f'error_description="{refusal.reason.meaning}"']
    return " ".join(["Bearer", ", ".join(parts)]) if parts else "Bearer"


def _body(refusal: Refusal) -> str:
    """A JSON-RPC error: what happened and whom to ask, and nothing of what exists."""
    reason = refusal.reason
    data = {"reason": reason.code, "decision_id": refusal.decision_id}
    told = {"support": refusal.support, "request_access": refusal.request_access, "help": reason.remedy}
    message = refusal.detail or reason.meaning
    body = _json_rpc(reason, message, data | {name: value for name, value in told.items() if value})
    if len(body) > MAX_BODY_BYTES:
        body = _json_rpc(reason, reason.meaning, data)
    return body


def _json_rpc(reason: Reason, message: str, data: Mapping[str, str]) -> str:
    error = {"code": _JSON_RPC_CODES[reason.status], "message": message, "data": data}
    return json.dumps({"jsonrpc": "2.0", "id": None, "error": error}, separators=(",", ":"))


def _set_header(option: HeaderValueOption, name: str, value: str) -> None:
    option.append_action = _OVERWRITE
    option.header.key = name
    option.header.value = value


def _set_metadata(response: CheckResponse, facts: Mapping[str, str | None], decision_id: str) -> None:
    """Facts for Envoy's access log, in the namespace `envoy.filters.http.ext_authz`."""
    fields = response.dynamic_metadata.fields
    fields["decision_id"].string_value = decision_id
    for name, value in facts.items():
        if value is not None:
            fields[name].string_value = value


def metadata_url(resource: str) -> str:
    """Where the RFC 9728 document of `resource`, a URL, stands (section 3.1)."""
    parts = urlsplit(resource)
    return f"{parts.scheme}://{parts.netloc}/.well-known/oauth-protected-resource{parts.path.rstrip('/')}"

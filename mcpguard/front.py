"""The only door of a server: ASGI, in front of the SDK.

It lets a request through that carries a valid identity assertion and one well-formed message that policy
allows; everything else ends here, before the SDK has seen a byte. `/healthz` and `/metrics` need no identity.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from identity.assertion import Assertion, AssertionVerifier
from identity.errors import IdentityError
from mcpguard import backends, confirmation_page
from mcpguard.admission import Admission, admit
from mcpguard.confirmation_page import ConfirmationPage
from mcpguard.guard import CALL, Guard
from mcpguard.message import MAX_BODY, Malformed, Message, bodiless, parse, read_headers
from mcpguard.refusal import Refusal, from_deny
from mcpguard.streams import Streams
from mcpguard.telemetry import Entry, Outcome, Telemetry, tool_label
from pdp import reasons
from pdp.headers import DECISION, IDENTITY
from pdp.methods import END_METHOD, STREAM_METHOD
from pdp.model import Allow, Deny
from pdp.reasons import Reason

_log = logging.getLogger("mcpguard")
_DECISION_ID = re.compile(r"[A-Za-z0-9]{16,64}")
_LASTING = frozenset({STREAM_METHOD, "subscriptions/listen", CALL})


class Refused(Exception):
    """The request ends here."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason.code)
        self.refusal = refusal


class Gone(Exception):
    """The client left before its request was whole."""


@dataclass(slots=True)
class Call:
    """What is known of one request so far; the log wants as much of it as there is."""

    started: float
    decision_id: str = ""
    """The one that ext_authz gave it, so that all logs agree; else one of our own."""
    message: Message | None = None
    assertion: Assertion | None = None


@dataclass(frozen=True, slots=True)
class Front:
    """The ASGI application of one server."""

    inner: ASGIApp
    path: str
    guard: Guard
    verifier: AssertionVerifier
    telemetry: Telemetry
    clock: Callable[[], float]
    page: ConfirmationPage
    streams: Streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.inner(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        # Anything else is a websocket; returning without an answer makes the server refuse it.

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The raw path: one spelling reaches the SDK, so no other can get around what stands before it.
        path, method = scope.get("raw_path") or scope["path"].encode(), scope["method"]
        if path == self.path.encode():
            await self._mcp(scope, receive, send)
        elif path == b"/healthz" and method in ("GET", "HEAD"):
            ready = self.guard.policy() is not None
            await _plain(send, 200 if ready else 503, b"ok\n" if ready else b"no policy in force\n")
        elif path == b"/metrics" and method in ("GET", "HEAD"):
            metrics = generate_latest(self.telemetry.registry) + generate_latest(backends.REGISTRY)
            await _answer(send, 200, CONTENT_TYPE_LATEST, metrics)
        elif path.startswith(confirmation_page.PATH) and method in ("GET", "POST"):
            await self._confirmation(scope, receive, send, path)
        else:
            await _plain(send, 404, b"not found\n")

    async def _mcp(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(time.perf_counter())
        try:
            body = await self._admit(call, scope, receive)
        except Refused as refused:
            await self._refuse(call, refused.refusal, send)
            return
        except Gone:
            return
        receive = _replay(body, receive)
        message, assertion = call.message, call.assertion
        if message is None or assertion is None or message.question.method not in _LASTING:
            await self.inner(scope, receive, send)
            return
        ended = partial(self._ended, assertion, message)
        reason = await self.streams.hold(self.inner, scope, receive, send, ended)
        if reason is not None:  # before any of the answer was sent
            await self._refuse(call, _refused(call, reason, request_id=message.request_id).refusal, send)

    async def _confirmation(self, scope: Scope, receive: Receive, send: Send, path: bytes) -> None:
        """Show or answer one question of URL mode to the person who was asked."""
        call = Call(time.perf_counter(), secrets.token_hex(16))
        try:
            call.assertion = self._verified(call, read_headers(scope["headers"]))
            body = await _read_body(receive)
        except Malformed as error:
            await self._refuse(call, Refusal(error.reason, call.decision_id, error.detail), send)
        except Refused as refused:
            await self._refuse(call, refused.refusal, send)
        except Gone:
            return
        else:
            record_id = path.removeprefix(confirmation_page.PATH).decode("latin-1")
            status, shown = await self.page.answer(call.assertion, scope["method"], record_id, body)
            await _answer(send, status, "application/json", json.dumps(shown).encode(), call.decision_id)

    async def _admit(self, call: Call, scope: Scope, receive: Receive) -> bytes:
        """Let one request in, or raise; returns the body that was read, to be read again by the SDK."""
        method = scope["method"]
        if method not in ("POST", STREAM_METHOD, END_METHOD):
            raise _refused(call, reasons.MALFORMED_REQUEST, "MCP has POST, GET and DELETE")
        try:
            headers = read_headers(scope["headers"])
            edge = headers.get(DECISION, "")
            call.decision_id = edge if _DECISION_ID.fullmatch(edge) else secrets.token_hex(16)
            call.assertion = self._verified(call, headers)
            body = await _read_body(receive)
            call.message = parse(body, headers) if method == "POST" else bodiless(method, headers, body)
        except Malformed as error:
            raise _refused(call, error.reason, error.detail, error.request_id) from None
        self._judge(call, call.assertion, call.message)
        scope["user"] = _user(call.assertion)
        admit(scope, Admission(call.assertion, call.message, call.decision_id))
        return body

    def _verified(self, call: Call, headers: dict[str, str]) -> Assertion:
        text = headers.get(IDENTITY)
        if not text:
            raise _refused(call, reasons.IDENTITY_REQUIRED)
        try:
            return self.verifier.verify(text, self.clock())
        except IdentityError as error:
            _log.warning("identity assertion refused: %s", error.detail)
            unavailable = error.code == reasons.KEYS_UNAVAILABLE.code
            reason = reasons.KEYS_UNAVAILABLE if unavailable else reasons.IDENTITY_INVALID
            raise _refused(call, reason) from None

    def _judge(self, call: Call, assertion: Assertion, message: Message) -> None:
        verdict = self.guard.judge(assertion, message, self.clock())
        label = tool_label(verdict.snapshot, self.guard.server, message.question)
        decision = verdict.decision
        if isinstance(decision, Allow):
            self.telemetry.decided("allow", label, "")
            return
        unavailable = not isinstance(decision, Deny) or decision.reason.status == 503
        self.telemetry.decided("unavailable" if unavailable else "deny", label, decision.reason.code)
        if isinstance(decision, Deny) and verdict.snapshot is not None:
            raise Refused(from_deny(decision, verdict.snapshot, call.decision_id, message.request_id))
        raise _refused(call, decision.reason, decision.detail, message.request_id)

    def _ended(self, assertion: Assertion, message: Message) -> Reason | None:
        """Why an answer's caller may no longer have it: expired, locked, or no longer allowed."""
        now = self.clock()
        if assertion.user is not None and assertion.user.expires <= now:
            return reasons.TOKEN_EXPIRED
        return self.guard.judge(assertion, message, now).reason

    async def _refuse(self, call: Call, refusal: Refusal, send: Send) -> None:
        status = refusal.reason.status
        outcome: Outcome = "malformed" if status == 400 else "unavailable" if status == 503 else "denied"
        if call.message is None:  # what policy decided is counted where it was asked
            self.telemetry.decided("unavailable" if status == 503 else "deny", "", refusal.reason.code)
        question = call.message.question if call.message else None
        seconds = time.perf_counter() - call.started
        entry = Entry(
            decision_id=refusal.decision_id,
            outcome=outcome,
            seconds=seconds,
            question=question,
            assertion=call.assertion,
            reason=refusal.reason.code,
            detail=refusal.detail,
        )
        self.telemetry.refused(entry, self.guard.policy())
        await _answer(send, status, "application/json", refusal.body(), call.decision_id)


def _refused(call: Call, reason: Reason, detail: str = "", request_id: str | int | None = None) -> Refused:
    call.decision_id = call.decision_id or secrets.token_hex(16)
    return Refused(Refusal(reason, call.decision_id, detail, request_id))


def _user(assertion: Assertion) -> AuthenticatedUser:
    """Whom the SDK binds a session to: this person, through this surface's client or workload."""
    user, workload = assertion.user, assertion.workload
    through = str(workload) if workload is not None else (user.client or "") if user is not None else ""
    if user is None:
        return _bound("spiffe", through, through)
    return _bound(user.issuer, user.key, through)


@lru_cache(4096)
def _bound(issuer: str, subject: str, through: str) -> AuthenticatedUser:
    """The SDK compares client, issuer and subject; a request on a session by anybody else gets 404."""
    # No token of a user ever reaches a server.
    return AuthenticatedUser(
        AccessToken(token="", client_id=through, scopes=[], subject=subject, claims={"iss": issuer})
    )


async def _read_body(receive: Receive) -> bytes:
    chunks = bytearray()
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise Gone
        chunks += event.get("body", b"")
        if len(chunks) > MAX_BODY:
            raise Malformed(reasons.MALFORMED_BODY, f"the body has more than {MAX_BODY} bytes")
        if not event.get("more_body", False):
            return bytes(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the SDK the body that was judged, then whatever the connection still brings."""
    pending = [body]

    async def again() -> Event:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return again


async def _plain(send: Send, status: int, body: bytes) -> None:
    await _answer(send, status, "text/plain; charset=utf-8", body)


async def _answer(send: Send, status: int, content_type: str, body: bytes, decision_id: str = "") -> None:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if decision_id:
        headers.append((DECISION.encode(), decision_id.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

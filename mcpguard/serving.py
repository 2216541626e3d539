"""Put one MCP server behind its front: build the ASGI application, and serve it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.mcpserver import MCPServer
from mcp.server.request_state import RequestStateBoundary
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Receive, Scope, Send

from identity.assertion import AssertionVerifier
from identity.errors import KeyFileError
from mcpguard import agreement
from mcpguard.authorize import HasFunction
from mcpguard.confirmation_page import ConfirmationPage
from mcpguard.confirmation_records import Records
from mcpguard.confirmation_setup import ConfirmationOptions, build, read_secrets, state_security
from mcpguard.front import Front
from mcpguard.guard import Guard
from mcpguard.listener import Listener, StartError, serve_forever
from mcpguard.message import MAX_BODY
from mcpguard.middleware import GuardMiddleware
from mcpguard.sources import KeyFile, Sources
from mcpguard.telemetry import Telemetry
from pdp.model import Snapshot
from pdp.store import PolicyStore

PATH = "/mcp"
_ALONE = ConfirmationOptions()

# The SDK doesn't look at Host and Origin: behind Envoy they are the public ones, which a server doesn't know.
# What that look is for, a web page that makes a browser on this host call a server here (DNS rebinding,
# CVE-2025-66416), is held off by what the page can't have: every request needs an assertion that ext_authz
# signed within the last minute, in a header that no browser adds by itself.
_TRANSPORT = TransportSecuritySettings(enable_dns_rebinding_protection=False)


@dataclass(frozen=True, slots=True)
class _Service:
    """The front, with the threads behind it started and stopped along with the application."""

    front: Front
    sources: Sources
    records: Records
    on_policy: Callable[[Snapshot], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.front(scope, receive, send)
            return
        self.sources.start(self.on_policy)
        try:
            await self.front(scope, receive, send)
        finally:
            self.sources.close()
            self.records.close()


def app(
    mcp: MCPServer[Any],
    *,
    server: str,
    policies: Path,
    reviewers: Path,
    identity_keys: Path,
    strict: bool = False,
    confirmations: ConfirmationOptions = _ALONE,
    clock: Callable[[], float] = time.time,
) -> ASGIApp:
    """Build the guarded ASGI application of one server; its lifespan must run.

    Without a usable policy it answers 503 until there is one. With `strict` it must be usable from the start,
    and every tool of the server must agree with it.

    Raises:
        StartError: the identity keys can't be read, confirmations can't be recorded as told, or `strict`
            has something to say.

    """
    try:
        sources = Sources(PolicyStore(policies, reviewers, clock=clock), KeyFile(identity_keys))
    except KeyFileError as error:
        raise StartError(f"identity keys: {error}") from None
    tools = mcp._tool_manager  # the SDK has no public way from a tool's name to its function
    telemetry = Telemetry(server)

    def on_policy(snapshot: Snapshot) -> None:
        found = agreement.differences(snapshot, server, tools.list_tools())
        telemetry.policy_in_force(agreement.report(found))

    snapshot = sources.load()
    if strict:
        _check(snapshot, server, tools.list_tools())
    if snapshot is not None:
        on_policy(snapshot)
    guard = Guard(server, sources.policy, tools.get_tool)
    secrets = read_secrets(confirmations)
    asking = build(confirmations, secrets, guard, tools.get_tool, registry=telemetry.registry, clock=clock)
    boundary = RequestStateBoundary(state_security(secrets, server), default_audience=server)
    mcp.middleware[:] = [
        GuardMiddleware(guard, asking, telemetry, clock),
        *(
            boundary if isinstance(other, RequestStateBoundary) else other
            for other in mcp.middleware
            if not isinstance(other, GuardMiddleware)
        ),
    ]
    inner = AuthContextMiddleware(
        mcp.streamable_http_app(
            streamable_http_path=PATH, transport_security=_TRANSPORT, max_request_body_size=MAX_BODY
        )
    )
    records = asking.ledger.records
    page = ConfirmationPage(server, records, clock)
    front = Front(inner, PATH, guard, AssertionVerifier(sources.keys, server), telemetry, clock, page)
    return _Service(front, sources, records, on_policy)


def serve(
    mcp: MCPServer[Any],
    *,
    server: str,
    policies: Path,
    reviewers: Path,
    identity_keys: Path,
    listen: str,
    strict: bool = False,
    confirmations: ConfirmationOptions = _ALONE,
    tls_certificate: Path | None = None,
    tls_key: Path | None = None,
    client_ca: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then let running calls end.

    `listen` is `HOST:PORT`, on loopback unless TLS is given; port 0 takes a free one. Once it listens it
    prints one JSON line with the address.

    Raises:
        StartError: it can't start as it was told to.

    """
    listener = Listener.parse(listen, tls_certificate, tls_key, client_ca)
    guarded = app(
        mcp,
        server=server,
        policies=policies,
        reviewers=reviewers,
        identity_keys=identity_keys,
        strict=strict,
        confirmations=confirmations,
    )
    serve_forever(guarded, listener, component=server)


def _check(snapshot: Snapshot | None, server: str, tools: list[Any]) -> None:
    """Refuse to start on what would otherwise be hidden, logged and counted."""
    if snapshot is None:
        raise StartError("the policy can't be loaded; the log says why")
    offered: list[HasFunction] = tools
    grave = [d for d in agreement.differences(snapshot, server, offered) if not d.harmless]
    if grave:
        raise StartError("; ".join(str(difference) for difference in grave))

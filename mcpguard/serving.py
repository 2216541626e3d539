"""Put one MCP server behind its front: build the ASGI application, and serve it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.mcpserver import MCPServer
from mcp.server.request_state import RequestStateBoundary
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from identity.assertion import AssertionVerifier
from identity.errors import KeyFileError
from mcpguard import agreement, backends, completeness, inventory, otlp
from mcpguard.authorize import HasFunction
from mcpguard.confirmation_page import ConfirmationPage
from mcpguard.confirmation_records import Records
from mcpguard.confirmation_setup import ConfirmationOptions, build, read_secrets, state_security
from mcpguard.front import Front
from mcpguard.guard import Guard
from mcpguard.listener import Listener, StartError, serve_forever
from mcpguard.message import MAX_BODY
from mcpguard.middleware import GuardMiddleware
from mcpguard.reporter import Reporter
from mcpguard.reporter_metrics import ReporterMetrics
from mcpguard.settings import Settings
from mcpguard.sources import KeyFile, Sources
from mcpguard.streams import Streams
from mcpguard.telemetry import Telemetry
from mcpguard.tools import GuardedTools
from pdp.model import Snapshot
from pdp.store import PolicyStore

PATH = "/mcp"
_ALONE = ConfirmationOptions()
_USUAL = Settings()
FLUSH = 5.0
"""Seconds that the last usage events get to reach the registry when a server stops."""

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
    reporter: Reporter
    export: otlp.Export
    on_policy: Callable[[Snapshot], None]
    on_start: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.front(scope, receive, send)
            return
        self.sources.start(self.on_policy)
        self.reporter.start()
        self.export.start()
        self.on_start()

        async def last(event: Message) -> None:
            if event["type"].startswith("lifespan.shutdown."):
                # Nobody waits for us once this is sent.
                await anyio.to_thread.run_sync(self.reporter.close, FLUSH)
                await anyio.to_thread.run_sync(self.export.close)
            await send(event)

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self.front.streams.sweep)
                await self.front(scope, receive, last)
                group.cancel_scope.cancel()
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
    settings: Settings = _USUAL,
    clock: Callable[[], float] = time.time,
) -> ASGIApp:
    """Build the guarded ASGI application of one server; its lifespan must run.

    Without a usable policy it answers 503 until there is one. With `strict` it must be usable from the start,
    and every tool of the server must agree with it.

    Raises:
        StartError: the identity keys can't be read, confirmations or usage can't be recorded as told, or
            `strict` has something to say.

    """
    try:
        sources = Sources(PolicyStore(policies, reviewers, clock=clock), KeyFile(identity_keys))
    except KeyFileError as error:
        raise StartError(f"identity keys: {error}") from None
    reporter = settings.reporter()

    def report_tools() -> None:
        snapshot = sources.policy()
        entries = inventory.tools(tools.list_tools())
        reporter.put(inventory.event(server, entries, snapshot.digest if snapshot else None, clock()))

    # The SDK has no public way from a tool's name to its function, nor around its call.
    tools = GuardedTools(mcp._tool_manager, settings.limits, report_tools)
    mcp._tool_manager = tools
    telemetry = Telemetry(server, reporter.put, clock)
    telemetry.registry.register(ReporterMetrics(server, reporter))

    def on_policy(snapshot: Snapshot) -> None:
        found = agreement.differences(snapshot, server, tools.list_tools())
        telemetry.policy_in_force(agreement.report(found))

    snapshot = sources.load()
    lacks = completeness.missing(tools.list_tools())
    if strict:
        _check(snapshot, server, tools.list_tools(), lacks)
    completeness.report(lacks)
    if snapshot is not None:
        on_policy(snapshot)
    guard = Guard(server, sources.policy, tools.get_tool)
    secrets = read_secrets(confirmations)
    asking = build(confirmations, secrets, guard, tools.get_tool, registry=telemetry.registry, clock=clock)
    boundary = RequestStateBoundary(state_security(secrets, server), default_audience=server)
    mcp.middleware[:] = [
        GuardMiddleware(
            guard=guard,
            confirmations=asking,
            limits_of=tools.limits_of,
            payloads=settings.logged_payloads(),
            telemetry=telemetry,
            clock=clock,
        ),
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
    verifier = AssertionVerifier(sources.keys, server)
    front = Front(inner, PATH, guard, verifier, telemetry, clock, page, Streams())
    export = otlp.export(settings.otlp, server, (telemetry.registry, backends.REGISTRY))
    return _Service(front, sources, records, reporter, export, on_policy, report_tools)


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
    settings: Settings = _USUAL,
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
        settings=settings,
    )
    serve_forever(guarded, listener, component=server)


def _check(snapshot: Snapshot | None, server: str, tools: list[Any], lacks: tuple[str, ...]) -> None:
    """Refuse to start on what would otherwise be hidden, logged and counted."""
    if snapshot is None:
        raise StartError("the policy can't be loaded; the log says why")
    offered: list[HasFunction] = tools
    grave = [d for d in agreement.differences(snapshot, server, offered) if not d.harmless]
    if grave or lacks:
        raise StartError("; ".join((*map(str, grave), *lacks)))

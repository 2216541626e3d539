"""On whose behalf a tool works: what the engine is told of the call's verified caller."""

from __future__ import annotations

from mcp.server.mcpserver.exceptions import ToolError

from mcpguard.current import current
from mcpguard.tracing import trace_headers
from servers.presto.engine import Asker


def asker() -> Asker:
    """Return the caller of the tool that runs, also while a confirmation is being prepared.

    Raises:
        ToolError: there is no admitted call, so nobody to work for.

    """
    call = current()
    if call is None:
        raise ToolError("This call has no verified caller. Call through the gateway.")
    assertion = call.admission.assertion
    user = assertion.user
    return Asker(
        key=f"user:{user.key}" if user is not None else f"workload:{assertion.workload}",
        issuer=user.issuer if user is not None else None,
        user=user.subject if user is not None else None,
        surface=assertion.surface,
        headers=trace_headers(),
    )

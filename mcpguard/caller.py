"""Who calls: what a tool may know of its caller, verified."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context

from identity.assertion import Assertion
from mcpguard.admission import admitted


def caller(ctx: Context[Any, Any]) -> Assertion:
    """Return the verified identity behind the call that a tool is running for.

    Ask for it on each call and never keep it: in a session every request carries an identity of its own.

    Raises:
        LookupError: there is no admitted call, so nobody to speak of. A tool that goes by who calls fails.

    """
    admission = admitted(ctx.request_context.request)
    if admission is None:
        raise LookupError("this call was not admitted by mcpguard")
    return admission.assertion

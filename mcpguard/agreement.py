"""Where a server's code and its policy differ, tool by tool."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from mcpguard.authorize import HasFunction, authorization_of, disagreement
from mcpguard.logs import FIELDS
from pdp.model import Location, Snapshot

NOT_OFFERED = "tool_not_offered"
"""Policy names a tool that the server doesn't have. Harmless: a policy may be ahead of its server."""

_log = logging.getLogger("mcpguard")


@dataclass(frozen=True, slots=True)
class Difference:
    """One tool that code and policy don't agree on."""

    tool: str
    reason: str
    said: str
    location: Location | None
    """Where policy names the tool, or the server where it doesn't name it."""

    @property
    def harmless(self) -> bool:
        return self.reason == NOT_OFFERED

    def __str__(self) -> str:
        return f"tool {self.tool!r}: {self.said}" + (f" ({self.location})" if self.location else "")


def differences(snapshot: Snapshot, server: str, offered: Iterable[HasFunction]) -> tuple[Difference, ...]:
    """Compare all tools of a server with the policy in force."""
    described = snapshot.servers.get(server)
    named = described.tools if described is not None else {}
    found: list[Difference] = []
    tools = {tool.name: tool for tool in offered}
    for name, tool in tools.items():
        entry = named.get(name)
        reason = disagreement(tool, entry)
        if reason is None:
            continue
        location = entry.location if entry is not None else described.location if described else None
        found.append(Difference(name, reason.code, _said(tool, entry.policy if entry else None), location))
    found += [
        Difference(name, NOT_OFFERED, "policy names it, the server does not offer it", entry.location)
        for name, entry in named.items()
        if name not in tools
    ]
    if described is None:
        found.append(Difference("*", "server_unknown", f"policy has no server {server!r}", None))
    return tuple(found)


def _said(tool: HasFunction, policy: str | None) -> str:
    said = authorization_of(tool.fn)
    if said is None or said.policy == policy:
        return "policy does not name it"
    return f"the code says policy={said.policy!r}, the YAML says policy={policy!r}"


def report(found: Iterable[Difference]) -> dict[str, int]:
    """Log each difference and count them by reason."""
    counts: Counter[str] = Counter()
    for difference in found:
        counts[difference.reason] += 1
        level = logging.INFO if difference.harmless else logging.ERROR
        fields = {"tool": difference.tool, "reason": difference.reason, "at": str(difference.location or "")}
        _log.log(level, "%s", difference, extra={FIELDS: fields})
    return dict(counts)

"""Root causes that people recorded: two tools, and what diagnosis looks up."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Annotated, Any, TypeVar

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ToolAnnotations
from pydantic import Field

from mcpguard import authorize_tool
from mcpguard.caller import caller
from servers.spark import shaping
from servers.spark.answer import result, told
from servers.spark.records import NewRecord, Record, Records, words
from servers.spark.results import RootCause, RootCauseList

FINGERPRINT = r"[a-z][a-z-]{1,40}-[0-9a-f]{12}"
MAX_FOUND = 50
KNOWN_EACH = 3

_READ_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False)
_WRITES = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
)

Answer = TypeVar("Answer")


class Causes:
    """The store, beside the event loop."""

    def __init__(self, records: Records, clock: Callable[[], float] = time.time) -> None:
        self._records = records
        self._clock = clock

    async def known(self, fingerprints: Iterable[str]) -> Mapping[str, list[Record]]:
        """Return what was recorded for each fingerprint, if anything."""
        wanted = list(dict.fromkeys(fingerprints))

        def look() -> Mapping[str, list[Record]]:
            return {one: self._records.by_fingerprint(one, KNOWN_EACH) for one in wanted}

        return await anyio.to_thread.run_sync(look) if wanted else {}

    async def search(self, query: str, limit: int) -> list[Record]:
        """Return what was recorded, by a fingerprint or by words."""
        by = self._records.by_fingerprint if re.fullmatch(FINGERPRINT, query) else self._records.by_words
        return await anyio.to_thread.run_sync(partial(by, query, limit))

    async def add(self, record: NewRecord) -> Record:
        """Keep one."""
        return await anyio.to_thread.run_sync(partial(self._records.add, record, self._clock()))


def add_causes(mcp: MCPServer[dict[str, Any]], causes: Causes) -> None:
    """Add the two tools."""

    @mcp.tool(title="Search root causes", annotations=_READ_ONLY)
    @authorize_tool()
    async def search_root_causes(
        query: Annotated[
            str,
            Field(
                description="A fingerprint from a diagnosis, or words of the trouble",
                min_length=1,
                max_length=300,
            ),
        ],
        limit: Annotated[int, Field(description="At most this many", ge=1, le=MAX_FOUND)] = 10,
    ) -> Annotated[CallToolResult, RootCauseList]:
        """Search what people recorded as root causes of earlier trouble, with what mended it."""
        query = query.strip()
        if not words(query):
            raise ToolError("Give a fingerprint, or at least one word.")
        with told():
            found = await causes.search(query, limit + 1)
        truncated = len(found) > limit
        answer: RootCauseList = {
            "root_causes": [shaping.root_cause(record) for record in found[:limit]],
            "truncated": truncated,
            "more": "Raise `limit`, or give more telling words." if truncated else "",
        }
        return result(answer)

    async def preview(fingerprint: str) -> str:
        with told():
            known = await causes.search(fingerprint, KNOWN_EACH)
        if not known:
            return "It is the first root cause recorded for this trouble."
        said = "; ".join(f"{record.title} ({record.author}, {record.recorded[:10]})" for record in known)
        return f"Recorded for this trouble before: {said}."

    @mcp.tool(title="Record a root cause", annotations=_WRITES)
    @authorize_tool(policy="engineers-only", preview=preview)
    async def record_root_cause(
        ctx: Context[dict[str, Any], Any],
        *,
        fingerprint: Annotated[
            str,
            Field(
                description="Of the finding it explains, from diagnose_failure", pattern=f"^{FINGERPRINT}$"
            ),
        ],
        title: Annotated[str, Field(description="The trouble in one line", min_length=5, max_length=200)],
        cause: Annotated[str, Field(description="Why it happened", min_length=5, max_length=2000)],
        fix: Annotated[str, Field(description="What mended it", min_length=5, max_length=2000)],
        application: Annotated[
            str, Field(description="The `id` of a run that had it; may be empty", max_length=300)
        ] = "",
    ) -> Annotated[CallToolResult, RootCause]:
        """Record why some trouble happened and what mended it, for whoever has it next.

        Record only what a person has confirmed: it is shown to others as the known cause.
        """
        user = caller(ctx).user
        record = NewRecord(fingerprint, title, cause, fix, application, user.key if user is not None else "")
        with told():
            added = await causes.add(record)
        return result(shaping.root_cause(added))

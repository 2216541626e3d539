"""Ask an engine from the event loop: in a thread, measured, with its refusals as tool errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread
from mcp.server.mcpserver.exceptions import ToolError

from mcpguard.backends import backend
from servers.presto.engine import Engine, EngineError
from servers.presto.names import UnknownName
from servers.presto.sqlguard import SqlRefused

_T = TypeVar("_T")


async def ask(engine: Engine, work: Callable[[], _T], *, abandon: bool = True) -> _T:
    """Run `work` in a thread; with `abandon` it goes on alone where the caller goes away.

    Raises:
        ToolError: what the engine or the guard refused, for the model.

    """

    def measured() -> _T:
        with backend(engine.name):
            return work()

    try:
        return await anyio.to_thread.run_sync(measured, abandon_on_cancel=abandon)
    except (EngineError, SqlRefused, UnknownName) as refused:
        raise ToolError(str(refused)) from None

"""A server with one trivial tool, `bare` on the SDK alone or `guarded` by mcpguard. `python -m bench.mcp_server`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import Field

from mcpguard import Settings, logs, serve
from mcpguard.listener import Listener, configure

NAME = "server-0000"


def build() -> MCPServer[Any]:
    mcp: MCPServer[Any] = MCPServer(NAME, log_level="WARNING")

    @mcp.tool()
    async def tool_0(text: Annotated[str, Field(description="Said back")]) -> str:
        """Say it back."""
        return text

    return mcp


async def _serve(server: uvicorn.Server) -> None:
    bound = Listener.parse("127.0.0.1:0").bind()
    print(json.dumps({"listen": f"127.0.0.1:{bound.getsockname()[1]}"}), flush=True)
    await server.serve(sockets=[bound])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=("bare", "guarded"))
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    mcp, folder = build(), options.folder
    if options.way == "bare":
        logging.basicConfig(level=logging.WARNING)
        logging.getLogger("mcp").setLevel(logging.WARNING)
        security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        # The SDK's own way to serve: uvicorn, over the same HTTP/1.1 implementation.
        config = configure(
            mcp.streamable_http_app(transport_security=security), Listener.parse("127.0.0.1:0")
        )
        asyncio.run(_serve(uvicorn.Server(config)))
        return
    logs.configure()
    serve(
        mcp,
        server=NAME,
        policies=folder / "policies",
        reviewers=folder / "reviewers.yaml",
        identity_keys=folder / "public.jwks",
        listen="127.0.0.1:0",
        settings=Settings(usage_file=folder / "usage.jsonl"),
    )


if __name__ == "__main__":
    main()

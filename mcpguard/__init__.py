"""The library a server team uses: write tools, say which rule each asks for, and serve them.

from mcp.server.mcpserver import MCPServer
from mcpguard import authorize_tool, run

mcp = MCPServer("presto")

@mcp.tool()
@authorize_tool(policy="ads-eng-only")
def get_revenue_metrics(...): ...

run(mcp, server="presto")
"""

from mcpguard.authorize import authorize_tool
from mcpguard.backends import backend
from mcpguard.caller import caller
from mcpguard.command import arguments, run
from mcpguard.limits import Limits, limits
from mcpguard.listener import StartError
from mcpguard.serving import app, serve
from mcpguard.settings import Settings
from mcpguard.tracing import trace_headers

__all__ = [
    "Limits",
    "Settings",
    "StartError",
    "app",
    "arguments",
    "authorize_tool",
    "backend",
    "caller",
    "limits",
    "run",
    "serve",
    "trace_headers",
]

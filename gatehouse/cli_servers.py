"""`gatehouse new-server`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatehouse.cli_options import StateFolder, state_of
from gatehouse.console import give


def new_server(
    name: Annotated[str, typer.Argument(help="The server's name: a-z, 0-9 and '-'.", show_default=False)],
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="Where to write it (default: a folder called NAME).", show_default=False),
    ] = None,
    state: StateFolder = None,
) -> int:
    """Write a server to fill in: a Python file with a sample tool, its policy, its test.

    From then on `gatehouse up` starts it too. It is experimental: it needs no review, and is called from the
    development surface `notebook`. Nothing that is there is overwritten.
    """
    from gatehouse.new_server import new_server as write

    give(write(state_of(state), name, folder))
    return 0

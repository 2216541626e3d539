"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gatehouse.state import DEFAULT, State

StateFolder = Annotated[
    Path | None,
    typer.Option(
        "--state", help="State folder (default: $GATEHOUSE_STATE or .gatehouse).", show_default=False
    ),
]
Policies = Annotated[Path | None, typer.Option("--policies", help="Policy folder.", show_default=False)]
Reviewers = Annotated[
    Path | None, typer.Option("--reviewers", help="Who may approve which kind of review.", show_default=False)
]
Deployment = Annotated[
    Path | None,
    typer.Option("--deployment", help="Where things run. Port 0 is any free port.", show_default=False),
]
JsonOutput = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def state_of(folder: Path | None) -> State:
    """The state folder: the option, else the environment's GATEHOUSE_STATE, else `.gatehouse` here."""
    return State(folder or Path(os.environ.get("GATEHOUSE_STATE") or DEFAULT))

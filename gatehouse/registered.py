"""Servers of teams, registered by `gatehouse new-server`, that `gatehouse up` starts beside its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gatehouse.errors import Failure
from gatehouse.people import NOTEBOOK
from gatehouse.state import State, write

EXAMPLE = ("--as", "dino", "--service", NOTEBOOK.removeprefix("spiffe://corp.example/"))
"""From the notebook, since production surfaces don't reach an experimental server."""


@dataclass(frozen=True, slots=True)
class Registered:
    """One server of a team: the Python file that serves it, and its policy."""

    name: str
    program: Path
    policy: Path

    @property
    def example(self) -> tuple[str, ...]:
        """A call of it that any state of its tools can answer: it lists them."""
        return EXAMPLE


def servers(state: State) -> tuple[Registered, ...]:
    """All that are registered.

    Raises:
        Failure: the file doesn't hold what was written to it.

    """
    try:
        parsed = json.loads(state.servers.read_bytes())
        return tuple(
            Registered(name, Path(files["program"]), Path(files["policy"])) for name, files in parsed.items()
        )
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Failure(f"cannot read {state.servers}: {error}", "mend it, or delete it") from error


def register(state: State, server: Registered) -> None:
    """Have `gatehouse up` start it from now on."""
    _write(state, [other for other in servers(state) if other.name != server.name] + [server])


def forget_lost(state: State, say: Callable[[str], None]) -> None:
    """Take those off the list whose program or policy is gone."""
    known = servers(state)
    kept = []
    for server in known:
        lost = [path for path in (server.program, server.policy) if not path.is_file()]
        if lost:
            say(f"  {server.name} is no longer started: {lost[0]} is gone")
        else:
            kept.append(server)
    if len(kept) != len(known):
        _write(state, kept)


def _write(state: State, known: list[Registered]) -> None:
    entries = {s.name: {"program": str(s.program), "policy": str(s.policy)} for s in known}
    write(state.servers, json.dumps(entries, indent=2))

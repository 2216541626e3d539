"""`gatehouse new-server`: a server that works, for a team to fill in, registered with `gatehouse up`."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from gatehouse import registered
from gatehouse.errors import Failure, UsageFailure
from gatehouse.programs import SEEDS
from gatehouse.registered import Registered
from gatehouse.shipped import POLICIES, shipped
from gatehouse.state import State
from gatehouse.up import command, state_flag
from pdp.fields import NAME_PATTERN

_COMPONENTS = frozenset({"issuer", "extauthz", "xds", "envoy"})
"""Names of other processes of the stack, by which their logs are called too."""
TOOL = ("look_up", "name=kettle")
"""A call of the sample tool."""


@dataclass(frozen=True, slots=True)
class Files:
    """The three files of one server."""

    program: Path
    policy: Path
    test: Path

    @property
    def all(self) -> tuple[Path, ...]:
        return self.program, self.policy, self.test


def new_server(state: State, name: str, folder: Path | None) -> str:
    """Write the files and register the server; returns what to do next.

    Where all three files are there already they stay, and are registered with this state folder.

    Raises:
        Failure: the name is taken, or some of the files are there.

    """
    _check_name(state, name)
    target = folder or Path(name)
    made = _files(name, target)
    there = [path for path in made.all if path.exists()]
    if there and len(there) < len(made.all):
        raise Failure(
            f"{there[0]} is there already: nothing was written",
            "choose another name or --dir, or move it away",
        )
    if not there:
        _write(made, _values(name, target))
    registered.register(state, Registered(name, made.program.absolute(), made.policy.absolute()))
    return _next_steps(state, name, made, written=not there)


def _files(name: str, folder: Path) -> Files:
    module = _module(name)
    return Files(folder / f"{module}_server.py", folder / f"{name}.yaml", folder / f"test_{module}_server.py")


def _module(name: str) -> str:
    return name.replace("-", "_")


def _check_name(state: State, name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name) or name[0].isdecimal():
        raise UsageFailure(
            f"{name!r} can't be a server's name",
            "use a-z, 0-9 and '-', a letter first, at most 63 characters",
        )
    if name in _COMPONENTS:
        raise UsageFailure(f"{name!r} is what a part of the stack is called", "choose another name")
    where = _taken(state, name)
    if where is not None:
        raise Failure(f"there is a server {name!r} already: {where}", "choose another name")


def _taken(state: State, name: str) -> str | None:
    """Where a server of this name comes from, if it isn't this command."""
    if any(seed.name == name for seed in SEEDS):
        return f"servers/{name}"
    for folder in (state.policies, shipped(POLICIES)):
        path = folder / "servers" / f"{name}.yaml"
        if path.exists() and not path.is_symlink():
            return str(path)
    return None


def _values(name: str, folder: Path) -> Mapping[str, str]:
    schema = os.path.relpath(shipped("docs/schema/server.json"), folder)
    return {
        "name": name,
        "module": _module(name),
        "title": name.replace("-", " ").capitalize(),
        "schema": schema,
    }


def _write(made: Files, values: Mapping[str, str]) -> None:
    """Write all three or, where one can't be written, none."""
    templates = files("gatehouse").joinpath("template")
    written: list[Path] = []
    try:
        made.program.parent.mkdir(parents=True, exist_ok=True)
        for path, template in zip(made.all, ("server.py", "policy.yaml", "test_server.py"), strict=True):
            text = Template(templates.joinpath(f"{template}.tmpl").read_text("utf-8")).substitute(values)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise Failure(f"cannot write {error.filename}: {error.strerror}") from error


def _next_steps(state: State, name: str, made: Files, *, written: bool) -> str:
    ours, flag = command(), state_flag(state)
    call = shlex.join((ours, "call", name, *TOOL, *registered.EXAMPLE, *flag))
    up = shlex.join((ours, "up", *flag))
    pytest = shlex.join((os.path.join(os.path.dirname(ours), "pytest"), str(made.program.parent)))
    what = ("its tools; look_up is a sample", "its policy: who may call them", "its test")
    width = max(len(str(path)) for path in made.all)
    rows = "\n".join(f"  {path!s:<{width}}  {says}" for path, says in zip(made.all, what, strict=True))
    done = "Written and registered" if written else "The files were there; they are registered"
    return f"""\
{done}: `gatehouse up` starts {name} too.
{rows}

Next:
  {pytest}
  {up}    # anew, if it runs already
  {call}

An edit of {made.policy.name} is in force within a second. docs/server.md goes on from here."""

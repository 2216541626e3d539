"""The MCP servers that a local stack starts: this repository's, as data, and those that teams registered."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

from gatehouse import registered
from gatehouse.state import State


@dataclass(frozen=True, slots=True)
class Seed:
    """A server of this repository: the module `servers.NAME`."""

    name: str
    libraries: tuple[str, ...]
    """What its extra installs, by import name: it starts only where all of them are there."""
    options: tuple[str, ...]
    """Its own options for the embedded engine; `{data}` is the server's folder within the state folder."""
    example: tuple[str, ...]
    """A first call of it, as arguments of `gatehouse call`."""


SEEDS: tuple[Seed, ...] = (
    Seed(
        "presto",
        ("duckdb", "sqlglot"),
        ("--database", "{data}/warehouse.duckdb"),
        ("list_tables", "--as", "ana"),
    ),
    Seed(
        "spark",
        ("httpx", "zstandard"),
        ("--event-logs", "{data}/event-logs", "--database", "{data}/root-causes.sqlite"),
        ("list_applications", "--as", "ana"),
    ),
    Seed(
        "knowledge",
        ("httpx", "lxml", "markdown_it"),
        ("--documents", "{data}/documents", "--index", "{data}/index"),
        ("search", "query=guardrail", "--as", "sam"),
    ),
    Seed(
        "airflow",
        (),
        ("--dags", "{data}/dags", "--state", "{data}/runs.sqlite"),
        ("list_dags", "--as", "ana"),
    ),
)
"""In the order in which they are shown. A fifth is one entry here, its policy, and its endpoint."""

_ALL = ("--confirmations", "{data}/confirmations.sqlite", "--usage-file", "{usage}")
"""Options of `mcpguard`, for every server."""


@dataclass(frozen=True, slots=True)
class Program:
    """A server that this machine can run."""

    name: str
    command: tuple[str, ...]
    """What Python is to run: a module or a file."""
    options: tuple[str, ...]
    example: tuple[str, ...]


def installed(seed: Seed) -> bool:
    """Whether everything that the server needs can be imported."""
    modules = (f"servers.{seed.name}", *seed.libraries)
    return all(importlib.util.find_spec(name) is not None for name in modules)


def known(state: State) -> Mapping[str, Program]:
    """Every server that can be started from this state folder, by name."""
    found = {seed.name: _seed(seed, state) for seed in SEEDS if installed(seed)}
    found |= {server.name: _registered(server, state) for server in registered.servers(state)}
    return found


def missing() -> tuple[str, ...]:
    """Seed servers whose extra isn't installed."""
    return tuple(seed.name for seed in SEEDS if not installed(seed))


def _seed(seed: Seed, state: State) -> Program:
    # -P: a folder that happens to be called like a package of ours stands in nobody's way
    command = ("-P", "-m", f"servers.{seed.name}")
    return Program(seed.name, command, _filled((*seed.options, *_ALL), state, seed.name), seed.example)


def _registered(server: registered.Registered, state: State) -> Program:
    return Program(server.name, (str(server.program),), _filled(_ALL, state, server.name), server.example)


def _filled(options: tuple[str, ...], state: State, name: str) -> tuple[str, ...]:
    return tuple(option.format(data=state.data(name), usage=state.usage) for option in options)

"""`python -m servers.airflow`: serve the embedded runner, or an Airflow 3."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mcpguard import arguments, run
from servers.airflow.embedded.engine import EmbeddedEngine
from servers.airflow.engine import Engine, EngineError
from servers.airflow.rest.client import Client, ConfigurationError, Password, Token
from servers.airflow.rest.engine import RestEngine
from servers.airflow.sample import ensure_sample
from servers.airflow.tools import build

_PREFIX = "GATEHOUSE_AIRFLOW_"


def _options() -> argparse.Namespace:
    parser = arguments("airflow")
    add = parser.add_argument
    add(
        "--dags",
        type=Path,
        metavar="DIR",
        help="embedded: a folder of DAG files; where there is none it is made, with samples",
    )
    add("--state", type=Path, metavar="FILE", help="embedded: the SQLite file that remembers runs and logs")
    add("--at-once", type=int, default=4, metavar="N", help="embedded: tasks at the same time (default: 4)")
    add(
        "--pass-env",
        action="append",
        default=[],
        metavar="NAME",
        help="embedded: a variable of this environment that DAG files may pass to their tasks; repeatable",
    )
    add(
        "--airflow",
        default=os.environ.get(_PREFIX + "URL"),
        metavar="URL",
        help=f"an Airflow 3 to ask instead (or {_PREFIX}URL)",
    )
    add("--airflow-ca", type=Path, metavar="FILE", help="the CA of its certificate, if not a public one")
    options = parser.parse_args()
    if options.airflow is None and (options.dags is None or options.state is None):
        parser.error("give --dags and --state, or --airflow")
    if options.airflow is not None and (options.dags is not None or options.state is not None):
        parser.error("--airflow excludes --dags and --state")
    if not 1 <= options.at_once <= 64:
        parser.error("--at-once is from 1 to 64")
    if any(name.startswith(_PREFIX) for name in options.pass_env):
        parser.error(f"--pass-env can't name {_PREFIX}…: those are the server's own secrets")
    return options


def _credentials() -> Password | Token:
    """Read them from the environment only: a command line is there for every process to see."""
    found = {name: os.environ.get(_PREFIX + name, "") for name in ("TOKEN", "USERNAME", "PASSWORD")}
    if found["TOKEN"]:
        return Token(found["TOKEN"])
    if found["USERNAME"] and found["PASSWORD"]:
        return Password(found["USERNAME"], found["PASSWORD"])
    raise ConfigurationError(f"set {_PREFIX}USERNAME and {_PREFIX}PASSWORD, or {_PREFIX}TOKEN")


def _engine(options: argparse.Namespace) -> Engine:
    if options.airflow is not None:
        return RestEngine(Client(options.airflow, _credentials(), ca=options.airflow_ca))
    ensure_sample(options.dags)
    return EmbeddedEngine(
        options.dags,
        options.state,
        environment=os.environ,
        at_once=options.at_once,
        pass_env=frozenset(options.pass_env),
    )


given = _options()
try:
    engine = _engine(given)
except (EngineError, ConfigurationError, OSError) as error:
    sys.exit(f"airflow: {error}")
try:
    run(build(engine), server="airflow", parsed=given)
finally:
    engine.close()

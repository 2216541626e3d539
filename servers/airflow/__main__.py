"""`python -m servers.airflow`: serve the embedded runner, or an Airflow 3."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mcpguard import arguments, run
from servers.airflow.embedded.engine import EmbeddedEngine
from servers.airflow.engine import Engine, EngineError
from servers.airflow.sample import ensure_sample
from servers.airflow.tools import build

_ENV = "GATEHOUSE_AIRFLOW_"


def options() -> argparse.Namespace:
    """Parse the command line; a setting that is not there comes from the environment."""
    parser = arguments("airflow")
    add = parser.add_argument
    add(
        "--dags",
        type=Path,
        default=_path("DAGS"),
        metavar="DIR",
        help="embedded: a folder of DAG files; where there is none it is made, with samples",
    )
    add(
        "--state",
        type=Path,
        default=_path("STATE"),
        metavar="FILE",
        help="embedded: the SQLite file that remembers runs and logs",
    )
    add(
        "--at-once",
        type=int,
        default=os.environ.get(f"{_ENV}AT_ONCE", "4"),
        metavar="N",
        help="embedded: how many tasks may run at the same time, 1 to 64 (default: %(default)s)",
    )
    add(
        "--pass-env",
        action="append",
        default=os.environ.get(f"{_ENV}PASS_ENV", "").split(),
        metavar="NAME",
        help="embedded: a variable of this environment that DAG files may pass to their tasks; repeatable",
    )
    add(
        "--airflow",
        default=os.environ.get(f"{_ENV}URL"),
        metavar="URL",
        help="an Airflow 3 to ask, instead of --dags and --state",
    )
    add("--airflow-ca", type=Path, default=_path("CA"), metavar="FILE", help="whom to trust for https")
    return parser.parse_args()


def engine(given: argparse.Namespace) -> Engine:
    """Open the engine that was configured."""
    if given.airflow is not None:
        if given.dags is not None or given.state is not None:
            sys.exit("airflow: give --airflow, or --dags and --state, not both")
        return _rest(given.airflow, given.airflow_ca)
    if given.dags is None or given.state is None:
        sys.exit("airflow: give --dags and --state, or --airflow")
    if not 1 <= given.at_once <= 64:
        sys.exit("airflow: --at-once is from 1 to 64")
    if secret := [name for name in given.pass_env if name.startswith("GATEHOUSE_")]:
        sys.exit(f"airflow: --pass-env can't name {secret[0]}: it is the server's own")
    ensure_sample(given.dags)
    return EmbeddedEngine(
        given.dags,
        given.state,
        environment=os.environ,
        at_once=given.at_once,
        pass_env=frozenset(given.pass_env),
    )


def _rest(url: str, ca: Path | None) -> Engine:
    """Prepare to ask an Airflow. Its credentials are no flags: every process sees a command line."""
    from servers.airflow.rest.client import Client, ConfigurationError, Password, Token  # httpx is an extra
    from servers.airflow.rest.engine import RestEngine

    token, username, password = (os.environ.get(_ENV + name) for name in ("TOKEN", "USERNAME", "PASSWORD"))
    if token:
        credentials: Password | Token = Token(token)
    elif username and password:
        credentials = Password(username, password)
    else:
        sys.exit(f"airflow: set {_ENV}USERNAME and {_ENV}PASSWORD, or {_ENV}TOKEN")
    try:
        return RestEngine(Client(url, credentials, ca=ca))
    except ConfigurationError as error:
        sys.exit(f"airflow: {error}")


def _path(name: str) -> Path | None:
    value = os.environ.get(f"{_ENV}{name}")
    return Path(value) if value else None


def main() -> None:
    """Serve, and let nothing run on afterwards."""
    given = options()
    try:
        opened = engine(given)
    except (EngineError, OSError, ImportError) as error:
        sys.exit(f"airflow: {error}")
    try:
        run(build(opened), server="airflow", parsed=given)
    finally:
        opened.close()


if __name__ == "__main__":
    main()

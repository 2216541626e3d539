"""`python -m servers.spark`: serve what event logs or a History Server know."""

from __future__ import annotations

import ipaddress
import os
import sys
from argparse import Namespace
from pathlib import Path
from urllib.parse import urlsplit

from mcpguard import arguments, run
from servers.spark.connection import connect
from servers.spark.engine import Engine, EngineError
from servers.spark.folder import FolderEngine
from servers.spark.reading import Reader
from servers.spark.records import Records, RecordsError, SqliteRecords
from servers.spark.sample import ensure_sample
from servers.spark.tools import build

_ENV = "GATEHOUSE_SPARK_"


def options() -> Namespace:
    """Parse the command line; a setting that is not there comes from the environment."""
    parser = arguments("spark")
    add = parser.add_argument
    add(
        "--event-logs",
        type=Path,
        default=_path("EVENT_LOGS"),
        metavar="DIR",
        help="a folder of event logs; where there is none it is made, with sample logs",
    )
    add(
        "--history-server",
        default=os.environ.get(f"{_ENV}HISTORY_SERVER"),
        metavar="URL",
        help="a Spark History Server, instead of --event-logs",
    )
    add(
        "--history-token",
        type=Path,
        default=_path("HISTORY_TOKEN"),
        metavar="FILE",
        help="a file with the bearer token for it",
    )
    add(
        "--history-ca", type=Path, default=_path("HISTORY_CA"), metavar="FILE", help="whom to trust for https"
    )
    add(
        "--database",
        type=Path,
        default=_path("DATABASE"),
        metavar="FILE",
        help=f"where root causes are kept, a SQLite file; {_ENV}DATABASE_URL names a PostgreSQL instead",
    )
    return parser.parse_args()


def engine(given: Namespace) -> Engine:
    """Open the engine that was configured."""
    if (given.event_logs is None) == (given.history_server is None):
        sys.exit("spark: give one of --event-logs and --history-server")
    if given.event_logs is not None:
        ensure_sample(given.event_logs)
        return FolderEngine(given.event_logs)
    url = urlsplit(given.history_server)
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or url.fragment:
        sys.exit("spark: --history-server must be a URL such as https://history.corp.example:18480")
    if url.scheme == "http" and given.history_token is not None and not _loopback(url.hostname):
        sys.exit("spark: a token goes over https only, or over loopback")
    return connect(given.history_server, token=given.history_token, ca=given.history_ca)


def records(given: Namespace) -> Records:
    """Open the store that was configured; its URL may hold a password, so it is no flag."""
    url = os.environ.get(f"{_ENV}DATABASE_URL")
    if url:
        if not url.startswith(("postgresql://", "postgres://")):
            sys.exit(f"spark: {_ENV}DATABASE_URL must be a postgresql:// URL")
        from servers.spark.postgres import PostgresRecords  # psycopg is an extra

        return PostgresRecords(url)
    if given.database is None:
        sys.exit(f"spark: give --database, or set {_ENV}DATABASE_URL")
    return SqliteRecords(given.database)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _path(name: str) -> Path | None:
    value = os.environ.get(f"{_ENV}{name}")
    return Path(value) if value else None


def main() -> None:
    """Serve."""
    given = options()
    try:
        mcp = build(Reader(engine(given)), records(given))
    except (EngineError, RecordsError, OSError, ImportError) as error:
        sys.exit(f"spark: {error}")
    run(mcp, server="spark", parsed=given)


if __name__ == "__main__":
    main()

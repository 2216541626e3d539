"""`python -m servers.presto`: serve the warehouse.

Every option of its own may also be given in the environment, as `GATEHOUSE_PRESTO_` and its name.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mcpguard import arguments, run
from servers.presto.cluster import Cluster, ClusterError
from servers.presto.duckdb_engine import MEMORY_LIMIT, DuckDBEngine
from servers.presto.engine import Engine, EngineError
from servers.presto.queries import Queries, Room
from servers.presto.sample import ensure_sample
from servers.presto.tools import build
from servers.presto.tools_queries import Timing

if TYPE_CHECKING:
    from servers.presto.statements import Library

_PREFIX = "GATEHOUSE_PRESTO_"


class Options:
    """Declares options that the environment may give as well."""

    def __init__(self, parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
        self._group = parser.add_argument_group("the warehouse")
        self._environment = environment

    def add(self, name: str, default: str | None, metavar: str, help_text: str, *choices: str) -> None:
        """Declare one option, whose default may come from the environment."""
        variable = _PREFIX + name.upper().replace("-", "_")
        shown = f" (default: {default})" if default else ""
        given = self._environment.get(variable, default)
        if choices and given not in choices:  # argparse checks what is typed, and no default
            raise ClusterError(f"{variable} is one of {', '.join(choices)}, not {given!r}")
        self._group.add_argument(
            f"--{name}",
            default=given,
            metavar=metavar or None,
            choices=choices or None,
            help=f"{help_text}{shown} [{variable}]",
        )


def parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the command line."""
    made = arguments("presto")
    add = Options(made, environment).add
    add("engine", "duckdb", "", "what runs the queries", "duckdb", "trino", "presto")
    add("database", None, "FILE", "duckdb: the file; where there is none a sample warehouse is created")
    add("memory-limit", MEMORY_LIMIT, "SIZE", "duckdb: memory of all queries together")
    add("host", None, "HOST", "trino, presto: the coordinator")
    add("port", None, "PORT", "its port; 443 with TLS and 8080 without if not given")
    add("tls", "on", "", "whether to speak TLS; off on loopback only", "on", "off")
    add("tls-ca", None, "FILE", "authorities to believe, PEM, in place of the public ones")
    add("token-file", None, "FILE", "bearer token to show; read again for each query")
    add("catalog", None, "NAME", "where a table's name without a catalog is looked up")
    add("schema", None, "NAME", "where a table's name without a schema is looked up")
    add(
        "catalogs",
        None,
        "NAMES",
        "catalogs that may be named, with commas; only the default one if not given",
    )
    add("user", "gatehouse-presto", "NAME", "who this server is at the cluster")
    add("run-as", "caller", "", "whom queries run as", "caller", "service")
    add("users-of", None, "ISSUER", "the policy's name of the issuer whose users the cluster knows")
    add("query-seconds", "60", "SECONDS", "a query is stopped after")
    add("overwrite-seconds", "300", "SECONDS", "an overwrite is given up after")
    add("at-once", "4", "NUMBER", "queries that run at a time; others wait")
    return made


def engine(options: argparse.Namespace) -> Engine:
    """Open the engine that was chosen.

    Raises:
        EngineError, OSError: the file can't be opened.
        ClusterError: the settings make no sense.

    """
    if options.engine == "duckdb":
        if options.database is None:
            raise ClusterError("--engine duckdb takes --database FILE")
        path = Path(options.database)
        ensure_sample(path)
        return DuckDBEngine(path, options.memory_limit)
    library = _library(options.engine)  # first: it says which extra is missing
    from servers.presto.statement_engine import StatementEngine

    return StatementEngine(library, _cluster(options))


def _cluster(options: argparse.Namespace) -> Cluster:
    for name in ("host", "catalog", "schema"):
        if not getattr(options, name):
            raise ClusterError(f"--engine {options.engine} takes --{name}")
    named = {name.strip().lower() for name in (options.catalogs or options.catalog).split(",")}
    return Cluster(
        host=options.host,
        port=_number(options.port or ("443" if options.tls == "on" else "8080"), "--port"),
        catalog=options.catalog.lower(),
        schema=options.schema.lower(),
        catalogs=frozenset(named),
        scheme="https" if options.tls == "on" else "http",
        ca=Path(options.tls_ca) if options.tls_ca else None,
        token=Path(options.token_file) if options.token_file else None,
        user=options.user,
        run_as=options.run_as,
        users_of=options.users_of or "",
    )


def _library(name: str) -> Library:
    try:
        if name == "trino":
            from servers.presto.trino_library import Trino

            return Trino()
        from servers.presto.presto_library import Presto

        return Presto()
    except ImportError as error:
        raise ClusterError(f"{error}; install gatehouse[presto-{name}]") from None


def _number(text: str, option: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 65535:
        raise ClusterError(f"{option} takes a number from 1 to 65535, not {text!r}")
    return int(text)


def main() -> None:
    """Open the warehouse, creating a sample one where there is none, and serve it."""
    try:
        options = parser(os.environ).parse_args()
        timing = Timing(
            query=float(_number(options.query_seconds, "--query-seconds")),
            overwrite=float(_number(options.overwrite_seconds, "--overwrite-seconds")),
        )
        room = Room(at_once=_number(options.at_once, "--at-once"))
        opened = engine(options)
    except (EngineError, ClusterError, OSError) as error:
        sys.exit(f"presto: {error}")
    queries = Queries(opened, room)
    try:
        run(build(queries, timing), server="presto", parsed=options)
    finally:
        queries.close()
        opened.close()


if __name__ == "__main__":
    main()

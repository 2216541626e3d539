"""`python -m servers.knowledge`: serve a folder of documents."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from argparse import Namespace
from pathlib import Path
from urllib.parse import urlsplit

from mcpguard import arguments, logs, run
from servers.knowledge.engine import EngineError
from servers.knowledge.indexer import Watch
from servers.knowledge.library import Library
from servers.knowledge.opening import Opened, fts5, open_index, tantivy
from servers.knowledge.sample import ensure_sample
from servers.knowledge.tools import build

ENGINES = ("fts5", "tantivy", "opensearch")
_ENV = "GATEHOUSE_KNOWLEDGE_"


def options() -> Namespace:
    """Parse the command line; a setting that is not there comes from the environment."""
    parser = arguments("knowledge")
    add = parser.add_argument
    add(
        "--documents",
        type=Path,
        default=_path("DOCUMENTS"),
        metavar="DIR",
        help="the folder of documents; where there is none it is made, with sample documents",
    )
    add(
        "--index",
        type=Path,
        default=_path("INDEX"),
        metavar="DIR",
        help="where the index is kept; it can be thrown away",
    )
    add(
        "--engine",
        choices=ENGINES,
        default=os.environ.get(f"{_ENV}ENGINE", "fts5"),
        help="what ranks: SQLite's FTS5, tantivy (an extra), or OpenSearch (default: %(default)s)",
    )
    add(
        "--scan-seconds",
        type=float,
        default=os.environ.get(f"{_ENV}SCAN_SECONDS", "10"),
        metavar="SECONDS",
        help="how long between two looks at the folder (default: %(default)s)",
    )
    add(
        "--base-url",
        default=os.environ.get(f"{_ENV}BASE_URL", "knowledge:///"),
        metavar="URL",
        help="what a document's path is appended to, for citations (default: %(default)s)",
    )
    add(
        "--opensearch",
        default=os.environ.get(f"{_ENV}OPENSEARCH"),
        metavar="URL",
        help="its address, with --engine opensearch",
    )
    add(
        "--opensearch-credentials",
        type=Path,
        default=_path("OPENSEARCH_CREDENTIALS"),
        metavar="FILE",
        help="a file with user:password for it",
    )
    add(
        "--opensearch-ca",
        type=Path,
        default=_path("OPENSEARCH_CA"),
        metavar="FILE",
        help="whom to trust for https",
    )
    add(
        "--opensearch-prefix",
        default=os.environ.get(f"{_ENV}OPENSEARCH_PREFIX", "knowledge"),
        metavar="NAME",
        help="how its indexes' names begin (default: %(default)s)",
    )
    return parser.parse_args()


def opened(given: Namespace) -> Opened:
    """Open the engine that was configured."""
    documents, index = given.documents, given.index
    if given.engine == "opensearch":
        from servers.knowledge.connection import connect
        from servers.knowledge.opensearch import OpenSearchEngine

        client = connect(given.opensearch, credentials=given.opensearch_credentials, ca=given.opensearch_ca)
        engine = OpenSearchEngine(client, given.opensearch_prefix)
        return open_index(documents, index, "opensearch", lambda *_: engine)
    make = tantivy if given.engine == "tantivy" else fts5
    return open_index(documents, index, given.engine, make)


def _path(name: str) -> Path | None:
    value = os.environ.get(f"{_ENV}{name}")
    return Path(value) if value else None


def _problem(given: Namespace) -> str | None:
    """Say what argparse doesn't look at: what is missing, and what came from the environment."""
    base = urlsplit(given.base_url)
    if given.documents is None or given.index is None:
        return "give --documents and --index"
    if given.engine not in ENGINES:
        return f"there is no engine {given.engine!r}; there are {', '.join(ENGINES)}"
    if not given.scan_seconds > 0:
        return "--scan-seconds must be more than 0"
    if not base.scheme or base.query or base.fragment:
        return "--base-url must be an address that a path can be appended to"
    if given.engine == "opensearch" and not given.opensearch:
        return "--engine opensearch needs --opensearch URL"
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,99}", given.opensearch_prefix):
        return "--opensearch-prefix has lower-case letters, digits and hyphens"
    return None


def main() -> None:
    """Serve, and keep the index like the folder."""
    given = options()
    if problem := _problem(given):
        sys.exit(f"knowledge: {problem}")
    try:
        ensure_sample(given.documents)
        parts = opened(given)
    except (EngineError, OSError, ValueError, sqlite3.Error) as error:
        sys.exit(f"knowledge: {error}")
    base_url = given.base_url if given.base_url.endswith("/") else f"{given.base_url}/"
    logs.configure()  # before the thread that has something to say
    watch = Watch(parts.indexer, given.scan_seconds)
    watch.start()
    try:
        run(build(Library(parts.catalogue, parts.engine, base_url)), server="knowledge", parsed=given)
    finally:
        watch.close()
        parts.close()


if __name__ == "__main__":
    main()

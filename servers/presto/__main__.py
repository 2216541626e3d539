"""`python -m servers.presto`: serve the warehouse."""

from __future__ import annotations

import sys
from pathlib import Path

from mcpguard import arguments, run
from servers.presto.duckdb_engine import DuckDBEngine
from servers.presto.engine import EngineError
from servers.presto.running import Runner
from servers.presto.sample import ensure_sample
from servers.presto.tools import build


def main() -> None:
    """Open the warehouse, creating a sample one where there is none, and serve it."""
    parser = arguments("presto")
    parser.add_argument(
        "--database",
        type=Path,
        required=True,
        metavar="FILE",
        help="a DuckDB file; where there is none a sample warehouse is created",
    )
    options = parser.parse_args()
    try:
        ensure_sample(options.database)
        engine = DuckDBEngine(options.database)
    except (EngineError, OSError) as error:
        sys.exit(f"presto: {error}")
    run(build(Runner(engine)), server="presto", parsed=options)


if __name__ == "__main__":
    main()

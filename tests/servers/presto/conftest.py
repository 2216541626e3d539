from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.presto.duckdb_engine import DuckDBEngine
from servers.presto.queries import Queries
from servers.presto.sample import ensure_sample


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("warehouse") / "presto.duckdb"
    assert ensure_sample(path)
    return path


@pytest.fixture(scope="session")
def engine(database: Path) -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(database)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def queries(engine: DuckDBEngine) -> Iterator[Queries]:
    queries = Queries(engine)
    yield queries
    queries.close()

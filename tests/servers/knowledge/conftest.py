from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.knowledge.shelf import ENGINES, Shelf, shelf_of


@pytest.fixture(params=ENGINES)
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    """A shelf on each engine."""
    with shelf_of(tmp_path, request.param) as found:
        yield found


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Shelf]:
    """A shelf on the embedded engine, for what has nothing to do with engines."""
    with shelf_of(tmp_path, "fts5") as found:
        yield found

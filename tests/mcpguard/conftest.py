from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mcpguard.running import Running, serving
from tests.mcpguard.toy import Toy
from tests.mcpguard.world import World


@pytest.fixture(scope="module")
def toy() -> Toy:
    return Toy()


@pytest.fixture(scope="module")
def server(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root: Path = tmp_path_factory.mktemp("world")
    with serving(toy.mcp, World(root), root) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_ran(request: pytest.FixtureRequest) -> None:
    if "toy" in request.fixturenames:
        request.getfixturevalue("toy").ran.clear()

from __future__ import annotations

from pathlib import Path

import pytest

from servers.spark.folder import FolderEngine
from tests.servers.spark.logs import fill


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("spark") / "logs")


@pytest.fixture(scope="session")
def engine(folder: Path) -> FolderEngine:
    return FolderEngine(folder)

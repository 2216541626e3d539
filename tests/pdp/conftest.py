from __future__ import annotations

from pathlib import Path

import pytest

from tests.pdp.folder import PolicyFolder


@pytest.fixture
def folder(tmp_path: Path) -> PolicyFolder:
    return PolicyFolder.copy(tmp_path)

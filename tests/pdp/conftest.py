from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests.pdp.folder import PolicyFolder

# How long one example takes says how busy the machine is.
settings.register_profile("pdp", deadline=None)
settings.load_profile("pdp")


@pytest.fixture
def folder(tmp_path: Path) -> PolicyFolder:
    return PolicyFolder.copy(tmp_path)

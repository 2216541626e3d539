from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.xds.plane import Plane, running_plane


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden", action="store_true", help="write tests/golden/ anew; read the diff afterwards"
    )


def pytest_bdd_apply_tag(tag: str, function: Callable[..., object]) -> bool:
    """The harness's tags say which variants of the protocol a scenario is for."""
    tags: set[str] = function.__dict__.setdefault("harness_tags", set())
    tags.add(tag)
    return True


@pytest.fixture
def plane() -> Iterator[Plane]:
    with running_plane() as running:
        yield running

"""Two stacks for all tests, each started once: one that stays healthy, one that tests break and mend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.stack import Stack


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A healthy stack with the real Presto server. Tests leave it as they found it."""
    yield from _running(Stack(tmp_path_factory.mktemp("gateway"), presto=True))


@pytest.fixture(scope="session")
def _breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from _running(Stack(tmp_path_factory.mktemp("breakable"), presto=False, absent=("scratchpad",)))


@pytest.fixture
def breakable(_breakable: Stack) -> Stack:
    """A stack whose processes a test may kill and whose policy it may edit; it mends what it broke."""
    _breakable.fence()
    return _breakable


def _running(stack: Stack) -> Iterator[Stack]:
    try:
        stack.start()
        stack.wait_serving()
        yield stack
        assert not stack.died, f"{stack.died} ended by themselves; see {stack.state.logs}"
    finally:
        stack.close()

"""Both engines must say the same of one log, down to the last figure."""

from __future__ import annotations

from functools import partial

from servers.spark.diagnosis import diagnose
from servers.spark.engine import Engine
from tests.servers.spark.logs import FILES, SPILLER


def assert_same(folder: Engine, history: Engine) -> None:
    """Compare listings, runs, tasks and diagnoses of every application."""
    assert folder.applications("", 50) == history.applications("", 50)
    for app in (*FILES, SPILLER):
        one, other = folder.run(app), history.run(app)
        assert one == other
        for stage in one.stages:
            for selection in ("failed", "slowest"):
                ours = folder.tasks(one, stage, selection, 5)
                assert ours == history.tasks(other, stage, selection, 5)
        ours_said = diagnose(one, partial(folder.tasks, one))
        assert ours_said == diagnose(other, partial(history.tasks, other))
        assert ours_said.verdict in ("healthy", "slow", "failed")

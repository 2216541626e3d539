"""Two runs held against each other."""

from __future__ import annotations

from dataclasses import replace

from servers.spark.comparison import compare, total
from servers.spark.folder import FolderEngine
from servers.spark.model import Stage
from tests.servers.spark.logs import OOM, SKEW


def test_a_run_against_itself_has_no_differences(engine: FolderEngine) -> None:
    run = engine.run(SKEW)
    found = compare(run, run)
    assert [step.difference for step in found.steps] == [0]
    assert found.settings == ()


def test_the_largest_difference_comes_first_and_noise_is_left_out(engine: FolderEngine) -> None:
    before = engine.run(SKEW)
    slow = tuple(replace(s, completed=(s.completed or 0) + 60_000 * s.id) for s in before.stages)
    extra = Stage(9, 0, "a new step", "complete", 1, submitted=0, completed=5_000)
    properties = {**before.properties, "spark.sql.adaptive.enabled": "true", "spark.driver.port": "1"}
    found = compare(before, replace(before, stages=(*slow, extra), properties=properties))
    assert [(step.name, step.difference) for step in found.steps] == [
        ("save at NativeMethodAccessorImpl.java:0", 60_000),
        ("a new step", 5_000),
    ]
    assert found.steps[1].before is None
    assert [(s.name, s.before, s.after) for s in found.settings] == [
        ("spark.sql.adaptive.enabled", "false", "true")
    ]


def test_much_is_cut_and_counted(engine: FolderEngine) -> None:
    run = engine.run(SKEW)
    stages = tuple(replace(run.stages[0], id=n, name=f"step {n}") for n in range(50))
    found = compare(replace(run, stages=stages), replace(run, properties={f"x{n}": "1" for n in range(90)}))
    assert (len(found.steps), found.steps_left_out) == (10, 41)
    assert len(found.settings) == 20
    assert found.settings_left_out > 70


def test_totals_are_sums(engine: FolderEngine) -> None:
    stages = engine.run(OOM).stages
    assert total(stages).gc_time == 6094
    assert total([*stages, *stages]).run_time == 2 * 11095

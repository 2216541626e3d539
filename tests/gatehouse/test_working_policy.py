"""The stack's own copy of the policies: in force, followed while nobody edits it, kept once somebody does."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest

from gatehouse import working_policy
from gatehouse.state import State
from gatehouse.working_policy import DEVELOPMENT_REVIEWER, in_force

ROOT = Path(__file__).parents[2]


class World:
    """A source of policies, a state folder, and what was said."""

    def __init__(self, tmp_path: Path) -> None:
        self.source = Path(shutil.copytree(ROOT / "policies", tmp_path / "source"))
        self.state = State(tmp_path / "state")
        self.said: list[str] = []
        working_policy.write_reviewers(self.state, self.source)

    def refresh(self) -> None:
        working_policy.refresh(self.state, self.source, self.state.reviewers, time.time(), self.said.append)

    def open(self, subject: str) -> bool:
        return in_force(self.state.policies, self.state.reviewers, subject, time.time())

    def reword(self, folder: Path) -> None:
        """Change what Presto's policy says, so that its reviews no longer cover it."""
        for file in (folder / "servers" / "presto.yaml", folder / "approved" / "servers" / "presto.yaml"):
            file.write_text(
                file.read_text().replace("groups: [ads, finance, data-infra]", "groups: [ads]", 1)
            )

    def lapse(self, folder: Path) -> None:
        for file in (folder / "reviews").glob("*/spark.yaml"):
            text = re.sub(r"approved: \S+", "approved: 2026-01-01", file.read_text())
            file.write_text(re.sub(r"expires: \S+", "expires: 2026-02-01", text))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_is_in_force_is_left_as_it_is(world: World) -> None:
    world.refresh()
    assert world.open("presto")
    assert not any("DEVELOPMENT REVIEW" in line for line in world.said)
    world.said.clear()
    world.refresh()
    assert world.said == []


def test_what_has_lapsed_is_approved_aloud_and_only_in_the_copy(world: World) -> None:
    world.lapse(world.source)
    before = (world.source / "reviews" / "security" / "spark.yaml").read_text()
    world.refresh()
    assert world.open("spark")
    assert [line for line in world.said if "DEVELOPMENT REVIEW: spark" in line]
    assert DEVELOPMENT_REVIEWER in (world.state.policies / "reviews" / "security" / "spark.yaml").read_text()
    assert (world.source / "reviews" / "security" / "spark.yaml").read_text() == before


def test_a_text_that_nobody_approved_is_approved_aloud(world: World) -> None:
    world.reword(world.source)
    world.refresh()
    assert world.open("presto")
    assert [line for line in world.said if "DEVELOPMENT REVIEW: presto" in line]


def test_a_copy_that_nobody_edited_follows_its_source(world: World) -> None:
    world.lapse(world.source)
    world.refresh()
    world.reword(world.source)
    world.refresh()
    assert "groups: [ads]" in (world.state.policies / "servers" / "presto.yaml").read_text()
    assert world.open("presto")


def test_a_copy_with_edits_is_kept(world: World) -> None:
    world.refresh()
    mine = world.state.policies / "servers" / "spark.yaml"
    mine.write_text(mine.read_text() + "# mine\n")
    world.reword(world.source)
    world.refresh()
    assert mine.read_text().endswith("# mine\n")
    assert "groups: [ads]" not in (world.state.policies / "servers" / "presto.yaml").read_text()
    assert any("has edits and stays" in line for line in world.said)


def test_a_text_that_is_wrong_stays_closed_and_says_why(world: World) -> None:
    world.refresh()
    file = world.state.policies / "servers" / "presto.yaml"
    file.write_text(file.read_text().replace("owner:", "ownr:", 1))
    world.said.clear()
    world.refresh()
    assert any("unknown key 'ownr'" in line for line in world.said)

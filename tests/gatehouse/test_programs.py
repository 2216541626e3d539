"""The servers that a stack can start: one entry each, with all that belongs to it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gatehouse import programs
from gatehouse.programs import SEEDS, Seed
from gatehouse.state import State

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_a_seed_server_has_a_policy_and_a_place_and_an_example(seed: Seed) -> None:
    policy = yaml.safe_load((ROOT / "policies" / "servers" / f"{seed.name}.yaml").read_text())
    deployment = yaml.safe_load((ROOT / "envoy" / "deployment.local.yaml").read_text())
    assert seed.example[0] in policy["tools"]
    assert seed.name in deployment["endpoints"]
    assert (ROOT / "servers" / seed.name / "__main__.py").exists()


def test_what_a_server_keeps_lies_in_a_folder_of_its_own(tmp_path: Path) -> None:
    known = programs.known(State(tmp_path))
    assert list(known) == [seed.name for seed in SEEDS]
    for name, program in known.items():
        assert str(tmp_path / "data" / name) in " ".join(program.options)
        assert "{" not in " ".join(program.options)


def test_a_server_without_its_libraries_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Seed("presto", ("no_such_library",), (), ("list_tables",))
    monkeypatch.setattr(programs, "SEEDS", (absent, *SEEDS[1:]))
    assert programs.missing() == ("presto",)
    assert "presto" not in programs.known(State(Path("nowhere")))

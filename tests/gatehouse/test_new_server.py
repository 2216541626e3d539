"""`gatehouse new-server`: from the command to a call through real Envoy, and to the refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gatehouse import programs, registered
from gatehouse.cli import run
from gatehouse.state import State
from tests.support.envoy import eventually

ROOT = Path(__file__).parents[2]
GATEHOUSE = (sys.executable, "-m", "gatehouse")
NAME = "pet-shop"
NOTEBOOK = ("--service", "ns/dev/sa/notebook")
A_MINUTE = 60.0
ALONE = """\
apiVersion: gatehouse/v1
kind: Deployment
public_url: https://127.0.0.1:0
listeners:
  users: {address: "127.0.0.1:0", tls: {certificate: users.pem, key: users.key}}
  mesh: {address: "127.0.0.1:0"}
ext_authz: {addresses: ["127.0.0.1:0"]}
control_plane: {address: "127.0.0.1:0"}
"""
"""It places no server: `up` finds a place for the registered one."""


# --- the command alone


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEHOUSE_STATE", str(tmp_path / "state"))
    return tmp_path


def test_it_writes_three_files_and_says_what_is_next(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["new-server", NAME]) == 0
    written = {str(path.relative_to(folder)) for path in (folder / NAME).rglob("*") if path.is_file()}
    assert written == {
        "pet-shop/pet_shop_server.py",
        "pet-shop/pet-shop.yaml",
        "pet-shop/test_pet_shop_server.py",
    }
    shown = capsys.readouterr().out
    assert "call pet-shop look_up name=kettle --as dino --service ns/dev/sa/notebook" in shown
    policy = yaml.safe_load((folder / NAME / "pet-shop.yaml").read_text())
    assert (policy["name"], policy["lifecycle"], policy["environment"]) == (NAME, "experimental", "dev")
    schema = (folder / NAME / "pet-shop.yaml").read_text().splitlines()[0].rpartition("=")[2]
    assert (folder / NAME / schema).resolve() == ROOT / "docs" / "schema" / "server.json"


def test_the_stack_starts_it_from_then_on(folder: Path) -> None:
    assert run(["new-server", NAME, "--dir", "here"]) == 0
    state = State(folder / "state")
    program = programs.known(state)[NAME]
    assert program.command == (str(folder / "here" / "pet_shop_server.py"),)
    assert str(folder / "state" / "data" / NAME) in " ".join(program.options)


def test_a_server_whose_file_is_gone_is_forgotten_aloud(folder: Path) -> None:
    assert run(["new-server", NAME]) == 0
    state, said = State(folder / "state"), list[str]()
    (folder / NAME / "pet_shop_server.py").unlink()
    registered.forget_lost(state, said.append)
    assert registered.servers(state) == ()
    assert said == [f"  pet-shop is no longer started: {folder / NAME / 'pet_shop_server.py'} is gone"]


def test_files_that_are_there_stay_and_are_registered_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["new-server", NAME]) == 0
    mine = folder / NAME / "pet_shop_server.py"
    mine.write_text("# mine\n")
    (folder / "state" / "servers.json").unlink()
    assert run(["new-server", NAME]) == 0
    assert mine.read_text() == "# mine\n"
    assert "The files were there" in capsys.readouterr().out
    assert [server.name for server in registered.servers(State(folder / "state"))] == [NAME]


def test_half_of_the_files_is_nothing_to_build_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / NAME).mkdir()
    (folder / NAME / "pet-shop.yaml").write_text("mine\n")
    assert run(["new-server", NAME]) == 1
    assert "pet-shop/pet-shop.yaml is there already: nothing was written" in capsys.readouterr().err
    assert [path.name for path in (folder / NAME).iterdir()] == ["pet-shop.yaml"]
    assert registered.servers(State(folder / "state")) == ()


@pytest.mark.parametrize(
    ("name", "code", "line"),
    [
        ("Pets", 2, "'Pets' can't be a server's name"),
        ("pet_shop", 2, "use a-z, 0-9 and '-'"),
        ("../pets", 2, "can't be a server's name"),
        ("9lives", 2, "a letter first"),
        ("p" * 64, 2, "at most 63 characters"),
        ("envoy", 2, "'envoy' is what a part of the stack is called"),
        ("presto", 1, "there is a server 'presto' already: servers/presto"),
        ("scratchpad", 1, "there is a server 'scratchpad' already: "),
    ],
)
def test_a_name_that_can_not_be_is_one_line(
    name: str, code: int, line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["new-server", name]) == code
    shown = capsys.readouterr()
    assert line in shown.err
    assert shown.out == ""
    assert list(folder.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / NAME).write_text("a file")
    assert run(["new-server", NAME]) == 1
    assert "cannot write pet-shop" in capsys.readouterr().err


# --- through real Envoy


@dataclass
class Shop:
    """A stack with nothing in it but the server that was just written."""

    folder: Path
    state: State
    addresses: dict[str, Any]
    log: Path
    took: float
    """Seconds from before the command to after the first call."""

    def call(self, *arguments: str) -> dict[str, Any]:
        command = [*GATEHOUSE, "call", NAME, *arguments, "--json", "--state", str(self.state.root)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


stack = [pytest.mark.e2e, pytest.mark.timeout(180), pytest.mark.xdist_group("new-server")]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """What a team does: write it, start the stack, call."""
    folder = tmp_path_factory.mktemp("new-server")
    state, log = State(folder / "state"), folder / "up.log"
    (folder / "deployment.yaml").write_text(ALONE)
    began = time.monotonic()
    write = [*GATEHOUSE, "new-server", NAME, "--state", str(state.root)]
    subprocess.run(write, cwd=folder, check=True, capture_output=True, timeout=60)
    up = [*GATEHOUSE, "up", "--json", "--state", str(state.root)]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*up, "--deployment", str(folder / "deployment.yaml")],
            stdout=subprocess.PIPE, stderr=stderr, text=True,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        running = Shop(folder, state, json.loads(line), log, 0.0)
        first = running.call("look_up", "name=kettle", "--as", "dino", *NOTEBOOK)
        running.took = time.monotonic() - began
        assert first["ok"] is True, (first, log.read_text())
        yield running
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


class TestThroughEnvoy:
    pytestmark = stack

    def test_from_the_command_to_a_call_is_under_a_minute(self, shop: Shop) -> None:
        assert shop.took < A_MINUTE
        assert set(shop.addresses["pids"]) == {"issuer", "extauthz", "xds", "envoy", NAME}

    @pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
    def test_its_tool_answers(self, shop: Shop, era: str) -> None:
        outcome = shop.call("look_up", "name=Ladder", "--as", "hana", "--era", era, *NOTEBOOK)
        assert outcome["result"] == {"name": "Ladder", "what": "Reaches what is high."}

    def test_its_error_says_what_to_do_instead(self, shop: Shop) -> None:
        outcome = shop.call("look_up", "name=sofa", "--as", "hana", *NOTEBOOK)
        assert outcome["ok"] is False
        assert "There are: kettle, ladder." in outcome["message"]

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["look_up", "name=kettle", "--as", "dino"], "guardrail"),
            (["look_up", "name=kettle", "--as", "sam", "--service", "ns/prod/sa/ai-chat"], "guardrail"),
            (["look_up", "name=kettle", *NOTEBOOK], "credentials_required"),
            (["look_up", "name=kettle"], "credentials_required"),
            (["no_such_tool", "--as", "dino", *NOTEBOOK], "tool_unknown"),
        ],
    )
    def test_everybody_else_is_refused(self, shop: Shop, arguments: list[str], reason: str) -> None:
        assert shop.call(*arguments)["reason"] == reason

    def test_around_envoy_nobody_gets_in(self, shop: Shop) -> None:
        answer = httpx.post(shop.addresses["direct"][NAME], json={}, trust_env=False)
        assert answer.status_code == 401

    def test_up_shows_what_there_is_and_a_call_that_fits(self, shop: Shop) -> None:
        shown = eventually(lambda: "Try:" in (log := shop.log.read_text()) and log, "what up says")
        assert f"call {NAME} --as dino --service ns/dev/sa/notebook" in shown
        assert "presto" not in shown
        assert "None" not in shown

    def test_its_generated_test_passes(self, shop: Shop) -> None:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", NAME]
        done = subprocess.run(
            command, cwd=shop.folder, env={**os.environ, "PYTEST_ADDOPTS": ""},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "4 passed" in done.stdout

    def test_an_edit_of_its_policy_is_in_force_at_once(self, shop: Shop) -> None:
        """The last one: from then on its tool is closed."""
        policy = shop.folder / NAME / "pet-shop.yaml"
        text = policy.read_text()
        assert "groups: [employees]" in text
        policy.write_text(text.replace("groups: [employees]", "groups: [finance]"))

        def closed() -> bool:
            return (
                shop.call("look_up", "name=kettle", "--as", "dino", *NOTEBOOK).get("reason")
                == "group_not_allowed"
            )

        eventually(closed, "the edit in force", 30)
        assert shop.call("look_up", "name=kettle", "--as", "fay", *NOTEBOOK)["ok"] is True

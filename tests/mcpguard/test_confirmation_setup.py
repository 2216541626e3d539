"""Replicas as processes, and how a server is told to confirm."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from identity.signing import SigningKeys, generate_signing_key
from mcpguard import StartError
from mcpguard.confirmation_setup import ConfirmationOptions
from tests.mcpguard.confirming import YES, Clock, Replica, Vault, alone, replica, vault_world
from tests.mcpguard.running import reason
from tests.mcpguard.world import World


@contextlib.contextmanager
def process(root: Path, world: World, keys: SigningKeys) -> Iterator[Replica]:
    """Start one replica as a process."""
    command = {
        "--policies": world.policies,
        "--reviewers": world.reviewers,
        "--identity-keys": root / "identity.jwks",
        "--confirmations": root / "confirmations.sqlite",
        "--confirmation-keys": root / "confirmation-keys",
        "--ran": root / "ran",
    }
    words = [str(word) for pair in command.items() for word in pair]
    with (root / "log").open("a") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "tests.mcpguard.vault_process", *words],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert started.stdout is not None
    try:
        line = started.stdout.readline()
        assert line, (root / "log").read_text()
        port = int(json.loads(line)["listen"].rpartition(":")[2])
        server = Replica(world, keys, port, Clock())
        with server.http:
            yield server
    finally:
        started.terminate()
        started.wait(20)
        started.stdout.close()


@pytest.mark.e2e
def test_of_many_replays_at_two_processes_one_runs(tmp_path: Path) -> None:
    keys, world = generate_signing_key(), vault_world(tmp_path)
    (tmp_path / "identity.jwks").write_bytes(keys.public_jwks())
    shared = tmp_path / "confirmation-keys"
    shared.write_text(f"{secrets.token_hex(32)}\n")
    shared.chmod(0o600)
    ran = tmp_path / "ran"
    with process(tmp_path, world, keys) as first, process(tmp_path, world, keys) as second:
        state = first.asked()["requestState"]
        start = Barrier(8)

        def replay(number: int) -> str:
            start.wait(30)
            answer = (second, first)[number % 2].ask(requestState=state, inputResponses=YES)
            return "ran" if "result" in answer.json() else reason(answer)

        with ThreadPoolExecutor(8) as pool:
            ended = sorted(pool.map(replay, range(8)))
        assert ended == ["confirmation_replayed"] * 7 + ["ran"]
        assert ran.read_text().splitlines() == ["('overwrite', 'revenue', 3, None)"]
        fresh = second.asked()["requestState"]
    # Neither keys nor records end with a process.
    with process(tmp_path, world, keys) as third:
        assert reason(third.ask(requestState=state, inputResponses=YES)) == "confirmation_replayed"
        assert third.ask(requestState=fresh, inputResponses=YES).status_code == 200
    assert len(ran.read_text().splitlines()) == 2


def test_a_process_with_keys_of_its_own_says_what_replicas_need(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "mcpguard"), alone(tmp_path):
        assert "replicas need --confirmation-keys" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (ConfirmationOptions(keys=Path("/nowhere/keys")), "confirmation keys: "),
        (ConfirmationOptions(records="/nowhere/records"), "confirmations: "),
        (ConfirmationOptions(records="postgresql://tests@127.0.0.1:1/none"), "confirmations: PostgreSQL"),
        (ConfirmationOptions(page="http://registry.corp.example/{id}"), "confirmation-page"),
        (ConfirmationOptions(page="https://registry.corp.example/"), "confirmation-page"),
        (ConfirmationOptions(page="{id}"), "confirmation-page"),
    ],
)
def test_what_it_cannot_do_as_told_ends_at_the_start(
    tmp_path: Path, options: ConfirmationOptions, said: str
) -> None:
    keys, world = generate_signing_key(), vault_world(tmp_path)
    with pytest.raises(StartError, match=said), replica(Vault(), world, keys, tmp_path, options):
        raise AssertionError("it started")

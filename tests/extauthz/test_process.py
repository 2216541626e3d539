"""The whole process: started by its flags, asked over gRPC, reloaded, rotated, drained."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench import world as company
from extauthz.server import SERVICE
from extauthz.wire.ext_authz_pb2 import CheckResponse
from identity.assertion import AssertionVerifier
from identity.errors import IdentityError
from identity.jwk import JwkSet
from identity.keyfiles import write_private
from identity.signing import SigningKeys, generate_signing_key
from tests.extauthz.world import bearer, check_request, headers_of, is_allow, reason
from tests.identity.signers import claims, document, signer

ROOT = Path(__file__).parents[2]
SERVER = company.server_name(0)
SECONDS = 20.0

pytestmark = pytest.mark.e2e


def token() -> str:
    now = time.time()
    said = claims(azp="ide-plugin", groups=["idp-0"], iat=now, exp=now + 600)
    return signer("ES256").sign(said)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    pause, end = threading.Event(), time.monotonic() + SECONDS
    while time.monotonic() < end:
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError(f"not within {SECONDS} s")


@dataclass
class Running:
    """A started process and where it listens."""

    folder: Path
    process: subprocess.Popen[str]
    listen: str
    metrics: str

    def check(self, *, server: str = SERVER, tool: str = "tool_3") -> CheckResponse:
        message = {"method": "tools/call", "params": {"name": tool}}
        request = check_request(bearer(token()), server=server, message=message)
        with grpc.insecure_channel(self.listen) as channel:
            raw = channel.unary_unary(f"/{SERVICE}/Check")(request.SerializeToString(), timeout=5)
        return CheckResponse.FromString(raw)

    def health(self) -> int:
        with grpc.insecure_channel(self.listen) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            status: int = stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status
            return status

    def metric(self, name: str) -> float | None:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=5) as answer:
            found = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
        return float(found[1]) if found else None

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def decisions(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.folder / "decisions.jsonl").read_text().splitlines()]


def prepare(folder: Path) -> list[str]:
    """Write everything that the process reads, and say how to start it."""
    reviewers = company.write(folder / "policies", 2)
    write_private(folder / "identity.jwks", generate_signing_key().private_jwks())
    (folder / "issuer.jwks").write_bytes(document([signer("ES256").jwk]))
    (folder / "deployment.yaml").write_text(
        "apiVersion: gatehouse/v1\nkind: Deployment\npublic_url: http://127.0.0.1:8443\n"
        'listeners: {users: {address: "127.0.0.1:8443"}}\n'
        "issuers: {sso: {jwks_file: issuer.jwks}}\n"
        'ext_authz: {addresses: ["127.0.0.1:9001"]}\ncontrol_plane: {address: "127.0.0.1:9002"}\n'
    )
    options = {
        "policies": folder / "policies", "reviewers": reviewers, "deployment": folder / "deployment.yaml",
        "identity-keys": folder / "identity.jwks", "listen": "127.0.0.1:0", "metrics": "127.0.0.1:0",
        "decision-log": folder / "decisions.jsonl",
    }  # fmt: skip
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", "extauthz", *flags]


def start(folder: Path, command: list[str]) -> Running:
    with (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda out=process.stdout: lines.put(out.readline()), daemon=True).start()
    ready = json.loads(lines.get(timeout=SECONDS) or "{}")
    assert ready.get("component") == "extauthz", (folder / "stderr").read_text()
    return Running(folder, process, ready["listen"], ready["metrics"])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = start(tmp_path, prepare(tmp_path))
    try:
        until(lambda: made.metric('gatehouse_jwks_loaded{issuer="sso"}') == 1)
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        if made.process.stdout is not None:
            made.process.stdout.close()


def test_a_call_is_allowed_logged_and_counted(running: Running) -> None:
    assert running.health() == health_pb2.HealthCheckResponse.SERVING
    allowed = running.check()
    assert is_allow(allowed)
    keys = SigningKeys.read(running.folder / "identity.jwks")
    verifier = AssertionVerifier(JwkSet.parse(keys.public_jwks()), SERVER)
    assertion = verifier.verify(headers_of(allowed)["x-forwarded-identity"], time.time())
    assert assertion.user is not None
    assert assertion.user.key == "sso:00u1"
    assert reason(running.check(tool="no_such_tool")) == "tool_unknown"
    assert running.metric(f'gatehouse_decisions_total{{decision="allow",reason="",server="{SERVER}"}}') == 1
    assert running.metric("gatehouse_policy_reload_ok") == 1
    assert running.stop() == 0
    assert [each["decision"] for each in running.decisions] == ["allow", "deny"]


def test_a_bad_policy_changes_nothing_and_a_mended_one_is_followed(running: Running) -> None:
    locks = running.folder / "policies" / "locks.yaml"
    locks.write_text("apiVersion: gatehouse/v1\nkind: Locks\nlock: []\n")
    until(lambda: running.metric("gatehouse_policy_reload_ok") == 0)
    assert is_allow(running.check())
    assert "locks.yaml:3" in running.stderr
    locks.write_text(
        "apiVersion: gatehouse/v1\nkind: Locks\nlocks:\n"
        '  - {user: "sso:00u1", until: 2099-01-01T00:00:00Z, why: INC-91, by: dana@corp.example}\n'
    )
    until(lambda: not is_allow(running.check()))
    assert reason(running.check()) == "locked"
    assert running.metric("gatehouse_policy_reload_ok") == 1


def test_new_signing_keys_are_used_without_a_restart(running: Running) -> None:
    fresh = generate_signing_key()
    verifier = AssertionVerifier(JwkSet.parse(fresh.public_jwks()), SERVER)
    write_private(running.folder / "identity.jwks", fresh.private_jwks())

    def signed_by_the_new_one() -> bool:
        text = headers_of(running.check())["x-forwarded-identity"]
        try:
            return verifier.verify(text, time.time()).server == SERVER
        except IdentityError:
            return False

    until(signed_by_the_new_one)
    (running.folder / "identity.jwks").write_text("{}")
    until(lambda: "the signing keys stay as they were" in running.stderr)
    assert signed_by_the_new_one()


def test_rotation_by_sighup(running: Running) -> None:
    path = running.folder / "decisions.jsonl"
    running.check()
    until(lambda: path.stat().st_size > 0)
    path.rename(running.folder / "old.jsonl")
    running.process.send_signal(signal.SIGHUP)
    until(path.exists)
    running.check()
    assert running.stop() == 0
    assert len(running.decisions) == 1
    assert len((running.folder / "old.jsonl").read_text().splitlines()) == 1


def test_a_cold_start_on_bad_policy_denies_all_until_it_is_mended(tmp_path: Path) -> None:
    command = prepare(tmp_path)
    locks = tmp_path / "policies" / "locks.yaml"
    locks.write_text("kind: nonsense\n")
    running = start(tmp_path, command)
    try:
        assert running.health() == health_pb2.HealthCheckResponse.NOT_SERVING
        assert reason(running.check()) == "policy_unavailable"
        assert running.metric("gatehouse_policy_reload_ok") == 0
        locks.unlink()
        until(lambda: running.health() == health_pb2.HealthCheckResponse.SERVING)
        until(lambda: is_allow(running.check()))
    finally:
        assert running.stop() == 0
        assert running.process.stdout is not None
        running.process.stdout.close()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("--listen", "0.0.0.0:0"), "off loopback TLS is required"),
        (("--tls-certificate", "x.pem"), "go together"),
        (("--identity-keys", "/nowhere"), "/nowhere"),
        (("--deployment", "/nowhere"), "/nowhere"),
        (("--decision-log", "/nowhere/log"), "/nowhere/log"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(tmp_path: Path, changed: tuple[str, str], said: str) -> None:
    command = [*prepare(tmp_path), *changed]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_keys_that_others_can_read_are_refused(tmp_path: Path) -> None:
    command = prepare(tmp_path)
    os.chmod(tmp_path / "identity.jwks", 0o644)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 2
    assert "chmod 600" in done.stderr

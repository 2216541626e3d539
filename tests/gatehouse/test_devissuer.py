from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from gatehouse import devissuer, keys
from gatehouse.processes import Command
from gatehouse.supervisor import Supervisor
from identity.jwk import JwkSet


def test_it_serves_its_public_key_and_says_where(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "gatehouse.devissuer", "--keys", str(tmp_path / "keys.jwks"))
    with Supervisor(print) as supervisor:
        ready = supervisor.start(Command("issuer", command, tmp_path / "log"))
        base = f"http://{ready['issuer']['listen']}"
        with httpx.Client(base_url=base, trust_env=False) as client:
            served = client.get("/jwks")
            assert JwkSet.parse(served.content).current is not None
            assert [key["kid"] for key in served.json()["keys"]] == [keys.load(tmp_path / "keys.jwks").kid]
            assert (
                client.get("/.well-known/openid-configuration").json()["issuer"] == "https://sso.corp.example"
            )
            assert client.get("/token").status_code == 404
            assert client.post("/jwks").status_code == 501
        assert "DEVELOPMENT ISSUER" in (tmp_path / "log").read_text()
        child = supervisor.child("issuer")
        started = time.monotonic()
        child.stop()
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.0.2.1:1", "localhost:1", "127.0.0.1"])
def test_it_listens_on_loopback_alone(address: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "gatehouse.devissuer",
        "--keys",
        str(tmp_path / "k"),
        "--listen",
        address,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert not (tmp_path / "k").exists()


def test_nothing_served_is_private() -> None:
    key = keys.DevKey.generate("RS256")
    for body in devissuer.documents(key, "https://sso.corp.example").values():
        assert not {"d", "p", "q", "dp", "dq", "qi"} & {
            member for item in json.loads(body).get("keys", []) for member in item
        }

"""`python -m servers.airflow` as it is started: flags, environment, samples, and what it can't start with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from identity.signing import generate_signing_key
from servers.airflow.__main__ import main

ROOT = Path(__file__).parents[3]
CREDENTIALS = {"USERNAME": "gatehouse", "PASSWORD": "pa55word"}


def start(tmp_path: Path, *more: str, **environment: str) -> subprocess.Popen[str]:
    keys = tmp_path / "identity.jwks"
    keys.write_bytes(generate_signing_key().public_jwks())
    policies, reviewers = str(ROOT / "policies"), str(ROOT / "envoy" / "reviewers.local.yaml")
    command = [
        sys.executable,
        "-P",
        "-m",
        "servers.airflow",
        "--policies",
        policies,
        "--reviewers",
        reviewers,
    ]
    return subprocess.Popen(
        [*command, "--identity-keys", str(keys), "--strict", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def serves(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        ready = json.loads(line)
        assert ready["component"] == "airflow"
        answer = httpx.get(f"http://{ready['listen']}/healthz", trust_env=False)
        assert answer.status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors


def test_it_starts_on_a_folder_that_it_fills_with_samples(tmp_path: Path) -> None:
    serves(start(tmp_path, "--dags", "data/dags", "--state", "data/runs.sqlite"))
    names = {path.name for path in (tmp_path / "data" / "dags").iterdir()}
    assert names == {"daily_revenue.yaml", "clean_prices.yaml", "broken.yaml", "steps.py"}
    assert (tmp_path / "data" / "runs.sqlite").exists()


def test_it_starts_from_the_environment_alone_while_airflow_is_away(tmp_path: Path) -> None:
    settings = {"URL": "http://127.0.0.1:1", **CREDENTIALS}
    serves(start(tmp_path, **{f"GATEHOUSE_AIRFLOW_{name}": value for name, value in settings.items()}))


def test_a_folder_that_is_there_gets_no_samples(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    serves(start(tmp_path, "--dags", "dags", "--state", "runs.sqlite"))
    assert list((tmp_path / "dags").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ([], {}, "give --dags and --state, or --airflow"),
        (["--dags", "d"], {}, "give --dags and --state"),
        (["--dags", "d", "--state", "s", "--airflow", "https://a"], {}, "not both"),
        (["--dags", "d", "--state", "s", "--at-once", "0"], {}, "from 1 to 64"),
        (["--dags", "d", "--state", "s"], {"PASS_ENV": "X GATEHOUSE_AIRFLOW_TOKEN"}, "the server's own"),
        (["--dags", "file", "--state", "s"], {}, "there is no folder"),
        (["--dags", "d", "--state", "file"], {}, "can't open the state file"),
        (["--airflow", "https://a.example"], {}, "_USERNAME"),
        (["--airflow", "http://a.example"], CREDENTIALS, "https"),
        (["--airflow", "nonsense"], CREDENTIALS, "must be http(s)"),
        (["--airflow", "https://a.example", "--airflow-ca", "none.pem"], CREDENTIALS, "No such file"),
    ],
)
def test_what_it_can_not_start_with_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    said: str,
) -> None:
    (tmp_path / "file").write_text("no folder and no database" * 100)
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(f"GATEHOUSE_AIRFLOW_{name}", value)
    required = ["--policies", "p", "--reviewers", "r", "--identity-keys", "k"]
    monkeypatch.setattr(sys, "argv", ["airflow", *required, *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    message = str(stopped.value)
    assert message.startswith("airflow: ")
    assert said in message
    assert "\n" not in message
    assert "pa55word" not in message


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "servers" / "airflow.md").read_text("utf-8")
    code = (ROOT / "servers" / "airflow" / "__main__.py").read_text("utf-8")
    flags = set(re.findall(r'^ +(?:add\()?"(--[a-z-]+)"', code, re.MULTILINE))
    variables = set(re.findall(r'_path\("([A-Z_]+)"\)|\{_ENV\}([A-Z_]+)\b', code))
    names = {one or other for one, other in variables} | {"TOKEN", "USERNAME", "PASSWORD"}
    assert flags == {"--dags", "--state", "--at-once", "--pass-env", "--airflow", "--airflow-ca"}
    assert names == {"DAGS", "STATE", "AT_ONCE", "PASS_ENV", "URL", "CA", "TOKEN", "USERNAME", "PASSWORD"}
    assert all(f"`{flag} " in page for flag in flags)
    assert all(f"`GATEHOUSE_AIRFLOW_{name}`" in page for name in names)


def test_every_key_of_a_dag_file_is_documented() -> None:
    from servers.airflow.embedded.dagfile import _DAG_KEYS, _TASK_KEYS

    page = (ROOT / "docs" / "servers" / "airflow.md").read_text("utf-8")
    assert all(re.search(rf"^ *{key}:", page, re.MULTILINE) for key in _DAG_KEYS | _TASK_KEYS)

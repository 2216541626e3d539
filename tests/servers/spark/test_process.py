"""`python -m servers.spark` as it is started: flags, environment, and what it can't start with."""

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
from servers.spark.__main__ import main
from tests.servers.spark.fakehistory import history

ROOT = Path(__file__).parents[3]


def start(tmp_path: Path, *more: str, **environment: str) -> subprocess.Popen[str]:
    keys = tmp_path / "identity.jwks"
    keys.write_bytes(generate_signing_key().public_jwks())
    policy = [
        "--policies",
        str(ROOT / "policies"),
        "--reviewers",
        str(ROOT / "envoy" / "reviewers.local.yaml"),
    ]
    return subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "servers.spark",
            *policy,
            "--identity-keys",
            str(keys),
            "--strict",
            *more,
        ],
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
        assert ready["component"] == "spark"
        answer = httpx.get(f"http://{ready['listen']}/healthz", trust_env=False)
        assert answer.status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors


def test_it_starts_on_a_folder_that_it_fills_with_samples(tmp_path: Path) -> None:
    serves(start(tmp_path, "--event-logs", "logs", "--database", "state/causes.sqlite"))
    assert len(list((tmp_path / "logs").iterdir())) == 4
    assert (tmp_path / "state" / "causes.sqlite").exists()


def test_it_starts_from_the_environment_alone(tmp_path: Path) -> None:
    with history() as fake:
        settings = {"HISTORY_SERVER": fake.url, "DATABASE": str(tmp_path / "causes.sqlite")}
        serves(start(tmp_path, **{f"GATEHOUSE_SPARK_{name}": value for name, value in settings.items()}))


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--database", "d"], {}, "one of --event-logs and --history-server"),
        (["--event-logs", "l", "--history-server", "http://h", "--database", "d"], {}, "one of --event-logs"),
        (["--event-logs", "l"], {}, "give --database"),
        (["--history-server", "ftp://h", "--database", "d"], {}, "must be a URL"),
        (["--history-server", "http://a:b@h", "--database", "d"], {}, "must be a URL"),
        (["--history-server", "https://h", "--history-token", "none", "--database", "d"], {}, "none"),
        (["--history-server", "http://h.example", "--history-token", "t", "--database", "d"], {}, "https"),
        (["--event-logs", "no-folder", "--database", "d"], {}, "Not a directory"),
        (["--event-logs", "l", "--database", "no-folder"], {}, "can't open"),
        (["--event-logs", "l"], {"DATABASE_URL": "postgresql://u:pa55word@127.0.0.1:1/x"}, "PostgreSQL"),
        (["--event-logs", "l"], {"DATABASE_URL": "mysql://127.0.0.1/x"}, "postgresql://"),
    ],
)  # fmt: skip
def test_what_it_can_not_start_with_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    said: str,
) -> None:
    (tmp_path / "t").write_text("token")
    (tmp_path / "no-folder").write_text("no folder and no database" * 100)
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(f"GATEHOUSE_SPARK_{name}", value)
    required = ["--policies", "p", "--reviewers", "r", "--identity-keys", "k"]
    monkeypatch.setattr(sys, "argv", ["spark", *required, *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    message = str(stopped.value)
    assert message.startswith("spark: ")
    assert said in message
    assert "\n" not in message
    assert "pa55word" not in message


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "servers" / "spark.md").read_text("utf-8")
    code = (ROOT / "servers" / "spark" / "__main__.py").read_text("utf-8")
    flags = set(re.findall(r'"(--[a-z-]+)"', code))
    variables = set(re.findall(r'_path\("([A-Z_]+)"\)', code)) | {"HISTORY_SERVER", "DATABASE_URL"}
    assert len(flags) == 5
    assert len(variables) == 6
    assert all(f"`{flag} " in page for flag in flags)
    assert all(f"`GATEHOUSE_SPARK_{name}`" in page for name in variables)

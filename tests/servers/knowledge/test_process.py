"""`python -m servers.knowledge` as it is started: flags, environment, and what it can't start with."""

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
from servers.knowledge.__main__ import main
from tests.servers.knowledge.shelf import Shelf

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "servers" / "knowledge.md"


def start(tmp_path: Path, *more: str, **environment: str) -> subprocess.Popen[str]:
    keys = tmp_path / "identity.jwks"
    keys.write_bytes(generate_signing_key().public_jwks())
    policy = ("--policies", str(ROOT / "policies"), "--reviewers", str(ROOT / "envoy/reviewers.local.yaml"))
    command = (
        sys.executable,
        "-P",
        "-m",
        "servers.knowledge",
        *policy,
        "--identity-keys",
        str(keys),
        "--strict",
    )
    return subprocess.Popen(
        [*command, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def serves(process: subprocess.Popen[str]) -> list[dict[str, object]]:
    """Wait until it has listened and indexed, stop it, and return its log."""
    assert process.stdout is not None
    assert process.stderr is not None
    ready = json.loads(process.stdout.readline())
    lines: list[str] = []
    try:
        assert ready["component"] == "knowledge"
        assert httpx.get(f"http://{ready['listen']}/healthz", trust_env=False).status_code == 200
        while not any('"indexed: ' in line for line in lines):
            line = process.stderr.readline()
            assert line, lines
            lines.append(line)
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    return [json.loads(line) for line in (*lines, *errors.splitlines())]


@pytest.mark.parametrize("engine", ["fts5", "tantivy"])
def test_it_starts_on_a_folder_that_it_fills_with_samples(tmp_path: Path, engine: str) -> None:
    log = serves(start(tmp_path, "--documents", "docs", "--index", "index", "--engine", engine))
    assert (tmp_path / "docs/gatehouse/docs/policy.md").is_file()
    assert {path.name for path in (tmp_path / "index").iterdir()} >= {"lock", f"{engine}-1.sqlite"}
    assert not [line for line in log if line["level"] in ("warning", "error")]


def test_it_starts_from_the_environment_alone(tmp_path: Path) -> None:
    settings = {"DOCUMENTS": "docs", "INDEX": "index", "SCAN_SECONDS": "0.5", "BASE_URL": "https://w.example"}
    serves(start(tmp_path, **{f"GATEHOUSE_KNOWLEDGE_{name}": value for name, value in settings.items()}))


BASE = ["--documents", "docs", "--index", "index"]
SEARCH = [*BASE, "--engine", "opensearch"]
REACHED = [*SEARCH, "--opensearch", "http://127.0.0.1:1"]


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--documents", "docs"], {}, "give --documents and --index"),
        (BASE, {"ENGINE": "lucene"}, "there is no engine 'lucene'"),
        ([*BASE, "--scan-seconds", "0"], {}, "more than 0"),
        ([*BASE, "--scan-seconds", "nan"], {}, "more than 0"),
        ([*BASE, "--base-url", "wiki"], {}, "--base-url"),
        ([*BASE, "--base-url", "https://w/?q="], {}, "--base-url"),
        (SEARCH, {}, "needs --opensearch"),
        ([*SEARCH, "--opensearch", "http://h.example:9200"], {}, "https"),
        ([*SEARCH, "--opensearch", "https://a:b@h"], {}, "address is a URL"),
        ([*REACHED, "--opensearch-credentials", "file"], {}, "user:password"),
        ([*REACHED, "--opensearch-credentials", "none"], {}, "none"),
        ([*REACHED, "--opensearch-prefix", "*"], {}, "prefix"),
        (["--documents", "docs", "--index", "file"], {}, "File exists"),
        (["--documents", "docs", "--index", "taken"], {}, "another process uses"),
    ],
)  # fmt: skip
def test_what_it_can_not_start_with_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    said: str,
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "file").write_text("no folder and no secret")
    shelf = Shelf(tmp_path)
    (tmp_path / "taken").symlink_to(tmp_path / "index")
    if "taken" not in arguments:
        shelf.opened.lock.close()
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(f"GATEHOUSE_KNOWLEDGE_{name}", value)
    required = ["--policies", "p", "--reviewers", "r", "--identity-keys", "k"]
    monkeypatch.setattr(sys, "argv", ["knowledge", *required, *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    shelf.close()
    message = str(stopped.value)
    assert message.startswith("knowledge: ")
    assert said in message
    assert "\n" not in message


def test_every_setting_is_documented() -> None:
    page = PAGE.read_text("utf-8")
    code = (ROOT / "servers" / "knowledge" / "__main__.py").read_text("utf-8")
    flags = set(re.findall(r'^        "(--[a-z-]+)"', code, re.MULTILINE))
    assert len(flags) == 9
    for flag in flags:
        variable = f"GATEHOUSE_KNOWLEDGE_{flag[2:].upper().replace('-', '_')}"
        assert f"| `{flag} " in page
        assert f"`{variable}`" in page
        assert (
            f'"{variable.removeprefix("GATEHOUSE_KNOWLEDGE_")}"' in code or f"{{_ENV}}{variable[20:]}" in code
        )

"""The command as its users meet it: exit codes, one clear line, JSON where asked for."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gatehouse.cli import run
from gatehouse.errors import UsageFailure
from gatehouse.moments import moment
from pdp.publish import pages
from pdp.reasons import REASONS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "policies", tmp_path / "policies"))


REVIEWERS = str(ROOT / "envoy" / "reviewers.local.yaml")


def claims_of(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["tokn"], "No such command 'tokn'. Did you mean 'token'?"),
        (["token"], "Missing option '--user'"),
        (["token", "--user", "ana", "--ttl", "soon"], "Invalid value for '--ttl'"),
        (["token", "--user", "ana", "--claim", "x"], "'x' is not KEY=VALUE"),
        (["token", "--user", "ana", "--issuer", "nobody"], "policy names no issuer 'nobody'"),
        (["svid", "--id", "spiffe://UPPER/x"], "not a SPIFFE ID"),
        (["svid", "--id", "a/b", "--type", "jwt"], "needs an audience"),
        (["policy", "reasons", "because"], "no reason is called 'because'"),
        (["policy", "schema"], "say a kind"),
        (["lock", "--why", "x"], "exactly one of"),
        (["lock", "--why", "x", "--user", "sso:a", "--until", "2026-12-24T00:00:00"], "has no zone"),
        (["keys", "rotate", "sideways"], "Invalid value for"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str],
    line: str,
    state: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATEHOUSE_STATE", str(state))
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert line in shown.err
    assert "Traceback" not in shown.err


def test_a_call_without_a_stack_says_what_to_do(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["call", "presto", "list_tables", "--as", "ana", "--state", str(state)]) == 1
    assert "start one with `gatehouse up`" in capsys.readouterr().err


def test_a_token_says_what_was_asked(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--groups",
        "a, b",
        "--roles",
        "r",
        "--client",
        "web",
        "--audience",
        "https://x",
        "--ttl",
        "60",
    ]
    options += ["--claim", "n=1", "--claim", "on=true", "--claim", "text=plain words", "--claim", 'l=["x"]']
    assert run(["token", "--user", "ana", *options, "--state", str(state)]) == 0
    claims = claims_of(capsys.readouterr().out)
    assert (claims["sub"], claims["groups"], claims["roles"]) == ("ana", ["a", "b"], ["r"])
    assert (claims["azp"], claims["aud"], claims["iss"]) == ("web", "https://x", "https://sso.corp.example")
    assert (claims["n"], claims["on"], claims["text"], claims["l"]) == (1, True, "plain words", ["x"])
    assert int(str(claims["exp"])) - int(str(claims["iat"])) == 60


def test_a_token_may_have_expired(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["token", "--user", "ana", "--ttl", "-60", "--state", str(state)]) == 0
    assert int(str(claims_of(capsys.readouterr().out)["exp"])) <= time.time() - 60


def test_an_svid_lands_where_it_is_asked_to(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--out", str(tmp_path / "bot"), "--state", str(state)]
    assert run(["svid", "--id", "spiffe://corp.example/ns/prod/sa/report-bot", *where]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "bot.pem"), str(tmp_path / "bot.key")]
    jwt = ["--type", "jwt", "--audience", "https://x", "--audience", "https://y", "--state", str(state)]
    assert run(["svid", "--id", "ns/prod/sa/report-bot", *jwt]) == 0
    claims = claims_of(capsys.readouterr().out)
    assert claims["sub"] == "spiffe://corp.example/ns/prod/sa/report-bot"
    assert claims["aud"] == ["https://x", "https://y"]


def test_keys_are_made_once_and_rotate_in_steps(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--state", str(state)]

    def kids() -> list[str]:
        assert run(["keys", "public", *at]) == 0
        found = json.loads(capsys.readouterr().out)["keys"]
        assert all("d" not in key for key in found)
        return [key["kid"] for key in found]

    assert run(["keys", "public", *at]) == 1
    assert run(["keys", "new", *at]) == 0
    assert run(["keys", "new", *at]) == 1
    capsys.readouterr()
    (old,) = kids()
    assert run(["keys", "rotate", "sign", *at]) == 1
    assert "rotate add" in capsys.readouterr().err
    assert run(["keys", "rotate", "add", *at]) == 0
    first, new = kids()
    assert first == old
    assert run(["keys", "rotate", "sign", *at]) == 0
    assert kids() == [new, old]
    assert run(["keys", "rotate", "retire", *at]) == 0
    assert kids() == [new]
    published = json.loads((state / "identity" / "public.jwks").read_text())["keys"]
    assert [key["kid"] for key in published] == [new]


def test_check_says_where_a_policy_is_wrong(policies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--policies", str(policies), "--reviewers", REVIEWERS]
    assert run(["policy", "check", *at]) == 0
    capsys.readouterr()
    server = policies / "servers" / "presto.yaml"
    server.write_text(server.read_text().replace("owner:", "ownr:", 1))
    assert run(["policy", "check", *at]) == 1
    assert "servers/presto.yaml:7:1: unknown key 'ownr'; did you mean 'owner'?" in capsys.readouterr().out
    assert run(["policy", "check", "--json", *at]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_an_edit_is_pending_until_every_kind_is_approved(
    policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--policies", str(policies), "--reviewers", REVIEWERS]
    server = policies / "servers" / "presto.yaml"
    server.write_text(server.read_text().replace("groups: [ads, finance, data-infra]", "groups: [ads]", 1))
    in_force = (policies / "approved" / "servers" / "presto.yaml").read_bytes()

    assert run(["policy", "status", "--json", *at]) == 0
    rows = {row["subject"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["presto"]["pending"] is True
    assert rows["presto"]["in_force"] is True
    assert rows["spark"]["pending"] is False

    assert run(["policy", "approve", "presto", "--as", "dana@corp.example", "--ticket", "SEC-1", *at]) == 0
    assert "lacks legal-privacy" in capsys.readouterr().out
    assert (policies / "approved" / "servers" / "presto.yaml").read_bytes() == in_force

    assert run(["policy", "approve", "presto", "--as", "lee@corp.example", "--ticket", "LEG-1", *at]) == 0
    assert "presto is in force" in capsys.readouterr().out
    copy = (policies / "approved" / "servers" / "presto.yaml").read_text()
    assert copy.partition("\n")[2] == server.read_text()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["presto", "--as", "mallory@corp.example"], "mallory@corp.example is no reviewer"),
        (["presto", "--as", "kim@corp.example"], "presto needs legal-privacy, security"),
        (["scratchpad", "--as", "dana@corp.example"], "needs no review"),
        (["prest", "--as", "dana@corp.example"], "did you mean 'presto'?"),
        (["presto", "--as", "dana@corp.example", "--expires", "400d"], "an approval ends after now"),
    ],
)
def test_an_approval_that_cannot_be_given(
    arguments: list[str], line: str, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--ticket", "T-1", "--policies", str(policies), "--reviewers", REVIEWERS]
    assert run(["policy", "approve", *arguments, *at]) == 1
    assert line in capsys.readouterr().err


def test_a_lock_is_written(policies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--policies", str(policies), "--reviewers", REVIEWERS]
    assert (
        run(
            [
                "lock",
                "--user",
                "sso:lena",
                "--why",
                "INC-1: lost laptop",
                "--by",
                "dana",
                "--until",
                "2h",
                *at,
            ]
        )
        == 0
    )
    assert 'user: "sso:lena"' in (policies / "locks.yaml").read_text()
    assert run(["policy", "check", *at]) == 0
    assert run(["lock", "--workload", "nonsense", "--why", "x", *at]) == 1
    assert "SPIFFE" in capsys.readouterr().err


def test_schemas_and_reasons_are_the_published_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["policy", "schema", "--out", str(tmp_path / "schema")]) == 0
    assert run(["policy", "reasons", "--out", str(tmp_path / "reasons.md")]) == 0
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.*")}
    assert written == pages()
    capsys.readouterr()
    assert run(["policy", "schema", "server"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "ServerFile"
    assert run(["policy", "reasons", "--json"]) == 0
    assert [reason["code"] for reason in json.loads(capsys.readouterr().out)] == list(REASONS)


def test_help_loads_nothing_heavy() -> None:
    heavy = {
        "mcp",
        "httpx",
        "httpx2",
        "grpc",
        "cryptography",
        "pydantic",
        "yaml",
        "duckdb",
        "envoy_data_plane",
    }
    program = "import sys; from gatehouse.cli import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.splitlines()[-1].split()) == set()


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f"{sys.executable} -m gatehouse policy reasons | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith("malformed_request")


def test_times_as_people_type_them() -> None:
    assert moment("90m", 1000.0) == 1000.0 + 5400
    assert moment("1970-01-02T00:00:00Z", 0.0) == 86_400
    with pytest.raises(UsageFailure, match="is no time"):
        moment("tomorrow", 0.0)


def test_a_lock_in_a_broken_folder_is_said_not_to_be_in_force(
    policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lock is for an emergency: nobody may believe it holds while a typo elsewhere keeps it out."""
    proposal = policies / "servers" / "presto.yaml"
    proposal.write_text(
        proposal.read_text().replace("[ads, finance, data-infra], tools: all", "[adz], tools: all")
    )
    at = ["--policies", str(policies), "--reviewers", REVIEWERS]
    assert run(["lock", "--user", "sso:lena", "--why", "INC-2", "--by", "dana", *at]) == 1
    said = capsys.readouterr().err
    assert "NOT in force" in said
    assert "servers/presto.yaml:13" in said
    assert "sso:lena" in (policies / "locks.yaml").read_text()


def test_a_lock_into_a_file_that_is_no_yaml_is_one_clear_line(
    policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (policies / "locks.yaml").write_text("locks: [")
    at = ["--policies", str(policies), "--reviewers", REVIEWERS]
    assert run(["lock", "--user", "sso:lena", "--why", "INC-3", "--by", "dana", *at]) == 1
    assert "locks.yaml:2:1: not YAML" in capsys.readouterr().err
    assert (policies / "locks.yaml").read_text() == "locks: ["


def test_nothing_is_written_into_what_was_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the wrong directory there is neither a working copy nor a folder named."""
    assert run(["lock", "--user", "sso:lena", "--why", "INC-4", "--state", str(tmp_path)]) == 1
    assert "there is no policy folder" in capsys.readouterr().err

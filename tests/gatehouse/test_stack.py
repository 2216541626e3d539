"""The whole stack, as `gatehouse up` and `gatehouse demo` start it: real processes, a real Envoy."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gatehouse.client import Call, Credentials, perform
from gatehouse.devca import DevCa, parse_id
from gatehouse.issuers import issuer_named
from gatehouse.people import PEOPLE
from gatehouse.state import State
from gatehouse.tokens import mint
from tests.support.envoy import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180), pytest.mark.xdist_group("stack")]

ROOT = Path(__file__).parents[2]
GATEHOUSE = (sys.executable, "-m", "gatehouse")
ANY_PORTS = """\
apiVersion: gatehouse/v1
kind: Deployment
public_url: https://127.0.0.1:0
listeners:
  users: {{address: "127.0.0.1:0", tls: {{certificate: users.pem, key: users.key}}}}
  mesh: {{address: "127.0.0.1:0"}}
endpoints:
  presto: {{address: "127.0.0.1:{port}"}}
ext_authz: {{addresses: ["127.0.0.1:0"]}}
control_plane: {{address: "127.0.0.1:0"}}
"""


class Counter(ThreadingHTTPServer):
    """An upstream that answers a tool's call and keeps the headers it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.seen: list[dict[str, str]] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


class Answer(BaseHTTPRequestHandler):
    server: Counter
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append({name.lower(): value for name, value in self.headers.items()})
        result = {"resultType": "complete", "content": [{"type": "text", "text": "hello"}]}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass
class Up:
    """A running `gatehouse up --no-servers`, and the upstream that stands for Presto."""

    process: subprocess.Popen[str]
    addresses: dict[str, Any]
    state: State
    upstream: Counter
    log: Path

    def call(self, user: str, tool: str = "list_tables") -> str:
        """`ok`, or the reason."""
        token = mint(self.state, issuer_named(self.state, None), PEOPLE[user].asks(), time.time())
        url = self.addresses["servers"]["presto"]
        outcome = perform(Call(url, tool), Credentials(token), self.state.server_ca)
        return "ok" if outcome.ok else str(outcome.reason)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    upstream = Counter()
    shutil.copytree(ROOT / "policies", folder / "policies")
    (folder / "deployment.yaml").write_text(ANY_PORTS.format(port=upstream.server_address[1]))
    command = [
        *GATEHOUSE,
        *("up", "--no-servers", "--json", "--state", str(folder / "state")),
        *("--policies", str(folder / "policies"), "--deployment", str(folder / "deployment.yaml")),
        *("--reviewers", str(ROOT / "envoy" / "reviewers.local.yaml")),
    ]
    log = folder / "up.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        yield Up(process, json.loads(line), State(folder / "state"), upstream, log)
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()
        upstream.shutdown()
        upstream.server_close()


def test_one_line_says_where_everything_is(up: Up) -> None:
    found = up.addresses
    assert found["ready"] is True
    assert found["users"].startswith("https://127.0.0.1:")
    assert found["mesh"].startswith("https://127.0.0.1:")
    assert {"issuer", "extauthz", "xds", "envoy"} == set(found["pids"])
    assert found["direct"]["presto"] == f"http://127.0.0.1:{up.upstream.server_address[1]}/mcp"
    assert all(Path(path).exists() for path in found["files"].values())
    assert json.loads(up.state.stack.read_text()) == found


def test_an_allowed_call_reaches_the_upstream_and_a_denied_one_never(up: Up) -> None:
    before = len(up.upstream.seen)
    assert up.call("ana") == "ok"
    seen = up.upstream.seen[-1]
    assert len(up.upstream.seen) == before + 1
    assert (seen["x-forwarded-user"], seen["x-forwarded-groups"]) == ("ana", "ads,ads-eng,employees")
    assert "authorization" not in seen
    assert up.call("hana") == "group_not_allowed"
    assert up.call("carl") == "guardrail"
    assert len(up.upstream.seen) == before + 1


def test_a_decision_is_in_the_log(up: Up) -> None:
    assert up.call("hana", "run_query") == "group_not_allowed"

    def written() -> bool:
        lines = [json.loads(line) for line in up.state.decisions.read_text().splitlines()]
        return any(line["user"] == "sso:hana" and line["tool"] == "run_query" for line in lines)

    eventually(written, "the decision in decisions.jsonl")


def test_the_command_calls_through_it(up: Up) -> None:
    at = ["--state", str(up.state.root)]
    command = [*GATEHOUSE, "call", "presto", "list_tables", "--as"]
    allowed = subprocess.run([*command, "ana", *at], capture_output=True, text=True, timeout=60, check=False)
    assert (allowed.returncode, allowed.stdout.strip()) == (0, "hello")
    refused = subprocess.run([*command, "hana", *at], capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "group_not_allowed" in refused.stderr
    assert "#presto-help" in refused.stderr
    bot = [*GATEHOUSE, "call", "presto", "list_tables", "--service", "ns/prod/sa/report-bot", "--json", *at]
    service = subprocess.run(bot, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(service.stdout)["ok"] is True


def test_a_stranger_with_a_certificate_of_another_ca_gets_nowhere(up: Up, tmp_path: Path) -> None:
    pair = DevCa(State(tmp_path)).x509_svid(parse_id("ns/prod/sa/report-bot"))
    call = Call(up.addresses["mesh_servers"]["presto"], "list_tables")
    before = len(up.upstream.seen)
    outcome = perform(call, Credentials(certificate=pair), up.state.server_ca)
    assert (outcome.ok, outcome.reason) == (False, None)
    assert len(up.upstream.seen) == before


def test_a_second_stack_in_one_folder_is_refused(up: Up) -> None:
    command = [*GATEHOUSE, "up", "--state", str(up.state.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "another stack runs from" in done.stderr


def test_a_component_that_is_killed_comes_back(up: Up) -> None:
    before = up.addresses["pids"]["extauthz"]
    os.kill(before, signal.SIGKILL)

    def replaced() -> bool:
        now: int = json.loads(up.state.stack.read_text())["pids"]["extauthz"]
        return now != before

    eventually(replaced, "a new ext_authz", 30)
    eventually(lambda: up.call("ana") == "ok", "calls go on", 30)
    assert "extauthz ended (killed by signal 9)" in up.log.read_text()


def test_sigterm_ends_everything(up: Up) -> None:
    """The last test of this file: the stack is gone afterwards."""
    pids = json.loads(up.state.stack.read_text())["pids"].values()
    up.process.terminate()
    assert up.process.wait(30) == 0
    assert not up.state.stack.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_policy_that_is_wrong_is_said_with_its_line(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    server = tmp_path / "policies" / "servers" / "presto.yaml"
    server.write_text(server.read_text().replace("owner:", "ownr:", 1))
    (tmp_path / "deployment.yaml").write_text(ANY_PORTS.format(port=0))
    command = [*GATEHOUSE, "up", "--no-servers", "--json", "--state", str(tmp_path / "state")]
    command += ["--policies", str(tmp_path / "policies"), "--deployment", str(tmp_path / "deployment.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            found = json.loads(process.stdout.readline())
        finally:
            process.terminate()
    assert found["ready"] is False
    assert "servers/presto.yaml:7:1: unknown key 'ownr'; did you mean 'owner'?" in found["problems"]


def test_the_tour_is_as_expected_and_leaves_policy_as_it_was(tmp_path: Path) -> None:
    command = [*GATEHOUSE, "demo", "--once", "--state", str(tmp_path / "state")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all as expected" in done.stdout
    kept = {path: path.read_bytes() for path in sorted((ROOT / "policies").rglob("*.yaml"))}
    for path, content in kept.items():
        assert (tmp_path / "state" / "policies" / path.relative_to(ROOT / "policies")).read_bytes() == content

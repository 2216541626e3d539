"""Policy comes and changes while a server runs; what can't be enforced changes nothing."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from identity.signing import generate_signing_key
from mcpguard import StartError, app
from mcpguard.sources import KeyFile
from tests.mcpguard.running import Running, reason, serving
from tests.mcpguard.toy import Toy
from tests.mcpguard.world import TOY, World, assertion


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.02)


def metric(server: Running, line: str) -> bool:
    return line in server.metrics()


def test_without_policy_nobody_is_served_until_there_is_one(tmp_path: Path) -> None:
    toy, world = Toy(), World(tmp_path)
    org = world.policies / "org.yaml"
    text = org.read_text()
    org.write_text("nonsense: [")
    with serving(toy.mcp, world, tmp_path) as server:
        answer = server.call("open_tool", assertion())
        assert (answer.status_code, reason(answer)) == (503, "policy_unavailable")
        assert answer.json()["error"]["code"] == -32000
        assert server.http.get(f"{server.url}/healthz").status_code == 503
        assert not toy.ran
        org.write_text(text)
        until(lambda: server.http.get(f"{server.url}/healthz").status_code == 200)
        assert server.call("open_tool", assertion()).status_code == 200


def test_a_change_is_in_force_at_once_and_a_broken_one_never(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    toy, world = Toy(), World(tmp_path)
    with serving(toy.mcp, world, tmp_path) as server:
        assert server.call("open_tool", assertion()).status_code == 200
        world.write_server(TOY.replace("tools: all", "tools: [eng_tool]"))
        until(lambda: server.call("open_tool", assertion()).status_code == 403)
        world.write_server(TOY + "\nsurprise: true\n")
        until(lambda: "policy refused: servers/toy.yaml" in caplog.text)
        assert server.call("open_tool", assertion()).status_code == 403
        world.write_server(TOY)
        until(lambda: server.call("open_tool", assertion()).status_code == 200)


def test_a_lock_holds_at_once(tmp_path: Path) -> None:
    toy, world = Toy(), World(tmp_path)
    with serving(toy.mcp, world, tmp_path) as server:
        world.write_locks('{user: "sso:eva", until: 2099-01-01T00:00:00Z, why: INC-1, by: dana@corp.example}')
        until(lambda: server.call("eng_tool", assertion()).status_code == 403)
        assert reason(server.call("eng_tool", assertion())) == "locked"


def test_what_code_and_policy_disagree_on_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)
    with caplog.at_level(logging.INFO, "mcpguard"), serving(Toy().mcp, world, tmp_path) as server:
        for kind, count in (("tool_unknown", 1), ("tool_policy_mismatch", 1), ("tool_not_offered", 1)):
            assert metric(server, f'mcp_tools_withheld{{reason="{kind}",server="toy"}} {count}.0')
        said = [r.getMessage() for r in caplog.records if r.name == "mcpguard" and "tool '" in r.getMessage()]
        assert said == [
            "tool 'other_tool': the code says policy='somebody-else', the YAML says policy=None "
            "(servers/toy.yaml:18)",
            "tool 'unnamed_tool': policy does not name it (servers/toy.yaml:3)",
            "tool 'absent_tool': policy names it, the server does not offer it (servers/toy.yaml:21)",
        ]
        mended = TOY.replace("other_tool:   {", "unnamed_tool: {").replace("  absent_tool:", "  other_tool:")
        world.write_server(mended)
        until(lambda: not metric(server, 'reason="tool_unknown"'))
        assert metric(server, 'mcp_tools_withheld{reason="tool_policy_mismatch",server="toy"} 1.0')


def test_strict_refuses_to_start_and_says_where(tmp_path: Path) -> None:
    world, keys = World(tmp_path), tmp_path / "keys.jwks"
    keys.write_bytes(generate_signing_key().public_jwks())

    def start(server: str = "toy") -> None:
        app(
            Toy().mcp,
            server=server,
            policies=world.policies,
            reviewers=world.reviewers,
            identity_keys=keys,
            strict=True,
        )

    with pytest.raises(StartError, match=r"'other_tool'.*servers/toy\.yaml:18.*'unnamed_tool'"):
        start()
    with pytest.raises(StartError, match="policy has no server 'nowhere'"):
        start("nowhere")
    world.write_server("nonsense: [")
    with pytest.raises(StartError, match="can't be loaded"):
        start()


def test_strict_starts_where_all_agree(tmp_path: Path) -> None:
    world, toy = World(tmp_path), Toy()
    toy.mcp.remove_tool("other_tool")
    toy.mcp.remove_tool("unnamed_tool")
    with serving(toy.mcp, world, tmp_path, strict=True) as server:
        assert server.call("open_tool", assertion()).status_code == 200


def test_a_server_that_policy_does_not_have_answers_nobody(tmp_path: Path) -> None:
    with serving(Toy().mcp, World(tmp_path), tmp_path, "nowhere") as server:
        assert reason(server.call("open_tool", assertion(server="nowhere"))) == "server_unknown"


class TestKeys:
    def test_rotation(self, tmp_path: Path) -> None:
        file = tmp_path / "keys.jwks"
        first, second = generate_signing_key(), generate_signing_key()
        file.write_bytes(first.public_jwks())
        keys = KeyFile(file)
        assert not keys.poll()
        before = keys.current().generation
        file.write_bytes(second.public_jwks())
        assert keys.poll()
        assert keys.current().generation != before

    @pytest.mark.parametrize("content", [b"", b"{}", b'{"keys":[]}', b"x" * 300_000])
    def test_a_broken_file_leaves_the_last_good_keys(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "keys.jwks"
        file.write_bytes(generate_signing_key().public_jwks())
        keys = KeyFile(file)
        before = keys.current()
        file.write_bytes(content)
        assert not keys.poll()
        file.unlink()
        assert not keys.poll()
        assert keys.current() is before

    def test_without_keys_it_does_not_start(self, tmp_path: Path) -> None:
        world = World(tmp_path)
        with pytest.raises(StartError, match=r"identity keys: .*none\.jwks"):
            app(
                Toy().mcp,
                server="toy",
                policies=world.policies,
                reviewers=world.reviewers,
                identity_keys=tmp_path / "none.jwks",
            )


class TestReports:
    def test_a_call_is_one_line(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        from mcpguard.logs import JsonLines

        with (
            caplog.at_level(logging.INFO, "mcpguard.calls"),
            serving(Toy().mcp, World(tmp_path), tmp_path) as s,
        ):
            s.call("open_tool", assertion(), {"text": " token=PRIVATE"})
            s.call("unnamed_tool", assertion(), {"text": " token=PRIVATE"})
            until(lambda: len([r for r in caplog.records if r.name == "mcpguard.calls"]) == 2)
        lines = [JsonLines().format(r) for r in caplog.records if r.name == "mcpguard.calls"]
        assert "PRIVATE" not in "".join(lines)
        ran, refused = (json.loads(line) for line in lines)
        assert (ran["user"], ran["tool"], ran["outcome"]) == ("sso:eva", "open_tool", "ok")
        assert (refused["tool"], refused["outcome"], refused["reason"]) == (
            "unnamed_tool",
            "denied",
            "tool_unknown",
        )
        assert ran["arguments"] == {"text": " token=[redacted]"}
        assert ran["result"] == {"result": "open_tool ran token=[redacted]"}
        assert "arguments" not in refused
        assert ran["ms"] > 0
        assert ran.keys() >= {"time", "level", "decision_id", "surface", "workload", "server", "method"}

    def test_labels_come_from_policy(self, tmp_path: Path) -> None:
        with serving(Toy().mcp, World(tmp_path), tmp_path) as server:
            for tool in ("open_tool", "unnamed_tool", "made_up_by_a_caller"):
                server.call(tool, assertion())
            text = server.metrics()
        assert (
            'mcp_authz_decisions_total{decision="allow",reason="",server="toy",tool="open_tool"} 1.0' in text
        )
        denied = 'decision="deny",reason="tool_unknown",server="toy",tool="other"} 2.0'
        assert f"mcp_authz_decisions_total{{{denied}" in text
        assert "made_up" not in text
        assert "unnamed" not in text
        assert 'method="tools/call",outcome="ok",server="toy",tool="open_tool"' in text

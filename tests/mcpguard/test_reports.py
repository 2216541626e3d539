"""What a server tells of its calls: to its log, to Prometheus, to the registry, to its callers."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import pytest

from identity.assertion import Assertion
from mcpguard import Limits, Settings, StartError
from mcpguard.ingest import Ingest
from mcpguard.logs import JsonLines
from tests.mcpguard.registry_double import Registry, registry
from tests.mcpguard.running import LEGACY, MODERN, Running, modern, reason, serving
from tests.mcpguard.test_policy import until
from tests.mcpguard.toy import Toy
from tests.mcpguard.workshop import NAME, PASSWORD, POLICY, Workshop
from tests.mcpguard.world import SAM, World, assertion

ERAS = pytest.mark.parametrize("era", [LEGACY, MODERN])
USAGE = json.loads(Path("docs/schema/usage-event.v1.json").read_text())
INVENTORY = json.loads(Path("docs/schema/inventory.v1.json").read_text())
EVA = assertion(server=NAME)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def world(root: Path) -> World:
    made = World(root)
    made.write_server(POLICY, NAME)
    return made


@dataclass
class Shop:
    shop: Workshop
    server: Running
    ingest: Registry
    usage: Path

    def call(
        self, tool: str, arguments: dict[str, Any] | None = None, who: Assertion = EVA
    ) -> dict[str, Any]:
        answer = self.server.call(tool, who, arguments)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["result"]
        return found

    def text(self, tool: str, arguments: dict[str, Any] | None = None) -> str:
        result = self.call(tool, arguments)
        assert result["isError"] is True
        found: str = result["content"][0]["text"]
        return found

    def events(self, kind: str = "usage") -> list[dict[str, Any]]:
        if not self.usage.exists():
            return []
        return [e for line in self.usage.read_text().splitlines() if (e := json.loads(line))["kind"] == kind]

    def metric(self, line: str) -> bool:
        return any(found.startswith(line) for found in self.server.metrics().splitlines())


@pytest.fixture
def limits() -> Limits:
    return Limits(result_bytes=20_000)


@pytest.fixture
def shop(tmp_path: Path, limits: Limits) -> Iterator[Shop]:
    made, usage = Workshop(), tmp_path / "usage.jsonl"
    with registry() as ingest:
        settings = Settings(limits=limits, usage_file=usage, ingest=Ingest(ingest.url))
        with serving(made.mcp, world(tmp_path), tmp_path, NAME, settings=settings) as server:
            try:
                yield Shop(made, server, ingest, usage)
            finally:
                made.go_on.set()


def call_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(JsonLines().format(r)) for r in caplog.records if r.name == "mcpguard.calls"]


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcpguard")


class TestLog:
    def test_inputs_and_outputs_without_their_secrets(
        self, shop: Shop, caplog: pytest.LogCaptureFixture
    ) -> None:
        shop.call("login", {"user": "eva", "password": "hunter2"})
        until(lambda: len(call_lines(caplog)) == 1)
        (line,) = call_lines(caplog)
        assert line["arguments"] == {"user": "eva", "password": "[redacted]"}
        assert line["result"] == {"user": "eva", "session_token": "[redacted]"}
        assert (line["outcome"], line["tool"], line["user"], line["surface"]) == (
            "ok",
            "login",
            "sso:eva",
            "ide",
        )
        assert "hunter2" not in json.dumps(line)

    def test_they_are_cut(self, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
        shop.call("echo", {"text": "long words " * 2_000})
        until(lambda: len(call_lines(caplog)) == 1)
        (line,) = call_lines(caplog)
        assert len(json.dumps(line)) < 2 * 4096 + 1500
        assert "(22000 characters)" in line["arguments"]["text"]

    @pytest.mark.parametrize(
        ("level", "shown"), [("all", {"echo", "fail"}), ("errors", {"fail"}), ("off", set())]
    )
    def test_they_can_be_turned_off(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, level: Any, shown: set[str]
    ) -> None:
        settings = Settings(payloads=level)
        with serving(Workshop().mcp, world(tmp_path), tmp_path, NAME, settings=settings) as server:
            server.call("echo", EVA, {"text": "x"})
            server.call("fail", EVA)
            until(lambda: len(call_lines(caplog)) == 2)
        assert {line["tool"] for line in call_lines(caplog) if "result" in line} == shown

    def test_fields_of_ones_own_are_left_out(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        settings = Settings(redact=("text",))
        with serving(Workshop().mcp, world(tmp_path), tmp_path, NAME, settings=settings) as server:
            server.call("echo", EVA, {"text": "member 4711"})
            until(lambda: len(call_lines(caplog)) == 1)
        assert call_lines(caplog)[0]["arguments"] == {"text": "[redacted]"}


class TestCrash:
    @ERAS
    def test_its_caller_learns_an_id_and_the_log_the_rest(
        self, shop: Shop, caplog: pytest.LogCaptureFixture, era: str
    ) -> None:
        async def call() -> str:
            async with shop.server.client(EVA, era) as client:
                result = await client.call_tool("crash", {})
                assert result.is_error
                return result.content[0].text  # type: ignore[union-attr]

        text = anyio.run(call)
        assert "ZeroDivision" not in text
        assert PASSWORD not in text
        error_id = text.partition("error id ")[2].partition(".")[0]
        assert len(error_id) == 16
        (record,) = [r for r in caplog.records if r.name == "mcpguard.tools"]
        line = json.loads(JsonLines().format(record))
        assert (line["error_id"], line["tool"], line["event"]) == (error_id, "crash", "crash")
        assert "ZeroDivisionError" in line["exception"]
        assert "workshop.py" in line["exception"]
        assert PASSWORD not in json.dumps(line)
        until(lambda: len(shop.events()) == 1)
        (event,) = shop.events()
        assert (event["outcome"], event["reason"], event["minutes_saved"]) == (
            "tool_error",
            "tool_crashed",
            0,
        )
        assert event["decision_id"] == line["decision_id"]
        assert shop.metric('mcp_tool_crashes_total{server="workshop",tool="crash"} 1.0')

    def test_what_a_tool_says_on_purpose_is_passed_on(self, shop: Shop) -> None:
        assert shop.text("fail").endswith("There is no table 'ads'. list_tables says what there is.")
        assert not shop.metric("mcp_tool_crashes_total{")

    def test_wrong_arguments_are_the_models_to_mend(self, shop: Shop) -> None:
        assert "Input should be a valid integer" in shop.text("rows", {"count": "many"})


class TestMetrics:
    def test_they_are_named_as_agreed_and_say_nothing_of_callers(self, shop: Shop) -> None:
        shop.call("echo", {"text": "PRIVATE"})
        shop.call("rows", {"count": 3, "truncated": True})
        shop.call("fail")
        text = shop.server.metrics()
        for line in (
            'mcp_server_operation_duration_seconds_count{method="tools/call",outcome="ok",server="workshop",'
            'tool="echo"} 1',
            'mcp_authz_decisions_total{decision="allow",reason="",server="workshop",tool="echo"} 1',
            'mcp_tool_result_bytes_count{server="workshop",tool="echo"} 1',
            'mcp_tool_truncations_total{server="workshop",tool="rows"} 1',
            'mcp_minutes_saved_total{server="workshop",tool="echo"} 7.5',
            "# TYPE mcp_backend_duration_seconds histogram",
            "# TYPE mcp_confirmations_total counter",
        ):
            assert line in text
        assert 'mcp_minutes_saved_total{server="workshop",tool="fail"}' not in text
        for private in ("eva", "PRIVATE", "ide"):
            assert f'"{private}' not in text

    def test_how_events_fare_is_told(self, shop: Shop) -> None:
        shop.call("echo", {"text": "x"})
        shop.ingest.wait_for(2)  # the inventory is the other
        until(lambda: shop.metric('mcp_usage_events_total{server="workshop",sink="ingest"} 2.0'))
        assert shop.metric('mcp_usage_events_total{server="workshop",sink="file"} 2.0')
        assert shop.metric('mcp_usage_dropped_total{reason="queue_full",server="workshop"} 0.0')


class TestUsage:
    def test_one_event_a_call(self, shop: Shop) -> None:
        shop.call("echo", {"text": "x"})
        shop.call("fail")
        refused = shop.server.call("secret", EVA)
        assert reason(refused) == "tool_group_required"
        shop.server.post(modern("tools/list"), EVA, mcp_protocol_version=MODERN, mcp_method="tools/list")
        shop.server.call("echo", None, {"text": "nobody"})
        until(lambda: len(shop.events()) == 3)
        for event in shop.events():
            jsonschema.validate(event, USAGE)
        told = {e["tool"]: (e["outcome"], e["reason"], e["minutes_saved"]) for e in shop.events()}
        assert told == {
            "echo": ("ok", None, 7.5),
            "fail": ("tool_error", None, 0),
            "secret": ("denied", "tool_group_required", 0),
        }
        one = shop.events()[0]
        assert (one["user"], one["client"], one["surface"], one["server"]) == (
            "sso:eva",
            "ide-plugin",
            "ide",
            NAME,
        )
        assert one["policy"].startswith("sha256:")
        assert "arguments" not in one

    def test_the_decisions_id_is_ext_authzs(self, shop: Shop) -> None:
        shop.server.call("echo", EVA, {"text": "x"}, x_gatehouse_decision="0123456789abcdef0123456789abcdef")
        until(lambda: len(shop.events()) == 1)
        assert shop.events()[0]["decision_id"] == "0123456789abcdef0123456789abcdef"

    def test_the_last_events_leave_before_the_server_does(self, tmp_path: Path) -> None:
        with registry() as ingest:
            settings = Settings(ingest=Ingest(ingest.url))
            with serving(Workshop().mcp, world(tmp_path), tmp_path, NAME, settings=settings) as server:
                for _ in range(20):
                    server.call("echo", EVA, {"text": "x"})
            assert len([e for e in ingest.kept.values() if e["kind"] == "usage"]) == 20

    def test_a_registry_that_is_gone_holds_up_nobody(self, tmp_path: Path) -> None:
        settings = Settings(ingest=Ingest("http://127.0.0.1:9/usage"), spool=tmp_path / "spool")
        with serving(Workshop().mcp, world(tmp_path), tmp_path, NAME, settings=settings) as server:
            for _ in range(5):
                assert server.call("echo", EVA, {"text": "x"}).status_code == 200
            until(lambda: server.metrics().count("mcp_usage_retries_total{") == 1)
        kept = "".join(file.read_text() for file in (tmp_path / "spool").iterdir())
        assert kept.count('"kind":"usage"') == 5

    @ERAS
    def test_a_question_to_the_caller_is_no_call_of_its_own(self, tmp_path: Path, era: str) -> None:
        from mcp_types import ElicitRequestParams, ElicitResult

        async def yes(_: object, __: ElicitRequestParams) -> ElicitResult:
            return ElicitResult(action="accept", content={"yes": True})

        usage = tmp_path / "usage.jsonl"
        with serving(Toy().mcp, World(tmp_path), tmp_path, settings=Settings(usage_file=usage)) as server:

            async def call() -> None:
                async with server.client(assertion(), era, elicitation_callback=yes) as client:
                    assert not (await client.call_tool("ask_tool", {})).is_error

            anyio.run(call)
        events = [json.loads(line) for line in usage.read_text().splitlines()]
        assert [e["outcome"] for e in events if e["kind"] == "usage"] == ["ok"]


class TestInventory:
    def test_it_is_told_at_start_and_on_change(self, shop: Shop) -> None:
        until(lambda: len(shop.events("inventory")) == 1)
        (first,) = shop.events("inventory")
        jsonschema.validate(first, INVENTORY)
        assert [tool["name"] for tool in first["tools"]] == sorted(
            ["echo", "login", "rows", "fail", "crash", "wait", "hang", "gate", "ask", "secret"]
        )

        def fresh() -> str:
            """New."""
            return "fresh"

        shop.shop.mcp.add_tool(fresh)
        shop.shop.mcp.remove_tool("echo")
        until(lambda: len(shop.events("inventory")) == 3)
        names = [{tool["name"] for tool in event["tools"]} for event in shop.events("inventory")]
        assert names[1] == names[0] | {"fresh"}
        assert names[2] == names[1] - {"echo"}
        assert len({event["digest"] for event in shop.events("inventory")}) == 3
        shop.ingest.wait_for(3)

    def test_a_tool_that_is_gone_is_gone(self, shop: Shop) -> None:
        shop.shop.mcp.remove_tool("echo")
        assert reason(shop.server.call("echo", EVA, {"text": "x"})) == "tool_unknown"


class TestLimits:
    @pytest.mark.parametrize(
        ("tool", "says"),
        [("wait", "longer than 0.2 seconds and was stopped"), ("hang", "may still be at work")],
    )
    def test_a_deadline(self, shop: Shop, tool: str, says: str) -> None:
        text = shop.text(tool)
        assert says in text
        assert "Ask for less at once" in text
        assert shop.metric(
            f'mcp_tool_limits_total{{limit="deadline_exceeded",server="workshop",tool="{tool}"}} 1.0'
        )
        until(lambda: bool(shop.events()))
        assert shop.events()[0]["reason"] == "deadline_exceeded"

    def test_a_tool_that_hangs_is_busy_until_it_ends(self, shop: Shop) -> None:
        assert "may still be at work" in shop.text("hang")
        assert "runs 1 calls already" in shop.text("hang")
        shop.shop.go_on.set()
        until(lambda: not shop.call("hang")["isError"])

    def test_a_result_that_is_too_large_is_left_out(self, shop: Shop) -> None:
        assert len(shop.call("rows", {"count": 50})["structuredContent"]["rows"]) == 50
        result = shop.call("rows", {"count": 500})
        assert result["isError"] is True
        assert "structuredContent" not in result
        assert "more than the 20000" in result["content"][0]["text"]
        assert shop.metric(
            'mcp_tool_limits_total{limit="result_too_large",server="workshop",tool="rows"} 1.0'
        )
        assert shop.metric('mcp_tool_truncations_total{server="workshop",tool="rows"} 1.0')

    @ERAS
    def test_the_sdks_client_understands_them(self, shop: Shop, era: str) -> None:
        async def call() -> None:
            async with shop.server.client(EVA, era) as client:
                for tool, arguments in (("wait", {}), ("rows", {"count": 500})):
                    assert (await client.call_tool(tool, arguments)).is_error

        anyio.run(call)

    @pytest.mark.parametrize("limits", [Limits(per_caller=1)])
    def test_one_caller_takes_no_other_callers_place(self, shop: Shop, limits: Limits) -> None:
        ended = threading.Event()

        def first() -> None:
            shop.call("gate")
            ended.set()

        threading.Thread(target=first, daemon=True).start()
        assert shop.shop.begun.wait(10)
        assert "You have 1 calls running" in shop.text("echo", {"text": "x"})
        other = assertion(SAM, server=NAME)
        assert shop.call("echo", {"text": "x"}, other)["isError"] is False
        shop.shop.go_on.set()
        assert ended.wait(10)
        until(lambda: shop.call("echo", {"text": "x"})["isError"] is False)


class TestAnnotations:
    @ERAS
    def test_they_are_what_policy_says(self, shop: Shop, era: str) -> None:
        async def listed() -> dict[str, Any]:
            async with shop.server.client(EVA, era) as client:
                return {tool.name: tool.annotations for tool in (await client.list_tools()).tools}

        told = anyio.run(listed)
        hints = {
            name: (a.read_only_hint, a.destructive_hint, a.idempotent_hint, a.open_world_hint)
            for name, a in told.items()
        }
        assert hints["echo"] == (True, False, True, True)  # the author said otherwise of the first
        assert hints["login"] == (False, False, True, False)
        assert hints["crash"] == (False, True, False, False)
        assert told["echo"].title == "Echo"
        assert "secret" not in told


class TestCompleteness:
    def test_what_is_missing_is_logged_and_strict_refuses(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = Workshop()

        def bare(a: Any, b: int = 0) -> Any:
            return a

        made.mcp.remove_tool("echo")
        made.mcp.add_tool(bare, "echo", structured_output=False)
        with serving(made.mcp, world(tmp_path), tmp_path, NAME):
            pass
        said = [r.getMessage() for r in caplog.records if "tool 'echo'" in r.getMessage()]
        assert [line.partition(": ")[2].partition(";")[0] for line in said] == [
            "it has no description",
            "its argument 'a' has no description",
            "its argument 'a' has no type",
            "its argument 'b' has no description",
            "it has no output schema",
        ]
        (tmp_path / "strict").mkdir()
        with (
            pytest.raises(StartError, match="'echo': it has no description"),
            serving(made.mcp, world(tmp_path / "strict"), tmp_path, NAME, strict=True),
        ):
            pass

    def test_a_server_that_says_all_starts(self, tmp_path: Path) -> None:
        with serving(Workshop().mcp, world(tmp_path), tmp_path, NAME, strict=True) as server:
            assert server.call("echo", EVA, {"text": "x"}).status_code == 200


class _Backend(BaseHTTPRequestHandler):
    seen: list[dict[str, str]]

    def do_GET(self) -> None:
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        pass


class TestTrace:
    @pytest.mark.parametrize("where", ["meta", "header"])
    def test_it_reaches_the_backend(self, shop: Shop, where: str, caplog: pytest.LogCaptureFixture) -> None:
        seen: list[dict[str, str]] = []
        with ThreadingHTTPServer(("127.0.0.1", 0), type("Backend", (_Backend,), {"seen": seen})) as backend:
            threading.Thread(target=backend.serve_forever, args=(0.02,), daemon=True).start()
            shop.shop.backend_url = f"http://127.0.0.1:{backend.server_address[1]}/"
            body = modern("tools/call", {"name": "ask", "arguments": {}})
            headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "ask"}
            if where == "meta":
                body["params"]["_meta"]["traceparent"] = PARENT
            else:
                headers["traceparent"] = PARENT
            answer = shop.server.post(body, EVA, **headers)
            backend.shutdown()
        assert answer.json()["result"]["content"][0]["text"] == "ok"
        assert seen[0]["traceparent"] == PARENT
        assert "baggage" not in seen[0]
        until(lambda: len(call_lines(caplog)) == 1)
        assert call_lines(caplog)[0]["trace_id"] == PARENT[3:35]
        assert shop.metric('mcp_backend_duration_seconds_count{engine="workbench"}')

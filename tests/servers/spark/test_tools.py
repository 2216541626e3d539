"""The tools as a client meets them: over HTTP, through the guard, under the policy that is shipped."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import MCPError

from identity.assertion import Assertion
from identity.principal import SpiffeId, User
from identity.signing import generate_signing_key
from mcpguard import app
from mcpguard.confirmation_setup import ConfirmationOptions
from servers.spark.connection import connect
from servers.spark.engine import Engine
from servers.spark.folder import FolderEngine
from servers.spark.reading import Reader
from servers.spark.records import SqliteRecords
from servers.spark.tools import build
from tests.mcpguard.confirming import Person
from tests.mcpguard.running import LEGACY, MODERN, Running, listening, modern, reason
from tests.mcpguard.world import World
from tests.servers.spark.fakehistory import history
from tests.servers.spark.logs import OOM, SKEW, SPILLER, SUCCESS, UDF

ROOT = Path(__file__).parents[3]
CHAT_BOT = SpiffeId.parse("spiffe://corp.example/ns/prod/sa/chat-bot")
TOOLS = {
    *("list_applications", "diagnose_failure", "list_failed_stages", "get_task_failures", "analyze_skew"),
    *("analyze_spill_gc", "compare_runs", "summarize_log", "search_root_causes", "record_root_cause"),
}


def who(
    *groups: str, client: str = "ide-plugin", workload: SpiffeId | None = None, channel: str | None = None
) -> Assertion:
    user = User("sso", "ana", client=client, expires=time.time() + 600)
    surface = "ide" if workload is None else "chat-bot"
    return Assertion(
        "spark", user, workload, frozenset({"employees", *groups}), surface, None, channel, "sha256:0"
    )


ENGINEER = who("data-infra")
OUTSIDER = who("finance")
IN_SUPPORT = who(client="chat-bot", workload=CHAT_BOT, channel="C024BE91L")
IN_SPARK_HELP = who("data-infra", client="chat-bot", workload=CHAT_BOT, channel="C0LAN2Q65")
IN_NO_CHANNEL = who("data-infra", client="chat-bot", workload=CHAT_BOT)


@pytest.fixture(scope="module", params=["folder", "history"])
def spark(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    root: Path = tmp_path_factory.mktemp("spark")
    if request.param == "folder":
        yield from served(FolderEngine(folder), root)
        return
    with history() as fake:
        yield from served(connect(fake.url), root)


def served(engine: Engine, root: Path) -> Iterator[Running]:
    keys = generate_signing_key()
    (root / "identity.jwks").write_bytes(keys.public_jwks())
    records = SqliteRecords(root / "causes.sqlite")
    guarded = app(
        build(Reader(engine), records),
        server="spark",
        policies=ROOT / "policies",
        reviewers=ROOT / "envoy" / "reviewers.local.yaml",
        identity_keys=root / "identity.jwks",
        confirmations=ConfirmationOptions(records=str(root / "confirmations.sqlite")),
        strict=True,
    )
    with listening(guarded) as port:
        running = Running(World(root), keys, port, "spark")
        with running.http:
            yield running
    engine.close()
    records.close()


def called(spark: Running, tool: str, _who: Assertion = ENGINEER, **arguments: Any) -> dict[str, Any]:
    answer = spark.call(tool, _who, arguments)
    assert answer.status_code == 200, answer.text
    result = answer.json()["result"]
    assert not result.get("isError"), result
    structured: dict[str, Any] = result["structuredContent"]
    assert json.loads(result["content"][0]["text"]) == structured
    return structured


def refused(spark: Running, tool: str, **arguments: Any) -> str:
    result = spark.call(tool, ENGINEER, arguments).json()["result"]
    assert result["isError"]
    text: str = result["content"][0]["text"]
    return text


def test_every_tool_is_described(spark: Running) -> None:
    async def listed() -> Any:
        async with spark.client(ENGINEER) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in anyio.run(listed)}
    assert set(tools) == TOOLS
    for tool in tools.values():
        assert tool.description
        assert tool.output_schema
        for name, argument in tool.input_schema["properties"].items():
            assert argument["description"], f"{tool.name}({name})"
        assert tool.annotations.read_only_hint is (tool.name != "record_root_cause")


def test_applications_are_listed_and_cut(spark: Running) -> None:
    everything = called(spark, "list_applications")
    assert [a["id"] for a in everything["applications"]] == [SPILLER, OOM, SKEW, UDF, SUCCESS]
    assert not everything["truncated"]
    assert everything["applications"][2] == {
        "id": SKEW,
        "name": "r6-skew",
        "user": "root",
        "spark_version": "4.3.0",
        "started": "2026-11-22T21:43:44+00:00",
        "seconds": 20.465,
        "completed": True,
    }
    cut = called(spark, "list_applications", limit=2)
    assert (len(cut["applications"]), cut["truncated"]) == (2, True)
    assert "limit" in cut["more"]
    assert [a["id"] for a in called(spark, "list_applications", name_contains="udf")["applications"]] == [UDF]


def test_diagnosis_names_the_line_and_the_row(spark: Running) -> None:
    found = called(spark, "diagnose_failure", application=UDF)
    assert (found["verdict"], found["incomplete"]) == ("failed", False)
    error = found["findings"][0]["error"]
    assert (error["exception"], error["line"], error["row"]) == ("ValueError", 28, "id=1337")
    assert error["file"].endswith("spark_jobs.py")
    assert called(spark, "diagnose_failure", application=SUCCESS)["verdict"] == "healthy"
    assert called(spark, "diagnose_failure", application=OOM)["findings"][0]["kind"] == "out_of_memory"


def test_failed_stages_and_their_tasks(spark: Running) -> None:
    [stage] = called(spark, "list_failed_stages", application=OOM)["stages"]
    assert (stage["stage"], stage["status"], stage["failed"], stage["cost_a_job"]) == (0, "failed", 4, True)
    assert "Java heap space" in stage["reason"]
    [group] = called(spark, "get_task_failures", application=OOM, stage=0)["failures"]
    assert (group["count"], group["error"]["exit_code"]) == (4, 52)
    assert [(t["task"], t["attempt"], t["executor"]) for t in group["tasks"]] == [
        (0, 0, "0"),
        (1, 0, "0"),
        (1, 1, "1"),
        (1, 2, "2"),
    ]
    assert called(spark, "get_task_failures", application=SUCCESS)["failures"] == []
    assert called(spark, "list_failed_stages", application=SUCCESS)["stages"] == []
    assert "list_failed_stages" in refused(spark, "get_task_failures", application=OOM, stage=99)


def test_skew_by_the_figures(spark: Running) -> None:
    found = called(spark, "analyze_skew", application=SKEW)
    assert (found["adaptive_execution"], found["stages_checked"]) == (False, 2)
    [stage] = found["skewed"]
    assert (stage["stage"], stage["median_ms"], stage["slowest_ms"]) == (1, 138, 3810)
    assert (stage["median_bytes"], stage["largest_bytes"]) == (2_415_286, 190_946_414)
    assert (stage["data"], stage["keys"]) == ("shuffle read", ["k"])
    assert called(spark, "analyze_skew", application=SUCCESS)["skewed"] == []


def test_spill_and_garbage_collection_by_the_figures(spark: Running) -> None:
    found = called(spark, "analyze_spill_gc", application=SPILLER)
    assert [finding["kind"] for finding in found["findings"]] == ["spill", "garbage_collection"]
    [stage] = found["stages"]
    assert (stage["disk_spilled_bytes"], stage["memory_spilled_bytes"]) == (1_200_000_000, 4_000_000_000)
    assert stage["gc_share"] == 0.347
    assert called(spark, "analyze_spill_gc", application=SUCCESS)["findings"] == []


def test_two_runs_compared(spark: Running) -> None:
    found = called(spark, "compare_runs", before=SUCCESS, after=OOM)
    assert (found["verdict_before"], found["verdict_after"]) == ("healthy", "failed")
    assert found["summary"].startswith("It took 79.7 s instead of 13.9 s: 65.8 s longer.")
    assert found["steps"][0]["difference_ms"] > 0
    assert {"name": "spark.executor.memory", "before": "", "after": "512m"} in found["settings"]


def test_a_log_summarised(spark: Running) -> None:
    found = called(spark, "summarize_log", application=OOM)
    assert found["jobs"] == {"failed": 1}
    assert found["task_attempts"] == {"succeeded": 0, "failed": 4, "killed": 1}
    assert found["executors_added"] == 3
    assert found["executors_removed"][0] == "0: Command exited with code 52"
    assert found["settings"]["spark.executor.memory"] == "512m"
    assert found["totals"]["gc_time"] == 6094
    assert "must-never-be-seen" not in json.dumps(called(spark, "summarize_log", application=SPILLER))


@pytest.mark.parametrize(
    "tool",
    [
        "diagnose_failure",
        "list_failed_stages",
        "get_task_failures",
        "analyze_skew",
        "analyze_spill_gc",
        "summarize_log",
    ],
)
def test_an_application_that_is_not_there_is_told_with_what_to_do(spark: Running, tool: str) -> None:
    assert "list_applications" in refused(spark, tool, application="application_0_0000")
    assert "list_applications" in refused(spark, tool, application="../../etc/passwd")


def test_arguments_out_of_bounds_are_refused(spark: Running) -> None:
    for tool, arguments in (
        ("list_applications", {"limit": 0}),
        ("list_applications", {"limit": 10**6}),
        ("diagnose_failure", {"application": ""}),
        ("diagnose_failure", {"application": "x" * 1000}),
        ("diagnose_failure", {}),
        ("search_root_causes", {"query": "?!"}),
    ):
        assert refused(spark, tool, **arguments)


ARGUMENTS = {
    "title": "Revenue UDF fails on N/A",
    "cause": "The upstream CSV writes N/A where revenue is missing.",
    "fix": "try_cast before the UDF.",
    "application": UDF,
}


class TestRootCauses:
    def record(self, spark: Running, person: Person, era: str, **more: Any) -> Any:
        fingerprint = called(spark, "diagnose_failure", application=UDF)["findings"][0]["fingerprint"]

        async def through() -> Any:
            async with spark.client(ENGINEER, era, elicitation_callback=person) as client:
                try:
                    return await client.call_tool(
                        "record_root_cause", {**ARGUMENTS, "fingerprint": fingerprint, **more}
                    )
                except MCPError as error:
                    return error

        return anyio.run(through)

    @pytest.mark.parametrize("era", [LEGACY, MODERN])
    def test_one_is_recorded_once_confirmed_and_found_again(self, spark: Running, era: str) -> None:
        known = called(spark, "search_root_causes", query="revenue upstream CSV", limit=50)["root_causes"]
        person = Person()
        added = self.record(spark, person, era).structured_content
        assert "Revenue UDF fails on N/A" in str(person.shown[0])
        assert (added["author"], added["application"]) == ("sso:ana", UDF)
        by_print = called(spark, "search_root_causes", query=added["fingerprint"])["root_causes"]
        assert by_print[0] == added
        by_words = called(spark, "search_root_causes", query="CSV missing revenue", limit=50)["root_causes"]
        assert len(by_words) == len(known) + 1
        finding = called(spark, "diagnose_failure", application=UDF)["findings"][0]
        assert finding["known_root_causes"][0] == added

    def test_one_that_is_declined_is_not_recorded(self, spark: Running) -> None:
        before = called(spark, "search_root_causes", query="revenue", limit=50)["root_causes"]
        person = Person("decline")
        answer = self.record(spark, person, MODERN)
        assert getattr(answer, "structured_content", None) is None
        assert len(person.shown) == 1
        assert called(spark, "search_root_causes", query="revenue", limit=50)["root_causes"] == before

    def test_an_invented_fingerprint_is_refused(self, spark: Running) -> None:
        answer = self.record(spark, Person(), MODERN, fingerprint="no-such")
        assert answer.is_error

    def test_without_a_person_to_ask_nothing_is_recorded(self, spark: Running) -> None:
        answer = spark.call("record_root_cause", ENGINEER, {**ARGUMENTS, "fingerprint": "skew-000000000000"})
        assert answer.json()["error"]["data"]["reason"].startswith("confirmation_"), answer.text
        assert called(spark, "search_root_causes", query="skew-000000000000")["root_causes"] == []


class TestWhoMay:
    def test_the_chat_bot_reaches_them_in_airflow_support(self, spark: Running) -> None:
        assert called(spark, "list_applications", IN_SUPPORT)["applications"]
        assert called(spark, "diagnose_failure", IN_SUPPORT, application=UDF)["verdict"] == "failed"

    @pytest.mark.parametrize("tool", sorted(TOOLS))
    @pytest.mark.parametrize("caller", [IN_SPARK_HELP, IN_NO_CHANNEL], ids=["spark-help", "no channel"])
    def test_the_chat_bot_reaches_none_of_them_elsewhere(
        self, spark: Running, caller: Assertion, tool: str
    ) -> None:
        answer = spark.call(tool, caller, {"application": UDF})
        assert answer.status_code == 403
        assert reason(answer).startswith(("channel_", "surface_", "group_"))

    def test_nor_are_they_listed_there(self, spark: Running) -> None:
        headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/list"}
        shown = spark.post(modern("tools/list"), IN_SUPPORT, **headers).json()["result"]["tools"]
        assert {tool["name"] for tool in shown} == TOOLS - {"record_root_cause"}  # that is for engineers
        answer = spark.post(modern("tools/list"), IN_SPARK_HELP, **headers)
        assert (answer.status_code, reason(answer)) == (403, "channel_not_allowed")

    def test_somebody_outside_the_groups_reaches_none(self, spark: Running) -> None:
        answer = spark.call("list_applications", OUTSIDER)
        assert (answer.status_code, reason(answer)) == (403, "group_not_allowed")

    def test_recording_is_for_engineers(self, spark: Running) -> None:
        answer = spark.call("record_root_cause", IN_SUPPORT, {"fingerprint": "skew-000000000000"})
        assert (answer.status_code, reason(answer)) == (403, "tool_group_required")

    def test_the_engine_is_in_the_metrics(self, spark: Running) -> None:
        called(spark, "list_applications")
        assert "mcp_backend_duration_seconds_count{engine=" in spark.metrics()

"""The tools as a client meets them: over HTTP, through the guard, under the policy that is shipped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
from servers.airflow.embedded.engine import EmbeddedEngine
from servers.airflow.engine import Engine
from servers.airflow.rest.client import Client, Password
from servers.airflow.rest.engine import RestEngine
from servers.airflow.sample import ensure_sample
from servers.airflow.tools import build
from tests.mcpguard.confirming import Person
from tests.mcpguard.running import LEGACY, MODERN, Running, listening, reason
from tests.mcpguard.world import World
from tests.servers.airflow.embedded import ended, until
from tests.servers.airflow.fake_airflow import LIBRARY, FakeAirflow

ROOT = Path(__file__).parents[3]
REPORT_BOT = SpiffeId.parse("spiffe://corp.example/ns/prod/sa/report-bot")
READS = {"list_dags", "list_dag_runs", "diagnose_dag_run", "get_task_log", "list_import_errors"}
ACTS = {"trigger_dag", "clear_task_instances"}


def who(*groups: str, roles: tuple[str, ...] = (), workload: SpiffeId | None = None) -> Assertion:
    user = User("sso", "ana", client="ide-plugin", roles=frozenset(roles), expires=time.time() + 600)
    person = user if workload is None else None
    surface = "ide" if workload is None else "report-bot"
    named = frozenset({"employees", *groups}) if workload is None else frozenset[str]()
    return Assertion("airflow", person, workload, named, surface, None, None, "sha256:0")


OPERATOR = who("data-infra", roles=("dag-operator",))
ENGINEER = who("data-infra")
READER = who("finance")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedEngine, Running]]:
    root: Path = tmp_path_factory.mktemp("airflow")
    ensure_sample(root / "dags")
    engine = EmbeddedEngine(root / "dags", root / "runs.sqlite", environment=os.environ)
    with served(engine, root) as running:
        for dag_id in ("clean_prices", "daily_revenue"):
            first = until(
                lambda dag_id=dag_id: engine.runs(dag_id, None, 1, 0).items or None,  # type: ignore[misc]
                f"the first run of {dag_id}",
            )
            ended(engine, first[0])
        yield engine, running
    engine.close()


@pytest.fixture(scope="module")
def airflow(embedded: tuple[EmbeddedEngine, Running]) -> Running:
    return embedded[1]


@pytest.fixture
def engine(embedded: tuple[EmbeddedEngine, Running]) -> EmbeddedEngine:
    return embedded[0]


@contextmanager
def served(engine: Engine, root: Path) -> Iterator[Running]:
    keys = generate_signing_key()
    (root / "identity.jwks").write_bytes(keys.public_jwks())
    guarded = app(
        build(engine),
        server="airflow",
        policies=ROOT / "policies",
        reviewers=ROOT / "envoy" / "reviewers.local.yaml",
        identity_keys=root / "identity.jwks",
        confirmations=ConfirmationOptions(records=str(root / "confirmations.sqlite")),
        strict=True,
    )
    with listening(guarded) as port:
        running = Running(World(root), keys, port, "airflow")
        with running.http:
            yield running


def called(airflow: Running, tool: str, _who: Assertion = ENGINEER, **arguments: Any) -> dict[str, Any]:
    answer = airflow.call(tool, _who, arguments)
    assert answer.status_code == 200, answer.text
    result = answer.json()["result"]
    assert not result.get("isError"), result
    structured: dict[str, Any] = result["structuredContent"]
    assert json.loads(result["content"][0]["text"]) == structured
    return structured


def refused(airflow: Running, tool: str, **arguments: Any) -> str:
    result = airflow.call(tool, ENGINEER, arguments).json()["result"]
    assert result["isError"], result
    text: str = result["content"][0]["text"]
    return text


def confirmed(
    airflow: Running, person: Person, era: str, tool: str, _who: Assertion = OPERATOR, **arguments: Any
) -> Any:
    async def through() -> Any:
        async with airflow.client(_who, era, elicitation_callback=person) as client:
            try:
                return await client.call_tool(tool, arguments)
            except MCPError as error:
                return error

    return anyio.run(through)


def test_every_tool_is_described(airflow: Running) -> None:
    async def listed() -> Any:
        async with airflow.client(OPERATOR) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in anyio.run(listed)}
    assert set(tools) == READS | ACTS
    for tool in tools.values():
        assert tool.description
        assert tool.output_schema
        for name, argument in tool.input_schema["properties"].items():
            assert argument.get("description"), f"{tool.name}({name})"
        assert tool.annotations.read_only_hint is (tool.name in READS)
        assert tool.annotations.destructive_hint is (tool.name == "clear_task_instances")


def test_dags_are_listed_and_cut(airflow: Running) -> None:
    found = called(airflow, "list_dags")
    assert [dag["dag_id"] for dag in found["dags"]] == ["clean_prices", "daily_revenue"]
    assert (found["total"], found["truncated"], found["more"]) == (2, False, "")
    cut = called(airflow, "list_dags", limit=1)
    assert (len(cut["dags"]), cut["truncated"]) == (1, True)
    assert cut["more"] == "There are 1 more: ask again with offset=1."
    assert [dag["dag_id"] for dag in called(airflow, "list_dags", search="PRICE")["dags"]] == ["clean_prices"]


def test_runs_are_listed(airflow: Running) -> None:
    runs = called(airflow, "list_dag_runs", READER, dag_id="clean_prices", limit=100)["runs"]
    assert runs[-1]["state"] == "failed"
    assert runs[-1]["run_type"] == "scheduled"
    assert {run["state"] for run in called(airflow, "list_dag_runs", state="success")["runs"]} == {"success"}
    assert "list_dags" in refused(airflow, "list_dag_runs", dag_id="nope")


def test_import_errors_name_file_and_line(airflow: Running) -> None:
    errors = called(airflow, "list_import_errors")["import_errors"]
    assert [(error["file"], error["line"]) for error in errors] == [("broken.yaml", n) for n in (6, 6, 9)]
    assert errors[0]["message"] == "unknown key 'comand'; did you mean 'command'?"
    assert errors[2]["message"].endswith("did you mean 'extract'?")


def test_the_diagnosis_names_task_attempt_and_line(airflow: Running) -> None:
    found = called(airflow, "diagnose_dag_run", dag_id="clean_prices")
    (cause,) = found["root_causes"]
    assert (cause["task_id"], cause["attempt"], cause["blocked"]) == ("clean", 2, ["publish"])
    assert cause["error"] == "ValueError: could not convert string to float: 'n/a'"
    assert cause["place"].endswith("/steps.py:45 in to_number")
    assert "cleaning order 1003" in cause["lines"]
    assert cause["earlier_attempts"] == [{"attempt": 1, "error": cause["error"]}]
    assert found["upstream_failed"] == ["publish"]
    assert found["task_states"] == {"success": 1, "failed": 1, "upstream_failed": 1}
    assert found["summary"].startswith("clean failed in attempt 2: ValueError: ")
    assert "mend the cause before running it again" in found["summary"]
    assert len(json.dumps(found)) < 2500, "short enough for a model"


def test_there_is_nothing_wrong_with_a_good_run(airflow: Running) -> None:
    found = called(airflow, "diagnose_dag_run", dag_id="daily_revenue")
    assert (found["state"], found["root_causes"]) == ("success", [])
    assert found["summary"] == "Nothing failed: the run succeeded."


def test_a_log_is_read_from_its_end_upwards(airflow: Running) -> None:
    run_id = called(airflow, "diagnose_dag_run", dag_id="clean_prices")["run_id"]
    where = {"dag_id": "clean_prices", "run_id": run_id, "task_id": "clean"}
    end = called(airflow, "get_task_log", **where, lines=2)
    assert end["lines"] == [
        "ValueError: could not convert string to float: 'n/a'",
        "ERROR: Command exited with return code 1",
    ]
    assert (end["attempt"], end["attempts"], end["truncated"]) == (2, [1, 2], True)
    seen = end["lines"]
    while end["truncated"]:
        end = called(airflow, "get_task_log", **where, lines=5, before=end["first_line"])
        seen = end["lines"] + seen
    assert len(seen) == end["total_lines"]
    assert seen[0] == "cleaning order 1001"
    first = called(airflow, "get_task_log", **where, attempt=1)
    assert (first["attempt"], first["state"], first["truncated"]) == (1, "failed", False)
    assert "has not begun" in refused(airflow, "get_task_log", **{**where, "task_id": "publish"})
    assert "no attempt 9" in refused(airflow, "get_task_log", **where, attempt=9)
    assert "no task" in refused(airflow, "get_task_log", **{**where, "task_id": "nope"})
    assert "no run" in refused(airflow, "get_task_log", **{**where, "run_id": "nope"})


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("list_dags", {"limit": 0}),
        ("list_dags", {"limit": 101}),
        ("list_dag_runs", {"dag_id": "~"}),
        ("list_dag_runs", {"dag_id": "../x"}),
        ("list_dag_runs", {"state": "weird"}),
        ("diagnose_dag_run", {"dag_id": ".."}),
        ("diagnose_dag_run", {"dag_id": "clean_prices", "run_id": "~"}),
        ("diagnose_dag_run", {"dag_id": "clean_prices", "run_id": "a/b"}),
        ("diagnose_dag_run", {"dag_id": "x" * 251}),
        ("diagnose_dag_run", {}),
    ],
)
def test_arguments_out_of_bounds_are_refused(airflow: Running, tool: str, arguments: dict[str, Any]) -> None:
    assert refused(airflow, tool, **arguments)


class TestActing:
    @pytest.mark.parametrize("era", [LEGACY, MODERN])
    def test_a_run_is_begun_once_confirmed(self, airflow: Running, engine: EmbeddedEngine, era: str) -> None:
        before = engine.runs("daily_revenue", None, 1, 0).total
        person = Person()
        begun = confirmed(
            airflow, person, era, "trigger_dag", dag_id="daily_revenue", conf={"day": "Monday"}, note="why"
        ).structured_content
        assert "daily_revenue" in str(person.shown[0])
        assert "Monday" in str(person.shown[0])
        assert engine.runs("daily_revenue", None, 1, 0).total == before + 1
        run = ended(engine, engine.run("daily_revenue", begun["run_id"]))
        assert (run.state, run.run_type, run.note) == ("success", "manual", "why")
        log = called(
            airflow, "get_task_log", dag_id="daily_revenue", run_id=begun["run_id"], task_id="extract"
        )
        assert log["lines"][0] == "reading the orders of Monday"

    def test_what_is_declined_does_not_run(self, airflow: Running, engine: EmbeddedEngine) -> None:
        before = engine.runs(None, None, 1, 0).total
        person = Person("decline")
        answer = confirmed(airflow, person, MODERN, "trigger_dag", dag_id="daily_revenue")
        assert getattr(answer, "structured_content", None) is None
        assert len(person.shown) == 1
        assert engine.runs(None, None, 1, 0).total == before

    def test_what_failed_is_run_again_once_confirmed(self, airflow: Running, engine: EmbeddedEngine) -> None:
        run = engine.runs("clean_prices", "failed", 1, 0).items[0]
        where = {"dag_id": "clean_prices", "run_id": run.run_id}
        answer = confirmed(airflow, Person(), MODERN, "clear_task_instances", **where).structured_content
        assert [task["task_id"] for task in answer["cleared"]] == ["clean", "publish"]
        assert answer["total"] == 2
        assert ended(engine, run).state == "failed"
        found = called(airflow, "diagnose_dag_run", **where)
        assert found["root_causes"][0]["attempt"] >= 4
        assert len(found["root_causes"][0]["earlier_attempts"]) == 2, "no more than the latest three are read"

    def test_a_conf_that_is_too_large(self, airflow: Running) -> None:
        answer = confirmed(
            airflow, Person(), MODERN, "trigger_dag", dag_id="daily_revenue", conf={"x": "y" * 17_000}
        )
        assert answer.is_error
        assert "Pass the name of a file" in answer.content[0].text

    @pytest.mark.parametrize("tool", sorted(ACTS))
    def test_without_a_person_to_ask_nothing_happens(
        self, airflow: Running, engine: EmbeddedEngine, tool: str
    ) -> None:
        before = engine.runs(None, None, 1, 0)
        run = engine.runs("clean_prices", "failed", 1, 0).items[0]
        arguments = {"dag_id": run.dag_id} | ({"run_id": run.run_id} if tool != "trigger_dag" else {})
        answer = airflow.call(tool, OPERATOR, arguments)
        assert reason(answer).startswith("confirmation_"), answer.text
        assert engine.runs(None, None, 1, 0) == before

    @pytest.mark.parametrize("tool", sorted(ACTS))
    @pytest.mark.parametrize("caller", [ENGINEER, who("ads-eng", roles=("dag-operator",))])
    def test_acting_is_for_operators(self, airflow: Running, caller: Assertion, tool: str) -> None:
        answer = airflow.call(tool, caller, {"dag_id": "clean_prices", "run_id": "x"})
        assert (answer.status_code, reason(answer)[:5]) == (403, "tool_")


class TestWhoMay:
    def test_readers_read_no_logs(self, airflow: Running) -> None:
        assert called(airflow, "list_dags", READER)["dags"]
        answer = airflow.call("get_task_log", READER, {"dag_id": "x", "run_id": "y", "task_id": "z"})
        assert (answer.status_code, reason(answer)) == (403, "tool_not_in_rule")

    def test_a_service_lists_only(self, airflow: Running) -> None:
        bot = who(workload=REPORT_BOT)
        assert called(airflow, "list_dags", bot)["dags"]
        answer = airflow.call("diagnose_dag_run", bot, {"dag_id": "clean_prices"})
        assert answer.status_code == 403

    def test_the_engine_is_in_the_metrics(self, airflow: Running) -> None:
        called(airflow, "list_dags")
        assert 'mcp_backend_duration_seconds_count{engine="embedded"}' in airflow.metrics()


def test_the_same_tools_on_airflow(tmp_path: Path) -> None:
    """Every reading tool, and both acting ones, on the engine that is Airflow."""
    fake = FakeAirflow()
    with ExitStack() as stack:
        port = stack.enter_context(listening(fake))
        engine = RestEngine(Client(f"http://127.0.0.1:{port}", Password(fake.username, fake.password)))
        stack.callback(engine.close)
        airflow = stack.enter_context(served(engine, tmp_path))
        begun = confirmed(airflow, Person(), MODERN, "trigger_dag", dag_id="failing").structured_content
        assert called(airflow, "list_dag_runs")["runs"][0]["run_id"] == begun["run_id"]
        found = called(airflow, "diagnose_dag_run", dag_id="failing")
        assert found["summary"].startswith("transform failed in attempt 2: ValueError: ")
        log = called(airflow, "get_task_log", dag_id="failing", run_id=begun["run_id"], task_id="transform")
        assert log["lines"] == [
            "row 0",
            "ERROR: Task failed with exception\n"
            f"  at {LIBRARY}:1579 in _run_task\n"
            "  at /dags/failing.py:18 in transform\n"
            "  ValueError: could not convert string to float: 'n/a'",
            "row 1",
        ]
        cleared = confirmed(
            airflow, Person(), MODERN, "clear_task_instances", dag_id="failing", run_id=begun["run_id"]
        ).structured_content
        assert {task["task_id"] for task in cleared["cleared"]} == {"transform", "load"}
        (error,) = called(airflow, "list_import_errors")["import_errors"]
        assert (error["file"], error["line"]) == ("broken.py", 3)
        fake.tokens.clear()
        assert called(airflow, "list_dags")["total"] == 3

"""overwrite_table as a person meets it: asked with what it would touch, the table whole unless they agree."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.shared.exceptions import MCPError

from identity.assertion import Assertion
from identity.principal import User
from identity.signing import generate_signing_key
from mcpguard import app
from servers.presto.duckdb_engine import DuckDBEngine
from servers.presto.engine import Engine
from servers.presto.queries import Queries
from servers.presto.sample import CAMPAIGNS, ensure_sample
from servers.presto.tools import build
from tests.mcpguard.confirming import Person
from tests.mcpguard.running import LEGACY, MODERN, Running, listening, reason
from tests.mcpguard.world import World as Folder
from tests.servers.presto.test_cluster import World, world  # noqa: F401 - a fixture
from tests.servers.presto.test_tools import REVIEWERS, ROOT, SALES

USER = User(
    "sso", "wendy", client="ide-plugin", roles=frozenset({"table-writer"}), expires=time.time() + 3600
)
WRITER = Assertion(
    "presto", USER, None, frozenset({"employees", "data-infra"}), "ide", None, None, "sha256:0"
)
SQL = "select campaign_id, upper(name) as name, advertiser, channel, region, daily_budget_usd from campaigns"
ARGUMENTS = {
    "target": "campaigns",
    "select_sql": SQL,
    "expected_row_range": {"min": CAMPAIGNS, "max": CAMPAIGNS},
}


def serving(engine: Engine, root: Path) -> Iterator[Running]:
    keys = generate_signing_key()
    (root / "identity.jwks").write_bytes(keys.public_jwks())
    queries = Queries(engine)
    guarded = app(
        build(queries),
        server="presto",
        policies=ROOT / "policies",
        reviewers=REVIEWERS,
        identity_keys=root / "identity.jwks",
        strict=True,
    )
    (root / "folder").mkdir()
    with listening(guarded) as port:
        running = Running(Folder(root / "folder"), keys, port, "presto")
        with running.http:
            yield running
    queries.close()


@pytest.fixture
def presto(tmp_path: Path) -> Iterator[Running]:
    ensure_sample(tmp_path / "presto.duckdb")
    engine = DuckDBEngine(tmp_path / "presto.duckdb")
    yield from serving(engine, tmp_path)
    engine.close()


@pytest.fixture
def cluster(world: World, tmp_path: Path) -> Iterator[Running]:  # noqa: F811 - the fixture
    yield from serving(world.engine, tmp_path)


def overwrite(server: Running, person: Person, era: str, **more: Any) -> Any:
    async def through() -> Any:
        async with server.client(WRITER, era, elicitation_callback=person) as client:
            try:
                return await client.call_tool("overwrite_table", {**ARGUMENTS, **more})
            except MCPError as error:
                return error

    return anyio.run(through)


def names(server: Running) -> list[str]:
    answer = server.call("run_query", SALES, {"sql": "select name from campaigns order by 1"})
    return [row[0] for row in answer.json()["result"]["structuredContent"]["rows"]]


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_a_confirmed_one_runs_and_the_person_saw_what(presto: Running, era: str) -> None:
    person = Person()
    done = overwrite(presto, person, era)
    assert not done.is_error, done
    assert done.structured_content == {
        "target": "presto.main.campaigns",
        "rows_before": CAMPAIGNS,
        "rows_after": CAMPAIGNS,
        "dialect": "duckdb",
        "note": "",
    }
    (asked,) = person.shown
    for said in (
        "Table: presto.main.campaigns (DuckDB)",
        f"Rows now: {CAMPAIGNS}. All of them are replaced.",
        f"New rows: about {CAMPAIGNS} by the engine's estimate.",
        f"SQL: SHA-256 {hashlib.sha256(SQL.encode()).hexdigest()}",
    ):
        assert said in str(asked.message)
    assert all(name.isupper() for name in names(presto))


@pytest.mark.parametrize("action", ["decline", "cancel"])
def test_one_that_is_not_agreed_to_changes_nothing(presto: Running, action: str) -> None:
    before = names(presto)
    person = Person(action)
    assert isinstance(overwrite(presto, person, MODERN), MCPError)
    assert len(person.shown) == 1
    assert names(presto) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": "nope"}, "list_tables"),
        ({"select_sql": "drop table campaigns"}, "Only SELECT"),
        ({"select_sql": "select * from read_csv('/etc/passwd')"}, "not available"),
        ({"expected_row_range": {"min": 2, "max": 1}}, "Swap them"),
        ({"expected_row_range": {"min": -1, "max": 1}}, "expected_row_range"),
        ({"expected_row_range": {"min": 1}}, "expected_row_range"),
    ],
)
def test_what_can_not_work_asks_nobody(presto: Running, change: dict[str, Any], said: str) -> None:
    person = Person()
    answer = overwrite(presto, person, MODERN, **change)
    assert answer.is_error
    assert said in answer.content[0].text
    assert person.shown == []


def test_another_number_of_rows_changes_nothing(presto: Running) -> None:
    before = names(presto)
    answer = overwrite(presto, Person(), MODERN, expected_row_range={"min": 1, "max": 5})
    assert answer.is_error
    assert "gives 60 rows, and 1 to 5 were expected. Nothing was changed." in answer.content[0].text
    assert names(presto) == before


def test_only_table_writers(presto: Running) -> None:
    reader = replace(WRITER, user=replace(USER, roles=frozenset()))
    assert reason(presto.call("overwrite_table", reader, ARGUMENTS)) == "tool_role_required"
    assert reason(presto.call("overwrite_table", SALES, ARGUMENTS)) == "tool_group_required"


def test_the_same_tools_on_a_cluster(cluster: Running, world: World) -> None:  # noqa: F811 - the fixture
    def call(tool: str, **arguments: Any) -> dict[str, Any]:
        result = cluster.call(tool, WRITER, arguments).json()["result"]
        assert not result.get("isError"), result
        structured: dict[str, Any] = result["structuredContent"]
        assert structured.get("dialect", world.kind) == world.kind
        return structured

    assert call("list_catalogs")["catalogs"] == ["hive"]
    assert call("list_schemas")["schemas"] == ["web"]
    assert call("list_tables")["tables"] == [{"name": "prices", "rows": None, "description": ""}]
    assert call("describe_table", table="web.prices")["name"] == "hive.web.prices"
    assert call("validate_sql", sql="select id from prices")["valid"] is True
    assert call("estimate_query", sql="select id from prices")["rows"] == 12
    found = call("run_query", sql="select id from prices order by 1", max_rows=4)
    assert (found["rows"], found["truncated"]) == ([[0], [1], [2], [3]], True)
    assert call("fetch_more", query_id=found["query_id"], start=4)["row_count"] == 6
    assert call("get_query_status", query_id=found["query_id"])["state"] == "finished"
    assert call("cancel_query", query_id=found["query_id"])["state"] == "finished"
    change = {
        "target": "prices",
        "select_sql": "select id, price from prices where id < 3",
        "expected_row_range": {"min": 3, "max": 3},
    }
    done = overwrite(cluster, Person(), MODERN, **change)
    assert done.structured_content["rows_after"] == 3, done
    assert {seen.headers[f"{world.fake.prefix}user"] for seen in world.fake.seen} == {"wendy"}
    shown = cluster.call("run_query", WRITER, {"sql": "call system.runtime.kill_query('x')"}).json()["result"]
    assert "Only SELECT" in shown["content"][0]["text"]

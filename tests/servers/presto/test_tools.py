"""Presto as a client meets it: over HTTP, through the guard, under the policy that is shipped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from identity.assertion import Assertion, Minter
from identity.principal import SpiffeId, User
from identity.signing import SigningKeys, generate_signing_key
from mcpguard import app
from servers.presto.queries import Queries
from servers.presto.results import MAX_ROWS
from servers.presto.tools import build
from tests.mcpguard.running import LEGACY, MODERN, Running, legacy, listening, modern, reason
from tests.mcpguard.world import World

ROOT = Path(__file__).parents[3]
REVIEWERS = ROOT / "envoy" / "reviewers.local.yaml"
REPORT_BOT = SpiffeId.parse("spiffe://corp.example/ns/prod/sa/report-bot")


def who(*groups: str, workload: SpiffeId | None = None, name: str = "ana") -> Assertion:
    user = User("sso", name, client="ide-plugin", expires=time.time() + 600) if groups else None
    return Assertion(
        "presto", user, workload, frozenset({"employees", *groups}), "ide", None, None, "sha256:0"
    )


TOOLS = {
    *("list_catalogs", "list_schemas", "list_tables", "describe_table"),
    *("validate_sql", "estimate_query", "run_query", "get_query_status", "fetch_more", "cancel_query"),
    *("get_revenue_metrics", "overwrite_table"),
}
ENGINEER, SALES, OUTSIDER = who("ads", "ads-eng"), who("ads", "ads-sales"), who("spark-users")


@pytest.fixture(scope="module")
def presto(queries: Queries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root: Path = tmp_path_factory.mktemp("presto")
    keys = generate_signing_key()
    (root / "identity.jwks").write_bytes(keys.public_jwks())
    guarded = app(
        build(queries),
        server="presto",
        policies=ROOT / "policies",
        reviewers=REVIEWERS,
        identity_keys=root / "identity.jwks",
        strict=True,
    )
    with listening(guarded) as port:
        running = Running(World(root), keys, port, "presto")
        with running.http:
            yield running


def call(server: Running, tool: str, arguments: dict[str, Any], by: Assertion = ENGINEER) -> dict[str, Any]:
    answer = server.call(tool, by, arguments)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result


def rows(server: Running, sql: str, **more: Any) -> dict[str, Any]:
    result = call(server, "run_query", {"sql": sql, **more})
    assert not result.get("isError"), result
    structured: dict[str, Any] = result["structuredContent"]
    assert json.loads(result["content"][0]["text"]) == structured
    return structured


def refused(server: Running, tool: str, arguments: dict[str, Any]) -> str:
    result = call(server, tool, arguments)
    assert result["isError"] is True
    text: str = result["content"][0]["text"]
    return text


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_the_tools_and_their_schemas(presto: Running, era: str) -> None:
    async def tools() -> dict[str, Any]:
        async with presto.client(ENGINEER, era) as client:
            return {tool.name: tool for tool in (await client.list_tools()).tools}

    found = anyio.run(tools)
    assert found.keys() == TOOLS - {"overwrite_table"}
    for tool in found.values():
        assert tool.description
        assert tool.title
        assert tool.annotations.read_only_hint is (tool.name != "cancel_query")
        assert tool.output_schema["properties"]
        for argument in tool.input_schema["properties"].values():
            assert argument["description"]


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_an_analysts_way(presto: Running, era: str) -> None:
    async def work() -> list[Any]:
        async with presto.client(ENGINEER, era) as client:
            tables = await client.call_tool("list_tables", {})
            table = await client.call_tool("describe_table", {"table": "revenue"})
            result = await client.call_tool("run_query", {"sql": "select count(*) as n from revenue"})
            return [r.structured_content for r in (tables, table, result)]

    tables, table, result = anyio.run(work)
    assert [t["name"] for t in tables["tables"]] == ["ads", "campaigns", "daily_metrics", "revenue"]
    assert tables["dialect"] == "duckdb"
    assert [c["name"] for c in table["columns"]] == ["day", "campaign_id", "orders", "revenue_usd"]
    assert len(result.pop("query_id")) == 32
    assert result == {
        "state": "finished",
        "dialect": "duckdb",
        "columns": ["n"],
        "rows": [[10800]],
        "row_count": 1,
        "truncated": False,
        "more": "",
    }


DAYS = {"metric": "revenue", "start": "2026-01-01", "end": "2026-01-31"}


class TestWhoMay:
    def test_revenue_is_for_ads_engineers(self, presto: Running) -> None:
        assert not call(presto, "get_revenue_metrics", DAYS).get("isError")
        answer = presto.call("get_revenue_metrics", SALES, DAYS)
        assert (answer.status_code, reason(answer)) == (403, "tool_group_required")
        assert answer.json()["error"]["data"]["support"] == "#presto-help"

    def test_queries_are_for_ads(self, presto: Running) -> None:
        assert not call(presto, "run_query", {"sql": "select 1"}, SALES).get("isError")
        assert reason(presto.call("run_query", OUTSIDER, {"sql": "select 1"})) == "group_not_allowed"

    def test_the_report_bot_lists_tables(self, presto: Running) -> None:
        bot = who(workload=REPORT_BOT)
        assert not call(presto, "list_tables", {}, bot).get("isError")
        assert reason(presto.call("run_query", bot, {"sql": "select 1"})) in {"guardrail", "tool_not_in_rule"}

    def test_contractors_are_kept_out(self, presto: Running) -> None:
        answer = presto.call("list_tables", who("ads", "contractors"))
        assert reason(answer) == "guardrail"

    def test_nobody_comes_around_envoy(self, presto: Running) -> None:
        assert reason(presto.call("list_tables", None)) == "identity_required"

    def test_sales_do_not_see_the_tool(self, presto: Running) -> None:
        body = presto.post(
            modern("tools/list"), SALES, mcp_protocol_version=MODERN, mcp_method="tools/list"
        ).json()
        shown = {tool["name"] for tool in body["result"]["tools"]}
        assert shown == TOOLS - {"get_revenue_metrics", "overwrite_table"}
        assert body["result"]["cacheScope"] == "private"


class TestAnswers:
    def test_truncated_says_how_to_go_on(self, presto: Running) -> None:
        found = rows(presto, "select day, campaign_id from revenue order by all", max_rows=3)
        assert (found["row_count"], found["truncated"]) == (3, True)
        assert found["more"] == "Rows 3 to 4999 and more: fetch_more(query_id, start=3)."
        following = call(presto, "fetch_more", {"query_id": found["query_id"], "start": 3})[
            "structuredContent"
        ]
        assert following["columns"] == found["columns"]
        assert (
            following["rows"]
            == rows(presto, "select day, campaign_id from revenue order by all offset 3")["rows"]
        )
        last = call(presto, "fetch_more", {"query_id": found["query_id"], "start": 4990})["structuredContent"]
        assert last["row_count"] == 10
        assert last["more"].startswith("Only the first 5000 rows were kept.")

    def test_the_users_own_limit_truncates_nothing(self, presto: Running) -> None:
        assert rows(presto, "select * from ads limit 3")["truncated"] is False

    def test_too_many_bytes(self, presto: Running) -> None:
        wide = ", ".join(f"concat(name, ' {'x' * 100}') c{n}" for n in range(40))
        found = rows(presto, f"select {wide} from campaigns", max_rows=MAX_ROWS)
        assert found["truncated"] is True
        assert "fetch_more" in found["more"]
        assert len(json.dumps(found)) < 64 * 1024
        following = {"query_id": found["query_id"], "start": found["row_count"]}
        assert call(presto, "fetch_more", following)["structuredContent"]["row_count"] > 0

    @pytest.mark.parametrize(
        ("sql", "hint"),
        [
            ("select * from nope", "list_tables"),
            ("select nope from ads", "describe_table"),
            ("drop table ads", "Only SELECT"),
            ("show tables", "list_tables"),
            ("select * from read_csv('/etc/passwd')", "not available"),
            ("selec 1", "Write one SELECT"),
            ("select 'x'::int", "mend the query"),
        ],
    )
    def test_a_refusal_says_what_to_do(self, presto: Running, sql: str, hint: str) -> None:
        text = refused(presto, "run_query", {"sql": sql})
        assert hint in text
        assert "Traceback" not in text
        assert ".duckdb" not in text

    def test_an_error_is_short_even_about_a_long_value(self, presto: Running) -> None:
        doubled = "".join(f", a{n} as (select s || s as s from a{n - 1})" for n in range(1, 16))
        sql = f"with a0 as (select 'PRIVATE' as s){doubled} select s::int from a15"
        assert len(refused(presto, "run_query", {"sql": sql})) < 500

    def test_an_unknown_table(self, presto: Running) -> None:
        assert "list_tables" in refused(presto, "describe_table", {"table": "nope"})

    @pytest.mark.parametrize("max_rows", [0, -1, MAX_ROWS + 1, "many"])
    def test_the_row_limit_has_bounds(self, presto: Running, max_rows: Any) -> None:
        assert "max_rows" in refused(presto, "run_query", {"sql": "select 1", "max_rows": max_rows})


class TestPlaces:
    def test_catalogs_and_schemas(self, presto: Running) -> None:
        found = call(presto, "list_catalogs", {})["structuredContent"]
        assert found == {"dialect": "duckdb", "default": "presto", "catalogs": ["presto"]}
        found = call(presto, "list_schemas", {})["structuredContent"]
        assert (found["catalog"], found["default"], found["schemas"]) == ("presto", "main", ["main"])
        assert "list_catalogs" in refused(presto, "list_schemas", {"catalog": "system"})

    def test_a_table_by_any_of_its_names(self, presto: Running) -> None:
        for name in ("revenue", "MAIN.revenue", 'presto."main".revenue'):
            found = call(presto, "describe_table", {"table": name})["structuredContent"]
            assert found["name"] == "presto.main.revenue"
        for name in ("a.b.c.d", "", "temp.revenue", "information_schema.tables"):
            assert "list_tables" in refused(presto, "describe_table", {"table": name})

    def test_only_some_tables(self, presto: Running) -> None:
        found = call(presto, "list_tables", {"like": "REV"})["structuredContent"]
        assert [table["name"] for table in found["tables"]] == ["revenue"]


class TestForesight:
    def test_a_good_query(self, presto: Running) -> None:
        sql = "select c.name, sum(r.orders) from revenue r join campaigns c using (campaign_id) group by 1"
        found = call(presto, "validate_sql", {"sql": sql})["structuredContent"]
        tables = ["presto.main.campaigns", "presto.main.revenue"]
        assert found == {"valid": True, "problem": "", "tables": tables, "dialect": "duckdb"}
        found = call(presto, "estimate_query", {"sql": sql})["structuredContent"]
        assert found["scanned_rows"] == 10800 + 60
        assert 0 < found["rows"] <= 10800
        assert found["scanned_bytes"] is None
        limited = call(presto, "estimate_query", {"sql": "select * from revenue limit 7"})[
            "structuredContent"
        ]
        assert limited["rows"] == 7

    @pytest.mark.parametrize(
        ("sql", "hint"),
        [
            ("select nope from revenue", "describe_table"),
            ("drop table revenue", "Only SELECT"),
            ("explain analyze delete from revenue", "Only SELECT"),
            ("select day + name from revenue, campaigns", "try again"),
        ],
    )
    def test_a_bad_query(self, presto: Running, sql: str, hint: str) -> None:
        found = call(presto, "validate_sql", {"sql": sql})["structuredContent"]
        assert found["valid"] is False
        assert hint in found["problem"]
        assert refused(presto, "estimate_query", {"sql": sql})


SLOW = """select count(*) from daily_metrics a, daily_metrics b, daily_metrics c
          where a.clicks + b.clicks > c.clicks"""


class TestLongQueries:
    def start(self, presto: Running) -> str:
        found = call(presto, "run_query", {"sql": SLOW, "wait_seconds": 0})["structuredContent"]
        assert found["state"] in {"queued", "running"}
        assert (found["rows"], found["truncated"]) == ([], True)
        assert "get_query_status" in found["more"]
        query: str = found["query_id"]
        return query

    def test_one_is_followed_and_stopped(self, presto: Running) -> None:
        query = {"query_id": self.start(presto)}
        assert call(presto, "get_query_status", query)["structuredContent"]["state"] in {"queued", "running"}
        assert "get_query_status" in call(presto, "fetch_more", query)["structuredContent"]["more"]
        stopped = call(presto, "cancel_query", query)["structuredContent"]
        assert stopped["state"] == "cancelled"
        assert call(presto, "cancel_query", query)["structuredContent"] == stopped
        assert "cancelled" in refused(presto, "fetch_more", query)

    def test_nobody_elses(self, presto: Running) -> None:
        query = {"query_id": self.start(presto)}
        other = who("ads", "ads-eng", name="ben")
        said = set()
        for tool in ("get_query_status", "fetch_more", "cancel_query"):
            theirs, nobodys = (
                call(presto, tool, query, other),
                call(presto, tool, {"query_id": "0" * 32}, other),
            )
            assert theirs["isError"] is True
            assert nobodys["isError"] is True
            said.add(theirs["content"][0]["text"].replace(query["query_id"], ""))
            said.add(nobodys["content"][0]["text"].replace("0" * 32, ""))
        assert len({text.partition(":")[2] for text in said}) == 1
        assert call(presto, "get_query_status", query)["structuredContent"]["state"] in {"queued", "running"}
        call(presto, "cancel_query", query)

    def test_a_finished_one_is_read_later(self, presto: Running) -> None:
        found = call(presto, "run_query", {"sql": "select 41 + 1 as n", "wait_seconds": 0})[
            "structuredContent"
        ]
        query = {"query_id": found["query_id"]}
        deadline = time.monotonic() + 20
        while call(presto, "get_query_status", query)["structuredContent"]["state"] != "finished":
            assert time.monotonic() < deadline
        assert call(presto, "fetch_more", query)["structuredContent"]["rows"] == [[42]]


class TestRevenueMetrics:
    def metric(self, presto: Running, **arguments: Any) -> dict[str, Any]:
        given = {"metric": "revenue", "start": "2026-01-01", "end": "2026-06-29"} | arguments
        result = call(presto, "get_revenue_metrics", given)
        assert not result.get("isError"), result
        structured: dict[str, Any] = result["structuredContent"]
        return structured

    def test_the_total_is_that_of_the_table(self, presto: Running) -> None:
        whole = rows(presto, "select sum(revenue_usd) from revenue")["rows"]
        assert self.metric(presto)["rows"] == whole

    def test_both_days_count(self, presto: Running) -> None:
        found = self.metric(presto, start="2026-02-01", end="2026-02-02", dimensions=["day"])
        assert [row[0] for row in found["rows"]] == ["2026-02-01", "2026-02-02"]

    @pytest.mark.parametrize(
        "metric", ["revenue", "spend", "orders", "impressions", "clicks", "roas", "ctr", "cpo"]
    )
    @pytest.mark.parametrize("dimension", ["week", "month", "region", "channel", "advertiser", "campaign"])
    def test_every_metric_by_every_dimension(self, presto: Running, metric: str, dimension: str) -> None:
        found = self.metric(presto, metric=metric, dimensions=[dimension])
        assert found["columns"] == [dimension, metric]
        assert all(row[1] > 0 for row in found["rows"])

    @pytest.mark.parametrize(
        ("arguments", "hint"),
        [
            ({"start": "2026-02-01", "end": "2026-01-01"}, "Swap them"),
            ({"start": "2020-01-01", "end": "2026-01-01"}, "shorter"),
            ({"dimensions": ["day", "day"]}, "different"),
            ({"dimensions": ["day", "week", "region", "channel"]}, "dimensions"),
            ({"dimensions": ["1; drop table ads"]}, "dimensions"),
            ({"metric": "sum(x)"}, "metric"),
            ({"start": "yesterday"}, "start"),
        ],
    )
    def test_nonsense_is_told(self, presto: Running, arguments: dict[str, Any], hint: str) -> None:
        given = DAYS | arguments
        assert hint in refused(presto, "get_revenue_metrics", given)


class TestCommand:
    """`python -m servers.presto`, as a process."""

    @pytest.fixture
    def keys(self, tmp_path: Path) -> SigningKeys:
        keys = generate_signing_key()
        (tmp_path / "identity.jwks").write_bytes(keys.public_jwks())
        return keys

    def start(self, tmp_path: Path, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "servers.presto", "--policies", str(ROOT / "policies")]
        command += ["--reviewers", str(REVIEWERS), "--identity-keys", str(tmp_path / "identity.jwks")]
        command += ["--database", str(tmp_path / "data" / "presto.duckdb"), *more]
        return subprocess.Popen(
            command, cwd=ROOT, env=os.environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def test_serves_drains_and_exits_with_0(self, tmp_path: Path, keys: SigningKeys) -> None:
        process = self.start(tmp_path, "--listen", "127.0.0.1:0", "--strict")
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["component"] == "presto"
        assert ready["metrics"] == ready["listen"]
        url = f"http://{ready['listen']}"
        identity = {"x-forwarded-identity": Minter(keys).mint(ENGINEER, time.time())}
        with httpx.Client(trust_env=False, timeout=20) as client:
            body = legacy("initialize", {"protocolVersion": LEGACY, "capabilities": {}} | _CLIENT)
            accept = {"accept": "application/json, text/event-stream"}
            answer = client.post(f"{url}/mcp", json=body, headers=identity | accept)
            assert answer.status_code == 200
            session = identity | accept | {"mcp-session-id": answer.headers["mcp-session-id"]}
            with client.stream("GET", f"{url}/mcp", headers=session) as stream:
                assert stream.status_code == 200
                process.send_signal(signal.SIGTERM)
                stream.read()  # the open stream is ended, not cut
        _, log = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "Traceback" not in log, log
        # DuckDB's binding may end with a remark of its own on objects that the interpreter didn't collect.
        ours, _, _ = log.partition("nanobind: leaked")
        assert ours
        for line in ours.splitlines():
            json.loads(line)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--listen", "0.0.0.0:0"], "loopback only"),
            (["--listen", "nonsense"], "ADDRESS:PORT"),
            (["--listen", "127.0.0.1:70000"], "port"),
            (["--listen", "127.0.0.1:0", "--tls-key", "x.pem"], "certificate"),
            (["--listen", "127.0.0.1:0", "--identity-keys", "/nowhere"], "identity keys"),
            (["--listen", "127.0.0.1:0", "--policies", "/nowhere", "--strict"], "can't be loaded"),
        ],
    )
    def test_what_it_can_not_start_with_is_one_line(
        self, tmp_path: Path, keys: SigningKeys, arguments: list[str], said: str
    ) -> None:
        process = self.start(tmp_path, *arguments)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 1
        assert out == ""
        (line,) = [line for line in err.splitlines() if line.startswith("presto: ")]
        assert said in line
        assert "Traceback" not in err

    def test_wrong_usage(self, tmp_path: Path) -> None:
        process = self.start(tmp_path, "--no-such-option")
        assert process.communicate(timeout=30)[0] == ""
        assert process.returncode == 2


_CLIENT = {"clientInfo": {"name": "test", "version": "1"}}

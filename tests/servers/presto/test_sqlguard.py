"""What may be asked of the warehouse, and every way around it that somebody has found."""

from __future__ import annotations

import pytest

from servers.presto.names import Namespace, TableName
from servers.presto.sqlguard import MAX_LENGTH, SqlRefused, guard, guard_whole

NAMES = ("ads", "campaigns", "daily_metrics", "revenue")
SPACE = Namespace(
    "presto", "main", frozenset({"presto"}), frozenset(TableName("presto", "main", name) for name in NAMES)
)


def guarded(sql: str, rows: int = 100) -> str:
    return guard(sql, SPACE, rows, "duckdb").sql


REFUSED = {
    # other statements, opaque ones among them
    "insert": "insert into ads values (1)",
    "update": "update ads set ad_id = 1",
    "delete": "delete from ads",
    "merge": "merge into ads using revenue on true when matched then delete",
    "create": "create table x as select * from ads",
    "temp table": "create temp table x as select 1",
    "drop": "drop table ads",
    "alter": "alter table ads add column x int",
    "truncate": "truncate ads",
    "copy out": "copy ads to '/tmp/x.csv'",
    "copy in": "copy ads from '/etc/passwd'",
    "attach": "attach '/tmp/x.duckdb' as x",
    "detach": "detach presto",
    "use": "use memory",
    "load": "load httpfs",
    "install": "install httpfs",
    "set": "set memory_limit = '100GB'",
    "reset": "reset memory_limit",
    "pragma": "pragma database_list",
    "call": "call pragma_version()",
    "execute": "execute x",
    "prepare": "prepare x as select 1",
    "explain": "explain select 1",
    "explain analyze delete": "explain analyze delete from ads",
    "show": "show tables",
    "describe": "describe ads",
    "summarize": "summarize ads",
    "checkpoint": "checkpoint",
    "vacuum": "vacuum",
    "export": "export database '/tmp/x'",
    "begin": "begin",
    "values": "values (1)",
    "pivot": "pivot ads on format using count(*)",
    "two statements": "select 1; select 2",
    "a second one that writes": "select 1; drop table ads",
    "nothing": "",
    "a comment": "-- nothing",
    "no SQL": "please show me the revenue",
    # writing inside a SELECT
    "insert in a CTE": "with x as (insert into ads values (1) returning *) select * from x",
    "delete in a CTE": "with x as (delete from ads returning *) select * from x",
    "select into": "select * into x from ads",
    "for update": "select * from ads for update",
    # table functions, and files as tables
    "read_csv": "select * from read_csv('/etc/passwd')",
    "read_text": "select * from read_text('/etc/passwd')",
    "read_blob": "select * from read_blob('/etc/passwd')",
    "read_parquet": "select * from read_parquet('https://evil.example/x')",
    "read_json_auto": "select * from read_json_auto('/etc/passwd')",
    "glob": "select * from glob('/etc/*')",
    "a file as a table": "select * from '/etc/passwd'",
    "a quoted file as a table": 'select * from "/etc/passwd"',
    "duckdb_settings()": "select * from duckdb_settings()",
    "duckdb_secrets()": "select * from duckdb_secrets()",
    "pragma as a function": "select * from pragma_database_list()",
    "pragma as a view": "select * from pragma_database_list",
    "duckdb_databases": "select * from duckdb_databases",
    "information_schema": "select * from information_schema.tables",
    "pg_catalog": "select * from pg_catalog.pg_class",
    "sqlite_master": "select * from sqlite_master",
    "query()": "select * from query('drop table ads')",
    "query_table()": "select * from query_table('ads')",
    "json_execute_serialized_sql": "select * from json_execute_serialized_sql('{}')",
    "range": "select * from range(1000000000000)",
    "generate_series": "select * from generate_series(1, 1000000000000)",
    "a lateral table function": "select * from ads, lateral (select * from range(1000000000)) x",
    "TABLE()": "select * from table(system.query('select 1'))",
    "repeat_row": "select * from repeat_row(1, num_rows=1000000000)",
    "unnest": "select unnest([1, 2])",
    "from first": "from duckdb_settings()",
    "test_all_types": "select * from test_all_types()",
    # other places for a table
    "another catalog": "select * from memory.main.ads",
    "another schema": "select * from temp.ads",
    "in a scalar subquery": "select (select max(path) from duckdb_databases) from ads",
    "in EXISTS": "select 1 from ads where exists (select 1 from duckdb_databases)",
    "in IN": "select 1 from ads where 'x' in (select path from duckdb_databases)",
    "in a join": "select * from ads join duckdb_databases on true",
    "in a union": "select 1 from ads union all select 1 from duckdb_databases",
    "in a CTE": "with x as (select * from duckdb_databases) select * from x",
    "in ORDER BY": "select 1 from ads order by (select path from duckdb_databases)",
    "in LIMIT": "select 1 from ads limit (select count(*) from duckdb_databases)",
    "in HAVING": "select 1 from ads group by 1 having (select count(*) from duckdb_databases) > 0",
    "in a FILTER": "select count(*) filter (where (select true from duckdb_databases)) from ads",
    "in VALUES": "select * from (values ((select path from duckdb_databases))) v(x)",
    "in a window": "select row_number() over (order by (select path from duckdb_databases)) from ads",
    "in a derived table": "select * from (select * from (select * from duckdb_databases))",
    # a CTE's name doesn't make every table of that name harmless
    "hidden by an inner CTE": (
        "select * from duckdb_databases d, "
        "(with duckdb_databases as (select 1 as a) select * from duckdb_databases) x"
    ),
    "a CTE that reads its own name": (
        "with duckdb_databases as (select * from duckdb_databases) select * from duckdb_databases"
    ),
    "a CTE used before it is there": (
        "with a as (select * from duckdb_settings), duckdb_settings as (select 1) select * from a"
    ),
    "a CTE's name with a schema": "with duckdb_databases as (select 1) select * from main.duckdb_databases",
    # scalar functions that leak, write or eat memory
    "current_setting": "select current_setting('memory_limit')",
    "getenv": "select getenv('HOME')",
    "getvariable": "select getvariable('x')",
    "version": "select version()",
    "current_database": "select current_database()",
    "current_user": "select current_user",
    "write_log": "select write_log('x')",
    "nextval": "select nextval('s')",
    "txid_current": "select txid_current()",
    "repeat": "select repeat('x', 2000000000)",
    "lpad": "select lpad('x', 2000000000, 'y')",
    "rpad": "select rpad('x', 2000000000, 'y')",
    "range as a scalar": "select len(range(2000000000))",
    "format": "select format('{:>2000000000}', 'x')",
    "printf": "select printf('%2000000000d', 1)",
    "replace that grows": "select replace(headline, 'a', 'aa') from ads",
    "replace by a column": "select replace(headline, 'a', format) from ads",
    "replace of a column": "select replace(headline, format, 'a') from ads",
    "regexp_replace": "select regexp_replace(headline, 'a', 'aa', 'g') from ads",
    "list aggregate": "select list(ad_id) from ads",
    "string_agg": "select string_agg(headline, ',') from ads",
    "list_transform": "select list_transform([1], x -> x + 1)",
    "a made-up function": "select run_shell('id')",
    "COLUMNS": "select columns('.*') from ads",
    "a parameter": "select $1 from ads",
    "a placeholder": "select ? from ads",
    "tablesample": "select * from ads tablesample 1 rows",
    "time travel": "select * from ads at (version => 1)",
    # too much
    "recursive": "with recursive r as (select 1 a union all select a + 1 from r) select * from r",
    "limit percent": "select * from ads limit 10%",
    "limit with ties": "select * from ads order by 1 limit 5 with ties",
    "fetch first": "select * from ads fetch first 5 rows only",
    "limit all": "select * from ads limit all",
    "negative limit": "select * from ads limit -1",
    "deep": "select " + "(" * 5000 + "1" + ")" * 5000,
    "deep not": "select " + "not " * 4000 + "true",
    "deep case": "select " + "case when true then " * 900 + "1" + " end" * 900,
    "deep subqueries": "select * from " + "(select * from " * 1500 + "ads" + ")" * 1500,
    "long": "select '" + "x" * MAX_LENGTH + "'",
    "wide": "select " + ", ".join(["1"] * 9000),
    "null byte": "select \x00 1 from duckdb_databases",
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    with pytest.raises(SqlRefused) as caught:
        guarded(REFUSED[case])
    message = str(caught.value)
    assert message.endswith(".")  # a sentence, and one more on what to do
    assert len(message) < 400


@pytest.mark.parametrize(
    ("sql", "rows", "limit", "told"),
    [
        ("select * from ads", 100, 101, 100),
        ("select * from ads limit 5", 100, 5, 5),
        ("select * from ads limit 100", 100, 100, 100),
        ("select * from ads limit 1000000", 100, 101, 100),
        ("select * from ads limit 0", 100, 0, 0),
        ("select * from ads union all select * from ads", 10, 11, 10),
        ("select * from ads union all select * from ads limit 7", 10, 7, 7),
        ("(select * from ads limit 9999) union all (select * from ads)", 10, 11, 10),
        ("select * from (select * from ads limit 9999)", 10, 11, 10),
    ],
)
def test_the_smaller_limit_counts(sql: str, rows: int, limit: int, told: int) -> None:
    found = guard(sql, SPACE, rows, "duckdb")
    assert found.sql.endswith(f"LIMIT {limit}")
    assert found.limit == told


def test_an_offset_stays() -> None:
    assert guarded("select * from ads order by ad_id limit 5 offset 20").endswith("LIMIT 5 OFFSET 20")


def test_comments_do_not_reach_the_engine() -> None:
    assert guarded("select /* a */ 1 -- b\n from ads /* ; drop table ads */") == "SELECT 1 FROM ads LIMIT 101"


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("select * from ads", {"ads"}),
        ("select * from main.ADS", {"ads"}),
        ('select * from "Ads" as revenue', {"ads"}),
        ('select * from presto."MAIN".ads', {"ads"}),
        ("with ads as (select * from ads) select * from ads", {"ads"}),
        (
            "with x as (select * from ads), y as (select * from x) select * from y, revenue",
            {"ads", "revenue"},
        ),
        ("select 1", set()),
        (
            "select (select max(day) from revenue) from ads where exists (select 1 from campaigns)",
            {"ads", "revenue", "campaigns"},
        ),
        ("select * from ads semi join campaigns using (campaign_id)", {"ads", "campaigns"}),
        ("select * from ads, lateral (select count(*) from revenue) r", {"ads", "revenue"}),
    ],
)
def test_the_tables_that_are_read(sql: str, tables: set[str]) -> None:
    assert {table.name for table in guard(sql, SPACE, 10, "duckdb").tables} == tables


def test_a_query_for_an_overwrite_keeps_all_its_rows() -> None:
    assert guard_whole("select * from ads", SPACE, "duckdb").sql == "SELECT * FROM ads"
    assert guard_whole("select * from ads limit 7", SPACE, "duckdb").sql == "SELECT * FROM ads LIMIT 7"
    with pytest.raises(SqlRefused):
        guard_whole("delete from ads", SPACE, "duckdb")

"""What may be asked of Trino and Presto, and every way around it that somebody has found."""

from __future__ import annotations

import pytest

from servers.presto.names import Namespace, TableName
from servers.presto.sqlguard import SqlRefused, guard

SPACE = Namespace("hive", "web", frozenset({"hive", "iceberg"}))

REFUSED = {
    # other statements: sqlglot reads most of them as opaque text
    "explain": "explain select 1",
    "explain analyze delete": "explain analyze delete from orders",
    "explain analyze in a comment's shade": "/* select */ explain analyze delete from orders",
    "call": "call system.runtime.kill_query(query_id => 'x')",
    "call of a connector": "call iceberg.system.expire_snapshots('web', 'orders')",
    "execute": "execute p using 1",
    "execute immediate": "execute immediate 'drop table orders'",
    "prepare": "prepare p from delete from orders",
    "deallocate": "deallocate prepare p",
    "show": "show create table orders",
    "describe": "describe orders",
    "describe input": "describe input p",
    "insert": "insert into orders select * from orders",
    "delete": "delete from orders",
    "update": "update orders set id = 1",
    "merge": "merge into orders using prices on true when matched then delete",
    "truncate": "truncate table orders",
    "create table as": "create table x as select * from orders",
    "create view": "create or replace view v as select 1",
    "drop": "drop table orders",
    "alter": "alter table orders execute expire_snapshots",
    "rename": "alter table orders rename to x",
    "comment on": "comment on table orders is 'x'",
    "grant": "grant select on orders to ben",
    "deny": "deny select on orders to ben",
    "set role": "set role admin",
    "set session": "set session query_max_run_time = '10d'",
    "set session authorization": "set session authorization root",
    "reset session": "reset session query_max_run_time",
    "use": "use system.runtime",
    "analyze": "analyze orders",
    "refresh": "refresh materialized view v",
    "start transaction": "start transaction",
    "commit": "commit",
    "values": "values 1, 2",
    "two": "select 1; drop table orders",
    "two behind a comment": "select 1 -- \n; drop table orders",
    "nothing": "/* select 1 */",
    # a SELECT with more in it
    "with session": "with session query_max_run_time = '10d' select 1",
    "with function": "with function f() returns int return 1 select f()",
    "with function that loops": (
        "with function f() returns int begin while true do set x = 1; end while; return 1; end select f()"
    ),
    "delete in a CTE": "with x as (delete from orders returning *) select * from x",
    "recursive": "with recursive r(n) as (select 1 union all select n + 1 from r) select * from r",
    "insert in a query": "select * from (insert into orders values (1))",
    # table functions
    "TABLE of a raw query": "select * from table(hive.system.query(query => 'drop table orders'))",
    "TABLE in capitals": "SELECT * FROM TABLE(MYSQL.SYSTEM.QUERY(QUERY => 'SELECT 1'))",
    "TABLE behind a comment": "select * from /* x */ table ( mysql . system . query(query => 'x') )",
    "TABLE in a join": "select * from orders, table(mysql.system.query(query => 'x'))",
    "TABLE in a subquery": "select (select max(a) from table(m.system.query(query => 'x')) t) from orders",
    "TABLE in a CTE": "with x as (select * from table(mysql.system.query(query => 'x'))) select * from x",
    "TABLE as a lateral": "select * from orders cross join lateral (select * from table(m.s.query('x')))",
    "sequence": "select * from table(sequence(start => 0, stop => 1000000000))",
    "exclude_columns": "select * from table(exclude_columns(input => table(a), columns => descriptor(b)))",
    "a plain function": "select * from raw_query('x')",
    "a quoted function": 'select * from "table"(mysql.system.query(query => 1))',
    # tables that are none of theirs
    "system": "select * from system.runtime.queries",
    "quoted system": 'select * from "system"."runtime"."queries"',
    "system in mixed case": 'select * from "SyStEm".runtime.nodes',
    "jmx": 'select * from jmx.current."java.lang:type=runtime"',
    "information_schema": "select * from information_schema.tables",
    "information_schema of a catalog": "select * from hive.information_schema.columns",
    "quoted information_schema": 'select * from "INFORMATION_SCHEMA"."tables"',
    "another catalog": "select * from mysql.web.orders",
    "another catalog in IN": "select 1 from orders where id in (select id from mysql.web.orders)",
    "another catalog in ORDER BY": "select 1 from orders order by (select max(id) from mysql.web.orders)",
    "another catalog by TABLE": "table mysql.web.orders",
    "four parts": "select * from a.b.c.d",
    "a table's files": 'select * from "orders$files"',
    "a table's properties": 'select * from hive.web."orders$properties"',
    "a CTE's name with a schema": "with queries as (select 1) select * from system.runtime.queries",
    "hidden by an inner CTE": "select * from mysql.web.x d, (with x as (select 1 as a) select * from x) y",
    # functions and constructs
    "current_user": "select current_user",
    "a session function": "select current_groups()",
    "a made-up function": "select run_shell('id')",
    "a function of a schema": "select hive.web.f(1)",
    "lambda": "select transform(array[1], x -> x + 1)",
    "reduce": "select reduce(array[1], 0, (s, x) -> s + x, s -> s)",
    "repeat": "select repeat('x', 1000000000)",
    "array of a sequence": "select sequence(1, 1000000000)",
    "rpad": "select rpad('x', 1000000000, 'y')",
    "match_recognize": "select * from orders match_recognize (pattern (a) define a as true)",
    "time travel": "select * from orders for version as of 12",
    "tablesample": "select * from orders tablesample bernoulli (10)",
    "parameters": "select ? from orders",
    "limit by a parameter": "select * from orders limit ?",
    "fetch first": "select * from orders fetch first 5 rows with ties",
    "limit all": "select * from orders limit all",
    "escaped unicode": "select U&'\\0041' from orders",
    "deep": "select " + "(" * 5000 + "1" + ")" * 5000,
}


@pytest.mark.parametrize("dialect", ["trino", "presto"])
@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, dialect: str) -> None:
    with pytest.raises(SqlRefused) as caught:
        guard(REFUSED[case], SPACE, 100, dialect)
    assert str(caught.value).endswith(".")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("dialect", ["trino", "presto"])
@pytest.mark.parametrize(
    ("sql", "printed"),
    [
        ("select 5/2, try(1/0)", "SELECT 5 / 2, TRY(1 / 0)"),
        ("select date_trunc('week', d) from t", "SELECT DATE_TRUNC('WEEK', d) FROM t"),
        ("select date_format(d, '%Y-%m') from t", "SELECT DATE_FORMAT(d, '%Y-%m') FROM t"),
        ("select date_diff('day', a, b) from t", "SELECT DATE_DIFF('DAY', a, b) FROM t"),
        ("select approx_distinct(a), approx_percentile(b, 0.9) from t", None),
        ("select array_agg(a), cardinality(b), element_at(c, 'x') from t", None),
        ("select json_extract_scalar(a, '$.b') from t", "SELECT JSON_EXTRACT_SCALAR(a, '$.b') FROM t"),
        ("select t.a, u.x from t cross join unnest(t.b) as u(x)", None),
        ("select from_unixtime(a), to_unixtime(b) from t", None),
        ("select regexp_replace(a, 'x', 'y'), regexp_like(a, 'b') from t", None),
        ("select max_by(a, b), count_if(c > 1), bool_or(d) from t", None),
        ('select "a""b" from "T" where c = \'it\'\'s\'', 'SELECT "a""b" FROM "T" WHERE c = \'it\'\'s\''),
        ("select a from iceberg.lake.t", "SELECT a FROM iceberg.lake.t"),
        ("select a, grouping(a) from t group by rollup (a)", None),
        ("select row_number() over (partition by a order by b) from t", None),
        ("with x as (select a from t) select a from x union all select a from t", None),
    ],
)
def test_an_analysts_query_is_printed_as_it_was_meant(sql: str, printed: str | None, dialect: str) -> None:
    found = guard(sql, SPACE, 100, dialect).sql
    wanted = printed if printed is not None else found.removesuffix(" LIMIT 101")
    assert found == f"{wanted} LIMIT 101"
    assert guard(found, SPACE, 100, dialect).sql == found  # what is printed reads the same


def test_the_tables_that_are_read() -> None:
    found = guard('select * from orders, web.prices, ICEBERG."Lake".t', SPACE, 10, "trino")
    assert found.tables == {
        TableName("hive", "web", "orders"),
        TableName("hive", "web", "prices"),
        TableName("iceberg", "lake", "t"),
    }

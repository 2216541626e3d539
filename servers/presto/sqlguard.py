"""Let through one query that only reads known tables, and rewrite it so that it stays small.

What runs is printed from the tree that was checked, never the text that came: where sqlglot and the engine
read a text differently, the engine gets sqlglot's reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import OptimizeError, SqlglotError
from sqlglot.optimizer.scope import Scope, traverse_scope

from servers.presto.names import Namespace, TableName, UnknownName
from servers.presto.vocabulary import Vocabulary, vocabulary

MAX_LENGTH = 20_000
"""Characters of SQL."""
MAX_NODES = 5_000
_TOO_DEEP = "The query is nested too deeply. Write a flatter one."


class SqlRefused(Exception):
    """The query may not run. The message is for the model: what is wrong, and what to write instead."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A query that may run."""

    sql: str
    tables: frozenset[TableName]
    limit: int
    """Rows to return at most; the SQL asks for one more, where that tells whether there is more."""


def guard(sql: str, namespace: Namespace, max_rows: int, dialect: str) -> Guarded:
    """Check one query, and limit it to one row more than `max_rows`: that one tells whether there are more.

    Raises:
        SqlRefused: it is anything but one SELECT over tables of the namespace in the words of `vocabulary`.

    """
    named, tree = _checked(sql, namespace, dialect)
    limit = _limit(tree, max_rows)
    return Guarded(_printed(tree, dialect), named, limit)


def guard_whole(sql: str, namespace: Namespace, dialect: str) -> Guarded:
    """Check one query as `guard` does and leave its rows as many as they are; `limit` is 0.

    Raises:
        SqlRefused: as `guard`.

    """
    named, tree = _checked(sql, namespace, dialect)
    return Guarded(_printed(tree, dialect), named, 0)


def _checked(
    sql: str, namespace: Namespace, dialect: str
) -> tuple[frozenset[TableName], exp.Select | exp.SetOperation]:
    if len(sql) > MAX_LENGTH:
        raise SqlRefused(f"The query is longer than {MAX_LENGTH} characters. Write a shorter one.")
    try:
        tree = _parse(sql, dialect)
        _check_words(tree, vocabulary(dialect))
        return _check_tables(tree, namespace), tree
    except RecursionError:
        raise SqlRefused(_TOO_DEEP) from None


def _printed(tree: exp.Expr, dialect: str) -> str:
    try:
        return tree.sql(dialect=dialect, comments=False)
    except RecursionError:
        raise SqlRefused(_TOO_DEEP) from None


def _parse(sql: str, dialect: str) -> exp.Select | exp.SetOperation:
    try:
        statements = [statement for statement in sqlglot.parse(sql, dialect=dialect) if statement is not None]
    except SqlglotError as error:
        raise SqlRefused(f"The query does not parse: {_where(error)}. Write one SELECT.") from None
    if len(statements) != 1:
        raise SqlRefused(f"There are {len(statements)} statements. Send exactly one SELECT.")
    tree = statements[0]
    if not isinstance(tree, (exp.Select, exp.SetOperation)):
        raise SqlRefused(
            "Only SELECT is allowed (WITH, UNION, INTERSECT and EXCEPT too), not "
            f"{tree.key.upper()}. To see tables and columns use list_tables and describe_table."
        )
    return tree


def _where(error: SqlglotError) -> str:
    details = getattr(error, "errors", None)
    if not details:
        return "it can't be read as SQL"
    first: Mapping[str, object] = details[0]
    return f"{first.get('description')} at line {first.get('line')}, column {first.get('col')}"


def _check_words(tree: exp.Expr, words: Vocabulary) -> None:
    for count, node in enumerate(tree.walk(), start=1):
        if count > MAX_NODES:
            raise SqlRefused("The query is too large. Write a smaller one.")
        if isinstance(node, exp.Anonymous):
            if node.name.lower() not in words.names:
                raise SqlRefused(f"The function {node.name[:64]}() is not available here. Use another one.")
        elif type(node).__name__ not in words.nodes:
            raise SqlRefused(f"{_spelled(node)} is not available here. Use plain SELECT features.")
        elif words.texts_may_not_grow and isinstance(node, exp.Replace) and _grows(node):
            raise SqlRefused("replace() takes two plain texts here, the second not longer than the first.")
        elif isinstance(node, exp.With) and node.args.get("recursive"):
            raise SqlRefused("WITH RECURSIVE is not available here. Use joins and aggregates.")


def _grows(node: exp.Replace) -> bool:
    """Whether a replacement may make its text longer: DuckDB builds that text outside its memory limit."""
    old, new = node.expression, node.args.get("replacement")
    if not (isinstance(old, exp.Literal) and isinstance(new, exp.Literal)):
        return True
    return len(new.name.encode()) > len(old.name.encode())


def _spelled(node: exp.Expr) -> str:
    return f"{node.sql_name()}()" if isinstance(node, exp.Func) else node.key.upper()


def _check_tables(tree: exp.Expr, namespace: Namespace) -> frozenset[TableName]:
    """Return the tables that the query reads.

    Names are resolved scope by scope. Taking all names and subtracting those of CTEs would let a CTE hide a
    table of the same name that another scope reads.
    """
    try:
        scopes = traverse_scope(tree)
    except OptimizeError as error:
        raise SqlRefused(f"{error}. Give each table of a FROM clause an alias of its own.") from None
    found: set[TableName] = set()
    seen: set[int] = set()
    for scope in scopes:
        for table in scope.tables:
            seen.add(id(table))
            if not isinstance(scope.sources.get(table.alias_or_name), Scope) or table.args.get("db"):
                found.add(_known(table, namespace))
    for table in tree.find_all(exp.Table):
        if id(table) not in seen:  # a place that the scopes don't reach, so nobody knows what it names
            found.add(_known(table, namespace))
    return frozenset(found)


def _known(table: exp.Table, namespace: Namespace) -> TableName:
    if not isinstance(table.this, exp.Identifier):
        raise SqlRefused(
            "Table functions are not available here. Select from tables: list_tables and describe_table say "
            "what there is."
        )
    schema, catalog = table.args.get("db"), table.args.get("catalog")
    try:
        return namespace.resolve(
            table.name,
            schema.name if schema is not None else None,
            catalog.name if catalog is not None else None,
        )
    except UnknownName as unknown:
        raise SqlRefused(str(unknown)) from None


def _limit(tree: exp.Select | exp.SetOperation, max_rows: int) -> int:
    """Make the query's LIMIT the smaller one of its own and ours."""
    asked = tree.args.get("limit")
    wanted: int | None = None
    if asked is not None:
        literal = asked.expression
        if not (isinstance(literal, exp.Literal) and literal.is_int):
            raise SqlRefused("LIMIT takes a plain number here.")
        wanted = int(literal.name)
    limit = max_rows + 1 if wanted is None else min(wanted, max_rows + 1)
    tree.set("limit", exp.Limit(expression=exp.Literal.number(limit)))
    return min(limit, max_rows)

"""The command line and its environment, and the page that says what they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from servers.presto.__main__ import engine, parser
from servers.presto.cluster import ClusterError
from servers.presto.engine import Engine
from servers.presto.statement_engine import StatementEngine

PAGE = Path(__file__).parents[3] / "docs" / "servers" / "presto.md"
NEEDED = ["--policies", "p", "--reviewers", "r", "--identity-keys", "k"]
TRINO = ["--engine", "trino", "--host", "trino.corp.example", "--catalog", "hive", "--schema", "web"]


def opened(*arguments: str, **environment: str) -> Engine:
    return engine(parser(environment).parse_args([*NEEDED, *arguments]))


def test_every_option_is_documented() -> None:
    made = parser({})
    (group,) = [group for group in made._action_groups if group.title == "the warehouse"]
    options = {action.option_strings[0] for action in group._group_actions}
    told = dict(re.findall(r"^\| `(--[a-z-]+)` \| `(GATEHOUSE_PRESTO_[A-Z_]+)` \|", PAGE.read_text(), re.M))
    assert told.keys() == options
    for option, variable in told.items():
        assert variable == "GATEHOUSE_PRESTO_" + option.lstrip("-").upper().replace("-", "_")
        assert variable in re.sub(r"\s+", "", made.format_help())


@pytest.mark.parametrize(("name", "dialect"), [("trino", "trino"), ("presto", "presto")])
def test_a_cluster_by_flags_or_by_environment(name: str, dialect: str) -> None:
    flags = opened("--engine", name, *TRINO[2:], "--users-of", "sso", "--catalogs", "hive, Iceberg")
    variables = {
        "GATEHOUSE_PRESTO_ENGINE": name,
        "GATEHOUSE_PRESTO_HOST": "trino.corp.example",
        "GATEHOUSE_PRESTO_CATALOG": "hive",
        "GATEHOUSE_PRESTO_SCHEMA": "web",
        "GATEHOUSE_PRESTO_CATALOGS": "hive,iceberg",
        "GATEHOUSE_PRESTO_USERS_OF": "sso",
    }
    environment = opened(**variables)
    for found in (flags, environment):
        assert isinstance(found, StatementEngine)
        assert found.dialect == dialect
        assert (found._cluster.scheme, found._cluster.port) == ("https", 443)
        assert found.namespace.catalogs == {"hive", "iceberg"}
        assert found._cluster.users_of == "sso"
    assert isinstance(opened("--host", "other.example", **variables), StatementEngine)


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ([], {}, "--database"),
        (["--engine", "trino"], {}, "--host"),
        (TRINO, {}, "--users-of"),
        ([*TRINO, "--users-of", "sso", "--tls", "off"], {}, "TLS"),
        ([*TRINO, "--users-of", "sso", "--port", "0"], {}, "--port"),
        ([*TRINO, "--users-of", "sso", "--catalogs", "other"], {}, "default"),
        ([], {"GATEHOUSE_PRESTO_ENGINE": "mysql"}, "GATEHOUSE_PRESTO_ENGINE is one of"),
        (TRINO, {"GATEHOUSE_PRESTO_RUN_AS": "root"}, "GATEHOUSE_PRESTO_RUN_AS"),
    ],
)
def test_what_makes_no_sense_is_told(arguments: list[str], environment: Any, said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        opened(*arguments, **environment)

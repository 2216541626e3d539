"""The tour's calls of Spark, Knowledge and Airflow, as data, and those that a person has to confirm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from gatehouse.people import AI_CHAT, CHAT_BOT, CLIENTS, REPORT_BOT
from gatehouse.tour_bench import Bench, Result
from gatehouse.tour_calls import OK, Row, Way
from identity.principal import JsonValue

FAILED_APPLICATION = "local-1795383804511"
"""A sample Spark application whose UDF stumbled over one row."""
LIMITED_DOCUMENT = "finance/closing-calendar.md"
"""A sample document that its acl.yaml keeps for the group finance."""
FAILING_DAG, WORKING_DAG = "clean_prices", "daily_revenue"
_FIRST_RUN_SECONDS = 20.0
"""The failing DAG runs by itself when the server starts, and is tried twice."""


def _arguments(**values: JsonValue) -> Mapping[str, JsonValue]:
    return MappingProxyType(values)


_FAILURE = _arguments(application=FAILED_APPLICATION)
_QUESTION = _arguments(query="closing calendar")


def _spark() -> Iterator[Row]:
    found = "id=1337"
    row = Row(
        "ana, Ads engineer", "ide", "diagnose_failure", OK, user="ana", server="spark", arguments=_FAILURE
    )
    yield replace(row, shows=found)
    yield replace(row, who="fay, finance", user="fay", expected="group_not_allowed")
    bot = replace(
        row, surface="chat-bot", user="fay", client=CLIENTS[CHAT_BOT], service=CHAT_BOT, way=Way.MESH
    )
    yield replace(bot, who="fay, #airflow-support", channel="airflow-support", shows=found)
    yield replace(bot, who="fay, #spark-help", channel="spark-help", expected="channel_not_allowed")
    yield replace(bot, who="fay, in no channel", expected="channel_not_allowed")
    yield replace(
        row,
        who="report bot, X.509-SVID",
        surface="report-bot",
        user=None,
        service=REPORT_BOT,
        way=Way.MESH,
        tool="list_applications",
        arguments=_arguments(),
        expected="surface_not_allowed",
    )


def _knowledge() -> Iterator[Row]:
    row = Row("fay, finance", "ide", "search", OK, user="fay", server="knowledge", arguments=_QUESTION)
    yield replace(row, shows=LIMITED_DOCUMENT)
    yield replace(row, who="ana, not of finance", user="ana", hides=LIMITED_DOCUMENT)
    chat = replace(row, surface="ai-chat", client=CLIENTS[AI_CHAT], service=AI_CHAT, way=Way.MESH)
    yield replace(
        chat,
        who="fay, brought by chat",
        tool="ask",
        arguments=_arguments(question="When do the books close?"),
        shows=LIMITED_DOCUMENT,
    )
    bot = replace(row, who="report bot, X.509-SVID", surface="report-bot", user=None, service=REPORT_BOT)
    bot = replace(bot, way=Way.MESH)
    yield replace(bot, hides=LIMITED_DOCUMENT)
    yield replace(bot, tool="fetch", arguments=_arguments(id="gatehouse/README.md"), expected="guardrail")


def _airflow() -> Iterator[Row]:
    failing = _arguments(dag_id=FAILING_DAG)
    row = Row(
        "ana, Ads engineer", "ide", "diagnose_dag_run", OK, user="ana", server="airflow", arguments=failing
    )
    yield replace(row, shows="could not convert string to float: 'n/a'", patience=_FIRST_RUN_SECONDS)
    yield replace(
        row,
        who="fay, finance",
        user="fay",
        tool="list_import_errors",
        arguments=_arguments(),
        expected="tool_not_in_rule",
    )
    bot = replace(
        row, surface="chat-bot", user="dino", client=CLIENTS[CHAT_BOT], service=CHAT_BOT, way=Way.MESH
    )
    yield replace(bot, who="dino, #airflow-support", channel="airflow-support", shows="clean failed")
    yield replace(bot, who="dino, #spark-help", channel="spark-help", expected="channel_not_allowed")
    report = replace(row, who="report bot, JWT-SVID", surface="report-bot", user=None, service=REPORT_BOT)
    yield replace(report, tool="list_dags", arguments=_arguments(), shows=FAILING_DAG)


CALLS: tuple[Row, ...] = (*_spark(), *_knowledge(), *_airflow())

_TRIGGER = Row(
    "dino, confirms",
    "ide",
    "trigger_dag",
    OK,
    user="dino",
    server="airflow",
    arguments=_arguments(dag_id=WORKING_DAG),
)


def confirmations(bench: Bench) -> Iterator[Result]:
    """A dangerous tool runs only after its caller has confirmed it, and once for each confirmation."""
    confirm, decline = replace(_TRIGGER, answer="accept"), replace(_TRIGGER, answer="decline")
    yield bench.run(
        replace(_TRIGGER, who="ana, no operator", user="ana", expected="tool_group_required", answer="accept")
    )
    yield bench.run(replace(_TRIGGER, who="dino, can't be asked", expected="confirmation_required"))
    yield bench.run(replace(decline, who="dino, declines", expected="confirmation_declined"))
    accepted = bench.run(confirm)
    yield accepted
    again = replace(confirm, who="dino, the same answer again", expected="confirmation_replayed")
    yield bench.run(again, repeat=accepted.outcome.answered)

"""What a person reads is what would run, whatever a model has put into the arguments."""

from __future__ import annotations

import unicodedata
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.server.mcpserver.tools import Tool as OfferedTool

from mcpguard import authorize_tool
from mcpguard.confirmation_question import LONGEST_VALUE, confirmed, message, preview
from pdp.model import Location, Tool

DESTROY = Tool("overwrite", Location("servers/vault.yaml", 1), "destroy", "high", confirm="caller")


def overwrite(table: str, sql: str = "select 1") -> None:
    """Overwrite."""


OFFERED = OfferedTool.from_function(overwrite)


def asked(arguments: dict[str, Any], touches: str = "") -> str:
    return message("vault", DESTROY, OFFERED, arguments, touches)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_no_argument_can_look_like_a_line_of_ours(table: str, sql: str) -> None:
    lines = asked({"table": table, "sql": sql}).split("\n")
    assert len(lines) == 4
    assert lines[:2] == ["Run overwrite on vault? It can destroy data.", "Arguments:"]
    assert lines[2].startswith('  table: "')
    assert lines[3].startswith('  sql: "')
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Zl", "Zp"} for line in lines for c in line)


def test_a_faked_line_and_a_turned_direction_are_shown_as_what_they_are() -> None:
    text = asked({"table": "a\n  sql: harmless\u202egpj.exe\u2028"})
    assert r'  table: "a\n  sql: harmless\u202egpj.exe\u2028"' in text.splitlines()


def test_a_preview_keeps_its_lines_and_nothing_else() -> None:
    lines = asked({"table": "a"}, "Replaces 42 rows.\r\nof \x1b[31ma\u2066").splitlines()
    assert lines[1:3] == ["Replaces 42 rows.", r"of \u001b[31ma\u2066"]


def test_a_long_value_says_that_it_is_cut_and_what_it_was() -> None:
    long = "x" * 5000
    first, second = (asked({"table": "t", "sql": long + end}).splitlines()[-1] for end in "ab")
    assert len(first) < LONGEST_VALUE + 100
    assert "5003 characters in all" in first
    assert first != second


def test_what_the_tool_does_not_have_cannot_push_the_rest_out_of_sight() -> None:
    text = asked({f"extra{number}": "x" * 500 for number in range(500)} | {"table": "t"})
    assert text.splitlines()[2:] == [
        '  table: "t"',
        '  sql: "select 1" (its default)',
        "  and 500 that the tool does not have",
    ]


@pytest.mark.parametrize(
    ("content", "yes"),
    [
        ({"confirm": True}, True),
        ({"confirm": False}, False),
        ({"confirm": "true"}, False),
        ({"confirm": 1}, False),
        ({}, False),
        (None, False),
        (True, False),
    ],
)
def test_only_a_ticked_box_confirms(content: object, yes: bool) -> None:
    assert confirmed(content) is yes


class TestPreview:
    @pytest.mark.parametrize("is_async", [False, True])
    def test_it_gets_the_arguments_that_it_names(self, is_async: bool) -> None:
        async def later(sql: str) -> str:
            return f"later {sql}"

        def now(sql: str) -> str:
            return f"now {sql}"

        @authorize_tool(preview=later if is_async else now)
        def tool(table: str, sql: str = "select 1") -> None:
            """Do it."""

        offered = OfferedTool.from_function(tool)
        validated = offered.fn_metadata.validate_arguments({"table": "t"})
        text = anyio.run(preview, offered, validated)
        assert text == ("later select 1" if is_async else "now select 1")

    def test_one_that_takes_what_the_tool_lacks_fails_at_import(self) -> None:
        def wants(rows: int) -> str:
            return str(rows)

        with pytest.raises(TypeError, match="rows, which the tool does not have"):
            authorize_tool(preview=wants)(overwrite)

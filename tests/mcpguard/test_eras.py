"""The SDK's client against a guarded server, in both protocol eras."""

from __future__ import annotations

import anyio
import pytest
from mcp import MCPError
from mcp_types import ElicitRequestParams, ElicitResult

from tests.mcpguard.running import LEGACY, MODERN, Running
from tests.mcpguard.toy import Toy
from tests.mcpguard.world import CHAT_BOT, REPORT_BOT, SAM, assertion

ERAS = pytest.mark.parametrize("era", [LEGACY, MODERN])


@ERAS
def test_each_caller_sees_only_its_tools(server: Running, era: str) -> None:
    async def names(who: object) -> set[str]:
        async with server.client(who, era) as client:  # type: ignore[arg-type]
            return {tool.name for tool in (await client.list_tools()).tools}

    everyone = {"open_tool", "confirm_tool", "ask_tool"}
    assert anyio.run(names, assertion()) == everyone | {"eng_tool", "quiet_tool"}
    assert anyio.run(names, assertion(SAM)) == everyone


@ERAS
def test_a_tool_runs_for_whom_it_is_for(server: Running, toy: Toy, era: str) -> None:
    async def call() -> str:
        async with server.client(assertion(), era) as client:
            result = await client.call_tool("eng_tool", {})
            return result.content[0].text  # type: ignore[union-attr]

    assert anyio.run(call) == "eng_tool ran"
    assert toy.ran == {"eng_tool": 1}


@ERAS
@pytest.mark.parametrize(
    ("tool", "code"),
    [
        ("eng_tool", "tool_group_required"),
        ("quiet_tool", "tool_group_required"),
        ("other_tool", "tool_policy_mismatch"),
        ("unnamed_tool", "tool_unknown"),
        ("no_such_tool", "tool_unknown"),
    ],
)
def test_a_refused_call_says_why_and_runs_nothing(
    server: Running, toy: Toy, era: str, tool: str, code: str
) -> None:
    async def call() -> MCPError:
        async with server.client(assertion(SAM), era) as client:
            with pytest.raises(MCPError) as caught:
                await client.call_tool(tool, {})
            return caught.value

    error = anyio.run(call).error
    assert error.code == -32003
    assert error.data["reason"] == code
    assert error.data["support"] == "#toy-help"
    assert len(error.data["decision_id"]) == 32
    assert not toy.ran


def test_a_missing_group_says_where_to_ask_for_it(server: Running) -> None:
    answer = server.call("eng_tool", assertion(SAM))
    assert answer.status_code == 403
    assert answer.json()["id"] == 1
    assert answer.json()["error"]["data"]["request_access"] == "https://access.corp.example/ads-eng"
    assert answer.headers["x-gatehouse-decision"] == answer.json()["error"]["data"]["decision_id"]


def test_lists_are_private_where_the_era_has_caches(server: Running) -> None:
    async def scopes() -> set[str | None]:
        async with server.client(assertion(), MODERN) as client:
            lists = (
                await client.list_tools(),
                await client.list_resources(),
                await client.list_prompts(),
                await client.list_resource_templates(),
            )
            return {result.cache_scope for result in lists}

    assert anyio.run(scopes) == {"private"}


@ERAS
def test_resources_and_prompts_need_a_rule_too(server: Running, toy: Toy, era: str) -> None:
    async def use() -> None:
        async with server.client(assertion(SAM), era) as client:
            assert [str(r.uri) for r in (await client.list_resources()).resources] == ["toy://open"]
            assert [p.name for p in (await client.list_prompts()).prompts] == ["greet"]
            assert (await client.list_resource_templates()).resource_templates == []
            await client.read_resource("toy://open")
            await client.get_prompt("greet")
            for uri in ("toy://closed", "toy://item/x"):
                with pytest.raises(MCPError, match="do not grant this resource"):
                    await client.read_resource(uri)
            with pytest.raises(MCPError, match="do not grant this prompt"):
                await client.get_prompt("curse")

    anyio.run(use)
    assert toy.ran == {"toy://open": 1, "greet": 1}


@ERAS
def test_an_elicitation_goes_through(server: Running, toy: Toy, era: str) -> None:
    async def answer(_: object, __: ElicitRequestParams) -> ElicitResult:
        return ElicitResult(action="accept", content={"yes": True})

    async def call() -> str:
        async with server.client(assertion(), era, elicitation_callback=answer) as client:
            result = await client.call_tool("ask_tool", {})
            return result.content[0].text  # type: ignore[union-attr]

    assert anyio.run(call) == "ask_tool ran True"
    assert toy.ran == {"ask_tool": 1}


@ERAS
def test_the_sdks_client_lists_after_a_call(server: Running, toy: Toy, era: str) -> None:
    """What a service meets that may call a tool and not list: the call ran, and the client still fails.

    To check the result's schema the client lists the tools itself. A client that must do without sends the
    request itself (`session.send_request`), or the server's policy says `listing_requires: surface`.
    """
    who = assertion(None, workload=REPORT_BOT)

    async def call() -> MCPError:
        async with server.client(who, era) as client:
            with pytest.raises(MCPError) as caught:
                await client.call_tool("open_tool", {})
            return caught.value

    assert anyio.run(call).error.data["reason"] == "listing_needs_user"
    assert toy.ran == {"open_tool": 1}


def test_a_service_is_held_to_its_rule(server: Running, toy: Toy) -> None:
    who = assertion(None, workload=REPORT_BOT)
    assert server.call("open_tool", who).status_code == 200
    assert server.call("eng_tool", who).json()["error"]["data"]["reason"] == "tool_not_in_rule"
    assert toy.ran == {"open_tool": 1}


def test_a_channel_counts_by_its_id(server: Running, toy: Toy) -> None:
    from identity.principal import User

    user = User("sso", "sam", client="chat-bot")
    right = assertion(user, workload=CHAT_BOT, channel_id="C0LAN2Q65")
    assert server.call("open_tool", right).status_code == 200
    for wrong in (None, "spark-help", "C024BE91L"):
        answer = server.call("open_tool", assertion(user, workload=CHAT_BOT, channel_id=wrong))
        assert answer.json()["error"]["data"]["reason"] == "channel_not_allowed"
    assert toy.ran == {"open_tool": 1}

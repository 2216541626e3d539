"""The tools through the guard: real HTTP, a signed identity, both protocol eras, the shipped tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from jsonschema import Draft202012Validator

from identity.assertion import Assertion
from servers.knowledge.library import Library
from servers.knowledge.opening import open_index
from servers.knowledge.results import PAGE, SNIPPET
from servers.knowledge.tools import EACH, build
from tests.mcpguard.running import LEGACY, MODERN, Running, legacy, serving
from tests.mcpguard.world import EVA, REPORT_BOT, SAM, World, assertion
from tests.servers.knowledge.shelf import Shelf

ERAS = pytest.mark.parametrize("era", [LEGACY, MODERN])
POLICY = """\
apiVersion: gatehouse/v1
kind: Server
name: knowledge
title: Knowledge
description: For tests.
owner: {team: knowledge, support: "#knowledge-help"}
lifecycle: experimental
environment: dev
access:
  - {id: people, surfaces: [ide], groups: [ads], tools: all}
  - {id: reports, services: [report-bot], tools: [search, search_docs, fetch]}
tools:
  search:      {side_effect: none, risk: low}
  fetch:       {side_effect: none, risk: low}
  search_docs: {side_effect: none, risk: low}
  ask:         {side_effect: none, risk: low}
"""
LONG = "otter " * 10_000


def ana() -> Assertion:
    """In ads and ads-eng."""
    return assertion(EVA, server="knowledge")


def sam() -> Assertion:
    """In ads alone."""
    return assertion(SAM, server="knowledge")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root: Path = tmp_path_factory.mktemp("library")
    shelf = Shelf(root)
    shelf.write("public/otter.md", "# Otters\n\nAn otter swims.\n\n## Food\n\nThe otter eats fish.\n")
    shelf.write("public/long.txt", f"Long\n\n{LONG}")
    shelf.write("public/ö.html", "<title>Heron</title><p>A heron waits for fish.")
    shelf.write("eng/acl.yaml", "groups: [ads-eng]\n")
    shelf.write("eng/secret.md", "# Secret otter\n\nThe otter is called Olga, fish and all.\n")
    shelf.scan()
    (root / "world").mkdir()
    world = World(root / "world")
    world.write_server(POLICY, "knowledge")
    with serving(build(shelf.library), world, root, "knowledge", strict=True) as running:
        yield running
    shelf.close()


def call(server: Running, era: str, who: Assertion, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool; its structured result, which its text says too, and which fits the tool's schema."""

    async def run() -> dict[str, Any]:
        async with server.client(who, era) as client:
            (described,) = [t for t in (await client.list_tools()).tools if t.name == tool]
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result.content
            found: dict[str, Any] = result.structured_content or {}
            assert json.loads(result.content[0].text) == found  # type: ignore[union-attr]
            schema: dict[str, Any] = described.output_schema or {}
            Draft202012Validator(schema).validate(found)
            assert schema["properties"].keys() == found.keys()
            return found

    return anyio.run(run)


def refused(server: Running, era: str, who: Assertion, tool: str, **arguments: Any) -> str:
    async def run() -> str:
        async with server.client(who, era) as client:
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            text: str = result.content[0].text  # type: ignore[union-attr]
            return text

    return anyio.run(run)


@ERAS
def test_search_and_fetch_have_the_shapes_of_assistants(server: Running, era: str) -> None:
    found = call(server, era, sam(), "search", query="what do otters eat?")
    assert found == {
        "results": [
            {"id": "public/otter.md", "title": "Otters", "url": "https://wiki.corp.example/public/otter.md"},
            {"id": "public/long.txt", "title": "Long", "url": "https://wiki.corp.example/public/long.txt"},
        ]
    }
    document = call(server, era, sam(), "fetch", id="public/otter.md")
    assert document.keys() == {"id", "title", "text", "url", "metadata"}
    assert document["text"].startswith("# Otters\n\nAn otter swims.")
    assert document["metadata"]["truncated"] is False


@ERAS
def test_each_caller_has_its_own_library(server: Running, era: str) -> None:
    hidden = "eng/secret.md"
    assert [r["id"] for r in call(server, era, ana(), "search", query="Olga")["results"]] == [hidden]
    assert call(server, era, sam(), "search", query="Olga")["results"] == []
    assert call(server, era, sam(), "search_docs", query="Olga")["documents"] == []
    assert call(server, era, sam(), "ask", question="Who is Olga?")["passages"] == []
    assert "Olga" in call(server, era, ana(), "fetch", id=hidden)["text"]
    closed = refused(server, era, sam(), "fetch", id=hidden)
    unknown = refused(server, era, sam(), "fetch", id="eng/nothing.md")
    assert closed.replace(hidden, "") == unknown.replace("eng/nothing.md", "")


def test_a_session_is_no_shelter(server: Running) -> None:
    """What counts is who makes this call, not who began: a group that is lost is lost within a session."""
    client = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    hello = server.post(legacy("initialize", client), ana())
    session = {"mcp_session_id": hello.headers["mcp-session-id"], "mcp_protocol_version": LEGACY}
    server.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, ana(), **session)
    body = legacy("tools/call", {"name": "search", "arguments": {"query": "Olga"}}, 2)
    assert "eng/secret.md" in server.post(body, ana(), **session).text
    outside = assertion(EVA, server="knowledge", groups=frozenset({"ads"}))
    answer = server.post(body, outside, **session)
    assert answer.status_code == 200
    assert '"results":[]' in answer.text.replace("\\", "")


def test_a_service_sees_what_is_everybodys(server: Running) -> None:
    bot = assertion(None, workload=REPORT_BOT, server="knowledge")
    answer = server.call("search", bot, {"query": "otter Olga fish"})
    ids = [r["id"] for r in answer.json()["result"]["structuredContent"]["results"]]
    assert sorted(ids) == ["public/long.txt", "public/otter.md", "public/ö.html"]
    assert server.call("fetch", bot, {"id": "eng/secret.md"}).json()["result"]["isError"] is True
    assert server.call("ask", bot, {"question": "otter"}).status_code == 403


def test_nobody_without_an_identity(server: Running) -> None:
    assert server.call("search", None, {"query": "otter"}).status_code == 401


@ERAS
def test_search_docs(server: Running, era: str) -> None:
    found = call(server, era, sam(), "search_docs", query="fish", folder="/public/", kind="html")
    assert [d["id"] for d in found["documents"]] == ["public/ö.html"]
    assert found["documents"][0]["url"] == "https://wiki.corp.example/public/%C3%B6.html"
    assert found["documents"][0]["snippet"] == "A heron waits for fish."
    assert (found["truncated"], found["more"]) == (False, "")
    cut = call(server, era, sam(), "search_docs", query="otter fish", limit=1)
    assert (len(cut["documents"]), cut["truncated"]) == (1, True)
    assert "limit (up to 50)" in cut["more"]
    long = call(server, era, sam(), "search_docs", query="otter", updated_since="2020-01-01")
    assert max(len(d["snippet"]) for d in long["documents"]) == SNIPPET
    assert (
        call(server, era, sam(), "search_docs", query="otter", updated_since="2999-01-01")["documents"] == []
    )


@ERAS
def test_ask_numbers_its_passages(server: Running, era: str) -> None:
    found = call(server, era, ana(), "ask", question="What does the otter eat?", limit=12)
    passages = found["passages"]
    assert [p["citation"] for p in passages] == list(range(1, len(passages) + 1))
    assert (passages[0]["id"], passages[0]["heading"]) == ("public/otter.md", "Otters > Food")
    assert passages[0]["text"] == "The otter eats fish."
    per_document = [p["id"] for p in passages]
    assert max(per_document.count(id) for id in per_document) == EACH


@ERAS
def test_a_long_document_in_parts(server: Running, era: str) -> None:
    text, offset = "", 0
    while True:
        part = call(server, era, sam(), "fetch", id="public/long.txt", offset=offset)
        text += part["text"]
        offset = part["metadata"]["offset"] + len(part["text"])
        if not part["metadata"]["truncated"]:
            break
        assert part["metadata"]["more"] == f"Fetch it again with offset {offset} for the rest."
        assert len(part["text"]) == PAGE
    assert text.split() == f"Long {LONG}".split()
    assert call(server, era, sam(), "fetch", id="public/long.txt", offset=10**9)["text"] == ""


@ERAS
@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("search", {"query": "?!"}, "Say what to look for"),
        ("search", {"query": ""}, "at least 1 character"),
        ("search", {"query": "x" * 1001}, "at most 1000 characters"),
        ("search_docs", {"query": "x", "limit": 51}, "less than or equal to 50"),
        ("search_docs", {"query": "x", "kind": "pdf"}, "'markdown', 'html' or 'text'"),
        ("fetch", {"id": "nothing"}, "Find ids with search"),
    ],
)
def test_errors_say_what_to_do(
    server: Running, era: str, tool: str, arguments: dict[str, Any], says: str
) -> None:
    assert says in refused(server, era, sam(), tool, **arguments)


@ERAS
def test_every_argument_is_described(server: Running, era: str) -> None:
    async def run() -> None:
        async with server.client(sam(), era) as client:
            tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == {"search", "fetch", "search_docs", "ask"}
        for tool in tools:
            assert tool.description
            assert all(a.get("description") for a in tool.input_schema["properties"].values())
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint is True

    anyio.run(run)


def test_the_shipped_policy_names_these_tools(server: Running) -> None:
    from pdp.store import PolicyStore

    root = Path(__file__).parents[3]
    store = PolicyStore(root / "policies", root / "envoy/reviewers.local.yaml")
    assert store.load().servers["knowledge"].tools.keys() == {"search", "fetch", "search_docs", "ask"}


def test_the_sample_has_a_door(tmp_path: Path) -> None:
    from servers.knowledge.sample import ensure_sample

    assert ensure_sample(tmp_path / "documents")
    assert not ensure_sample(tmp_path / "documents")
    assert [file.name for file in tmp_path.iterdir()] == ["documents"]
    opened = open_index(tmp_path / "documents", tmp_path / "index", "fts5")
    scan = opened.indexer.scan()
    assert not scan.skipped
    library = Library(opened.catalogue, opened.engine)

    def best(question: str, *groups: str) -> str | None:
        from servers.knowledge.engine import Filters

        found, _ = library.documents(question, frozenset(groups), Filters(), 1)
        return found[0].path if found else None

    assert best("how do I hand in receipts for expenses") == "handbook/travel.html"
    assert best("when do approvals of a policy expire") == "gatehouse/docs/policy.md"
    assert best("rotate the keys that sign identity") == "gatehouse/docs/running.md"
    assert best("bidding experiment auctions", "ads", "ads-eng") == "ads/bidding-experiment.md"
    assert best("bidding experiment auctions", "ads") != "ads/bidding-experiment.md"
    assert best("ROAS playbook landing page", "ads") == "ads/roas-playbook.md"
    assert not (best("ROAS playbook landing page") or "").startswith("ads/")
    opened.close()

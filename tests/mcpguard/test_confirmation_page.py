"""Clients that know URL mode only: the person answers on a page, and the page answers to nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolResult,
    ClientCapabilities,
    ElicitationCapability,
    ElicitRequestParams,
    ElicitRequestURLParams,
    ElicitResult,
    UrlElicitationCapability,
)

from identity.assertion import Assertion
from mcpguard.confirmation_setup import ConfirmationOptions
from tests.mcpguard.confirming import (
    KEY,
    YES,
    Clock,
    Replica,
    Vault,
    alone,
    eva,
    outcomes,
)
from tests.mcpguard.running import reason
from tests.mcpguard.world import REPORT_BOT, SAM, assertion

PAGE = "https://registry.corp.example/confirm/{server}/{id}"
URL_ONLY: dict[str, Any] = {"url": {}}
OPENED = {KEY: {"action": "accept"}}
DONE = [("overwrite", "revenue", 3, None)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def both(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Replica, Vault]]:
    monkeypatch.setattr("mcpguard.confirmation.PATIENCE", 0.2)
    monkeypatch.setattr("mcpguard.confirmation.LOOK", 0.02)
    options = ConfirmationOptions(str(tmp_path / "confirmations.sqlite"), page=PAGE)
    with alone(tmp_path, options, clock) as found:
        yield found


def asked(server: Replica) -> tuple[str, str]:
    """Ask in URL mode; returns the state and the question's id."""
    result = server.asked(elicitation=URL_ONLY)
    shown = result["inputRequests"][KEY]["params"]
    assert shown["mode"] == "url"
    before, _, record_id = shown["url"].rpartition("/")
    assert before == "https://registry.corp.example/confirm/vault"
    return result["requestState"], record_id


def page(
    server: Replica, record_id: str, answer: str | None = None, who: Assertion | None = None, **json: Any
) -> httpx.Response:
    headers = server.headers(eva() if who is None else who)
    url = f"{server.url}/confirmations/{record_id}"
    if answer is None and not json:
        return server.http.get(url, headers=headers)
    return server.http.post(url, headers=headers, json=json or {"answer": answer})


def repeat(server: Replica, state: str, responses: Any = OPENED) -> httpx.Response:
    return server.ask(elicitation=URL_ONLY, requestState=state, inputResponses=responses)


class TestStateless:
    def test_what_is_confirmed_on_the_page_runs_once(self, both: tuple[Replica, Vault]) -> None:
        server, vault = both
        state, record_id = asked(server)
        shown = page(server, record_id).json()
        assert shown["message"].startswith("Run overwrite on vault?")
        assert (shown["tool"], shown["step"]) == ("overwrite", "open")
        assert page(server, record_id, "accept").json() == {"step": "approved"}
        assert repeat(server, state).json()["result"]["content"][0]["text"] == "done"
        assert reason(repeat(server, state)) == "confirmation_replayed"
        assert vault.ran == DONE
        assert outcomes(server) == {"asked": 1, "accepted": 1, "replayed": 1}

    @pytest.mark.parametrize("responses", [OPENED, YES])
    def test_opening_the_page_confirms_nothing(self, both: tuple[Replica, Vault], responses: Any) -> None:
        server, vault = both
        state, record_id = asked(server)
        result = repeat(server, state, responses).json()["result"]
        assert result["resultType"] == "input_required"
        assert result["requestState"] == state
        assert result["inputRequests"][KEY]["params"]["url"].endswith(record_id)
        assert result["inputRequests"][KEY]["params"]["message"].startswith("Run overwrite on vault?")
        assert not vault.ran

    def test_what_is_declined_on_the_page_does_not_run(self, both: tuple[Replica, Vault]) -> None:
        server, vault = both
        state, record_id = asked(server)
        assert page(server, record_id, "decline").status_code == 200
        assert page(server, record_id, "accept").status_code == 409
        assert reason(repeat(server, state)) == "confirmation_declined"
        assert not vault.ran

    @pytest.mark.parametrize("approved", [False, True])
    def test_the_client_may_still_decline(self, both: tuple[Replica, Vault], approved: bool) -> None:
        server, vault = both
        state, record_id = asked(server)
        if approved:
            page(server, record_id, "accept")
        assert reason(repeat(server, state, {KEY: {"action": "decline"}})) == "confirmation_declined"
        assert page(server, record_id, "accept").status_code == 409
        assert reason(repeat(server, state)) == "confirmation_declined"
        assert not vault.ran

    def test_it_expires_on_the_page_and_after_it(self, both: tuple[Replica, Vault], clock: Clock) -> None:
        server, vault = both
        state, record_id = asked(server)
        other, other_id = asked(server)
        page(server, other_id, "accept")
        clock.ahead = 121.0
        assert page(server, record_id, "accept").status_code == 409
        for late in (state, other):
            assert reason(repeat(server, late)) == "confirmation_expired"
        assert not vault.ran

    def test_a_client_with_forms_is_asked_by_form(self, both: tuple[Replica, Vault]) -> None:
        server, _ = both
        result = server.asked(elicitation={"form": {}, "url": {}})
        assert result["inputRequests"][KEY]["params"]["mode"] == "form"

    def test_without_a_page_it_says_what_is_missing(self, tmp_path: Path) -> None:
        with alone(tmp_path) as (server, vault):
            answer = server.ask(elicitation=URL_ONLY)
            assert reason(answer) == "confirmation_required"
            assert "elicitation.form" in answer.json()["error"]["message"]
            assert not vault.ran


class TestWhoMayAnswer:
    def test_only_who_was_asked(self, both: tuple[Replica, Vault]) -> None:
        server, vault = both
        state, record_id = asked(server)
        stranger = assertion(SAM, server="vault")
        service = assertion(None, workload=REPORT_BOT, server="vault")
        for who in (stranger, service):
            assert page(server, record_id, who=who).status_code == 404
            assert page(server, record_id, "accept", who=who).status_code == 404
        for unsigned in ({}, {"x-forwarded-user": "eva"}, {"x-forwarded-identity": "eyJ.e30."}):
            url = f"{server.url}/confirmations/{record_id}"
            assert server.http.post(url, headers=unsigned, json={"answer": "accept"}).status_code == 401
        assert repeat(server, state).json()["result"]["resultType"] == "input_required"
        assert not vault.ran

    def test_a_question_of_form_mode_is_not_answered_around_its_client(
        self, both: tuple[Replica, Vault]
    ) -> None:
        server, vault = both
        state = server.asked()["requestState"]
        import sqlite3

        file = server.world.policies.parent / "confirmations.sqlite"
        ((record_id,),) = sqlite3.connect(file).execute("select id from gatehouse_confirmations").fetchall()
        assert page(server, record_id).status_code == 404
        assert page(server, record_id, "accept").status_code == 404
        assert server.ask(requestState=state, inputResponses=YES).status_code == 200
        assert vault.ran == DONE

    @pytest.mark.parametrize("body", [{"answer": "yes"}, {"answer": "accept", "as": "sam"}, {"answer": True}])
    def test_anything_but_an_answer_is_refused(
        self, both: tuple[Replica, Vault], body: dict[str, Any]
    ) -> None:
        server, _ = both
        _, record_id = asked(server)
        assert page(server, record_id, **body).status_code == 400
        assert page(server, record_id).json()["step"] == "open"

    @pytest.mark.parametrize("record_id", ["", "none", "%00", "..%2fmcp", "x" * 4000])
    def test_what_was_never_asked_is_not_found(self, both: tuple[Replica, Vault], record_id: str) -> None:
        server, _ = both
        headers = server.headers(eva())
        assert server.http.get(f"{server.url}/confirmations/{record_id}", headers=headers).status_code == 404


class UrlOnly(ClientSession):
    """The SDK's session, with a client's capabilities that the SDK's own client can't be told to have."""

    def _build_capabilities(self, version: str) -> ClientCapabilities:
        return ClientCapabilities(elicitation=ElicitationCapability(url=UrlElicitationCapability()))


class TestInSession:
    @pytest.mark.parametrize("answer", ["accept", "decline"])
    def test_the_call_waits_for_the_page(self, both: tuple[Replica, Vault], answer: str) -> None:
        server, vault = both
        shown: list[ElicitRequestURLParams] = []

        async def opens(context: object, params: ElicitRequestParams) -> ElicitResult:
            assert isinstance(params, ElicitRequestURLParams)
            assert params.elicitation_id == params.url.rpartition("/")[2]
            shown.append(params)
            await anyio.to_thread.run_sync(page, server, params.elicitation_id, answer)
            return ElicitResult(action="accept")

        async def through() -> CallToolResult | MCPError:
            headers = {"x-forwarded-identity": server.mint(eva())}
            async with (
                httpx2.AsyncClient(headers=headers, trust_env=False, timeout=20) as http,
                streamable_http_client(f"{server.url}/mcp", http_client=http) as streams,
                UrlOnly(streams[0], streams[1], elicitation_callback=opens) as session,  # type: ignore[arg-type]
            ):
                await session.initialize()
                try:
                    return await session.call_tool("overwrite", {"table": "revenue"})
                except MCPError as error:
                    return error

        ended = anyio.run(through)
        assert len(shown) == 1
        if answer == "accept":
            assert isinstance(ended, CallToolResult)
            assert vault.ran == DONE
        else:
            assert isinstance(ended, MCPError)
            assert ended.error.data["reason"] == "confirmation_declined"
            assert not vault.ran

"""A tool that policy wants confirmed runs once, exactly as its caller confirmed it, or not at all."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import MCPError
from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult, TextContent

from identity.signing import generate_signing_key
from mcpguard.confirmation_setup import ConfirmationOptions
from mcpguard.logs import JsonLines
from tests.mcpguard.confirming import (
    KEY,
    POLICY,
    YES,
    Clock,
    Person,
    Replica,
    Vault,
    alone,
    eva,
    outcomes,
    replica,
    vault_world,
)
from tests.mcpguard.running import LEGACY, MODERN, reason
from tests.mcpguard.test_policy import until
from tests.mcpguard.world import REPORT_BOT, SAM, assertion

ERAS = pytest.mark.parametrize("era", [LEGACY, MODERN])
DONE = [("overwrite", "revenue", 3, None)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vault(server_and_vault: tuple[Replica, Vault]) -> Vault:
    return server_and_vault[1]


@pytest.fixture
def server(server_and_vault: tuple[Replica, Vault]) -> Replica:
    return server_and_vault[0]


@pytest.fixture
def server_and_vault(tmp_path: Path, clock: Clock) -> Iterator[tuple[Replica, Vault]]:
    with alone(tmp_path, ConfirmationOptions(records=str(tmp_path / "confirmations.sqlite")), clock) as both:
        yield both


def call(server: Replica, person: Any, era: str, tool: str = "overwrite", **arguments: Any) -> Any:
    """Call as Eva; returns the result, or the error that ended it."""

    async def through() -> Any:
        async with server.person(person, era) as client:
            try:
                return await client.call_tool(tool, arguments or {"table": "revenue"})
            except MCPError as error:
                return error

    return anyio.run(through)


class TestInBothEras:
    @ERAS
    def test_an_accepted_call_runs_once_as_it_was_shown(
        self, server: Replica, vault: Vault, era: str
    ) -> None:
        person = Person()
        result = call(server, person, era)
        assert result.content[0].text == "done"
        assert vault.ran == DONE
        (shown,) = person.shown
        assert isinstance(shown, ElicitRequestFormParams)
        assert shown.message.splitlines() == [
            "Run overwrite on vault? It can destroy data.",
            "Replaces the 42 rows of revenue.",
            "Arguments:",
            '  table: "revenue"',
            "  keep: 3 (its default)",
            "  note: null (its default)",
        ]
        assert shown.requested_schema["required"] == ["confirm"]
        assert outcomes(server) == {"asked": 1, "accepted": 1}

    @ERAS
    @pytest.mark.parametrize(
        ("person", "outcome"),
        [
            (Person("decline"), "declined"),
            (Person("cancel"), "cancelled"),
            (Person("accept", tick=False), "declined"),
            (Person("accept", tick=None), "declined"),
        ],
    )
    def test_anything_else_runs_nothing(
        self, server: Replica, vault: Vault, era: str, person: Person, outcome: str
    ) -> None:
        error = call(server, person, era)
        assert error.error.code == -32003
        assert error.error.data["reason"] == f"confirmation_{outcome}"
        assert error.error.data["support"] == "#vault-help"
        assert len(error.error.data["decision_id"]) == 32
        assert not vault.ran
        assert outcomes(server) == {"asked": 1, outcome: 1}

    @ERAS
    def test_a_client_that_cannot_ask_is_told_what_it_lacks(
        self, server: Replica, vault: Vault, era: str
    ) -> None:
        async def through() -> MCPError:
            async with server.client(eva(), era) as client:
                with pytest.raises(MCPError, match=r"elicitation\.form") as caught:
                    await client.call_tool("overwrite", {"table": "revenue"})
                return caught.value

        error = anyio.run(through).error
        assert error.code == (-32021 if era == MODERN else -32003)
        assert error.data["reason"] == "confirmation_required"
        assert error.data["requiredCapabilities"] == {"elicitation": {"form": {}}}
        assert not vault.ran
        assert vault.previewed == 0
        assert outcomes(server) == {"required": 1}

    @ERAS
    def test_other_tools_are_not_asked_about(self, server: Replica, vault: Vault, era: str) -> None:
        person = Person("decline")
        assert call(server, person, era, "peek", ignored=1).content[0].text == "done"
        assert (vault.ran, person.shown) == ([("peek",)], [])

    @ERAS
    def test_a_call_that_cannot_work_is_not_asked_about(
        self, server: Replica, vault: Vault, era: str
    ) -> None:
        person = Person()
        for arguments, said in (
            ({"table": "missing"}, "There is no table 'missing'."),
            ({"table": ["x"]}, "string"),
        ):
            result = call(server, person, era, **arguments)
            assert result.is_error
            assert isinstance(result.content[0], TextContent)
            assert said in result.content[0].text
        assert not person.shown
        assert not vault.ran

    @ERAS
    def test_a_tool_that_asks_for_more_is_confirmed_first(
        self, server: Replica, vault: Vault, era: str
    ) -> None:
        class Both(Person):
            async def __call__(self, context: object, params: ElicitRequestParams) -> ElicitResult:
                if params.message == "Whose?":
                    self.shown.append(params)
                    return ElicitResult(action="accept", content={"name": "eva's"})
                return await super().__call__(context, params)

        person = Both()
        assert call(server, person, era, "wizard", none=0).content[0].text == "done"
        assert [shown.message.splitlines()[0] for shown in person.shown] == [
            "Run wizard on vault? It changes data.",
            "Whose?",
        ]
        assert vault.ran == [("wizard", "eva's")]

    @ERAS
    def test_nobody_can_be_asked_on_a_services_call(self, server: Replica, vault: Vault, era: str) -> None:
        async def through() -> MCPError:
            who = assertion(None, workload=REPORT_BOT, server="vault")
            async with server.person(Person(), era, who) as client:
                with pytest.raises(MCPError, match="no person calls") as caught:
                    await client.call_tool("overwrite", {"table": "revenue"})
                return caught.value

        assert anyio.run(through).error.data["reason"] == "confirmation_required"
        assert not vault.ran

    @ERAS
    def test_an_approvers_tool_is_not_for_its_caller_to_confirm(
        self, server: Replica, vault: Vault, era: str
    ) -> None:
        error = call(server, Person(), era, "launch", none=0)
        assert error.error.data["reason"] == "confirmation_required"
        assert "another person" in error.error.message
        assert not vault.ran


class TestState:
    """2026-07-28: the client carries a sealed state from the question to the call."""

    def test_it_works_once(self, server: Replica, vault: Vault) -> None:
        state = server.asked()["requestState"]
        first = server.ask(requestState=state, inputResponses=YES)
        assert first.json()["result"]["content"][0]["text"] == "done"
        again = server.ask(requestState=state, inputResponses=YES)
        assert reason(again) == "confirmation_replayed"
        assert vault.ran == DONE
        assert outcomes(server) == {"asked": 1, "accepted": 1, "replayed": 1}

    def test_an_answer_is_not_taken_back(self, server: Replica, vault: Vault) -> None:
        state = server.asked()["requestState"]
        declined = {KEY: {"action": "decline"}}
        assert reason(server.ask(requestState=state, inputResponses=declined)) == "confirmation_declined"
        assert reason(server.ask(requestState=state, inputResponses=YES)) == "confirmation_replayed"
        assert not vault.ran

    @pytest.mark.parametrize(
        "arguments",
        [
            {"table": "customers"},
            {"table": "revenue", "keep": 0},
            {"table": "revenue", "keep": 3},
            {"table": "revenue", "note": None},
            {"table": "revenue", "unknown": 1},
            {},
        ],
    )
    def test_other_arguments_than_those_confirmed_do_not_run(
        self, server: Replica, vault: Vault, arguments: dict[str, Any]
    ) -> None:
        state = server.asked()["requestState"]
        answer = server.ask(arguments, requestState=state, inputResponses=YES)
        assert reason(answer) == "confirmation_mismatch"
        assert not vault.ran
        assert server.ask(requestState=state, inputResponses=YES).status_code == 200
        assert vault.ran == DONE

    def test_the_order_of_arguments_does_not_count(self, server: Replica, vault: Vault) -> None:
        state = server.asked({"table": "revenue", "keep": 1})["requestState"]
        answer = server.ask({"keep": 1, "table": "revenue"}, requestState=state, inputResponses=YES)
        assert answer.json()["result"]["content"][0]["text"] == "done"

    def test_another_tool_does_not_run(self, server: Replica, vault: Vault) -> None:
        state = server.asked({}, tool="wizard")["requestState"]
        answer = server.ask({}, tool="erase", requestState=state, inputResponses=YES)
        assert reason(answer) == "confirmation_mismatch"
        assert not vault.ran

    def test_another_user_cannot_use_it(self, server: Replica, vault: Vault) -> None:
        state = server.asked()["requestState"]
        sam = assertion(SAM, server="vault")
        answer = server.ask(who=sam, requestState=state, inputResponses=YES)
        assert reason(answer) == "confirmation_wrong_user"
        assert not vault.ran
        assert server.ask(requestState=state, inputResponses=YES).status_code == 200

    def test_it_expires(self, server: Replica, vault: Vault, clock: Clock) -> None:
        state = server.asked()["requestState"]
        clock.ahead = 119.0
        other = server.asked()["requestState"]
        clock.ahead = 121.0
        assert reason(server.ask(requestState=state, inputResponses=YES)) == "confirmation_expired"
        assert not vault.ran
        assert server.ask(requestState=other, inputResponses=YES).status_code == 200
        assert vault.ran == DONE

    def test_a_change_of_policy_asks_anew(self, server: Replica, vault: Vault) -> None:
        state = server.asked()["requestState"]
        server.world.write_server(POLICY.replace("  launch: ", "  later:  "), "vault")
        until(lambda: 'reason="tool_not_offered"' in server.metrics())
        answer = server.ask(requestState=state, inputResponses=YES)
        assert reason(answer) == "confirmation_policy_changed"
        assert not vault.ran
        fresh = server.asked()["requestState"]
        assert server.ask(requestState=fresh, inputResponses=YES).status_code == 200
        assert vault.ran == DONE

    @pytest.mark.parametrize("state", ["", "v1.", "v1.AAAA", "x" * 100_000, 7, {"id": 1}])
    def test_what_this_server_did_not_seal_is_refused(
        self, server: Replica, vault: Vault, state: object
    ) -> None:
        answer = server.ask(requestState=state, inputResponses=YES)
        assert reason(answer) == "confirmation_invalid"
        assert not vault.ran

    @pytest.mark.parametrize(
        "responses", [None, {}, {"other": YES[KEY]}, {KEY: {"action": "maybe"}}, {KEY: "accept"}]
    )
    def test_a_state_without_an_answer_is_asked_again(
        self, server: Replica, vault: Vault, responses: object
    ) -> None:
        state = server.asked()["requestState"]
        result = server.asked(requestState=state, inputResponses=responses)
        assert result["requestState"] != state
        assert not vault.ran

    def test_an_answer_without_a_state_confirms_nothing(self, server: Replica, vault: Vault) -> None:
        assert server.asked(inputResponses=YES)["requestState"]
        assert not vault.ran

    def test_the_client_cannot_read_it(self, server: Replica) -> None:
        state = server.asked({"table": "PRIVATE"})["requestState"]
        assert b"eva" not in base64.urlsafe_b64decode(state[3:] + "===")

    def test_a_later_round_of_the_tool_works_once_too(self, server: Replica, vault: Vault) -> None:
        state = server.asked({}, tool="wizard")["requestState"]
        second = server.asked({}, tool="wizard", requestState=state, inputResponses=YES)
        (key,) = second["inputRequests"]
        name = {key: {"action": "accept", "content": {"name": "x"}}}
        more = {"tool": "wizard", "requestState": second["requestState"], "inputResponses": name}
        assert reason(server.ask({"none": 1}, **more)) == "confirmation_mismatch"
        assert server.ask({}, **more).json()["result"]["content"][0]["text"] == "done"
        assert reason(server.ask({}, **more)) == "confirmation_replayed"
        assert vault.ran == [("wizard", "x")]

    def test_a_number_without_an_exact_form_is_refused(self, server: Replica, vault: Vault) -> None:
        answer = server.ask({"table": "revenue", "keep": 2**53})
        assert answer.json()["error"]["code"] == -32602
        assert "send it as text" in answer.json()["error"]["message"]
        assert not vault.ran

    def test_open_questions_are_bounded(self, server: Replica, vault: Vault, clock: Clock) -> None:
        for _ in range(50):
            server.asked({}, tool="erase")
        refused = server.ask({}, tool="erase")
        assert reason(refused) == "confirmation_unavailable"
        assert "Too many" in refused.json()["error"]["message"]
        server.asked({}, assertion(SAM, server="vault"), tool="erase")
        clock.ahead = 121.0
        server.asked({}, tool="erase")


class TestReplicas:
    def test_the_second_request_may_reach_another(self, tmp_path: Path) -> None:
        with two(tmp_path) as (first, second, vault):
            state = first.asked()["requestState"]
            assert second.ask(requestState=state, inputResponses=YES).status_code == 200
            for server in (first, second):
                assert reason(server.ask(requestState=state, inputResponses=YES)) == "confirmation_replayed"
            assert vault.ran == DONE

    def test_of_many_replays_at_once_one_runs(self, tmp_path: Path) -> None:
        with two(tmp_path) as (first, second, vault):
            state = first.asked()["requestState"]
            start = threading.Barrier(16)

            def replay(number: int) -> str:
                start.wait(20)
                answer = (first, second)[number % 2].ask(requestState=state, inputResponses=YES)
                return "ran" if "result" in answer.json() else reason(answer)

            with ThreadPoolExecutor(16) as pool:
                ended = sorted(pool.map(replay, range(16)))
            assert ended == ["confirmation_replayed"] * 15 + ["ran"]
            assert vault.ran == DONE

    def test_other_keys_refuse(self, tmp_path: Path) -> None:
        with two(tmp_path, same_keys=False) as (first, second, vault):
            state = first.asked()["requestState"]
            assert reason(second.ask(requestState=state, inputResponses=YES)) == "confirmation_invalid"
            assert not vault.ran

    def test_other_records_refuse(self, tmp_path: Path) -> None:
        """Two that shared keys alone would run a confirmation once each."""
        with two(tmp_path, same_records=False) as (first, second, vault):
            state = first.asked()["requestState"]
            assert reason(second.ask(requestState=state, inputResponses=YES)) == "confirmation_invalid"
            assert not vault.ran

    def test_a_tools_own_questions_go_on_at_another(self, tmp_path: Path) -> None:
        with two(tmp_path) as (first, second, vault):
            state = first.asked({}, tool="wizard")["requestState"]
            more = second.asked({}, tool="wizard", requestState=state, inputResponses=YES)
            (key,) = more["inputRequests"]
            answer = first.ask(
                {},
                tool="wizard",
                requestState=more["requestState"],
                inputResponses={key: {"action": "accept", "content": {"name": "x"}}},
            )
            assert answer.json()["result"]["content"][0]["text"] == "done"
            assert vault.ran == [("wizard", "x")]


class TestInSession:
    """2025-11-25: the server asks within the call's stream, and waits."""

    def test_nothing_runs_when_nobody_answers_in_time(self, tmp_path: Path) -> None:
        async def silent(context: object, params: ElicitRequestParams) -> ElicitResult:
            await anyio.sleep_forever()
            raise AssertionError

        with alone(tmp_path, ConfirmationOptions(lifetime=0.3)) as (server, vault):
            error = call(server, silent, LEGACY)
            assert error.error.data["reason"] == "confirmation_expired"
            assert not vault.ran
            assert outcomes(server) == {"asked": 1, "expired": 1}

    def test_a_client_that_fails_to_ask_runs_nothing(self, server: Replica, vault: Vault) -> None:
        async def broken(context: object, params: ElicitRequestParams) -> ElicitResult:
            raise RuntimeError("the dialogue did not open")

        assert call(server, broken, LEGACY).error.data["reason"] == "confirmation_cancelled"
        assert not vault.ran

    @pytest.mark.parametrize(
        ("before", "after", "code"),
        [
            ("tools: all}", "tools: [peek]}", "tool_not_in_rule"),
            ("peek:      {side_effect: none", "peek: {side_effect: write", "confirmation_policy_changed"),
        ],
    )
    def test_policy_decides_again_after_the_answer(
        self, server: Replica, vault: Vault, before: str, after: str, code: str
    ) -> None:
        """The person may still answer; what it answers is about a policy that is gone."""
        applied = server.metrics

        async def meanwhile(context: object, params: ElicitRequestParams) -> ElicitResult:
            # The withheld tool tells from outside that the new text is in force.
            server.world.write_server(
                POLICY.replace(before, after).replace("  launch: ", "  later:  "), "vault"
            )
            await anyio.to_thread.run_sync(until, lambda: 'reason="tool_not_offered"' in applied())
            return ElicitResult(action="accept", content={"confirm": True})

        error = call(server, meanwhile, LEGACY)
        assert isinstance(error, MCPError)
        assert error.error.data["reason"] == code
        assert not vault.ran


class TestRecords:
    """Where nothing can be recorded, nothing runs."""

    def test_no_question_without_a_record(self, server: Replica, vault: Vault, tmp_path: Path) -> None:
        self._spoil(tmp_path)
        answer = server.ask()
        assert reason(answer) == "confirmation_unavailable"
        assert answer.json()["error"]["code"] == -32000
        assert not vault.ran

    def test_no_run_without_a_record(self, server: Replica, vault: Vault, tmp_path: Path) -> None:
        state = server.asked()["requestState"]
        kept = self._spoil(tmp_path)
        assert reason(server.ask(requestState=state, inputResponses=YES)) == "confirmation_unavailable"
        assert not vault.ran
        (tmp_path / "confirmations.sqlite").write_bytes(kept)
        assert server.ask(requestState=state, inputResponses=YES).status_code == 200
        assert vault.ran == DONE

    @staticmethod
    def _spoil(root: Path) -> bytes:
        file = root / "confirmations.sqlite"
        kept = file.read_bytes()
        file.write_bytes(b"not a database, " * 512)
        return kept


def test_every_question_and_answer_is_logged_without_what_was_asked(
    server: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        state = server.asked({"table": "PRIVATE"})["requestState"]
        server.ask({"table": "PRIVATE"}, requestState=state, inputResponses=YES)
        server.ask({"table": "PRIVATE"}, requestState=state, inputResponses=YES)
    lines = [json.loads(JsonLines().format(r)) for r in caplog.records if r.name == "mcpguard.confirmation"]
    assert [line["outcome"] for line in lines] == ["asked", "accepted", "replayed"]
    assert len({line["confirmation"] for line in lines}) == 1
    assert len({line["decision_id"] for line in lines}) == 3
    assert all(line["user"] == "sso:eva" and line["tool"] == "overwrite" for line in lines)
    assert all(line["arguments"].startswith("sha256:") for line in lines)
    assert "PRIVATE" not in json.dumps(lines)
    calls = [json.loads(JsonLines().format(r)) for r in caplog.records if r.name == "mcpguard.calls"]
    assert [(c["outcome"], c["reason"]) for c in calls] == [
        ("asked", None),
        ("ok", None),
        ("denied", "confirmation_replayed"),
    ]


@contextlib.contextmanager
def two(
    root: Path, *, same_keys: bool = True, same_records: bool = True
) -> Iterator[tuple[Replica, Replica, Vault]]:
    """Two replicas that share what they are told to."""
    vault, signing, world = Vault(), generate_signing_key(), vault_world(root)
    with contextlib.ExitStack() as stack:
        servers = []
        for number in range(2):
            file = root / f"keys-{0 if same_keys else number}"
            if not file.exists():
                file.write_text(f"# shared\n{secrets.token_hex(32)}\n")
                file.chmod(0o600)
            records = root / f"records-{0 if same_records else number}"
            options = ConfirmationOptions(str(records), file)
            servers.append(stack.enter_context(replica(vault, world, signing, root, options)))
        yield servers[0], servers[1], vault

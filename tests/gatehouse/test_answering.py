"""`gatehouse call`'s client against a server that asks before it runs a tool."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gatehouse import answering
from gatehouse.answering import Choice
from gatehouse.cli_access import _responder
from gatehouse.client import Call, Credentials, Era, Outcome, perform
from tests.mcpguard.confirming import Replica, Vault, alone, eva

ERAS = pytest.mark.parametrize("era", list(Era))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Replica, Vault]]:
    with alone(tmp_path_factory.mktemp("vault")) as found:
        yield found


@pytest.fixture
def server(both: tuple[Replica, Vault]) -> Replica:
    both[1].ran.clear()
    return both[0]


@pytest.fixture
def vault(both: tuple[Replica, Vault]) -> Vault:
    return both[1]


def made(server: Replica, era: Era, **more: object) -> Call:
    """What Envoy would bring to the server is brought by the client here."""
    headers = {"x-forwarded-identity": server.mint(eva())}
    call = Call(f"{server.url}/mcp", "overwrite", {"table": "revenue"}, era, headers)
    return replace(call, **more)  # type: ignore[arg-type]


def done(call: Call) -> Outcome:
    return perform(call, Credentials(), None)


@ERAS
def test_yes_runs_it_once(
    server: Replica, vault: Vault, era: Era, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = done(made(server, era, respond=answering.accept))
    assert outcome.ok, outcome
    assert len(vault.ran) == 1
    assert len(outcome.asked) == 1
    assert "Run overwrite on vault?" in capsys.readouterr().err


@ERAS
def test_no_runs_nothing(server: Replica, vault: Vault, era: Era) -> None:
    outcome = done(made(server, era, respond=answering.decline))
    assert (outcome.ok, outcome.reason) == (False, "confirmation_declined")
    assert not vault.ran


@ERAS
def test_without_anybody_to_ask_the_server_says_so(server: Replica, vault: Vault, era: Era) -> None:
    outcome = done(made(server, era))
    assert (outcome.ok, outcome.reason, outcome.asked) == (False, "confirmation_required", ())
    assert not vault.ran


def test_an_answer_sent_again_is_refused(server: Replica, vault: Vault) -> None:
    call = made(server, Era.STATELESS, respond=answering.accept)
    first = done(call)
    again = done(replace(call, repeat=first.answered))
    assert (first.ok, again.ok, again.reason) == (True, False, "confirmation_replayed")
    assert len(vault.ran) == 1


def test_json_has_the_questions_and_not_the_state(server: Replica) -> None:
    shown = json.dumps(done(made(server, Era.STATELESS, respond=answering.decline)).as_json())
    assert "Run overwrite on vault?" in shown
    assert "v1." not in shown


@pytest.mark.parametrize(
    ("typed", "choice"),
    [("y\n", "accept"), ("YES\n", "accept"), ("\n", "decline"), ("n\n", "decline"), ("", "cancel")],
)
def test_the_terminals_answer(typed: str, choice: Choice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert answering.ask("Run it?") == choice


def test_who_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _responder(True) is answering.accept
    assert _responder(False) is answering.decline
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert _responder(None) is None


def test_a_form_that_wants_more_than_ticks_is_left(server: Replica, vault: Vault, tmp_path: Path) -> None:
    call = replace(made(server, Era.STATELESS, respond=answering.accept), tool="wizard", arguments={})
    outcome = done(call)
    assert not outcome.ok
    assert len(outcome.asked) == 2
    assert not vault.ran

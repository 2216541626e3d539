"""A session of 2025-11-25 belongs to the verified caller who opened it, and to nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from identity.assertion import Assertion
from identity.principal import User
from tests.mcpguard.running import LEGACY, Running, legacy, reason
from tests.mcpguard.toy import Toy
from tests.mcpguard.world import CHAT_BOT, SAM, assertion

HELLO = legacy(
    "initialize",
    {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
)
CALL = legacy("tools/call", {"name": "open_tool", "arguments": {}}, request_id=2)


def opened(server: Running, who: Assertion) -> str:
    answer = server.post(HELLO, who)
    assert answer.status_code == 200, answer.text
    session = answer.headers["mcp-session-id"]
    done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert on(server, session, done, who).status_code == 202
    return session


def on(server: Running, session: str, body: dict[str, object], who: Assertion) -> httpx.Response:
    return server.post(body, who, mcp_session_id=session, mcp_protocol_version=LEGACY)


def bare(server: Running, method: str, session: str, who: Assertion) -> httpx.Response:
    headers = server.headers(who, mcp_session_id=session, mcp_protocol_version=LEGACY)
    return server.http.request(method, f"{server.url}/mcp", headers=headers)


STRANGERS = {
    "another user": assertion(SAM),
    "the same subject of another surface": assertion(
        User("sso", "eva", client="chat-bot"), workload=CHAT_BOT, channel_id="C0LAN2Q65"
    ),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_stranger_finds_no_session(server: Running, toy: Toy, stranger: str) -> None:
    session = opened(server, assertion())
    mallory = STRANGERS[stranger]
    assert on(server, session, CALL, mallory).status_code == 404
    assert bare(server, "GET", session, mallory).status_code == 404
    assert bare(server, "DELETE", session, mallory).status_code == 404
    assert not toy.ran
    assert on(server, session, CALL, assertion()).status_code == 200
    assert toy.ran == {"open_tool": 1}
    assert bare(server, "DELETE", session, assertion()).status_code == 200
    assert on(server, session, CALL, assertion()).status_code == 404


def test_a_strangers_answer_is_not_taken(server: Running, toy: Toy) -> None:
    session = opened(server, assertion())
    answer = {"jsonrpc": "2.0", "id": 1, "result": {"action": "accept", "content": {"yes": True}}}
    assert on(server, session, answer, assertion(SAM)).status_code == 404


def test_a_session_does_not_carry_what_its_caller_lost(server: Running, toy: Toy) -> None:
    """Every message is decided by its own assertion: who left the group keeps the session, not the tool."""
    session = opened(server, assertion())
    call = legacy("tools/call", {"name": "eng_tool", "arguments": {}}, request_id=3)
    assert on(server, session, call, assertion()).status_code == 200
    left = assertion(groups=frozenset({"ads"}))
    answer = on(server, session, call, left)
    assert (answer.status_code, reason(answer)) == (403, "tool_group_required")
    assert toy.ran == {"eng_tool": 1}


@pytest.fixture
def stream(server: Running) -> Iterator[tuple[str, Assertion]]:
    who = assertion(User("sso", "lou", client="ide-plugin"), groups=frozenset({"ads"}))
    yield opened(server, who), who
    server.world.write_locks()


def test_a_stream_ends_when_its_caller_is_locked(server: Running, stream: tuple[str, Assertion]) -> None:
    session, who = stream
    headers = server.headers(who, mcp_session_id=session, mcp_protocol_version=LEGACY)
    ended = threading.Event()
    open_now = threading.Event()

    def read() -> None:
        with server.http.stream("GET", f"{server.url}/mcp", headers=headers) as answer:
            assert answer.status_code == 200
            open_now.set()
            for _ in answer.iter_bytes():
                pass
            ended.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert open_now.wait(10)
    assert not ended.is_set()
    server.world.write_locks(
        '{user: "sso:lou", until: 2099-01-01T00:00:00Z, why: INC-1, by: dana@corp.example}'
    )
    assert ended.wait(10), "the stream outlived the lock"
    reader.join(10)


def test_a_stream_ends_with_its_callers_token(server: Running) -> None:
    who = assertion(expires_in=2)
    session = opened(server, who)
    headers = server.headers(who, mcp_session_id=session, mcp_protocol_version=LEGACY)
    with server.http.stream("GET", f"{server.url}/mcp", headers=headers) as answer:
        assert answer.status_code == 200
        answer.read()  # ends; the SDK's pings come every 15 seconds, and a read of 20 would time out
    assert who.user is not None
    assert 0 <= time.time() - who.user.expires < 5

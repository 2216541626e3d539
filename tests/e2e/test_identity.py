"""What a server is told of its caller is what was verified, whatever the client says of itself."""

from __future__ import annotations

import time

import pytest

from identity.assertion import AssertionVerifier
from identity.jwk import JwkSet
from pdp import headers
from tests.e2e import mcp
from tests.e2e.forge import AI_CHAT, CHAT_BOT, CHAT_CLIENT, REPORT_BOT
from tests.e2e.stack import Stack
from tests.e2e.upstream import Hit

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-gateway")]

EXPECTED = {
    headers.USER: "ana",
    headers.ISSUER: "sso",
    headers.GROUPS: "ads,ads-eng,employees",
    headers.ROLES: "",
    headers.CLIENT: "ide-plugin",
    headers.SURFACE: "ide",
    headers.CHANNEL: "",
}


def check_identity(gateway: Stack, hit: Hit, server: str, expected: dict[str, str]) -> None:
    assert {name: hit.all(name) for name in expected} == {name: [value] for name, value in expected.items()}
    assert not hit.names & set(headers.CONSUMED)
    verifier = AssertionVerifier(JwkSet.parse(gateway.state.identity_public.read_bytes()), server)
    said = verifier.verify(hit.one(headers.IDENTITY), time.time())
    assert said.surface == expected[headers.SURFACE]
    assert ",".join(sorted(said.groups)) == expected[headers.GROUPS]
    assert (said.user.subject if said.user else "") == expected[headers.USER]


def test_the_server_is_told_who_calls_and_never_gets_the_token(gateway: Stack) -> None:
    token = gateway.forge.token()
    _, hit = gateway.reached(lambda: gateway.post(mcp.call("search"), token=token))
    check_identity(gateway, hit, "knowledge", EXPECTED)
    assert token not in repr(hit)
    decision = gateway.decision(hit.one(headers.DECISION))
    assert (decision["decision"], decision["user"], decision["tool"]) == ("allow", "sso:ana", "search")


def _spellings(name: str) -> list[str]:
    title = "-".join(part.capitalize() for part in name.split("-"))
    odd = "".join(char.upper() if place % 2 else char for place, char in enumerate(name))
    return [name, name.upper(), title, odd]


@pytest.mark.parametrize("name", [*headers.FORWARDED, headers.DECISION])
def test_an_identity_header_of_the_client_is_replaced_in_every_spelling(gateway: Stack, name: str) -> None:
    forged = [(spelling, "sso:root") for spelling in _spellings(name)]
    _, hit = gateway.reached(
        lambda: gateway.post(mcp.call("search"), token=gateway.forge.token(), headers=forged)
    )
    check_identity(gateway, hit, "knowledge", EXPECTED)
    assert "root" not in repr(hit.headers)


def test_all_of_them_at_once_and_twice(gateway: Stack) -> None:
    forged = [(name, value) for name in (*headers.FORWARDED, headers.DECISION) for value in ("sso:root", "")]
    _, hit = gateway.reached(
        lambda: gateway.post(mcp.call("search"), token=gateway.forge.token(), headers=forged)
    )
    check_identity(gateway, hit, "knowledge", EXPECTED)


def test_naming_them_in_connection_does_not_take_them_away(gateway: Stack) -> None:
    named = [("Connection", ", ".join(headers.FORWARDED)), ("TE", "trailers, x-forwarded-user")]
    _, hit = gateway.reached(
        lambda: gateway.post(mcp.call("search"), token=gateway.forge.token(), headers=named)
    )
    check_identity(gateway, hit, "knowledge", EXPECTED)


POSING = [
    "X-Forwarded-Host", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-Email",
    "X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token", "X-Forwarded-Client-Cert",
    "X-Forwarded-Anything",
    "X-Forwarded", "Forwarded", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-HTTP-Method",
    "X-Method-Override", "X-Envoy-Original-Path", "X-Envoy-Original-Dst-Host", "X-Envoy-Internal",
    "X-Envoy-External-Address", "X-Envoy-Auth-Partial-Body", "X-Envoy-Upstream-Rq-Timeout-Ms",
    "X-Envoy-Retry-On",
    "X-Envoy-Decorator-Operation", "X-Gatehouse-Anything", "X-Real-IP", "True-Client-IP", "X-Client-IP",
    "X-Cluster-Client-IP", "Proxy", "X-Host",
]  # fmt: skip


def test_headers_that_frameworks_believe_are_stripped(gateway: Stack) -> None:
    forged = [
        (spelling, "forged.example") for name in POSING for spelling in (name, name.upper(), name.lower())
    ]
    for start in range(0, len(forged), 45):
        part = forged[start : start + 45]
        _, hit = gateway.reached(
            lambda part=part: gateway.post(mcp.call("search"), token=gateway.forge.token(), headers=part)  # type: ignore[misc]
        )
        assert "forged.example" not in repr(hit.headers)
        assert hit.all("x-forwarded-client-cert") == []


def test_who_connects_is_the_remote_address(gateway: Stack) -> None:
    forged = [("X-Forwarded-For", "6.6.6.6"), ("x-forwarded-for", "7.7.7.7"), ("X-Forwarded-Proto", "http")]
    _, hit = gateway.reached(
        lambda: gateway.post(mcp.call("search"), token=gateway.forge.token(), headers=forged)
    )
    assert "6.6.6.6" not in repr(hit.headers)
    assert "7.7.7.7" not in repr(hit.headers)
    assert hit.all("x-forwarded-proto") in ([], ["https"])


def test_a_service_has_no_user_and_every_header_says_so(gateway: Stack) -> None:
    forged = [(name, "sso:root") for name in headers.FORWARDED]
    door = gateway.mesh(REPORT_BOT)
    _, hit = gateway.reached(lambda: gateway.post(mcp.call("search"), door=door, headers=forged))
    expected = dict.fromkeys(EXPECTED, "") | {headers.SURFACE: "report-bot"}
    check_identity(gateway, hit, "knowledge", expected)
    assert "root" not in repr(hit.headers)


def test_the_certificate_of_the_mesh_is_envoys_word_not_the_clients(gateway: Stack) -> None:
    forged = [("X-Forwarded-Client-Cert", "URI=spiffe://corp.example/ns/prod/sa/ai-chat")]
    door = gateway.mesh(REPORT_BOT)
    _, hit = gateway.reached(lambda: gateway.post(mcp.call("search"), door=door, headers=forged))
    assert "ai-chat" not in repr(hit.headers)


def test_a_group_with_a_strange_name_stays_one_group(gateway: Stack) -> None:
    """Only groups that policy names get out, so a comma in an issuer's group can't add another."""
    token = gateway.forge.token(groups=["ads-eng", "x,data-infra", "%2Cfinance", "*"])
    _, hit = gateway.reached(lambda: gateway.post(mcp.call("search"), token=token))
    assert hit.one(headers.GROUPS) == "ads,ads-eng,employees"


def test_a_group_with_a_newline_spoils_the_token(gateway: Stack) -> None:
    with gateway.unreached():
        answer = gateway.post(mcp.call("search"), token=gateway.forge.token(groups=["ads-eng\r\nx: y"]))
    assert (answer.status, answer.reason) == (401, "token_claims")


def test_only_roles_that_policy_names_get_out(gateway: Stack) -> None:
    token = gateway.forge.token("dino", roles=["table-writer", "table-writer,admin", "höchste"])
    message = mcp.message("tools/list")
    _, hit = gateway.reached(lambda: gateway.post(message, token=token, server="airflow"))
    assert hit.one(headers.ROLES) in ("", "table-writer")


# Channels


def _channel(gateway: Stack, channel: str | bytes, server: str = "spark") -> tuple[int, str | None]:
    token = gateway.forge.token("dino", client="chat-bot")
    with gateway.unreached():
        answer = gateway.post(
            mcp.call("list_applications"),
            token=token,
            server=server,
            door=gateway.mesh(CHAT_BOT),
            headers=[("X-Mcp-Channel", channel)],
        )
    return answer.status, answer.reason


def test_the_bot_says_which_channel_it_is_in(gateway: Stack) -> None:
    token = gateway.forge.token("dino", client="chat-bot")
    _, hit = gateway.reached(
        lambda: gateway.post(
            mcp.call("list_applications"),
            token=token,
            server="spark",
            door=gateway.mesh(CHAT_BOT),
            headers=[("X-Mcp-Channel", "C024BE91L")],
        )
    )
    assert hit.one(headers.CHANNEL) == "airflow-support"
    assert hit.all("x-mcp-channel") == []


@pytest.mark.parametrize("channel", ["C0LAN2Q65", "airflow-support", "c024be91l", "C999"])
def test_another_channel_is_another_channel(gateway: Stack, channel: str) -> None:
    assert _channel(gateway, channel) == (403, "channel_not_allowed")


@pytest.mark.parametrize("channel", ["C024BE91L C1", "", "-", "a" * 200])
def test_a_channel_that_is_no_id_is_malformed(gateway: Stack, channel: str) -> None:
    assert _channel(gateway, channel) == (400, "channel_malformed")


@pytest.mark.parametrize("channel", [b"C024BE91L\xff", b"C024BE91L\xc3\xa9", b"\xe2\x80\x8bC024BE91L"])
def test_a_channel_that_two_readers_would_read_differently_is_malformed(
    gateway: Stack, channel: bytes
) -> None:
    assert _channel(gateway, channel) == (400, "malformed_header")


def test_a_surface_without_channels_asserts_none(gateway: Stack) -> None:
    claims = [("X-Mcp-Channel", "C024BE91L")]
    _, hit = gateway.reached(
        lambda: gateway.post(mcp.call("search"), token=gateway.forge.token(), headers=claims)
    )
    assert hit.one(headers.CHANNEL) == ""
    assert hit.all("x-mcp-channel") == []


def test_another_mesh_surface_cannot_stand_in_for_the_bot(gateway: Stack) -> None:
    token = gateway.forge.token("dino", client=CHAT_CLIENT)
    claims = [("X-Mcp-Channel", "C024BE91L"), ("X-Forwarded-Channel", "airflow-support")]
    _, hit = gateway.reached(
        lambda: gateway.post(mcp.call("search"), token=token, door=gateway.mesh(AI_CHAT), headers=claims)
    )
    assert hit.one(headers.CHANNEL) == ""

"""What an allow tells the server, and that it never tells less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from google.protobuf.struct_pb2 import Struct

from extauthz.basis import ADMISSION_SECONDS
from extauthz.response import TooManyNames, admission, encode_names, encode_value
from extauthz.wire.ext_authz_pb2 import CheckResponse, HeaderValueOption
from pdp import headers
from pdp.model import Lock
from tests.extauthz.world import (
    NOW,
    World,
    basis,
    bearer,
    certificate,
    check_request,
    headers_of,
    is_allow,
    reason,
    token,
    verifier,
    world,
)
from tests.pdp.snapshots import BOT, CHAT, HERE, snapshot

LIST_TABLES = {"method": "tools/call", "params": {"name": "list_tables"}}


@pytest.fixture
def room(tmp_path: Path) -> World:
    return world(tmp_path, basis())


def facts_of(struct: Struct) -> dict[str, object]:
    return dict(struct.items())


def test_a_user_of_the_ide(room: World) -> None:
    said = token(roles=["table-writer", "cook"], jti="t-1")
    response = room.check(check_request(bearer(said), ("x-forwarded-user", "root")))
    assert is_allow(response)
    sent = headers_of(response)
    assertion = verifier().verify(sent.pop("x-forwarded-identity"), NOW)
    decision_id = sent.pop("x-gatehouse-decision")
    assert sent == {
        "x-forwarded-user": "00u1",
        "x-forwarded-issuer": "sso",
        "x-forwarded-groups": "ads,ads-eng,employees",
        "x-forwarded-roles": "table-writer",  # the server's policy asks about no other
        "x-forwarded-client": "ide-plugin",
        "x-forwarded-surface": "ide",
        "x-forwarded-channel": "",
    }
    assert assertion.user is not None
    assert (assertion.user.key, assertion.user.client, assertion.user.token_id) == (
        "sso:00u1",
        "ide-plugin",
        "t-1",
    )
    assert assertion.user.roles == {"table-writer"}
    assert assertion.groups == {"ads", "ads-eng", "employees"}
    assert (assertion.surface, assertion.policy) == ("ide", "sha256:policy")
    assert facts_of(response.dynamic_metadata) == {
        "decision_id": decision_id, "decision": "allow", "rule": "analysts", "user": "sso:00u1",
        "surface": "ide", "server": "presto", "tool": "run_query", "policy": "sha256:policy",
    }  # fmt: skip


def test_a_service_by_mtls_sends_empty_headers_for_the_user(room: World) -> None:
    request = check_request(message=LIST_TABLES, listener="mesh", certificate=certificate(str(BOT)))
    sent = headers_of(room.check(request))
    assert [sent[name] for name in headers.FORWARDED[:-1]] == ["", "", "", "", "", "report-bot", ""]
    assertion = verifier().verify(sent["x-forwarded-identity"], NOW)
    assert (assertion.user, assertion.workload) == (None, BOT)


def test_a_user_brought_by_a_surface_that_asserts_a_channel(room: World) -> None:
    said = bearer(token(azp="chat-web", groups=["eng", "oncall"]))
    chat = certificate(str(CHAT))
    request = check_request(
        said, ("x-mcp-channel", "C1"), message=LIST_TABLES, listener="mesh", certificate=chat
    )
    sent = headers_of(room.check(request))
    assert sent["x-forwarded-channel"] == "spark-help"
    assertion = verifier().verify(sent["x-forwarded-identity"], NOW)
    assert (assertion.channel, assertion.channel_id, assertion.workload) == ("spark-help", "C1", CHAT)


def test_a_channel_of_anybody_else_is_dropped(room: World) -> None:
    sent = headers_of(room.check(check_request(bearer(token()), ("x-mcp-channel", "C1"))))
    assert sent["x-forwarded-channel"] == ""
    assertion = verifier().verify(sent["x-forwarded-identity"], NOW)
    assert (assertion.channel, assertion.channel_id) == (None, None)


def test_an_allow_overwrites_and_consumes(room: World) -> None:
    response = room.check(check_request(bearer(token())))
    options = response.ok_response.headers
    assert {option.append_action for option in options} == {HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD}
    removed = list(response.ok_response.headers_to_remove)
    assert removed == list(headers.CONSUMED)
    assert not set(removed) & {option.header.key for option in options}


def test_each_call_has_a_decision_of_its_own(room: World) -> None:
    request = check_request(bearer(token()))
    answers = [room.check(request) for _ in range(3)]
    ids = [headers_of(answer)["x-gatehouse-decision"] for answer in answers]
    assert len(set(ids)) == 3
    assert [answer.dynamic_metadata["decision_id"] for answer in answers] == ids
    assert [line["decision_id"] for line in room.logged()] == ids
    assert len({headers_of(answer)["x-forwarded-identity"] for answer in answers}) == 1


def test_what_is_remembered_is_told_apart(room: World) -> None:
    """Callers, servers, tools and channels that differ never share an answer."""
    ads, sales = bearer(token()), bearer(token(sub="00u2", groups=["ads-sales"]))
    first = headers_of(room.check(check_request(ads)))
    second = headers_of(room.check(check_request(sales)))
    again = headers_of(room.check(check_request(ads)))
    assert (first["x-forwarded-user"], second["x-forwarded-user"]) == ("00u1", "00u2")
    assert again["x-forwarded-identity"] == first["x-forwarded-identity"] != second["x-forwarded-identity"]
    other = room.check(check_request(ads, message=LIST_TABLES))
    assert other.dynamic_metadata["tool"] == "list_tables"


def test_a_lock_and_a_new_policy_count_for_a_remembered_token(tmp_path: Path) -> None:
    stands_on = basis()
    room = world(tmp_path, stands_on)
    request = check_request(bearer(token()))
    assert is_allow(room.check(request))
    lock = Lock("user", "sso:00u1", NOW + 60, "INC-91", "dana@corp.example", HERE)
    room.service.stand_on(basis(snapshot(None, lock)))
    assert reason(room.check(request)) == "locked"


def test_groups_end_for_a_remembered_caller(tmp_path: Path) -> None:
    """The group `beta` ends 10 s after NOW: the caller is worked out again then."""
    times = iter((NOW, NOW + 9, NOW + 11))
    room = world(tmp_path, basis())
    service = type(room.service)(room.log, room.service._metrics, clock=lambda: next(times))
    service.stand_on(basis())
    request = check_request(bearer(token(sub="u1"))).SerializeToString()
    sent = [headers_of(CheckResponse.FromString(service.check(request))) for _ in range(3)]
    assert ["beta" in each["x-forwarded-groups"] for each in sent] == [True, True, False]


def test_an_assertion_is_fresh_enough_whenever_it_is_sent(tmp_path: Path) -> None:
    """Over two minutes of calls no server gets one with less than 20 s to live."""
    steps = iter(range(0, 120, 2))
    room = world(tmp_path, basis())
    now = [NOW]
    service = type(room.service)(room.log, room.service._metrics, clock=lambda: now[0])
    service.stand_on(basis())
    request = check_request(bearer(token())).SerializeToString()
    for step in steps:
        now[0] = NOW + step
        sent = headers_of(CheckResponse.FromString(service.check(request)))
        assertion = verifier().verify(sent["x-forwarded-identity"], now[0])
        assert assertion.expires - now[0] > 25 - ADMISSION_SECONDS


def test_names_are_encoded_sorted_and_never_cut() -> None:
    assert encode_names(["b", "a,b", "ü", "a b", "x-y.z_~"]) == "a%20b,a%2Cb,b,x-y.z_~,%C3%BC"
    assert [unquote(name) for name in encode_names(["a,b", "ü%"]).split(",")] == ["a,b", "ü%"]
    assert encode_names(f"g{n}" for n in range(100)).count(",") == 99
    with pytest.raises(TooManyNames):
        encode_names(f"g{n}" for n in range(101))
    assert len(encode_names(["x" * 8192])) == 8192
    with pytest.raises(TooManyNames):
        encode_names(["x" * 8193])


def test_values_stay_readable_where_they_can() -> None:
    assert encode_value("auth0|dana@corp.example") == "auth0|dana@corp.example"
    assert encode_value("a,b c%é\r\nX-Forwarded-User: root") == (
        "a%2Cb%20c%25%C3%A9%0D%0AX-Forwarded-User:%20root"
    )
    assert encode_value(None) == ""


@pytest.mark.parametrize("missing", headers.FORWARDED)
def test_an_allow_cannot_be_built_without_a_forwarded_header(missing: str) -> None:
    forwarded = {name: "x" for name in headers.FORWARDED if name != missing}
    with pytest.raises(KeyError):
        admission(forwarded, {}, "0" * 32)


def test_a_user_with_a_strange_subject_cannot_add_a_header(room: World) -> None:
    response = room.check(check_request(bearer(token(sub="root,évil x-forwarded-groups: all"))))
    assert headers_of(response)["x-forwarded-user"] == "root%2C%C3%A9vil%20x-forwarded-groups:%20all"


def test_the_policy_of_a_check_is_one_snapshot(tmp_path: Path) -> None:
    room = world(tmp_path, basis())
    request = check_request(bearer(token()))
    before = room.check(request).dynamic_metadata["policy"]
    room.service.stand_on(basis(replace(snapshot(), digest="sha256:next")))
    after = room.check(request)
    assert (before, after.dynamic_metadata["policy"]) == ("sha256:policy", "sha256:next")
    assert verifier().verify(headers_of(after)["x-forwarded-identity"], NOW).policy == "sha256:next"

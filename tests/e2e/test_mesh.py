"""Workloads: who a certificate or a JWT-SVID says that one is, and what Envoy itself holds."""

from __future__ import annotations

import ssl
import time

import pytest

from gatehouse.devca import Pair
from identity.principal import JsonValue
from tests.e2e import mcp
from tests.e2e.forge import AI_CHAT, CHAT_BOT, CHAT_CLIENT, NOTEBOOK, REPORT_BOT
from tests.e2e.stack import Stack
from tests.e2e.wire import Answer

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-gateway")]

MESSAGE = mcp.call("search")


def test_a_workload_is_its_certificate(gateway: Stack) -> None:
    gateway.reached(lambda: gateway.post(MESSAGE, door=gateway.mesh(REPORT_BOT)))


def test_the_mesh_brings_users(gateway: Stack) -> None:
    token = gateway.forge.token(client=CHAT_CLIENT)
    _, hit = gateway.reached(lambda: gateway.post(MESSAGE, token=token, door=gateway.mesh(AI_CHAT)))
    assert hit.one("x-forwarded-user") == "ana"
    assert hit.one("x-forwarded-surface") == "ai-chat"


def rejected_by_tls(gateway: Stack, pair: Pair | None) -> None:
    """Envoy ends the handshake: nothing is asked, nothing is answered."""
    with gateway.unreached():
        door = gateway.mesh(pair)
        try:
            answers = door.exchange(mcp.post(MESSAGE, "/knowledge/mcp", door.authority))
        except (ssl.SSLError, ConnectionError):
            return
    assert answers == []


def test_no_certificate_no_connection(gateway: Stack) -> None:
    rejected_by_tls(gateway, None)


def test_a_certificate_of_another_ca_is_no_certificate(gateway: Stack) -> None:
    forge = gateway.forge
    rejected_by_tls(gateway, forge.certificate("other-ca", [REPORT_BOT], authority=forge.other_authority()))


def test_the_ca_of_the_listeners_vouches_for_no_workload(gateway: Stack) -> None:
    pair = gateway.forge.certificate("listeners-ca", [REPORT_BOT], authority=gateway.state.server_ca)
    rejected_by_tls(gateway, pair)


@pytest.mark.parametrize("days", [(-2, -1), (1, 2)], ids=["expired", "not yet valid"])
def test_a_certificate_holds_in_its_time(gateway: Stack, days: tuple[float, float]) -> None:
    rejected_by_tls(gateway, _past(gateway, days))


def _past(gateway: Stack, days: tuple[float, float]) -> Pair:
    # The development CA is a minute old, and a certificate may not be older than it.
    if days[1] < 0:
        days = (-1, -10 / 86_400)
    return gateway.forge.certificate(f"time-{days[1]}", [REPORT_BOT], days=days)


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://evil.example/ns/prod/sa/report-bot",
        "spiffe://CORP.example/ns/prod/sa/report-bot",
        "https://corp.example/x",
    ],
)
def test_another_trust_domain_is_not_vouched_for(gateway: Stack, uri: str) -> None:
    rejected_by_tls(gateway, gateway.forge.certificate("domain", [uri]))


def test_a_certificate_without_a_spiffe_id_is_no_svid(gateway: Stack) -> None:
    rejected_by_tls(gateway, gateway.forge.certificate("nameless", []))


def denied(gateway: Stack, pair: Pair, server: str = "knowledge") -> Answer | None:
    """The refusal; None where the handshake had failed already."""
    with gateway.unreached():
        door = gateway.mesh(pair)
        try:
            answers = door.exchange(mcp.post(MESSAGE, f"/{server}/mcp", door.authority))
        except (ssl.SSLError, ConnectionError):
            return None
    if not answers:
        return None
    (answer,) = answers
    return answer


@pytest.mark.parametrize(
    "uris", [[REPORT_BOT, AI_CHAT], [AI_CHAT, REPORT_BOT], [REPORT_BOT, "https://x.example"]]
)
def test_two_names_are_no_name(gateway: Stack, uris: list[str]) -> None:
    """Envoy's principal is the first of them and its RBAC matches any."""
    answer = denied(gateway, gateway.forge.certificate("two", uris))
    assert answer is None or (answer.status, answer.reason) == (401, "svid_ambiguous")


def test_a_ca_is_no_workload(gateway: Stack) -> None:
    answer = denied(gateway, gateway.forge.certificate("ca-leaf", [REPORT_BOT], is_ca=True))
    assert answer is None or (answer.status, answer.reason) == (401, "svid_malformed")


@pytest.mark.parametrize(
    "uri",
    [
        REPORT_BOT + "/",
        "spiffe://corp.example",
        REPORT_BOT + "?x",
        REPORT_BOT + "/../ai-chat",
        "spiffe://corp.example/ns//x",
    ],
)
def test_an_id_of_another_form_is_no_id(gateway: Stack, uri: str) -> None:
    answer = denied(gateway, gateway.forge.certificate("form", [uri]))
    assert answer is None or (answer.status, answer.reason) == (401, "svid_malformed")


@pytest.mark.parametrize(
    "path", ["/ns/prod/sa/unheard-of", "/NS/PROD/SA/REPORT-BOT", "/ns/prod/sa/report-bot2"]
)
def test_a_workload_that_is_no_surface_gets_nowhere(gateway: Stack, path: str) -> None:
    answer = denied(gateway, gateway.forge.svid(f"spiffe://corp.example{path}"))
    assert answer is not None
    assert (answer.status, answer.reason) == (403, "surface_unknown")


def test_a_workload_gets_to_no_server_that_no_rule_names_it_for(gateway: Stack) -> None:
    answer = denied(gateway, gateway.forge.svid(REPORT_BOT), "spark")
    assert answer is not None
    assert (answer.status, answer.reason) == (403, "surface_not_allowed")


def test_a_service_calls_what_its_rule_names_and_nothing_else(gateway: Stack) -> None:
    door = gateway.mesh(REPORT_BOT)
    for tool, reason in (("ask", "guardrail"), ("nothing", "tool_not_in_rule")):
        with gateway.unreached():
            answer = gateway.post(mcp.call(tool), door=door)
        assert (answer.status, answer.reason) == (403, reason)
    with gateway.unreached():
        answer = gateway.post(mcp.message("tools/list"), door=door)
    assert (answer.status, answer.reason) == (401, "listing_needs_user")


def test_a_surface_without_its_user_is_nobody(gateway: Stack) -> None:
    for workload in (AI_CHAT, CHAT_BOT):
        with gateway.unreached():
            answer = gateway.post(MESSAGE, door=gateway.mesh(workload))
        assert (answer.status, answer.reason) == (401, "credentials_required")


def test_a_development_surface_reaches_the_experiment(gateway: Stack) -> None:
    token = gateway.forge.token("dino", client="notebook")
    send = mcp.call("read_note")
    gateway.reached(lambda: gateway.post(send, server="scratchpad", token=token, door=gateway.mesh(NOTEBOOK)))


# JWT-SVIDs, which take a workload to the users' listener


def _svid_refused(gateway: Stack, token: str) -> str:
    with gateway.unreached():
        answer = gateway.post(MESSAGE, token=token)
    assert answer.status == 401
    return answer.reason


def test_a_jwt_svid_names_a_workload_where_there_is_no_mesh(gateway: Stack) -> None:
    token = gateway.forge.jwt_svid(REPORT_BOT, [gateway.resource("knowledge")])
    _, hit = gateway.reached(lambda: gateway.post(MESSAGE, token=token))
    assert hit.one("x-forwarded-surface") == "report-bot"
    assert hit.one("x-forwarded-user") == ""


def test_a_jwt_svid_is_made_for_one_server(gateway: Stack) -> None:
    for audience in (["mcp"], [gateway.resource("presto")], ["https://elsewhere.example"]):
        token = gateway.forge.jwt_svid(REPORT_BOT, audience)
        assert _svid_refused(gateway, token) == "svid_audience"


def test_a_jwt_svid_ends(gateway: Stack) -> None:
    token = gateway.forge.jwt_svid(REPORT_BOT, [gateway.resource("knowledge")], ttl=-60)
    assert _svid_refused(gateway, token) == "svid_expired"


def test_a_jwt_svid_lives_an_hour_at_most(gateway: Stack) -> None:
    token = gateway.forge.jwt_svid(REPORT_BOT, [gateway.resource("knowledge")], ttl=7200)
    assert _svid_refused(gateway, token) == "svid_malformed"


def test_a_jwt_svid_of_another_trust_domain_is_not_trusted(gateway: Stack) -> None:
    token = gateway.forge.jwt_svid(
        "spiffe://evil.example/ns/prod/sa/report-bot", [gateway.resource("knowledge")]
    )
    assert _svid_refused(gateway, token) == "svid_untrusted"


def test_a_key_of_another_domain_signs_for_its_own_alone(gateway: Stack) -> None:
    claims: dict[str, JsonValue] = {
        "sub": REPORT_BOT,
        "aud": [gateway.resource("knowledge")],
        "exp": int(time.time()) + 300,
    }
    token = gateway.forge.jwt_svid_of(claims, "evil.example")
    assert _svid_refused(gateway, token) == "svid_untrusted"


def test_a_user_issuers_key_signs_no_svid(gateway: Stack) -> None:
    claims: dict[str, JsonValue] = {
        "sub": REPORT_BOT,
        "aud": [gateway.resource("knowledge")],
        "exp": int(time.time()) + 300,
    }
    header: dict[str, JsonValue] = {"alg": "RS256", "kid": gateway.forge.key.kid, "typ": "JWT"}
    token = gateway.forge.raw(header, claims, gateway.forge.rs256())
    assert _svid_refused(gateway, token) == "svid_untrusted"


def test_an_svid_key_signs_no_user(gateway: Stack) -> None:
    token = gateway.forge.jwt_svid_of(gateway.forge.claims())
    with gateway.unreached():
        answer = gateway.post(MESSAGE, token=token)
    assert (answer.status, answer.reason) == (401, "token_key_unknown")


def test_a_jwt_svid_of_a_mesh_surface_that_needs_a_user_helps_nobody(gateway: Stack) -> None:
    token = gateway.forge.jwt_svid(AI_CHAT, [gateway.resource("knowledge")])
    assert _svid_refused(gateway, token) == "credentials_required"


def test_two_workloads_are_one_too_many(gateway: Stack) -> None:
    token = gateway.forge.jwt_svid(REPORT_BOT, [gateway.resource("knowledge")])
    with gateway.unreached():
        answer = gateway.post(MESSAGE, token=token, door=gateway.mesh(CHAT_BOT))
    assert (answer.status, answer.reason) == (401, "svid_ambiguous")


def test_a_certificate_on_the_users_listener_is_nobody(gateway: Stack) -> None:
    """Only the mesh listener asks for one, so only there it says who somebody is."""
    pair = gateway.forge.svid(REPORT_BOT)
    door = gateway._door(gateway.users.port, pair)
    with gateway.unreached():
        answer = gateway.post(MESSAGE, door=door)
    assert (answer.status, answer.reason) == (401, "credentials_required")

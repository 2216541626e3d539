"""Tokens on the users' listener: every way one can be wrong, with the reason that the caller is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import jwt
import pytest

from gatehouse.keys import DevKey
from identity.principal import JsonValue
from tests.e2e import mcp
from tests.e2e.forge import AI_CHAT, CHAT_CLIENT, REPORT_BOT, b64, hs256, unsigned
from tests.e2e.stack import Stack
from tests.e2e.wire import Answer

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-gateway")]

MESSAGE = mcp.call("search")


def refused(gateway: Stack, token: str) -> Answer:
    with gateway.unreached():
        return gateway.post(MESSAGE, token=token)


def now() -> int:
    return int(time.time())


Claims = dict[str, JsonValue]

CLAIMS: dict[str, tuple[Callable[[Stack], Claims], str]] = {
    "expired": (lambda g: {"iat": now() - 3600, "exp": now() - 60}, "token_expired"),
    "not valid yet": (lambda g: {"nbf": now() + 300}, "token_not_yet_valid"),
    "issued in the future": (lambda g: {"iat": now() + 300, "exp": now() + 600}, "token_not_yet_valid"),
    "living for a week": (lambda g: {"exp": now() + 7 * 86_400}, "token_lifetime"),
    "living for ever": (lambda g: {"exp": 10**12}, "token_lifetime"),
    "ending before it began": (lambda g: {"iat": now() + 20, "exp": now() + 10}, "token_lifetime"),
    "exp as text": (lambda g: {"exp": str(now() + 600)}, "token_claims"),
    "exp as a list": (lambda g: {"exp": [now() + 600]}, "token_claims"),
    "exp as true": (lambda g: {"exp": True}, "token_claims"),
    "no exp": (lambda g: {"exp": None}, "token_claims"),
    "no iat": (lambda g: {"iat": None}, "token_claims"),
    "no sub": (lambda g: {"sub": None}, "token_claims"),
    "empty sub": (lambda g: {"sub": ""}, "token_claims"),
    "long sub": (lambda g: {"sub": "a" * 256}, "token_claims"),
    "sub with a newline": (lambda g: {"sub": "ana\nx-forwarded-user: sso:root"}, "token_claims"),
    "sub as a number": (lambda g: {"sub": 7}, "token_claims"),
    "no aud": (lambda g: {"aud": None}, "token_claims|token_audience"),
    "empty aud": (lambda g: {"aud": ""}, "token_claims|token_audience"),
    "no audience in aud": (lambda g: {"aud": []}, "token_claims|token_audience"),
    "another aud": (lambda g: {"aud": "other"}, "token_audience"),
    "aud in another case": (lambda g: {"aud": "MCP"}, "token_audience"),
    "aud that begins like ours": (lambda g: {"aud": "mcp2"}, "token_audience"),
    "aud as an object": (lambda g: {"aud": {"mcp": True}}, "token_claims"),
    "another server's URL": (lambda g: {"aud": g.resource("presto")}, "token_audience"),
    "the URL with a slash": (lambda g: {"aud": g.resource("knowledge") + "/"}, "token_audience"),
    "the URL's origin": (
        lambda g: {"aud": g.resource("knowledge").removesuffix("/knowledge/mcp")},
        "token_audience",
    ),
    "no iss": (lambda g: {"iss": None}, "token_issuer_unknown"),
    "another iss": (lambda g: {"iss": "https://evil.example"}, "token_issuer_unknown"),
    "iss with a slash": (lambda g: {"iss": "https://sso.corp.example/"}, "token_issuer_unknown"),
    "iss in another case": (lambda g: {"iss": "https://SSO.corp.example"}, "token_issuer_unknown"),
    "iss that contains ours": (
        lambda g: {"iss": "https://sso.corp.example.evil.example"},
        "token_issuer_unknown",
    ),
    "iss as a list": (lambda g: {"iss": ["https://sso.corp.example"]}, "token_issuer_unknown"),
    "no employment, which policy requires": (lambda g: {"employment": None}, "token_claims"),
    "groups elsewhere": (
        lambda g: {"_claim_names": {"groups": "src1"}, "groups": None},
        "token_groups_overage",
    ),
    "hasgroups": (lambda g: {"hasgroups": True, "groups": None}, "token_groups_overage"),
    "a thousand groups": (lambda g: {"groups": [f"g{n}" for n in range(501)]}, "token_groups_overage"),
    "groups as an object": (lambda g: {"groups": {"ads-eng": True}}, "token_claims"),
    "a user named like a workload": (
        lambda g: {"iss": None, "sub": REPORT_BOT},
        "svid_untrusted|svid_malformed",
    ),
}


@pytest.mark.parametrize("what", CLAIMS)
def test_a_token_with_wrong_claims_is_refused(gateway: Stack, what: str) -> None:
    changes, reasons = CLAIMS[what]
    claims = gateway.forge.claims()
    claims.update(changes(gateway))
    claims = {name: value for name, value in claims.items() if value is not None}
    header: Claims = {"alg": "RS256", "kid": gateway.forge.key.kid, "typ": "JWT"}
    answer = refused(gateway, gateway.forge.raw(header, claims, gateway.forge.rs256()))
    assert answer.status == 401
    assert answer.reason in reasons.split("|")


HEADERS: dict[str, tuple[Claims, str]] = {
    "a kid of nobody's": ({"kid": "nobody"}, "token_key_unknown"),
    "a kid that is a path": ({"kid": "../../../dev/null"}, "token_key_unknown"),
    "an empty kid": ({"kid": ""}, "token_malformed"),
    "a long kid": ({"kid": "k" * 129}, "token_malformed"),
    "kid as a number": ({"kid": 1}, "token_malformed"),
    "crit": ({"crit": ["exp"]}, "token_malformed"),
    "empty crit": ({"crit": []}, "token_malformed"),
    "b64": ({"b64": False, "crit": ["b64"]}, "token_malformed"),
    "zip": ({"zip": "DEF"}, "token_malformed"),
    "cty": ({"cty": "JWT"}, "token_malformed"),
    "jku": ({"jku": "https://evil.example/jwks"}, "token_malformed"),
    "jwk": ({"jwk": {"kty": "oct", "k": "AAAA"}}, "token_malformed"),
    "x5u": ({"x5u": "https://evil.example/x"}, "token_malformed"),
    "x5c": ({"x5c": ["AAAA"]}, "token_malformed"),
    "an unheard-of parameter": ({"foo": "bar"}, "token_malformed"),
    "typ of an identity assertion": ({"typ": "gatehouse-identity+jwt"}, "token_malformed"),
    "typ of a DPoP proof": ({"typ": "dpop+jwt"}, "token_malformed"),
    "another RSA algorithm": ({"alg": "PS256"}, "token_algorithm"),
    "RS512": ({"alg": "RS512"}, "token_algorithm"),
    "an algorithm of the issuer, not of the key": (
        {"alg": "ES256"},
        "token_algorithm|token_signature|token_key_unknown",
    ),
    "no alg": ({"alg": None}, "token_malformed"),
    "rs256": ({"alg": "rs256"}, "token_algorithm"),
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_token_with_a_wrong_header_is_refused(gateway: Stack, what: str) -> None:
    changes, reasons = HEADERS[what]
    answer = refused(gateway, gateway.forge.with_header(changes))
    assert answer.status == 401
    assert answer.reason in reasons.split("|")


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
def test_an_unsigned_token_is_refused(gateway: Stack, alg: str) -> None:
    for header in ({"alg": alg, "typ": "JWT"}, {"alg": alg, "kid": gateway.forge.key.kid}):
        token = gateway.forge.raw(header, gateway.forge.claims(), unsigned)
        answer = refused(gateway, token)
        assert answer.status == 401
        assert answer.reason in ("token_algorithm", "token_malformed")


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_the_public_key_is_no_secret_to_sign_with(gateway: Stack, alg: str) -> None:
    pem = gateway.forge.public_pem()
    jwk = json.dumps(gateway.forge.key.public()).encode()
    for secret in (pem, pem.strip(), jwk, b"", b"secret"):
        header: Claims = {"alg": alg, "kid": gateway.forge.key.kid, "typ": "JWT"}
        answer = refused(gateway, gateway.forge.raw(header, gateway.forge.claims(), hs256(secret)))
        assert (answer.status, answer.reason) == (401, "token_algorithm")


def test_a_token_of_another_key_is_refused(gateway: Stack) -> None:
    stranger = DevKey.generate("RS256")
    assert refused(gateway, gateway.forge.by(stranger)).reason == "token_key_unknown"
    posing = DevKey({**stranger.jwk, "kid": gateway.forge.key.kid})
    assert refused(gateway, gateway.forge.by(posing)).reason == "token_signature"


def test_a_token_that_was_changed_is_refused(gateway: Stack) -> None:
    head, _, signature = gateway.forge.token("hana").split(".")
    claims = gateway.forge.claims("hana", groups=["ads-eng"])
    changed = f"{head}.{b64(json.dumps(claims).encode())}.{signature}"
    gateway.forge.made.append(changed)
    assert refused(gateway, changed).reason == "token_signature"


FORMS: dict[str, Callable[[str], str]] = {
    "padded signature": lambda t: t + "=",
    "padded payload": lambda t: t.replace(".", "=.", 2),
    "standard base64": lambda t: t.replace("-", "+").replace("_", "/") if ("-" in t or "_" in t) else t + "+",
    "stray bits": lambda t: t[:-1] + ("B" if t[-1] in "AQgw" else chr(ord(t[-1]) ^ 1)),
    "two parts": lambda t: t.rpartition(".")[0],
    "four parts": lambda t: t + ".AAAA",
    "five parts": lambda t: t + ".AAAA.AAAA",
    "empty signature": lambda t: t.rpartition(".")[0] + ".",
    "empty header": lambda t: "." + t.partition(".")[2],
    "leading dot": lambda t: "." + t,
    "a space inside": lambda t: t.replace(".", ". ", 1),
    "a comma inside": lambda t: t.replace(".", ",.", 1),
    "over 16 KiB": lambda t: t + "A" * 16_384,
    "not a token": lambda t: "abc",
    "dots only": lambda t: "..",
    "JSON": lambda t: '{"alg":"none"}',
}


@pytest.mark.parametrize("how", FORMS)
def test_a_token_of_another_form_is_refused(gateway: Stack, how: str) -> None:
    answer = refused(gateway, FORMS[how](gateway.forge.token()))
    assert answer.status in (400, 401), answer
    assert answer.reason in ("token_malformed", "malformed_header", "token_signature")


PAYLOADS: dict[str, Callable[[bytes], bytes]] = {
    "sub twice": lambda data: data.replace(b'"sub":', b'"sub": "root", "sub":', 1),
    "exp twice": lambda data: data[:-1] + b', "exp": 99999999999}',
    "escaped key twice": lambda data: data[:-1] + b', "s\\u0075b": "root"}',
    "NaN": lambda data: data[:-1] + b', "x": NaN}',
    "Infinity": lambda data: data[:-1] + b', "x": Infinity}',
    "lone surrogate": lambda data: data[:-1] + b', "x": "\\ud800"}',
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "not UTF-8": lambda data: data[:-1] + b', "x": "\xff"}',
    "deep": lambda data: data[:-1] + b', "x": ' + b"[" * 40 + b"]" * 40 + b"}",
    "garbage behind": lambda data: data + b"x",
    "a list": lambda data: b"[" + data + b"]",
    "nothing": lambda data: b"",
}


@pytest.mark.parametrize("how", PAYLOADS)
def test_a_payload_that_two_parsers_read_differently_is_refused(gateway: Stack, how: str) -> None:
    header: Claims = {"alg": "RS256", "kid": gateway.forge.key.kid, "typ": "JWT"}
    payload = PAYLOADS[how](json.dumps(gateway.forge.claims()).encode())
    answer = refused(gateway, gateway.forge.raw(header, payload, gateway.forge.rs256()))
    assert (answer.status, answer.reason) == (401, "token_malformed")


@pytest.mark.parametrize("how", ["alg twice", "kid twice"])
def test_a_header_that_two_parsers_read_differently_is_refused(gateway: Stack, how: str) -> None:
    kid = gateway.forge.key.kid
    header = {
        "alg twice": f'{{"alg":"none","alg":"RS256","kid":"{kid}"}}',
        "kid twice": f'{{"alg":"RS256","kid":"x","kid":"{kid}"}}',
    }[how]
    answer = refused(
        gateway, gateway.forge.raw(header.encode(), gateway.forge.claims(), gateway.forge.rs256())
    )
    assert (answer.status, answer.reason) == (401, "token_malformed")


def test_a_nested_token_is_refused(gateway: Stack) -> None:
    inner = gateway.forge.token()
    header: Claims = {"alg": "RS256", "kid": gateway.forge.key.kid, "typ": "JWT"}
    answer = refused(gateway, gateway.forge.raw(header, inner.encode(), gateway.forge.rs256()))
    assert answer.reason == "token_malformed"


# How the token is brought


@pytest.mark.parametrize(
    ("scheme", "reason"),
    [
        ("Basic YW5hOng=", "token_malformed"),
        ("Bearer", "token_malformed"),
        ("Bearer ", "token_malformed"),
        ("Token abc", "token_malformed"),
        ("bearer:abc", "token_malformed"),
        ("Negotiate abc", "token_malformed"),
        ("DPoP abc", "token_malformed"),
        ("", "token_malformed"),
    ],
)
def test_another_scheme_is_refused(gateway: Stack, scheme: str, reason: str) -> None:
    with gateway.unreached():
        answer = gateway.post(MESSAGE, headers=[("authorization", scheme)])
    assert (answer.status, answer.reason) == (401, reason)


def test_two_tokens_are_one_too_many(gateway: Stack) -> None:
    good, bad = gateway.forge.token(), gateway.forge.expired()
    for first, second in ((good, bad), (bad, good), (good, good)):
        pairs = [("Authorization", f"Bearer {first}"), ("authorization", f"Bearer {second}")]
        joined = [("authorization", f"Bearer {first}, Bearer {second}")]
        for headers in (pairs, joined):
            with gateway.unreached():
                answer = gateway.post(MESSAGE, headers=headers)
            assert (answer.status, answer.reason) == (400, "malformed_header")


def test_a_token_elsewhere_than_in_authorization_is_none(gateway: Stack) -> None:
    token = gateway.forge.token()
    for headers in (
        [("X-Authorization", f"Bearer {token}")],
        [("Proxy-Authorization", f"Bearer {token}")],
        [("Cookie", f"access_token={token}")],
        [("X-Forwarded-Access-Token", token)],
        [("X-Api-Key", token)],
    ):
        with gateway.unreached():
            answer = gateway.post(MESSAGE, headers=headers)
        assert (answer.status, answer.reason) == (401, "credentials_required")
    with gateway.unreached():
        path = f"/knowledge/mcp?access_token={token}"
        answer = gateway.users.one(mcp.post(MESSAGE, path, gateway.users.authority))
    assert (answer.status, answer.reason) == (401, "credentials_required")


# Whose token it is


def test_the_servers_own_url_is_an_audience_of_it_alone(gateway: Stack) -> None:
    token = gateway.forge.token(aud=[gateway.resource("knowledge"), "https://elsewhere.example"])
    gateway.reached(lambda: gateway.post(MESSAGE, token=token))
    with gateway.unreached():
        answer = gateway.post(mcp.call("list_dags"), server="airflow", token=token)
    assert (answer.status, answer.reason) == (401, "token_audience")


@pytest.mark.parametrize("client", [CHAT_CLIENT, "chat-bot", "notebook", "nobody", "IDE-Plugin", ""])
def test_a_token_of_a_mesh_surface_is_worthless_off_the_mesh(gateway: Stack, client: str) -> None:
    answer = refused(gateway, gateway.forge.token(client=client))
    assert answer.status in (401, 403)
    assert answer.reason in ("surface_unknown", "token_claims")


def test_a_token_without_a_client_is_of_no_surface(gateway: Stack) -> None:
    assert refused(gateway, gateway.forge.token(client=None)).reason == "surface_unknown"


@pytest.mark.parametrize("client", ["ide-plugin", "chat-bot", "nobody"])
def test_a_surface_brings_only_its_own_users(gateway: Stack, client: str) -> None:
    with gateway.unreached():
        answer = gateway.post(MESSAGE, token=gateway.forge.token(client=client), door=gateway.mesh(AI_CHAT))
    assert (answer.status, answer.reason) == (403, "surface_client_mismatch")


def test_a_bad_token_spoils_a_call_that_needs_none(gateway: Stack) -> None:
    """report-bot may call this without a user; a token that is present must be valid all the same."""
    door = gateway.mesh(REPORT_BOT)
    gateway.reached(lambda: gateway.post(MESSAGE, door=door))
    for token in (gateway.forge.expired(), "abc"):
        with gateway.unreached():
            answer = gateway.post(MESSAGE, token=token, door=door)
        assert answer.status == 401


def test_an_expired_token_is_refused_though_it_was_good_a_moment_ago(gateway: Stack) -> None:
    """What is remembered of a token ends with the token."""
    from tests.e2e.stack import eventually

    token = gateway.forge.token(iat=now() - 600, exp=now() - 28)
    assert gateway.post(MESSAGE, token=token).status == 200, "within 30 s of leeway"
    eventually(lambda: gateway.post(MESSAGE, token=token).status == 401, "the token's end", 5)
    assert refused(gateway, token).reason == "token_expired"


def test_an_identity_assertion_is_no_token(gateway: Stack) -> None:
    _, hit = gateway.reached(lambda: gateway.post(MESSAGE, token=gateway.forge.token()))
    assertion = hit.one("x-forwarded-identity")
    assert jwt.get_unverified_header(assertion)["typ"] == "gatehouse-identity+jwt"
    assert refused(gateway, assertion).status == 401


def test_guardrails_hold_whatever_a_rule_says(gateway: Stack) -> None:
    with gateway.unreached():
        answer = gateway.post(mcp.call("list_tables"), server="presto", token=gateway.forge.token("carl"))
    assert (answer.status, answer.reason) == (403, "guardrail")
    with gateway.unreached():
        answer = gateway.post(mcp.call("read_note"), server="scratchpad", token=gateway.forge.token("dino"))
    assert (answer.status, answer.reason) == (403, "guardrail")


def test_a_server_that_nobody_knows_is_not_told_apart(gateway: Stack) -> None:
    """No list of what exists: whoever has no token learns nothing from a path."""
    bodies = []
    for server in ("presto", "nobody", "secret-project"):
        with gateway.unreached():
            answer = gateway.post(mcp.call("x"), server=server)
        assert answer.status == 401
        bodies.append({**answer.error, "data": {**answer.error["data"], "decision_id": ""}})
    assert bodies[1] == bodies[2]
    with gateway.unreached():
        answer = gateway.post(mcp.call("x"), server="nobody", token=gateway.forge.token())
    assert (answer.status, answer.reason) == (403, "server_unknown")

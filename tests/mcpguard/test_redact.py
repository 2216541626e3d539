"""What a log may show."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpguard.redact import HIDDEN, Redactor

LOG = Redactor()
JWT = "eyJhbGciOiJFUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJldmEiLCJhdWQiOiJtY3AifQ.c2lnbmF0dXJlLWJ5dGVz"


@pytest.mark.parametrize(
    "name",
    [
        "password", "Password", "db_password", "dbPassword", "PASSWD", "token", "access_token", "accessToken",
        "X-Auth-Token", "secret", "client_secret", "clientSecret", "authorization", "Authorization",
        "api_key", "apikey", "APIKey", "x-api-key", "aws.secret.access.key", "private_key", "privateKeyPem",
        "cookie", "credentials", "pin", "otp", "dbpassword",
    ],
)  # fmt: skip
def test_secret_fields(name: str) -> None:
    assert LOG.shown({name: "s3cr3t", "deep": [{name: {"a": "s3cr3t"}}]}, 1000) == {
        name: HIDDEN,
        "deep": [{name: HIDDEN}],
    }


@pytest.mark.parametrize(
    "name",
    ["sql", "max_tokens", "tokens", "table", "keyword", "spinning", "opinion", "path", "key", "passenger"],
)
def test_other_fields(name: str) -> None:
    assert LOG.shown({name: "plain"}, 1000) == {name: "plain"}


def test_further_fields_are_configured() -> None:
    log = Redactor(["Member Number"])
    assert log.shown({"memberNumber": "7", "member": "eva"}, 1000) == {
        "memberNumber": HIDDEN,
        "member": "eva",
    }
    assert "4711" not in log.text("member_number=4711")


@pytest.mark.parametrize(
    "secret",
    [
        JWT,
        JWT.rpartition(".")[0],
        "Bearer abcdefgh12345678",
        "authorization: Basic dXNlcjpwYXNzd29yZA==",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "xoxb-1234567890-abcdefghij",
        "4111 1111 1111 1111",
        "5500-0000-0000-0004",
        "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMHcCAQEE and then it was cut",
        "postgres://app:hunter2@db/x",
    ],
)
def test_secret_patterns(secret: str) -> None:
    shown = LOG.shown({"text": f"before {secret} after", "list": [secret]}, 4000)
    text = json.dumps(shown)
    assert HIDDEN in text
    for part in (
        JWT[40:60],
        "abcdefgh",
        "dXNl",
        "IOSFODNN7",
        "1111 1111",
        "0000",
        "MHcC",
        "hunter2",
        "1234567890",
    ):
        assert part not in text


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("select 1 where password = 'hunter2' and x = 1", "hunter2"),
        ('{"api_key": "hunter2", "a": 1}', "hunter2"),
        ("call(token=hunter2, n=1)", "hunter2"),
        ("https://x/y?access_token=hunter2&n=1", "hunter2"),
        ("client_secret: hunter2", "hunter2"),
    ],
)
def test_secrets_assigned_in_text(text: str, hidden: str) -> None:
    shown = LOG.text(text)
    assert hidden not in shown
    assert "1" in shown or "client_secret" in shown


@pytest.mark.parametrize(
    "text",
    [
        "select revenue from ads where day between date '2026-10-01' and date '2026-10-31'",
        "4111 1111 1111 1112",
        "order 12345678901234567890123",
        "1759999999.123456",
        "spiffe://corp.example/ns/prod/sa/ai-chat",
        "https://example.com:8443/path",
        "sha256:9f2c4e",
    ],
)
def test_plain_text_stays(text: str) -> None:
    assert LOG.text(text) == text


def test_card_numbers_that_are_numbers() -> None:
    assert LOG.shown([4111111111111111, 4111111111111112, True], 1000) == [HIDDEN, 4111111111111112, True]


def test_it_is_cut() -> None:
    shown = LOG.shown({"rows": [["x" * 10] * 10] * 1000, "note": "y" * 10_000}, 500)
    text = json.dumps(shown)
    assert len(text) < 1000
    assert "more" in text
    assert LOG.shown("y" * 10_000, 20) == "y" * 20 + "… (10000 characters)"


def test_a_cut_does_not_hide_what_a_secret_is() -> None:
    shown = LOG.shown("x" * 90 + " " + JWT, 120)
    assert isinstance(shown, str)
    assert "eyJ" not in shown


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=20), inner, max_size=5),
    max_leaves=30,
)


@given(json_values, st.integers(0, 300))
def test_anything_is_shown_within_its_limit(value: object, limit: int) -> None:
    shown = LOG.shown(value, limit)  # type: ignore[arg-type]
    assert len(json.dumps(shown, ensure_ascii=False)) < 6 * limit + 400


@pytest.mark.parametrize(
    "hostile", ["eyJaaaaaaaa-", "password", "-----BEGIN ", "1 ", "a.", "bearer ", "://a:", "password='"]
)
def test_hostile_text_takes_no_long_time(hostile: str) -> None:
    start = time.perf_counter()
    LOG.shown(hostile * 100_000, 8192)
    assert time.perf_counter() - start < 1

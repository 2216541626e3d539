"""An issuer's keys that are late, wrong, gone or new: calls wait for nobody, and no key lives too long."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from gatehouse.keys import DevKey
from identity.principal import JsonValue
from tests.e2e import mcp
from tests.e2e.forge import REPORT_BOT
from tests.e2e.keyserver import Behaviour, answer, drip, endless, redirect_to, unreachable
from tests.e2e.stack import Stack, eventually
from tests.e2e.wire import Answer

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-breakable")]

RECOVERED = 5.0
"""Seconds: a source that failed once or twice is asked again that soon."""


@contextmanager
def started(stack: Stack, behaviour: Behaviour) -> Iterator[None]:
    """ext_authz, started anew while the issuer behaves like this; a good start afterwards."""
    stack.kill("extauthz")
    before = stack.keys.asked
    stack.keys.behave(behaviour)
    stack.start("extauthz")
    stack.keys.wait_asked(before, 10)
    bot = stack.mesh(REPORT_BOT)
    eventually(lambda: stack.post(mcp.call("search"), door=bot).status == 200, "Envoy has it again", 10)
    try:
        yield
    finally:
        publish(stack)
        if asked(stack).status != 200:
            stack.restart("extauthz")  # it would be long until it asked again
        eventually(lambda: asked(stack).status == 200, "recovered", 15)


def publish(stack: Stack, *more: JsonValue) -> None:
    stack.keys.publish(stack.forge.key.public(), *more)


def asked(stack: Stack, token: str | None = None) -> Answer:
    return stack.post(mcp.call("search"), token=token or stack.forge.token())


def good_set(stack: Stack, *more: JsonValue) -> bytes:
    return json.dumps({"keys": [stack.forge.key.public(), *more]}).encode()


WRONG: dict[str, Callable[[Stack], Behaviour]] = {
    "down": lambda s: unreachable,
    "an error": lambda s: answer(good_set(s), status=500),
    "garbage": lambda s: answer(b"<html>It works!</html>"),
    "50 MB": lambda s: endless(50_000_000),
    "elsewhere": lambda s: redirect_to(s.keys.uri + "?again"),
    "with a private key": lambda s: answer(good_set(s, dict(DevKey.generate("ES256").jwk))),
    "with a symmetric key": lambda s: answer(good_set(s, {"kty": "oct", "kid": "o", "k": "c2VjcmV0"})),
    "with a kid twice": lambda s: answer(good_set(s, s.forge.key.public())),
    "with a key that stands twice": lambda s: answer(good_set(s)[:-1] + b', "keys": []}'),
}


@pytest.mark.parametrize("how", WRONG)
def test_keys_that_never_came_are_no_denial_and_no_allow(breakable: Stack, how: str) -> None:
    with started(breakable, WRONG[how](breakable)):
        bot = breakable.mesh(REPORT_BOT)
        with breakable.unreached(bot):
            answer = asked(breakable)
            forged = asked(breakable, breakable.forge.by(DevKey.generate("RS256")))
        assert (answer.status, answer.reason) == (503, "keys_unavailable")
        assert answer.header("retry-after")
        assert forged.status == 503
        # One issuer's outage touches no other: workloads have their own keys.
        svid = breakable.forge.jwt_svid(REPORT_BOT, [breakable.resource("knowledge")])
        assert asked(breakable, svid).status == 200
        assert breakable.metric("extauthz", "gatehouse_jwks_loaded") == 0
        line = breakable.decision(answer.error["data"]["decision_id"])
        assert (line["decision"], line["reason"]) == ("unavailable", "keys_unavailable")
        publish(breakable)
        eventually(lambda: asked(breakable).status == 200, "recovered without a restart", RECOVERED)


def test_a_slow_issuer_slows_no_call(breakable: Stack) -> None:
    """It sends half of its keys and then nothing: two seconds are enough for all of a fetch."""
    released = threading.Event()
    try:
        with started(breakable, drip(good_set(breakable), released)):
            bot = breakable.mesh(REPORT_BOT)
            with breakable.unreached(bot):
                answer = asked(breakable)
            assert (answer.status, answer.reason) == (503, "keys_unavailable")
            publish(breakable)
            eventually(lambda: asked(breakable).status == 200, "given up, and asked again", RECOVERED)
    finally:
        released.set()


def fetched(stack: Stack, token: str) -> Answer:
    """Show a token of a key that isn't known, and wait until the keys were asked for because of it."""
    before = stack.keys.asked
    answer = asked(stack, token)
    stack.keys.wait_asked(before)
    return answer


def test_a_new_key_is_found_by_the_first_token_of_it(breakable: Stack) -> None:
    new = DevKey.generate("ES256")
    with started(breakable, answer(good_set(breakable))):
        eventually(lambda: asked(breakable).status == 200, "the old key")
        publish(breakable, new.public())
        token = breakable.forge.by(new)
        first = fetched(breakable, token)
        assert (first.status, first.reason) == (401, "token_key_unknown")
        eventually(lambda: asked(breakable, token).status == 200, "the new key", 3)
        assert asked(breakable).status == 200


def test_a_key_that_was_taken_back_is_believed_no_more(breakable: Stack) -> None:
    """Even a token that was verified a moment ago is verified anew when the keys change."""
    new = DevKey.generate("RS256")
    with started(breakable, answer(good_set(breakable))):
        old = breakable.forge.token(x="1")
        eventually(lambda: asked(breakable, old).status == 200, "the old key")
        breakable.keys.publish(new.public())
        token = breakable.forge.by(new)
        fetched(breakable, token)
        eventually(lambda: asked(breakable, token).status == 200, "the new key", 3)
        with breakable.unreached(breakable.mesh(REPORT_BOT)):
            answer_ = asked(breakable, old)
        assert (answer_.status, answer_.reason) == (401, "token_key_unknown")


LATER: dict[str, Callable[[Stack], Behaviour]] = {
    "down": lambda s: unreachable,
    "garbage": lambda s: answer(b"{}"),
    "empty": lambda s: answer(b'{"keys": []}'),
    "50 MB": lambda s: endless(50_000_000),
}


@pytest.mark.parametrize("how", LATER)
def test_the_last_good_keys_stay_when_an_issuer_goes_wrong(breakable: Stack, how: str) -> None:
    stranger = breakable.forge.by(DevKey.generate("RS256"))
    with started(breakable, answer(good_set(breakable))):
        eventually(lambda: asked(breakable).status == 200, "the keys")
        breakable.keys.behave(LATER[how](breakable))
        refused = fetched(breakable, stranger)
        assert (refused.status, refused.reason) == (401, "token_key_unknown")
        for number in range(3):
            assert asked(breakable, breakable.forge.token(x=str(number))).status == 200


def test_made_up_tokens_make_nobody_ask_the_issuer_over_and_over(breakable: Stack) -> None:
    with started(breakable, answer(good_set(breakable))):
        eventually(lambda: asked(breakable).status == 200, "the keys")
        fetched(breakable, breakable.forge.with_header({"kid": "made-up"}))
        before = breakable.keys.asked
        with breakable.unreached():
            for number in range(30):
                refused = asked(breakable, breakable.forge.with_header({"kid": f"made-up-{number}"}))
                assert (refused.status, refused.reason) == (401, "token_key_unknown")
        assert breakable.keys.asked == before

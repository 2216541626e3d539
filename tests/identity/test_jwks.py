"""The key cache against a real HTTP server that misbehaves: the last good set always stays."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from identity import fetch
from identity.errors import IdentityError, KeysUnavailable
from identity.jwk import MAX_SET_BYTES, JwkSet
from identity.jwks import COOL_DOWN, STALE_FOR, FetchError, JwksCache, JwksCaches
from identity.principal import Issuer
from identity.tokens import TokenVerifier
from tests.identity import certificates
from tests.identity.misbehaving import DEADLINE, FAULTS, GOOD, NEW, OLD, Server, body, silent
from tests.identity.signers import ISS, NOW, Signer, claims, document, key_set

ISSUER = Issuer("sso", ISS, frozenset({"mcp"}), frozenset({"ES256"}))


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("fault", FAULTS)
def test_the_last_good_set_stays(fault: str, server: Server) -> None:
    cache = JwksCache("sso", fetch.from_uri(server.url))
    assert cache.refresh()
    good = cache.current()
    server.answer = FAULTS[fault](server)
    began = time.monotonic()
    assert not cache.refresh()
    assert time.monotonic() - began < fetch.TOTAL_SECONDS + 2
    assert cache.current() is good
    status = cache.status()
    assert (status.attempts, status.failures, status.refreshes) == (2, 1, 1)
    assert status.last_error
    assert "/elsewhere" not in server.paths
    server.answer = body(document([NEW.jwk]))
    assert cache.refresh()
    assert cache.current() == key_set(NEW)
    assert cache.status().last_error is None


def test_a_server_that_is_down(server: Server) -> None:
    cache = JwksCache("sso", fetch.from_uri(server.url))
    assert cache.refresh()
    good = cache.current()
    server.close()
    assert not cache.refresh()
    assert cache.current() is good


def test_a_certificate_that_nobody_vouches_for(server: Server, tmp_path: Path) -> None:
    """A server that shows a certificate of its own making is not the issuer, on loopback either."""
    text = certificates.pem([], dns=["localhost"], extended=None, ca=None, start=time.time() - 60)
    key = certificates.KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(key + text.encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "key.pem")
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    url = server.url.replace("http://127.0.0.1", "https://localhost")
    cache = JwksCache("sso", fetch.from_uri(url))
    assert not cache.refresh()
    assert cache.status().last_error == "no answer (ConnectError)"
    assert server.paths == []
    assert fetch.from_uri(url, ssl.create_default_context(cadata=text))() == GOOD


def test_a_set_of_the_greatest_size_is_read(server: Server) -> None:
    server.answer = body(GOOD + b" " * (MAX_SET_BYTES - len(GOOD)))
    cache = JwksCache("sso", fetch.from_uri(server.url))
    assert cache.refresh()


def test_rotation(server: Server) -> None:
    """Published beside the old key, then alone: a token holds exactly while its key is published."""
    cache = JwksCache("sso", fetch.from_uri(server.url))
    verifier = TokenVerifier([ISSUER], {"sso": cache})

    def holds(who: Signer) -> bool:
        try:
            verifier.verify(who.sign(claims()), None, NOW)
        except IdentityError as error:
            assert error.code == "token_key_unknown"  # noqa: PT017  raised or not is what is asked
            return False
        return True

    seen = []
    for keys in ([OLD], [OLD, NEW], [NEW]):
        server.answer = body(document(each.jwk for each in keys))
        assert cache.refresh()
        seen.append((holds(OLD), holds(NEW)))
    assert seen == [(True, False), (True, True), (False, True)]


def test_stale_keys_serve_for_a_day_and_then_nobody_is_denied() -> None:
    clock = Clock()
    cache = JwksCache("sso", lambda: GOOD, clock=clock)
    verifier = TokenVerifier([ISSUER], {"sso": cache})
    assert cache.refresh()
    clock.now += STALE_FOR
    assert verifier.verify(OLD.sign(claims()), None, NOW).subject == "00u1"
    assert cache.status().age == STALE_FOR
    clock.now += 1
    with pytest.raises(KeysUnavailable):
        verifier.verify(OLD.sign(claims()), None, NOW)


class Counting:
    """A fetch that is counted, and can be held back."""

    def __init__(self, data: bytes = GOOD) -> None:
        self.data = data
        self.calls = 0
        self.go = threading.Event()
        self.go.set()

    def __call__(self) -> bytes:
        self.calls += 1
        if not self.go.wait(DEADLINE):
            raise FetchError("held back for too long")
        return self.data


@contextmanager
def running(*caches: JwksCache) -> Iterator[None]:
    for cache in caches:
        cache.start()
    try:
        yield
    finally:
        for cache in caches:
            cache.close()


def test_an_unknown_kid_causes_one_fetch_in_30_seconds() -> None:
    clock, source = Clock(), Counting()
    cache = JwksCache("sso", source, clock=clock)
    verifier = TokenVerifier([ISSUER], {"sso": cache})

    def knock() -> None:
        for _ in range(50):
            with pytest.raises(IdentityError, match="token_key_unknown"):
                verifier.verify(NEW.sign(claims()), None, NOW)

    with running(cache):
        assert cache.wait_attempts(1, DEADLINE)
        knock()
        assert cache.wait_attempts(2, DEADLINE)
        clock.now += COOL_DOWN - 1
        knock()
        clock.now += 1
        source.data = document([NEW.jwk])
        knock_once = NEW.sign(claims())
        with pytest.raises(IdentityError, match="token_key_unknown"):
            verifier.verify(knock_once, None, NOW)
        assert cache.wait_attempts(3, DEADLINE)
        assert verifier.verify(knock_once, None, NOW).subject == "00u1"
    assert source.calls == 3


def test_start_up_and_requests_never_wait_for_a_fetch() -> None:
    source = Counting()
    source.go.clear()
    cache = JwksCache("sso", source)
    verifier = TokenVerifier([ISSUER], {"sso": cache})
    with running(cache):
        with pytest.raises(KeysUnavailable):
            verifier.verify(OLD.sign(claims()), None, NOW)
        cache.wanted("x")
        assert cache.status().attempts == 0  # the fetch is still held back: nothing waited for it
        source.go.set()
        assert cache.wait_refreshed(1, DEADLINE)
        assert verifier.verify(OLD.sign(claims()), None, NOW).subject == "00u1"


def test_one_issuers_outage_touches_no_other(server: Server) -> None:
    server.answer = silent(server)
    stuck = JwksCache("stuck", fetch.from_uri(server.url))
    fine = JwksCache("fine", lambda: GOOD)
    other = Issuer("fine", "https://fine.example", frozenset({"mcp"}), frozenset({"ES256"}))
    stuck_issuer = Issuer("stuck", "https://stuck.example", frozenset({"mcp"}), frozenset({"ES256"}))
    verifier = TokenVerifier([other, stuck_issuer], {"fine": fine, "stuck": stuck})
    with running(stuck, fine):
        assert fine.wait_refreshed(1, DEADLINE)
        assert verifier.verify(OLD.sign(claims(iss=other.issuer)), None, NOW).issuer == "fine"
        with pytest.raises(KeysUnavailable):
            verifier.verify(OLD.sign(claims(iss=stuck_issuer.issuer)), None, NOW)
        assert stuck.wait_attempts(1, DEADLINE)
        assert stuck.status().last_error == "no whole answer within 2 s"


def test_a_first_failure_is_tried_again_soon() -> None:
    answers = iter([FetchError("down"), FetchError("down"), GOOD])

    def flaky() -> bytes:
        answer = next(answers)
        if isinstance(answer, FetchError):
            raise answer
        return answer

    cache = JwksCache("sso", flaky)
    with running(cache):
        assert cache.wait_refreshed(1, DEADLINE)
    assert (cache.status().failures, cache.status().last_error) == (2, None)


def test_a_fetch_that_breaks_in_its_own_way_kills_no_thread() -> None:
    def broken() -> bytes:
        raise ZeroDivisionError

    cache = JwksCache("sso", broken)
    with running(cache):
        assert cache.wait_attempts(2, DEADLINE)
    assert cache.status().last_error == "the fetch failed (ZeroDivisionError)"


def test_the_pause_is_bounded_and_jittered() -> None:
    cache = JwksCache("sso", lambda: GOOD)
    cache.refresh()
    pauses = {cache._pause() for _ in range(100)}
    assert len(pauses) > 50
    assert all(270 <= pause <= 300 for pause in pauses)
    failing = JwksCache("sso", lambda: b"")
    backed_off = []
    for _ in range(12):
        failing.refresh()
        backed_off.append(failing._pause())
    assert backed_off[:3] == [0.5, 1.0, 2.0]
    assert backed_off[-1] == 30.0


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    cache = fetch.open_issuer(Issuer("sso", ISS, frozenset(), frozenset(), jwks_file=str(path)))
    assert not cache.refresh()
    assert cache.current() is None
    path.write_bytes(GOOD)
    with running(cache):
        assert cache.wait_refreshed(1, DEADLINE)
        assert cache.current() == key_set(OLD)
        path.write_bytes(document([NEW.jwk]))
        generation = key_set(NEW).generation
        while cache.status().generation != generation:
            assert cache.wait_attempts(cache.status().attempts + 1, DEADLINE)
    path.write_bytes(b" " * (MAX_SET_BYTES + 1))
    assert not cache.refresh()
    path.unlink()
    path.mkdir()
    assert not cache.refresh()
    assert cache.current() == key_set(NEW)


@pytest.mark.parametrize(
    "uri",
    [
        "https://sso.corp.example/jwks",
        "http://127.0.0.1:9003/jwks",
        "http://[::1]/jwks",
        "http://localhost:1/j",
    ],
)
def test_an_address_may_be(uri: str) -> None:
    fetch.check_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "http://sso.corp.example/jwks",
        "http://10.0.0.1/jwks",
        "http://127.0.0.1.evil.example/jwks",
        "http://localhost.evil.example/jwks",
        "http://0.0.0.0/jwks",
        "ftp://127.0.0.1/jwks",
        "file:///etc/passwd",
        "https://user:pw@sso.corp.example/jwks",
        "https:///jwks",
        "sso.corp.example/jwks",
        "https://sso.corp.example/jwks#x",
        "",
    ],
)
def test_an_address_may_not_be(uri: str) -> None:
    with pytest.raises(ValueError, match="JWKS address"):
        fetch.from_uri(uri)


def test_an_issuer_has_one_source() -> None:
    for uri, file in ((None, None), ("https://x.example/j", "keys.json")):
        with pytest.raises(ValueError, match="either"):
            fetch.open_issuer(Issuer("sso", ISS, frozenset(), frozenset(), jwks_uri=uri, jwks_file=file))


def test_no_proxy_and_no_credentials_of_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert fetch.from_uri(server.url)() == GOOD


def test_an_issuer_that_stays_keeps_its_keys() -> None:
    opened: list[str] = []

    def open_source(issuer: Issuer) -> JwksCache:
        opened.append(issuer.name)
        return JwksCache(issuer.name, lambda: GOOD)

    a = Issuer("a", "https://a.example", frozenset(), frozenset(), jwks_uri="https://a.example/jwks")
    b = Issuer("b", "https://b.example", frozenset(), frozenset(), jwks_uri="https://b.example/jwks")
    moved = Issuer("b", "https://b.example", frozenset(), frozenset(), jwks_uri="https://b.example/new")
    caches = JwksCaches(open_source)
    first = caches.follow([a, b])
    second = caches.follow([a, moved])
    assert second["a"] is first["a"]
    assert second["b"] is not first["b"]
    assert caches.follow([a]).keys() == {"a"}
    assert opened == ["a", "b", "b"]
    caches.close()


def test_parse_is_the_callers_to_choose() -> None:
    bundle_body = document([{**OLD.jwk, "use": "jwt-svid"}])
    assert not JwksCache("x", lambda: bundle_body).refresh()
    assert JwksCache("x", lambda: bundle_body, parse=JwkSet.parse_spiffe_bundle).refresh()

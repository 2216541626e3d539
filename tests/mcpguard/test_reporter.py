"""Events reach the file and the registry, whatever happens to either, or are counted as lost."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mcpguard.ingest import Ingest
from mcpguard.listener import StartError
from mcpguard.reporter import Reporter
from mcpguard.spool import BATCH_EVENTS, FolderSpool, MemorySpool, Spool, batches
from mcpguard.usage import event
from tests.mcpguard.registry_double import Registry, registry
from tests.mcpguard.world import EVA, REPORT_BOT, assertion
from tests.support.envoy import free_port

SCHEMA = json.loads(Path("docs/schema/usage-event.v1.json").read_text())
MEGABYTE = 1 << 20


def use(number: int = 0, **more: Any) -> dict[str, Any]:
    said: dict[str, Any] = {
        "server": "toy", "tool": f"tool_{number}", "assertion": assertion(), "decision_id": "d" * 32,
        "outcome": "ok", "reason": None, "seconds": 0.012345, "minutes_saved": 12.0,
        "policy": "sha256:" + "0" * 64,
    } | more  # fmt: skip
    return event(**said, now=1_790_000_000.25)


def no_wait(_: float, __: float) -> float:
    return 0.0


def short_wait(_: float, __: float) -> float:
    return 0.02


@pytest.fixture
def ingest() -> Iterator[Registry]:
    with registry() as made:
        yield made


def reporter(to: Registry, spool: Spool | None = None, file: Path | None = None, **more: Any) -> Reporter:
    made = Reporter(file, Ingest(to.url), spool or MemorySpool(MEGABYTE), **({"jitter": short_wait} | more))
    made.start()
    return made


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class TestEvent:
    def test_it_is_as_its_schema_says(self) -> None:
        said = use(3)
        jsonschema.validate(said, SCHEMA)
        assert said["time"] == "2026-09-21T14:13:20.250Z"
        assert (said["user"], said["client"], said["workload"]) == ("sso:eva", "ide-plugin", None)
        assert (said["tool"], said["minutes_saved"], said["duration_ms"]) == ("tool_3", 12.0, 12.345)

    def test_a_service_and_a_denial(self) -> None:
        said = use(
            assertion=assertion(None, workload=REPORT_BOT),
            outcome="denied",
            reason="tool_unknown",
            tool="x" * 500,
        )
        jsonschema.validate(said, SCHEMA)
        assert (said["user"], said["workload"]) == (None, str(REPORT_BOT))
        assert len(said["tool"]) == 128

    def test_each_has_an_id_of_its_own(self) -> None:
        assert len({use()["id"] for _ in range(100)}) == 100
        assert EVA.key == "sso:eva"


class TestFile:
    def test_one_line_an_event(self, tmp_path: Path) -> None:
        file = tmp_path / "usage.jsonl"
        made = Reporter(file)
        made.start()
        sent = [use(n) for n in range(50)]
        for one in sent:
            made.put(one)
        made.close(5)
        assert lines(file) == sent
        assert made.counts() == {"written": 50}
        assert file.stat().st_mode & 0o777 == 0o640

    def test_a_rotated_file_is_let_go_of(self, tmp_path: Path) -> None:
        file = tmp_path / "usage.jsonl"
        made = Reporter(file)
        made.start()
        made.put(use(1))
        deadline = time.monotonic() + 5
        while not made.counts() and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        file.rename(tmp_path / "usage.jsonl.1")
        made.put(use(2))
        made.close(5)
        assert [e["tool"] for e in lines(file)] == ["tool_2"]

    def test_a_file_that_fails_is_counted(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        made = Reporter(tmp_path / "no" / "such" / "folder.jsonl")
        made.start()
        made.put(use())
        made.close(5)
        assert made.counts() == {"file_failed": 1}
        assert "can't be written" in caplog.text

    def test_a_full_queue_is_counted_and_never_waits(self, tmp_path: Path) -> None:
        made = Reporter(tmp_path / "usage.jsonl", capacity=10)  # not started: nobody empties it
        start = time.perf_counter()
        for n in range(1000):
            made.put(use(n))
        assert time.perf_counter() - start < 1
        assert made.counts() == {"queue_full": 990}
        assert made.waiting() == 10

    def test_without_a_place_to_go_nothing_is_kept(self) -> None:
        made = Reporter()
        made.start()
        made.put(use())
        assert made.waiting() == 0
        made.close(1)


class TestIngest:
    def test_batches_reach_the_registry(self, ingest: Registry, tmp_path: Path) -> None:
        made = reporter(ingest, file=tmp_path / "usage.jsonl")
        sent = [use(n) for n in range(BATCH_EVENTS * 2 + 5)]
        for one in sent:
            made.put(one)
        kept = ingest.wait_for(len(sent))
        made.close(5)
        assert sorted(e["id"] for e in kept) == sorted(e["id"] for e in sent)
        assert made.counts() == {"written": len(sent), "sent": len(sent)}
        assert len(ingest.posts) < 10
        assert all(len(json.loads(body)["events"]) <= BATCH_EVENTS for _, body in ingest.posts)
        assert json.loads(ingest.posts[0][1])["version"] == 1

    def test_a_registry_that_fails_is_tried_again(self, ingest: Registry) -> None:
        ingest.answers = [500, 503, 401, 429, 200]
        made = reporter(ingest)
        made.put(use())
        ingest.wait_for(1)
        made.close(5)
        assert made.counts() == {"retries": 4, "sent": 1}

    def test_the_waits_grow_and_are_drawn_by_chance(self, ingest: Registry) -> None:
        ingest.answers = [503] * 9
        bounds: list[tuple[float, float]] = []

        def draw(least: float, most: float) -> float:
            bounds.append((least, most))
            return 0.0

        made = reporter(ingest, jitter=draw)
        made.put(use())
        ingest.wait_for(1)
        made.close(5)
        assert bounds == [(0.0, min(60.0, 0.5 * 2**n)) for n in range(9)]

    def test_the_registry_may_ask_to_be_left_alone(self, ingest: Registry) -> None:
        ingest.answers, ingest.retry_after = [429], "1"
        made = reporter(ingest, jitter=no_wait)
        made.put(use())
        ingest.wait_for_posts(1)
        start = time.monotonic()
        ingest.wait_for(1)
        assert 0.8 < time.monotonic() - start < 5
        made.close(5)

    def test_a_registry_that_goes_and_comes_back(self) -> None:
        port = free_port()
        gone = Registry()
        gone.url = f"http://127.0.0.1:{port}/usage/v1/events"
        made = reporter(gone)
        sent = [use(n) for n in range(20)]
        for one in sent:
            made.put(one)
        deadline = time.monotonic() + 10
        while made.counts().get("retries", 0) < 3 and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        with registry(port, known=gone):
            assert len(gone.wait_for(20)) == 20
            made.close(5)
        assert made.counts()["sent"] == 20

    def test_an_answer_that_got_lost_makes_no_second_event(self, ingest: Registry) -> None:
        ingest.keeps_and_fails = True
        made = reporter(ingest)
        made.put(use())
        ingest.wait_for_posts(2)
        made.close(5)
        assert len(ingest.kept) == 1
        assert made.counts() == {"retries": 1, "sent": 1}

    def test_a_slow_registry_keeps_nobody_waiting(self, ingest: Registry) -> None:
        ingest.go_on.clear()
        made = reporter(ingest)
        start = time.perf_counter()
        for n in range(1000):
            made.put(use(n))
        assert time.perf_counter() - start < 1
        ingest.go_on.set()
        ingest.wait_for(1000)
        made.close(5)
        assert made.counts() == {"sent": 1000}

    @pytest.mark.parametrize("status", [400, 422])
    def test_what_the_registry_never_takes_is_counted(
        self, ingest: Registry, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        ingest.answers = [status]
        made = reporter(ingest)
        made.put(use(1))
        ingest.wait_for_posts(1)
        made.put(use(2))
        ingest.wait_for(1)
        made.close(5)
        assert made.counts() == {"refused": 1, "sent": 1}
        assert "refused usage events for good" in caplog.text

    def test_a_batch_that_is_too_large_is_halved(self, ingest: Registry) -> None:
        ingest.answers = [413, 413]
        made = reporter(ingest)
        sent = [use(n) for n in range(8)]
        for one in sent:
            made.put(one)
        ingest.wait_for(8)
        made.close(5)
        assert made.counts() == {"sent": 8}

    def test_one_event_that_is_too_large_is_counted(self, ingest: Registry) -> None:
        ingest.answers = [413]
        made = reporter(ingest)
        made.put(use())
        ingest.wait_for_posts(1)
        made.close(5)
        assert made.counts() == {"refused": 1}


class TestCredentials:
    def test_a_bearer_is_read_anew(self, ingest: Registry, tmp_path: Path) -> None:
        credential = tmp_path / "token"
        credential.write_text("first\n")
        ingest.answers = [401]
        made = Reporter(None, Ingest(ingest.url, credential), MemorySpool(MEGABYTE), jitter=lambda *_: 0.2)
        made.start()
        made.put(use())
        ingest.wait_for_posts(1)
        credential.write_text("second\n")
        ingest.wait_for(1)
        made.close(5)
        assert [headers["authorization"] for headers, _ in ingest.posts] == ["Bearer first", "Bearer second"]

    def test_a_credential_that_is_gone_is_waited_for(self, ingest: Registry, tmp_path: Path) -> None:
        credential = tmp_path / "token"
        made = Reporter(None, Ingest(ingest.url, credential), MemorySpool(MEGABYTE), jitter=short_wait)
        made.start()
        made.put(use())
        deadline = time.monotonic() + 5
        while not made.counts() and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        assert not ingest.posts
        credential.write_text("here")
        ingest.wait_for(1)
        made.close(5)

    def test_mutual_tls(self, tmp_path: Path) -> None:
        from tests.mcpguard.pki import Pki

        pki = Pki(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki.server.certificate, pki.server.key)
        context.load_verify_locations(pki.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        with registry(tls=context) as made:
            known = Ingest(made.url, None, pki.ca, pki.client.certificate, pki.client.key)
            sender = Reporter(None, known, MemorySpool(MEGABYTE), jitter=short_wait)
            sender.start()
            sender.put(use())
            made.wait_for(1)
            sender.close(5)
            stranger = Reporter(
                None, Ingest(made.url, None, pki.ca), MemorySpool(MEGABYTE), jitter=short_wait
            )
            stranger.start()
            stranger.put(use())
            stranger.close(2)
            assert stranger.counts()["unsent"] == 1
            assert len(made.kept) == 1

    @pytest.mark.parametrize(
        "url",
        ["http://registry.corp.example/u", "ftp://127.0.0.1/", "registry", "https://a:b@c/", "http://[::1"],
    )
    def test_an_address_that_is_not_safe_is_refused(self, url: str) -> None:
        with pytest.raises(StartError, match="--usage-ingest"):
            Ingest(url)

    def test_half_an_identity_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(StartError, match="--usage-key"):
            Ingest("https://registry.corp.example/u", certificate=tmp_path)


class TestSpool:
    def test_what_was_not_sent_is_sent_after_a_restart(self, ingest: Registry, tmp_path: Path) -> None:
        ingest.always = 503
        made = reporter(ingest, FolderSpool(tmp_path / "spool", MEGABYTE))
        sent = [use(n) for n in range(5)]
        for one in sent:
            made.put(one)
        made.close(2)
        assert not ingest.kept
        assert "unsent" not in made.counts()
        ingest.always = None
        again = reporter(ingest, FolderSpool(tmp_path / "spool", MEGABYTE))
        assert {e["id"] for e in ingest.wait_for(5)} == {e["id"] for e in sent}
        again.close(5)
        assert list((tmp_path / "spool").iterdir()) == []

    def test_closing_sends_what_waits(self, ingest: Registry) -> None:
        made = reporter(ingest)
        for n in range(30):
            made.put(use(n))
        made.close(5)
        assert len(ingest.kept) == 30

    def test_closing_takes_no_longer_than_it_may(
        self, ingest: Registry, caplog: pytest.LogCaptureFixture
    ) -> None:
        ingest.go_on.clear()
        made = reporter(ingest)
        made.put(use())
        start = time.monotonic()
        made.close(1)
        assert time.monotonic() - start < 4
        assert made.counts()["unsent"] == 1
        assert "never sent" in caplog.text

    @pytest.mark.parametrize("kind", ["memory", "folder"])
    def test_the_oldest_make_room(self, kind: str, tmp_path: Path) -> None:
        spool: Spool = MemorySpool(100) if kind == "memory" else FolderSpool(tmp_path, 100)
        assert spool.put([b"a" * 40]) == 0
        assert spool.put([b"b" * 20, b"c" * 20]) == 0
        assert spool.put([b"d" * 40]) == 1
        assert spool.waiting() <= 100
        left = []
        while (batch := spool.oldest()) is not None:
            left += batch.events
            spool.done(batch)
        assert left == [b"b" * 20, b"c" * 20, b"d" * 40]

    def test_files_are_their_owners_alone(self, tmp_path: Path) -> None:
        spool = FolderSpool(tmp_path / "spool", 1000)
        spool.put([b"{}"])
        (file,) = (tmp_path / "spool").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700

    def test_a_spool_that_fails_is_counted(self, ingest: Registry, tmp_path: Path) -> None:
        folder = tmp_path / "spool"
        made = reporter(ingest, FolderSpool(folder, MEGABYTE))
        folder.rmdir()
        made.put(use())
        made.close(2)
        assert made.counts() == {"spool_failed": 1}

    def test_batches_keep_order_and_size(self) -> None:
        events = [b"x" * 100_000] * 5 + [b"y"] * 450
        cut = batches(events)
        assert [e for batch in cut for e in batch] == events
        assert all(len(batch) <= BATCH_EVENTS for batch in cut)
        assert [len(batch) for batch in cut[:2]] == [2, 2]
        assert batches([]) == []

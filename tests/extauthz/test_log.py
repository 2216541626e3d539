"""The decision log: its lines follow the published schema, and under pressure denials outlive allows."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from extauthz.log import DecisionLog, encode, line
from extauthz.request import Call
from extauthz.trail import Trail
from pdp import reasons
from pdp.model import Allow, Decision, Deny, Unavailable
from tests.extauthz.world import (
    NOW,
    basis,
    bearer,
    certificate,
    check_request,
    svid_token,
    token,
    world,
)
from tests.pdp.snapshots import BOT, HERE, SURFACES, guardrail, server, snapshot

ROOT = Path(__file__).parents[2]
SCHEMA: dict[str, Any] = json.loads((ROOT / "docs/schema/decision-log.v1.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)

ALLOW = Allow("r", HERE, SURFACES["ide"], None, server())
DENY = Deny(reasons.GUARDRAIL)


def trail(number: int, decision: Decision) -> Trail:
    return Trail(f"{number:032x}", NOW + number, decision=decision)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_field_is_documented_and_no_other() -> None:
    documented = re.findall(
        r"^\| `(\w+)` \| (.*) \|$", (ROOT / "docs/decision-log.md").read_text(), re.MULTILINE
    )
    described = [(name, field["description"]) for name, field in SCHEMA["properties"].items()]
    assert [(name, text) for name, text in documented if not name.startswith("gatehouse_")] == described


def test_a_token_in_a_name_is_not_one_in_the_log() -> None:
    shown = token()
    denied = Deny(reasons.RESOURCE_NOT_ALLOWED, nearest_miss=f"a.yaml:3 does not grant 'x://y?t={shown}'")
    call = Call("users", "presto", "resources/read", f"x://y?t={shown}&u=1", None, None, False)
    written = encode(Trail("0" * 32, NOW, call=call, decision=denied))
    assert not any(part.encode() in written for part in shown.split("."))
    assert json.loads(written)["resource"] == "x://y?t=(token)&u=1"


def test_every_line_has_every_field_and_no_other() -> None:
    assert line(trail(1, ALLOW)).keys() == SCHEMA["properties"].keys() == set(SCHEMA["required"])


def test_lines_of_all_kinds_follow_the_schema(tmp_path: Path) -> None:
    shadowing = guardrail(shadow=True, surfaces=frozenset({"ide"}))
    room = world(tmp_path, basis(snapshot(server(guardrails=(shadowing,)))))
    secret = token(groups=["fin"])
    for request in (
        check_request(bearer(token())),
        check_request(bearer(secret)),
        check_request(bearer(svid_token())),
        check_request(listener="mesh", certificate=certificate(str(BOT)), message={"method": "tools/list"}),
        check_request(bearer(token()), message={"method": "resources/read", "params": {"uri": "file:///é"}}),
        check_request(bearer(token()), message={"method": "prompts/get", "params": {"name": "p\u0000"}}),
        check_request(server=None),
        check_request(("authorization", "Basic YTpi")),
    ):
        room.check(request)
    room.check(b"\xff")
    room.service._basis = None
    room.check(check_request(bearer(token())))
    lines = room.logged()
    for each in lines:
        assert not list(VALIDATOR.iter_errors(each))
    assert [each["decision"] for each in lines] == ["allow", *["deny"] * 8, "unavailable"]
    assert secret.split(".")[2] not in room.path.read_text()
    allowed, refused = lines[0], lines[1]
    assert allowed["time"] == "2027-01-15T08:00:00.000000+00:00"
    assert (allowed["rule"], allowed["location"]) == ("analysts", "servers/presto.yaml:10")
    assert allowed["shadows"] == [{"id": "fence", "location": "org.yaml:40", "would": "deny"}]
    assert (allowed["user"], allowed["client"], allowed["surface"]) == ("sso:00u1", "ide-plugin", "ide")
    assert allowed["microseconds"] > 0
    assert refused["nearest_miss"] == "ads is what servers/presto.yaml:10 asks for"
    assert lines[2]["workload"] == str(BOT)
    assert lines[4]["resource"] == "file:///é"


def test_the_nearest_miss_and_credentials_stay_out_of_the_answer(tmp_path: Path) -> None:
    room = world(tmp_path, basis())
    body = room.check(check_request(bearer(token(groups=["fin"])))).denied_response.body
    assert "presto.yaml" not in body
    (written,) = room.logged()
    assert "presto.yaml" in written["nearest_miss"]


class Stuck:
    """A log that writes into a pipe which nobody reads yet: the writer is stuck, as on a dead disk."""

    def __init__(self, folder: Path, capacity: int) -> None:
        self.fifo = folder / "pipe"
        os.mkfifo(self.fifo)
        self.reader = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
        self.log = DecisionLog(str(self.fifo), capacity)
        filler = trail(0, Deny(reasons.GUARDRAIL, detail="x" * 200_000))  # more than a pipe holds
        self.log.put(filler)
        self.until(lambda: self.log.status().waiting == 0)

    @staticmethod
    def until(condition: Any) -> None:
        deadline = threading.Event()
        for _ in range(500):
            if condition():
                return
            deadline.wait(0.01)
        raise AssertionError("not within 5 s")

    def read(self) -> list[dict[str, Any]]:
        """Everything written until the log is closed, but the filler."""
        os.set_blocking(self.reader, True)
        collected: list[bytes] = []

        def drain() -> None:
            while chunk := os.read(self.reader, 65536):
                collected.append(chunk)

        thread = threading.Thread(target=drain)
        thread.start()
        assert self.log.close(5)
        os.close(self.log._descriptor)
        thread.join(5)
        return [json.loads(each) for each in b"".join(collected).splitlines()][1:]


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Stuck]:
    made = Stuck(tmp_path, capacity=10)
    yield made
    os.close(made.reader)


def test_allows_are_shed_before_denials_and_both_are_counted(stuck: Stuck) -> None:
    for number in range(1, 9):
        stuck.log.put(trail(number, ALLOW))
    for number in range(9, 15):
        stuck.log.put(trail(number, DENY))
    assert stuck.log.status().waiting == 10
    assert (stuck.log.status().dropped_allows, stuck.log.status().dropped_denials) == (4, 0)
    stuck.log.put(trail(15, ALLOW))
    assert (stuck.log.status().dropped_allows, stuck.log.status().dropped_denials) == (5, 0)
    for number in range(16, 22):
        stuck.log.put(trail(number, Unavailable(reasons.KEYS_UNAVAILABLE)))
    assert (stuck.log.status().dropped_allows, stuck.log.status().dropped_denials) == (9, 2)
    written = stuck.read()
    assert [int(each["decision_id"], 16) for each in written] == [9, 10, 11, 12, 13, 14, 16, 17, 18, 19]
    assert stuck.log.status().written == 11


def test_putting_never_waits_for_the_disk(stuck: Stuck) -> None:
    for number in range(1000):
        stuck.log.put(trail(number, DENY))
    assert stuck.log.status().waiting == 10
    assert stuck.log.close(0.1) is False
    stuck.read()


def test_lines_are_in_the_order_of_time(tmp_path: Path) -> None:
    log = DecisionLog(str(tmp_path / "log"))
    for number in range(20):
        log.put(trail(number, DENY if number % 3 else ALLOW))
    assert log.close(5)
    written = (tmp_path / "log").read_text().splitlines()
    assert [int(json.loads(each)["decision_id"], 16) for each in written] == list(range(20))


def test_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = DecisionLog(str(path))
    log.put(trail(1, DENY))
    Stuck.until(lambda: log.status().written == 1)
    path.rename(tmp_path / "log.1")
    log.reopen()
    Stuck.until(path.exists)
    log.put(trail(2, DENY))
    assert log.close(5)
    assert len((tmp_path / "log.1").read_text().splitlines()) == 1
    assert json.loads(path.read_text())["decision_id"] == f"{2:032x}"
    assert path.stat().st_mode & 0o777 == 0o640 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_full_disk_is_counted_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    log = DecisionLog("/dev/full")
    log.put(trail(1, DENY))
    log.put(trail(2, ALLOW))
    assert log.close(5)
    assert (log.status().dropped_allows, log.status().dropped_denials, log.status().written) == (1, 1, 0)
    assert "can't be written" in caplog.text

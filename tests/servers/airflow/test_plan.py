from __future__ import annotations

import pytest

from servers.airflow.embedded.plan import Step, TaskState, advance, after_failure, downstream

CHAIN = {"a": frozenset[str](), "b": frozenset({"a"}), "c": frozenset({"b"})}
DIAMOND = {
    "a": frozenset[str](),
    "b": frozenset({"a"}),
    "c": frozenset({"a"}),
    "d": frozenset({"b", "c"}),
}


def states(text: str) -> dict[str, TaskState]:
    words = {"-": "no_status", "r": "running", "s": "success", "f": "failed", "u": "upstream_failed"}
    return {name: TaskState(words[each]) for name, each in zip("abcd", text, strict=False)}


@pytest.mark.parametrize(
    ("now", "step"),
    [
        ("---", Step(start=("a",))),
        ("r--", Step()),
        ("s--", Step(start=("b",))),
        ("ss-", Step(start=("c",))),
        ("sss", Step(outcome="success")),
        ("f--", Step(doomed=("b", "c"), outcome="failed")),
        ("sf-", Step(doomed=("c",), outcome="failed")),
        ("sfu", Step(outcome="failed")),
    ],
)
def test_a_chain(now: str, step: Step) -> None:
    assert advance(CHAIN, states(now), 0) == step


@pytest.mark.parametrize(
    ("now", "step"),
    [
        ("s---", Step(start=("b", "c"))),
        ("ssr-", Step()),
        ("sss-", Step(start=("d",))),
        ("sfr-", Step(doomed=("d",))),
        ("sf--", Step(start=("c",), doomed=("d",))),
        ("sfsu", Step(outcome="failed")),
    ],
)
def test_a_diamond(now: str, step: Step) -> None:
    assert advance(DIAMOND, states(now), 0) == step


def test_a_retry_waits_for_its_time() -> None:
    waiting = {**states("s--"), "b": TaskState("up_for_retry", 1, 1, due=10.0)}
    assert advance(CHAIN, waiting, 9.9) == Step(due=10.0)
    assert advance(CHAIN, waiting, 10.0) == Step(start=("b",))


def test_retries_are_counted() -> None:
    first = after_failure(TaskState("failed", 1, 1), 100.0, 5.0)
    assert first == TaskState("up_for_retry", 1, 1, 105.0)
    assert after_failure(TaskState("failed", 2, 1), 100.0, 5.0) == TaskState("failed", 2, 1)


def test_downstream_is_found_in_any_order() -> None:
    backwards = dict(reversed(DIAMOND.items()))
    assert downstream(backwards, {"b"}) == {"b", "d"}
    assert downstream(backwards, {"a"}) == {"a", "b", "c", "d"}
    assert downstream(backwards, set()) == frozenset()

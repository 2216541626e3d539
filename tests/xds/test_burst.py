from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xds.burst import MOST_SECONDS, QUIET_SECONDS, Burst


def test_nothing_is_due_without_a_change() -> None:
    burst = Burst()
    assert burst.due is None
    assert not burst.take(1e9)


def test_one_change_waits_for_quiet() -> None:
    burst = Burst(quiet=0.1, most=10)
    burst.note(5.0)
    assert not burst.take(5.05)
    assert burst.take(5.1)
    assert burst.due is None


def test_more_changes_wait_on() -> None:
    burst = Burst(quiet=0.1, most=10)
    burst.note(5.0)
    burst.note(5.08)
    assert not burst.take(5.1)
    assert burst.take(5.18)


@given(gaps=st.lists(st.floats(0, QUIET_SECONDS * 0.99), min_size=1, max_size=300))
def test_however_long_it_goes_on_it_is_due_in_time(gaps: list[float]) -> None:
    burst, now = Burst(), 0.0
    burst.note(now)
    for gap in gaps:
        now += gap
        burst.note(now)
        assert burst.due is not None
        assert burst.due <= min(MOST_SECONDS, now + QUIET_SECONDS)

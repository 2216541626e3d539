from __future__ import annotations

from typing import get_args

from identity.errors import Code
from pdp.reasons import REASONS


def test_every_code_is_a_reason_of_the_one_table() -> None:
    assert set(get_args(Code)) <= REASONS.keys()


def test_only_missing_keys_are_unavailable_and_nothing_else_is_a_server_error() -> None:
    statuses = {code: REASONS[code].status for code in get_args(Code)}
    assert statuses.pop("keys_unavailable") == 503
    assert set(statuses.values()) == {401}

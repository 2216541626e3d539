"""A thousand servers in one real Envoy."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.envoy import eventually
from tests.xds import factory
from tests.xds.gate import RULES, running_gate

pytestmark = pytest.mark.e2e

COUNT = 1000


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
def test_one_change_among_a_thousand_servers_is_in_force_within_a_second(tmp_path: Path, delta: bool) -> None:
    others = [factory.server(f"s{number}", RULES) for number in range(COUNT - 1)]
    with running_gate(tmp_path, delta=delta) as gate:
        for number in range(COUNT - 1):
            gate.place(f"s{number}", factory.endpoint(gate.upstream.port))
        gate.serve(factory.server("presto", RULES), *others)
        eventually(lambda: gate.call(f"/s{COUNT - 2}/mcp").status_code == 200, "all of them", deadline=30)
        begun = time.monotonic()
        gate.serve(factory.server("presto", RULES, in_force=factory.NEVER), *others)
        eventually(lambda: gate.call().status_code == 503, "closed", deadline=1.0)
        assert time.monotonic() - begun < 1.0
        assert gate.call("/s0/mcp").status_code == 200
        assert (
            sum(gate.plane.metric("gatehouse_xds_nacks_total", type=kind) for kind in ("cluster", "route"))
            == 0
        )

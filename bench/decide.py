"""How long one decision takes, and whether it stays flat as policy grows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import world
from bench.results import Result, median_us
from identity.principal import Principal, User
from pdp.decide import decide, identify
from pdp.model import Allow, Deny, Request
from pdp.store import PolicyStore

SMALL, LARGE = 10, 1_000
BOUND_US = 10.0


def run() -> Iterator[Result]:
    """Yield the results of a small company and of a large one, and their ratio."""
    medians = {}
    for servers in (SMALL, LARGE):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "policies"
            store = PolicyStore(root, world.write(root, servers))
            start = time.perf_counter()
            snapshot = store.load()
            loaded = time.perf_counter() - start
        now = time.time()
        user = User("sso", "u1", client="ide-plugin", groups=frozenset(world.USER_GROUPS))
        principal = Principal(user)
        caller = identify(snapshot, principal, now)
        allowed = Request(caller, world.server_name(servers // 2), "tools/call", "tool_3")
        refused = Request(caller, world.server_name(servers // 2), "tools/call", "tool_99")
        assert isinstance(decide(snapshot, allowed, now), Allow)
        assert isinstance(decide(snapshot, refused, now), Deny)
        size = f"{servers:,} servers, {servers * world.RULES:,} rules"
        medians[servers] = median_us(lambda s=snapshot, r=allowed, t=now: decide(s, r, t))
        bound = BOUND_US if servers == LARGE else None
        yield Result(f"decide: allow, user in 200 groups, {size}", medians[servers], "us", "lower", bound)
        yield Result(
            f"decide: deny, same user, {size}",
            median_us(lambda s=snapshot, r=refused, t=now: decide(s, r, t)),
            "us", "lower", bound,
        )  # fmt: skip
        yield Result(
            f"identify: 200 groups to business groups, {size} (once a token and snapshot)",
            median_us(lambda s=snapshot, p=principal, t=now: identify(s, p, t), calls=100),
            "us", "lower",
        )  # fmt: skip
        yield Result(f"policy: cold load of {size}", loaded, "s", "lower")
    yield Result("decide: large company / small company", medians[LARGE] / medians[SMALL], "ratio", "lower")

"""The control plane of a large company: from nothing, after a change of one server, and until Envoy has it."""

from __future__ import annotations

import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import world
from bench.processes import child, resident_mib
from bench.results import Result
from pdp.deployment import load_deployment
from pdp.store import PolicyStore
from tests.support.envoy import ads_bootstrap, free_port, running_envoy
from xds.consistency import check
from xds.resources import Memo, build

SERVERS = 1_000
CHANGES = 7
CHANGED = 500
FROM_NOTHING_S = 10.0
CHANGE_MS = 50.0
IN_FORCE_S = 1.0


def run() -> Iterator[Result]:
    """Yield the costs of a build, of a change, and the time from a saved file to an Envoy that enforces it."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder) / "policies"
        reviewers = world.write(root, SERVERS)
        users, plane = free_port(), free_port()
        deployment_file = Path(folder) / "deployment.yaml"
        deployment_file.write_text(_deployment(users, plane))
        deployment = load_deployment(deployment_file)
        store, memo = PolicyStore(root, reviewers), Memo()
        snapshot = store.load()
        start = time.perf_counter()
        resources = build(snapshot, deployment, time.time(), {}, memo)
        built = time.perf_counter() - start
        check(resources, snapshot, deployment)
        yield Result(
            f"control plane: build {SERVERS:,} servers from nothing", built, "s", "lower", FROM_NOTHING_S
        )
        changes = []
        for salt in range(1, CHANGES + 1):
            world.change(root, CHANGED, salt)
            start = time.perf_counter()
            assert store.poll()
            assert store.snapshot is not None
            changed = build(store.snapshot, deployment, time.time(), {}, memo)
            check(changed, store.snapshot, deployment)
            changes.append(time.perf_counter() - start)
        yield Result(
            f"control plane: one of {SERVERS:,} servers changes (load, compile, build, check)",
            statistics.median(changes) * 1000, "ms", "lower", CHANGE_MS,
        )  # fmt: skip
        process, _ = stack.enter_context(
            child(
                "xds", "--policies", str(root), "--reviewers", str(reviewers), "--deployment", str(deployment_file),
                "--listen", f"127.0.0.1:{plane}", "--metrics", "127.0.0.1:0", log=Path(folder) / "xds.log",
            )
        )  # fmt: skip
        stack.enter_context(running_envoy(ads_bootstrap(plane), Path(folder), deadline=60))
        _until_listed(users, world.server_name(0), 60)
        times = []
        for number in range(CHANGES):
            name = world.add(root, SERVERS + number)
            start = time.perf_counter()
            _until_listed(users, name, 30)
            times.append(time.perf_counter() - start)
        yield Result(
            f"file saved to in force in Envoy, {SERVERS:,} servers",
            statistics.median(times),
            "s",
            "lower",
            IN_FORCE_S,
        )
        yield Result(f"control plane: memory, {SERVERS:,} servers", resident_mib(process.pid), "MiB", "lower")


def _deployment(users: int, plane: int) -> str:
    endpoints = {world.server_name(n): {"address": "127.0.0.1:9100"} for n in range(SERVERS + CHANGES)}
    return (
        f"apiVersion: gatehouse/v1\nkind: Deployment\npublic_url: http://127.0.0.1:{users}\n"
        f"listeners: {{users: {{address: '127.0.0.1:{users}'}}}}\n"
        f"endpoints: {json.dumps(endpoints)}\n"
        "ext_authz: {addresses: ['127.0.0.1:9001']}\n"
        f"control_plane: {{address: '127.0.0.1:{plane}'}}\n"
    )


def _until_listed(port: int, server: str, deadline: float) -> None:
    """Ask Envoy for the server's metadata document, which it answers itself, until it has one."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", f"/.well-known/oauth-protected-resource/{server}/mcp")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
    raise AssertionError(f"Envoy has no {server} after {deadline:g} s")

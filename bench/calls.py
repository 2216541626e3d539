"""Whole calls: through bare Envoy, Envoy with a check that does nothing, and Envoy with ours, in turns."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.google import protobuf as gp

from bench import world
from bench.processes import child, cpu_seconds, envoy_child, resident_mib
from bench.results import Result
from identity.jwk import public_jwk
from identity.signing import generate_signing_key
from pdp.deployment import Address, Service, load_deployment
from pdp.store import PolicyStore
from tests.support.envoy import free_port
from tests.xds.static import static_bootstrap
from xds.resources import build

SERVERS = 20
ALONE = 400
AT_ONCE = 16
CROWD = 3_000
ROUNDS = 5
BARE, NOOP, OURS = "bare Envoy", "Envoy, no-op ext_authz", "Envoy, Gatehouse"


@dataclass
class Way:
    """One way to the upstream, and what was measured on it, a number each round."""

    port: int
    pids: tuple[int, ...]
    latency: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def run() -> Iterator[Result]:
    """Yield latency, rate and CPU of the three ways, and the ratios to bare Envoy."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ways, request, checker = _start(stack, Path(folder))
        for way in ways.values():
            asyncio.run(_round(way, request, record=False))
        for _ in range(ROUNDS):
            for way in ways.values():
                asyncio.run(_round(way, request, record=True))
        memory = resident_mib(checker)
    for name, way in ways.items():
        yield Result(f"{name}: one call, p50", statistics.median(way.latency) * 1000, "ms", "lower")
        yield Result(f"{name}: {AT_ONCE} callers at once", statistics.median(way.rate), "calls/s", "higher")
        yield Result(
            f"{name}: CPU of Envoy and check a call", statistics.median(way.cpu) * 1e6, "us", "lower"
        )
    for name, base in ((NOOP, BARE), (OURS, BARE), (OURS, NOOP)):
        for what in ("latency", "rate", "cpu"):
            value = _ratio(getattr(ways[name], what), getattr(ways[base], what))
            yield Result(f"{name} / {base}: {what}", value, "ratio", "higher" if what == "rate" else "lower")
    yield Result("ext_authz: memory after the calls", memory, "MiB", "lower")


def _ratio(ours: list[float], base: list[float]) -> float:
    """Round by round, so that a machine whose speed drifts compares what ran side by side."""
    return statistics.median(one / other for one, other in zip(ours, base, strict=True))


def _start(stack: ExitStack, folder: Path) -> tuple[dict[str, Way], bytes, int]:
    root = folder / "policies"
    reviewers = world.write(root, SERVERS)
    key = ec.generate_private_key(ec.SECP256R1())
    public = public_jwk(key.public_key(), alg="ES256")
    (folder / "jwks.json").write_text(json.dumps({"keys": [public]}))
    signing = folder / "signing.jwks"
    signing.touch(0o600)
    signing.write_bytes(generate_signing_key().private_jwks())
    _, port = stack.enter_context(child("bench.upstream", log=folder / "upstream.log"))
    noop, noop_port = stack.enter_context(child("bench.noop_ext_authz", log=folder / "noop.log"))
    deployment_file = folder / "deployment.yaml"
    ours_port = free_port()
    deployment_file.write_text(_deployment(int(port), ours_port))
    ours, _ = stack.enter_context(
        child(
            "extauthz", "--policies", str(root), "--reviewers", str(reviewers), "--deployment", str(deployment_file),
            "--identity-keys", str(signing), "--listen", f"127.0.0.1:{ours_port}", "--metrics", "127.0.0.1:0",
            "--decision-log", str(folder / "decisions.jsonl"), log=folder / "extauthz.log",
        )
    )  # fmt: skip
    snapshot = PolicyStore(root, reviewers).load()
    deployment = load_deployment(deployment_file)
    ways = {}
    for name, checker, check_port in (
        (BARE, None, ours_port),
        (NOOP, noop, int(noop_port)),
        (OURS, ours, ours_port),
    ):
        users = free_port()
        placed = replace(
            deployment,
            users=replace(deployment.users, address=Address.parse(f"127.0.0.1:{users}")),
            ext_authz=Service((Address.parse(f"127.0.0.1:{check_port}"),)),
        )
        static = bootstrap.Bootstrap.parse(static_bootstrap(build(snapshot, placed, time.time(), {})))
        if checker is None:
            _without_ext_authz(static)
        envoy = stack.enter_context(envoy_child(bytes(static), users, folder / f"envoy-{users}"))
        pids = (envoy.pid, *((checker.pid,) if checker is not None else ()))
        ways[name] = Way(users, pids)
    return ways, _request(key, str(public["kid"])), ours.pid


def _deployment(upstream: int, check: int) -> str:
    return (
        "apiVersion: gatehouse/v1\nkind: Deployment\npublic_url: http://127.0.0.1:8080\n"
        "listeners: {users: {address: '127.0.0.1:8080'}}\n"
        f"endpoints: {{{world.server_name(5)}: {{address: '127.0.0.1:{upstream}'}}}}\n"
        "issuers: {sso: {jwks_file: jwks.json}}\n"
        f"ext_authz: {{addresses: ['127.0.0.1:{check}']}}\n"
        "control_plane: {address: '127.0.0.1:9002'}\n"
    )


def _without_ext_authz(static: bootstrap.Bootstrap) -> None:
    assert static.static_resources is not None
    for listener in static.static_resources.listeners:
        (only,) = listener.filter_chains[0].filters
        assert only.typed_config is not None
        manager = only.typed_config.unpack()
        assert isinstance(manager, hcm.HttpConnectionManager)
        kept = [f for f in manager.http_filters if not f.name.endswith("ext_authz")]
        assert len(kept) == len(manager.http_filters) - 1
        manager.http_filters = kept
        only.typed_config = gp.Any.pack(manager)


def _request(key: ec.EllipticCurvePrivateKey, kid: str) -> bytes:
    now = int(time.time())
    claims = {
        "iss": "https://sso.corp.example", "aud": "mcp", "sub": "00u1", "iat": now, "exp": now + 3600,
        "jti": "t", "azp": "ide-plugin", "groups": world.USER_GROUPS[:20],
    }  # fmt: skip
    token = jwt.encode(claims, key, "ES256", {"kid": kid})
    body = (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"tool_3","arguments":{"sql":"select 1"},'
        '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
        '"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},'
        '"io.modelcontextprotocol/clientCapabilities":{}}}}'
    )
    return (
        f"POST /{world.server_name(5)}/mcp HTTP/1.1\r\nhost: 127.0.0.1:8080\r\nauthorization: Bearer {token}\r\n"
        "content-type: application/json\r\naccept: application/json, text/event-stream\r\n"
        "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: tool_3\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def _round(way: Way, request: bytes, *, record: bool) -> None:
    before, calls = sum(map(cpu_seconds, way.pids)), ALONE + CROWD
    alone = await _caller(way.port, request, ALONE)
    start = time.perf_counter()
    await asyncio.gather(*(_caller(way.port, request, CROWD // AT_ONCE) for _ in range(AT_ONCE)))
    elapsed = time.perf_counter() - start
    if record:
        way.latency.append(statistics.median(alone))
        way.rate.append(CROWD / elapsed)
        way.cpu.append((sum(map(cpu_seconds, way.pids)) - before) / calls)


async def _caller(port: int, request: bytes, calls: int) -> list[float]:
    """Call one after the other on one connection; the seconds that each took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        body = await reader.readexactly(length)
        times.append(time.perf_counter() - start)
        if not head.startswith(b"HTTP/1.1 200"):
            raise AssertionError((head + body).decode())
    writer.close()
    return times

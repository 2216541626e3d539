"""What mcpguard costs: calls of a trivial tool, on the SDK alone and guarded, in turns over the same transport."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import world
from bench.processes import child, cpu_seconds, resident_mib
from bench.results import Result
from identity.assertion import Assertion, Minter
from identity.principal import User
from identity.signing import generate_signing_key

CALLS = 1_000
AT_ONCE = 4
ROUNDS = 9
RULES = 3
"""As many as the servers here have."""
KEPT = 0.75
"""Of the bare SDK's calls per second, at least."""


@dataclass
class Way:
    """One server, and what was measured of it, a number each round."""

    port: int
    pid: int
    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def run() -> Iterator[Result]:
    """Yield calls per second of both, and how much of the one the other keeps."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ways, minter = _start(stack, Path(folder))
        for way in ways.values():
            asyncio.run(_round(way, _request(minter), record=False))
        for _ in range(ROUNDS):
            for way in ways.values():
                asyncio.run(_round(way, _request(minter), record=True))
        memory = {name: resident_mib(way.pid) for name, way in ways.items()}
    for name, way in ways.items():
        yield Result(f"{name}: a trivial tool", statistics.median(way.rate), "calls/s", "higher")
        yield Result(f"{name}: CPU a call", statistics.median(way.cpu) * 1e6, "us", "lower")
        yield Result(f"{name}: memory after the calls", memory[name], "MiB", "lower")
    bare, guarded = ways.values()
    kept = statistics.median(g / b for g, b in zip(guarded.rate, bare.rate, strict=True))
    yield Result("mcpguard / bare SDK: calls per second", kept, "ratio", "higher", KEPT)


def _start(stack: ExitStack, folder: Path) -> tuple[dict[str, Way], Minter]:
    keys = generate_signing_key()
    world.write(folder / "policies", 1, rules=RULES)
    (folder / "public.jwks").write_bytes(keys.public_jwks())
    ways = {}
    for name, way in (("bare SDK", "bare"), ("mcpguard", "guarded")):
        arguments = ("bench.mcp_server", way, "--folder", str(folder))
        process, line = stack.enter_context(child(*arguments, log=folder / f"{way}.log"))
        ways[name] = Way(int(json.loads(line)["listen"].rpartition(":")[2]), process.pid)
    return ways, Minter(keys)


def _request(minter: Minter) -> bytes:
    """The same request for both; the bare SDK reads no identity."""
    now = time.time()
    user = User("sso", "00u1", client="ide-plugin", expires=now + 3600)
    who = Assertion(
        server=world.server_name(0), user=user, workload=None, groups=frozenset({"team-0"}), surface="ide",
        channel=None, channel_id=None, policy="sha256:" + "0" * 64,
    )  # fmt: skip
    body = (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"tool_0","arguments":{"text":"hello"},'
        '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
        '"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},'
        '"io.modelcontextprotocol/clientCapabilities":{}}}}'
    )
    return (
        "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        "accept: application/json, text/event-stream\r\nx-gatehouse-decision: 0123456789abcdef0123456789abcdef\r\n"
        f"x-forwarded-identity: {minter.mint(who, now)}\r\n"
        "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: tool_0\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def _round(way: Way, request: bytes, *, record: bool) -> None:
    before = cpu_seconds(way.pid)
    start = time.perf_counter()
    await asyncio.gather(*(_caller(way.port, request, CALLS // AT_ONCE) for _ in range(AT_ONCE)))
    elapsed = time.perf_counter() - start
    if record:
        way.rate.append(CALLS / elapsed)
        way.cpu.append((cpu_seconds(way.pid) - before) / CALLS)


async def _caller(port: int, request: bytes, calls: int) -> None:
    """Call one after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(calls):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        body = await reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200") or b'"isError":false' not in body:
            raise AssertionError((head + body).decode())
    writer.close()

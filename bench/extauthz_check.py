"""What ext_authz itself costs a call: bytes of a `CheckRequest` in, bytes of a `CheckResponse` out, no gRPC."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from prometheus_client import CollectorRegistry

from bench import world
from bench.results import Result, table
from extauthz.basis import Basis
from extauthz.log import DecisionLog
from extauthz.metrics import Metrics
from extauthz.service import CheckService
from extauthz.wire.ext_authz_pb2 import CheckRequest, CheckResponse
from identity.assertion import Minter
from identity.authenticate import Authenticator
from identity.jwk import JwkSet, public_jwk
from identity.signing import generate_signing_key
from identity.svid import JwtSvidVerifier
from identity.tokens import TokenVerifier
from pdp.model import Snapshot
from pdp.store import PolicyStore

BOUND_US = 30.0
SERVERS = 100
CALLS = 20_000
FRESH = 300
ROUNDS = 10
"""The median of the quietest round is reported: other work on the machine is not what is measured."""
USER_GROUPS = 20

_KEY = rsa.generate_private_key(65537, 2048)


def run() -> Iterator[Result]:
    """Yield the cost of an allow and of a denial with a token seen before, and of an allow with a new one."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "policies"
        snapshot = PolicyStore(root, world.write(root, SERVERS)).load()
        log = DecisionLog(str(Path(folder) / "decisions.jsonl"))
        service = CheckService(log, Metrics(CollectorRegistry()))
        service.stand_on(_basis(snapshot))
        seen = _token(0)
        yield _row("allow, token seen before", service.check, [_request(seen, "tool_3")] * CALLS, 0, BOUND_US)
        yield _row("deny, token seen before", service.check, [_request(seen, "tool_99")] * CALLS, 7, None)
        fresh = [_request(_token(number), "tool_3") for number in range(1, FRESH + 1)]
        yield _row("allow, token never seen (RS256)", service.check, fresh, 0, None)
        log.close(10)


def _row(
    name: str, check: Callable[[bytes], bytes], requests: Sequence[bytes], code: int, bound: float | None
) -> Result:
    response = CheckResponse.FromString(check(requests[0]))
    if response.status.code != code:
        raise AssertionError(response.denied_response.body)
    medians = [_median_us(check, requests[start::ROUNDS]) for start in range(ROUNDS)]
    return Result(f"ext_authz check in process: {name}", min(medians), "us", "lower", bound)


def _median_us(check: Callable[[bytes], bytes], requests: Sequence[bytes]) -> float:
    """Each call by itself: the log's thread shares the interpreter, and a mean would count its work too."""
    times = []
    for request in requests:
        start = time.perf_counter_ns()
        check(request)
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


def _basis(snapshot: Snapshot) -> Basis:
    keys = JwkSet.parse(json.dumps({"keys": [public_jwk(_KEY.public_key(), alg="RS256")]}).encode())
    authenticator = Authenticator(
        TokenVerifier(snapshot.issuers, {"sso": keys}),
        JwtSvidVerifier({}),
        trust_domains=snapshot.trust_domains,
    )
    return Basis(
        snapshot,
        authenticator,
        Minter(generate_signing_key()),
        lambda server: f"https://mcp.corp.example/{server}/mcp",
    )


def _token(number: int) -> str:
    now = int(time.time())
    claims = {
        "iss": "https://sso.corp.example", "aud": "mcp", "sub": "00u1", "iat": now, "exp": now + 600,
        "jti": f"token-{number}", "azp": "ide-plugin", "groups": world.USER_GROUPS[:USER_GROUPS],
    }  # fmt: skip
    return jwt.encode(claims, _KEY, "RS256", {"kid": public_jwk(_KEY.public_key(), alg="RS256")["kid"]})


def _request(token: str, tool: str) -> bytes:
    """As Envoy 1.40 sends it for a 2026-07-28 client, of the headers only those that are read."""
    request = CheckRequest()
    attributes = request.attributes
    attributes.request.http.id, attributes.request.http.method = "1539451368037279008", "POST"
    headers = {
        "authorization": f"Bearer {token}", "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call",
        "mcp-name": tool, "content-length": "118",
    }  # fmt: skip
    for name, value in headers.items():
        attributes.request.http.header_map.headers.add(key=name, raw_value=value.encode())
    attributes.context_extensions["server"] = world.server_name(5)
    attributes.context_extensions["listener"] = "users"
    attributes.metadata_context.filter_metadata["envoy.filters.http.mcp"].update(
        {
            "id": 1, "jsonrpc": "2.0", "method": "tools/call", "status": "mcp_ok", "params": {"name": tool},
            "is_mcp_request": True,
        }
    )  # fmt: skip
    return request.SerializeToString()


if __name__ == "__main__":
    results = list(run())
    sys.stdout.write(table(results) + "\n")
    sys.exit(0 if all(result.kept for result in results) else 1)
